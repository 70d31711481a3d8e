//! The one door to other programs: own process group, no input, captured output, a deadline.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use fixture::contract::event::FailedCommand;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe, setsid};

use crate::clock;

/// How much of what a failed command printed is reported.
const TAIL: usize = 2048;

/// A command that could not be started, failed, or took too long.
#[derive(Debug)]
pub struct CommandError(pub FailedCommand);

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.0.argv.join(" "), self.0.ended)?;
        let said = self.0.stderr.trim();
        if said.is_empty() { Ok(()) } else { write!(f, ": {said}") }
    }
}

impl std::error::Error for CommandError {}

/// Runs a program to its end and gives its standard output; anything but exit status 0 is an error.
pub fn run(argv: &[String], within: Duration) -> Result<Vec<u8>, CommandError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = stream(argv, within, |from, bytes| match from {
        Pipe::Stdout => out.extend_from_slice(bytes),
        Pipe::Stderr => err.extend_from_slice(bytes),
    })?;
    let tail = if err.is_empty() { &out } else { &err };
    match status {
        Some(status) if status.success() => Ok(out),
        Some(status) => Err(failed(argv, ended(status), tail)),
        None => Err(failed(argv, format!("no end after {within:?}, killed"), tail)),
    }
}

/// Where a program's output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Runs a program to its end, whatever that is, and passes its output on as it comes. No status: its time was up,
/// and it was killed with everything it started.
pub fn stream(
    argv: &[String],
    within: Duration,
    mut each: impl FnMut(Pipe, &[u8]),
) -> Result<Option<ExitStatus>, CommandError> {
    let mut child = start(argv, Stdio::null(), Stdio::piped(), Stdio::piped())?;
    let in_time = drain(&mut child, &mut each, within);
    if !in_time {
        kill(&child, Signal::SIGKILL);
    }
    let status = child.wait().map_err(|error| failed(argv, error.to_string(), b""))?;
    Ok(Some(status).filter(|_| in_time))
}

/// Starts a shell on a terminal, which becomes its own, with further tools in `tools`.
pub fn start_on_terminal(argv: &[String], terminal: &File, tools: &str, term: &str) -> Result<Child> {
    let end = || terminal.try_clone().map(Stdio::from).context("sharing the terminal");
    let mut command = command(argv, end()?, end()?, end()?);
    command.env("PATH", format!("{PATH}:{tools}")).env("TERM", term).env("PS1", "guest:\\w# ");
    // Ctrl-C reaches what runs on a terminal that is somebody's own. With the shell the kernel closes it.
    #[expect(unsafe_code, reason = "pre_exec is unsafe; setsid(2) and ioctl(2) are async-signal-safe")]
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            Errno::result(nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 1)).map(drop).map_err(Into::into)
        });
    }
    command.spawn().with_context(|| format!("starting {}", argv[0]))
}

/// Runs a program that is only to be heard: to it, its output is no terminal. Gives its status as
/// [`status_of`] does.
pub fn run_towards(argv: &[String], to: &File, tools: &str, term: &str) -> Result<i32> {
    let (said, output) = pipe().context("making a pipe")?;
    let errors = output.try_clone().context("sharing a pipe")?;
    let mut command = command(argv, Stdio::null(), output.into(), errors.into());
    command.env("PATH", format!("{PATH}:{tools}")).env("TERM", term).process_group(0);
    let child = command.spawn().with_context(|| format!("starting {}", argv[0]))?;
    // Our ends of the pipe go, so that it ends with the program.
    drop(command);
    std::io::copy(&mut File::from(said), &mut &*to).context("passing on what it says")?;
    status_of(child, argv)
}

/// Waits for a program; gives its exit status, or 128 and the number of the signal that ended it.
pub fn status_of(mut child: Child, argv: &[String]) -> Result<i32> {
    let status = child.wait().with_context(|| format!("waiting for {}", argv[0]))?;
    Ok(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1))
}

/// Reads both pipes until both are closed, as they are when the program has ended.
fn drain(child: &mut Child, each: &mut impl FnMut(Pipe, &[u8]), within: Duration) -> bool {
    let deadline = clock::monotonic() + within.as_nanos() as u64;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    while stdout.is_some() || stderr.is_some() {
        let left = Duration::from_nanos(deadline.saturating_sub(clock::monotonic()));
        let ready: [bool; 2] = {
            let fds = [stdout.as_ref().map(|pipe| pipe.as_fd()), stderr.as_ref().map(|pipe| pipe.as_fd())];
            let mut polled: Vec<PollFd> =
                fds.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
            let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
            if left.is_zero() || poll(&mut polled, timeout).unwrap_or(0) == 0 {
                return false;
            }
            let mut any = polled.iter().map(|fd| fd.any().unwrap_or(true));
            fds.map(|fd| fd.is_some() && any.next().unwrap_or(false))
        };
        if ready[0] {
            read_some(&mut stdout, |bytes| each(Pipe::Stdout, bytes));
        }
        if ready[1] {
            read_some(&mut stderr, |bytes| each(Pipe::Stderr, bytes));
        }
    }
    true
}

fn read_some(pipe: &mut Option<impl Read>, each: impl FnOnce(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    match pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
        Some(Ok(n @ 1..)) => each(&buffer[..n]),
        _ => *pipe = None,
    }
}

/// A program that runs until it is stopped. Dropped, it is killed with everything it started.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    argv: Vec<String>,
    log: std::path::PathBuf,
    /// Where its input goes, if it was started with [`Daemon::start_with_input`].
    input: Option<ChildStdin>,
}

impl Daemon {
    /// Starts a program whose output and errors go to `log`.
    pub fn start(argv: &[String], log: &Path) -> Result<Self> {
        Self::start_to(argv, None, log, Stdio::null())
    }

