//! The one door for child processes: own process group, no input, dead when we are, ended with TERM then KILL.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};
use wait_timeout::ChildExt;

use crate::interrupt::Interrupt;
use crate::output;

/// A command that will run in a process group of its own, with no input, and be killed if we die first.
///
/// The kernel ties the death signal to the thread that starts the child (PR_SET_PDEATHSIG(2const)): call it
/// from the main thread.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one door")]
    let mut command = Command::new(program);
    command.process_group(0).stdin(Stdio::null());
    let parent = nix::unistd::getpid();
    let die_with_parent = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() == parent { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    };
    #[expect(unsafe_code, reason = "pre_exec is unsafe; prctl(2) and getppid(2) are async-signal-safe")]
    unsafe {
        command.pre_exec(die_with_parent);
    }
    command
}

/// What a finished command printed.
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Runs a command to its end; it is killed when the deadline passes or a signal arrives.
pub fn output(command: Command, deadline: Duration) -> Result<Output> {
    output_while(command, Stdio::piped(), deadline, || Ok(Interrupt::of_process().check()?))
}

/// Runs a command to its end; it is killed when the deadline passes or `go_on` gives an error.
pub fn output_while(
    mut command: Command,
    stderr: Stdio,
    deadline: Duration,
    mut go_on: impl FnMut() -> Result<()>,
) -> Result<Output> {
    const ASK_EVERY: Duration = Duration::from_millis(100);
    let name = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    command.stdout(Stdio::piped()).stderr(stderr);
    let mut process = Process::spawn(command)?;
    let stdout = collect(process.child.stdout.take());
    let stderr = collect(process.child.stderr.take());
    let status = loop {
        let left = deadline.saturating_sub(started.elapsed());
        if let Some(status) = process.wait(left.min(ASK_EVERY))? {
            break status;
        }
        go_on()?;
        if left.is_zero() {
            bail!("{name} did not end within {deadline:?}");
        }
    };
    let joined = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    Ok(Output { status, stdout: joined(stdout), stderr: joined(stderr) })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks ends the output early; the exit status tells why.
            pipe.read_to_end(&mut bytes).ok();
        }
        bytes
    })
}

/// A running child; dropping it ends its whole process group.
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts the command.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { child, ended: None })
    }

    /// Its process id, which is its process group's too.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Its standard output, if it was given a pipe and nobody has taken it.
    #[cfg(test)]
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until it ended or the time is up.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            // Who only asks needs no signal to wait for, and none of what that takes.
            let ended =
                if at_most.is_zero() { self.child.try_wait() } else { self.child.wait_timeout(at_most) };
            self.ended = ended.context("waiting for a child")?;
        }
        Ok(self.ended)
    }

    /// Ends the process group: TERM, a grace period, KILL, wait.
    pub fn end(&mut self, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.wait(Duration::ZERO)? {
            return Ok(status);
        }
        killpg(self.pid(), Signal::SIGTERM).ok();
        if let Some(status) = self.wait(grace)? {
            return Ok(status);
        }
        killpg(self.pid(), Signal::SIGKILL).ok();
        match self.wait(Duration::from_secs(10))? {
            Some(status) => Ok(status),
            None => bail!("process {} survived SIGKILL for ten seconds", self.pid()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end(Duration::from_secs(1)) {
            output::error(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_come_back() {
        let mut sh = command("sh");
        sh.args(["-c", "echo out; echo err >&2; exit 3"]);
        let done = output(sh, Duration::from_secs(60)).unwrap();
        assert_eq!(
            (done.status.code(), done.stdout, done.stderr),
            (Some(3), b"out\n".to_vec(), b"err\n".to_vec())
        );
    }

    #[test]
    fn a_deadline_ends_the_whole_group() {
        let mut sh = command("sh");
        sh.args(["-c", "sleep 1000 & wait"]);
        let error = output(sh, Duration::from_millis(50)).err().expect("a deadline");
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
