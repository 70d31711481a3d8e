//! The programs of the host that image building runs, each to its end.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::progress::Progress;
use crate::child;

/// Runs a program without input and returns what it prints.
///
/// It may take its time, as downloads do, but is ended when the user interrupts. A failure carries
/// its last words on standard error.
pub fn output(
    program: &str,
    progress: &Progress,
    arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<String> {
    run(program, Stdio::piped(), progress, arguments)
}

/// The same for a program that tells on standard error how it goes: that is shown as it comes.
pub fn answer(
    program: &str,
    progress: &Progress,
    arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<String> {
    run(program, Stdio::inherit(), progress, arguments)
}

/// Whether a program could not be started because there is none.
pub fn is_absent(error: &anyhow::Error) -> bool {
    let not_found = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::NotFound;
    error.downcast_ref::<std::io::Error>().is_some_and(not_found)
}

fn run(
    program: &str,
    complaints: Stdio,
    progress: &Progress,
    arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<String> {
    let mut command = child::command(program);
    // Messages are read by people who may search for them, and parsed: keep them in one language.
    arguments(&mut command).env("LC_ALL", "C.UTF-8");
    let output = match child::output_while(command, complaints, Duration::MAX, || progress.go_on()) {
        Ok(output) => output,
        Err(error) if is_absent(&error) => {
            return Err(
                error.context(format!("{program} is not installed; tools/setup installs what is needed"))
            );
        }
        Err(error) => return Err(error),
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}: {}", output.status, last_words(&stderr));
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed something that is not text"))
}

/// The end of a long complaint, where programs put the reason.
fn last_words(stderr: &str) -> &str {
    const ENOUGH: usize = 2000;
    let stderr = stderr.trim_end();
    let start = stderr.len().saturating_sub(ENOUGH);
    let start = (start..stderr.len()).find(|index| stderr.is_char_boundary(*index)).unwrap_or(start);
    &stderr[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_program_status_and_reason() {
        let quiet = Progress::silent();
        let error =
            output("sh", &quiet, |sh| sh.args(["-c", "echo the reason >&2; exit 3"])).expect_err("it fails");
        let message = format!("{error:#}");
        assert!(message.contains("sh ended with exit status: 3: the reason"), "{message}");
        let error = output("no-such-program-here", &quiet, |x| x).expect_err("it does not exist");
        assert!(error.to_string().contains("is not installed"));
    }
}
