//! A running QEMU as a guard: started with its monitor, ended with everything it holds.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use fixture::printable;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::{Pid, dup2_raw};

use super::args::{MONITOR_FD, PORT_FDS};
use super::monitor::{Monitor, Notice};
use crate::child::{self, Process};
use crate::exit::{self, Code};
use crate::interrupt::Interrupt;

/// How long a QEMU whose monitor is closed may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// How much of QEMU's standard error is told: bytes and lines from its end.
const MOST_OF_STDERR: u64 = 4096;
const MOST_LINES: usize = 20;

/// A QEMU that runs a guest.
pub struct Running {
    // Dropped in this order: the process ends before the monitor's socket closes under it.
    process: Process,
    monitor: Option<Monitor>,
    stderr: PathBuf,
    started: Instant,
}

impl Running {
    /// Starts QEMU; its standard error goes to a file.
    pub fn start(qemu: &Path, args: &[OsString], stderr: &Path) -> Result<Self> {
        Self::start_with(qemu, args, stderr, Vec::new())
    }

    /// The same, with the other ends of the sockets that serial ports lead to.
    pub fn start_with(qemu: &Path, args: &[OsString], stderr: &Path, ports: Vec<UnixStream>) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("making the monitor's socket")?;
        let mut command = child::command(qemu);
        command.args(args).stdout(std::process::Stdio::null());
        command.stderr(File::create(stderr).with_context(|| format!("making {}", stderr.display()))?);
        let ends = std::iter::once(theirs).chain(ports);
        // Beyond all targets, so that none takes the place of a source.
        let above = |end: UnixStream| fcntl(end, FcntlArg::F_DUPFD_CLOEXEC(16)).context("moving a socket");
        let ends = ends.map(above).collect::<Result<Vec<_>>>()?;
        let targets: Vec<i32> = std::iter::once(MONITOR_FD).chain(PORT_FDS).collect();
        let pairs: Vec<(i32, i32)> = ends.iter().copied().zip(targets).collect();
        #[expect(
            unsafe_code,
            reason = "pre_exec is unsafe; dup2(2) is async-signal-safe and its target is the child's"
        )]
        unsafe {
            command.pre_exec(move || {
                for (end, target) in &pairs {
                    let kept = dup2_raw(std::os::fd::BorrowedFd::borrow_raw(*end), *target)?;
                    // Open for QEMU until it ends.
                    let _: i32 = std::os::fd::IntoRawFd::into_raw_fd(kept);
                }
                Ok(())
            });
        }
        let started = Instant::now();
        let process = Process::spawn(command);
        for end in ends {
            nix::unistd::close(end).context("closing QEMU's end of a socket")?;
        }
        let mut running = Self { process: process?, monitor: None, stderr: stderr.into(), started };
        match Monitor::greet(ours, &Interrupt::of_process()) {
            Ok(Some(monitor)) => running.monitor = Some(monitor),
            Ok(None) => return Err(running.not_started("closed its monitor as it started")),
            Err(error) if exit::code_of(&error) != Code::Environment => return Err(error),
            Err(error) => {
                return Err(running.not_started(&format!("gave its monitor up as it started ({error:#})")));
            }
        }
        Ok(running)
    }

    /// What is told of a QEMU without a monitor: how it ended, with its own words. It is this machine's matter, for no
    /// guest has run.
    fn not_started(&mut self, otherwise: &str) -> anyhow::Error {
        match self.process.wait(LAST_BREATH) {
            Ok(Some(status)) => anyhow!("QEMU ended as it started ({status}){}", self.words()),
            _ => anyhow!("QEMU {otherwise}{}", self.words()),
        }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Waits at most so long for QEMU to say something.
    pub fn listen(&mut self, at_most: Duration) -> Result<Vec<Notice>> {
        let notices = match &mut self.monitor {
            Some(monitor) => monitor.listen(at_most)?,
            None => Vec::new(),
        };
        if notices.contains(&Notice::Gone) {
            self.monitor = None;
        }
        if self.monitor.is_none() {
            self.process.wait(at_most)?;
        }
        Ok(notices)
    }

    /// Pauses the guest.
    pub fn stop(&mut self) -> Result<()> {
        self.monitor()?.stop()
    }

    /// Saves the paused guest under a name into the drive it was given for that.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.monitor()?.save(name)
    }

    /// How many instructions the guest has executed.
    pub fn instructions(&mut self) -> Result<u64> {
        self.monitor()?.instructions()
    }

    /// Lets the paused guest go on.
    pub fn resume(&mut self) -> Result<()> {
        self.monitor()?.resume()
    }

    fn monitor(&mut self) -> Result<&mut Monitor> {
        self.monitor.as_mut().context("QEMU's monitor is gone")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.wait(Duration::ZERO)
    }

    /// How long ago it was started, in nanoseconds.
    pub fn ran_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How it ended, if it has or is about to: its monitor closes before it is gone.
    pub fn is_ending(&mut self) -> Result<Option<ExitStatus>> {
        self.process.wait(LAST_BREATH)
    }

    /// What it said on standard error, as it follows a message; the end of it, if it is much.
    pub fn words(&self) -> String {
        let said = self.stderr().unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        match &lines[lines.len().saturating_sub(MOST_LINES)..] {
            [] => " without a word on its standard error".into(),
            last => format!(":\n{}", printable::quoted(&last.join("\n"))),
        }
    }

    fn stderr(&self) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&self.stderr)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(MOST_OF_STDERR)))?;
        let mut said = Vec::new();
        file.take(MOST_OF_STDERR).read_to_end(&mut said)?;
        Ok(said)
    }

    /// Ends it now.
    pub fn end(&mut self) -> Result<ExitStatus> {
        self.process.end(Duration::from_secs(2)).context("ending QEMU")
    }
}

/// Makes a copy-on-write overlay whose backing file is named by its absolute path.
pub fn overlay(qemu_img: &Path, base: &Path, at: &Path) -> Result<()> {
    let base = base.canonicalize().with_context(|| format!("resolving {}", base.display()))?;
    let mut command = child::command(qemu_img);
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(&base).arg(at);
    create(command).with_context(|| format!("making the overlay over {}", base.display()))
}

/// Makes an empty disk of so many bytes, for a guest to be saved into or over one that was saved.
pub fn empty_disk(qemu_img: &Path, at: &Path, size: u64) -> Result<()> {
    let mut command = child::command(qemu_img);
    command.args(["create", "-q", "-f", "qcow2"]).arg(at).arg(size.to_string());
    create(command).context("making a disk for the saved guest")
}

fn create(command: std::process::Command) -> Result<()> {
    let output = child::output(command, Duration::from_secs(60))?;
    if !output.status.success() {
        bail!(
            "qemu-img ended with {}:\n{}",
            output.status,
            printable::quoted(String::from_utf8_lossy(&output.stderr).trim())
        );
    }
    Ok(())
}