    /// The same, for a program whose standard output is its product.
    pub fn start_writing(argv: &[String], output: &Path, log: &Path) -> Result<Self> {
        Self::start_to(argv, Some(output), log, Stdio::null())
    }

    /// The same, for a program that takes requests on its standard input.
    pub fn start_with_input(argv: &[String], output: &Path, log: &Path) -> Result<Self> {
        Self::start_to(argv, Some(output), log, Stdio::piped())
    }

    fn start_to(argv: &[String], output: Option<&Path>, log: &Path, input: Stdio) -> Result<Self> {
        let create = |path: &Path| File::create(path).with_context(|| format!("creating {}", path.display()));
        let errors = create(log)?;
        let output = match output {
            Some(path) => create(path)?,
            None => errors.try_clone().context("sharing a log")?,
        };
        let mut child = start(argv, input, output.into(), errors.into())?;
        let input = child.stdin.take();
        Ok(Self { child, argv: argv.to_vec(), log: log.to_owned(), input })
    }

    /// Sends a line to the program's input.
    pub fn ask(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("this program takes no input")?;
        let sent = input.write_all(format!("{line}\n").as_bytes());
        sent.map_err(|error| self.check().err().unwrap_or_else(|| error.into()))
    }

    /// An error if the program has ended already.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("asking for a program's state")? {
            None => Ok(()),
            Some(status) => Err(self.error(format!("ended early, {}", ended(status))).into()),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything in its log so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends a signal to it and to everything it started.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        killpg(group(&self.child), signal).with_context(|| format!("sending {signal} to {}", self.argv[0]))
    }

    /// Closes its input and waits: it must end with exit status 0 within `grace`. Gives its log.
    pub fn end(&mut self, grace: Duration) -> Result<String> {
        self.input = None;
        let deadline = clock::monotonic() + grace.as_nanos() as u64;
        loop {
            match self.child.try_wait().context("waiting for a program")? {
                Some(status) if status.success() => return Ok(self.log()),
                Some(status) => return Err(self.error(ended(status)).into()),
                None if clock::monotonic() > deadline => {
                    return Err(self.error(format!("no end {grace:?} after it was asked to end")).into());
                }
                None => clock::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn error(&self, ended: String) -> CommandError {
        failed(&self.argv, ended, self.log().as_bytes())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(&self.child, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Where programs are.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

fn command(argv: &[String], input: Stdio, output: Stdio, errors: Stdio) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one door")]
    let mut command = Command::new(&argv[0]);
    command
        .args(&argv[1..])
        .env_clear()
        .envs([("PATH", PATH), ("LC_ALL", "C"), ("TZ", "UTC"), ("HOME", "/run")])
        .current_dir("/")
        .stdin(input)
        .stdout(output)
        .stderr(errors);
    command
}

fn start(argv: &[String], input: Stdio, output: Stdio, errors: Stdio) -> Result<Child, CommandError> {
    command(argv, input, output, errors)
        .process_group(0)
        .spawn()
        .map_err(|error| failed(argv, format!("could not be started: {error}"), b""))
}

fn kill(child: &Child, signal: Signal) {
    let _ = killpg(group(child), signal);
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn failed(argv: &[String], ended: String, said: &[u8]) -> CommandError {
    let tail = &said[said.len().saturating_sub(TAIL)..];
    let stderr = String::from_utf8_lossy(tail).into_owned();
    CommandError(FailedCommand { argv: argv.to_vec(), ended, stderr })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(String::from).to_vec()
    }

    #[test]
    fn output_is_captured_whole() {
        let out = run(&sh("echo noise >&2; head -c 300000 /dev/zero"), LONG).unwrap();
        assert_eq!(out.len(), 300_000);
    }

    #[test]
    fn a_failure_tells_what_ended_how_and_what_it_said() {
        let error = run(&sh("echo No such device >&2; exit 2"), LONG).unwrap_err();
        assert_eq!(error.0.ended, "exit status 2");
        assert_eq!(error.0.stderr, "No such device\n");
        assert_eq!(run(&sh("kill -9 $$"), LONG).unwrap_err().0.ended, "signal 9");
        let missing = run(&["/no/such/tool".into()], LONG).unwrap_err();
        assert!(
            missing.to_string().starts_with("`/no/such/tool`: could not be started: No such file"),
            "{missing}"
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let error = run(&sh("sleep 1000 & sleep 1000"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.0.ended, "no end after 50ms, killed");
    }

    #[test]
    fn daemons_end_on_their_signal_and_early_ends_are_noticed() {
        let dir = std::env::temp_dir().join(format!("gen-fixtures-child-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("log");
        let mut asked =
            Daemon::start(&sh("trap 'exit 0' INT; echo up; while :; do sleep 0.01; done"), &log).unwrap();
        while asked.log().is_empty() {
            clock::sleep(Duration::from_millis(1));
        }
        asked.signal(Signal::SIGINT).unwrap();
        assert_eq!(asked.end(LONG).unwrap(), "up\n");

        let mut dead = Daemon::start(&sh("echo cannot bind >&2; exit 3"), &log).unwrap();
        let error = loop {
            if let Err(error) = dead.check() {
                break error;
            }
            clock::sleep(Duration::from_millis(1));
        };
        assert!(error.to_string().ends_with("ended early, exit status 3: cannot bind"), "{error}");

        let answers = dir.join("answers");
        let mut session = Daemon::start_with_input(&sh("cat"), &answers, &log).unwrap();
        session.ask("GET TIME_STATUS_NP").unwrap();
        session.end(LONG).unwrap();
        assert_eq!(std::fs::read_to_string(&answers).unwrap(), "GET TIME_STATUS_NP\n");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
