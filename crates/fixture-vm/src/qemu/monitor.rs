//! QEMU's monitor (QMP) over a socket pair: nothing to find, nobody else to connect, gone with the process.

use std::io::{BufReader, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qapi::qmp::{self, Event, RunState};
use qapi::{Qmp, Stream};

use crate::exit::TimedOut;
use crate::interrupt::Interrupt;

/// How long QEMU may take to answer: saving a guest or reading it back is the longest it is ever busy.
const ANSWER: Duration = Duration::from_secs(60);

/// The monitor of one QEMU.
pub struct Monitor {
    qmp: Qmp<Stream<BufReader<UnixStream>, UnixStream>>,
}

/// What the monitor tells of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The guest's kernel panicked (pvpanic).
    Panicked,
    /// QEMU paused the guest by itself; its run state says why.
    Paused(RunState),
    /// The guest powered off or was reset; the reason as QMP names it.
    ShutDown(String),
    /// The monitor's other end is closed.
    Gone,
}

impl Monitor {
    /// Greets the QEMU at the other end. None: it ended instead of greeting.
    pub fn greet(socket: UnixStream, interrupt: &Interrupt) -> Result<Option<Self>> {
        socket.set_read_timeout(Some(ANSWER)).context("setting the monitor's timeout")?;
        socket.set_write_timeout(Some(ANSWER)).context("setting the monitor's timeout")?;
        let mut reader = BufReader::new(socket.try_clone().context("sharing the monitor's socket")?);
        wait_for_greeting(&socket, interrupt)?;
        // The library takes an end of file for a greeting and panics.
        match std::io::BufRead::fill_buf(&mut reader) {
            Ok([]) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            greeting => greeting.context("reading QEMU's greeting")?,
        };
        let mut qmp = Qmp::new(Stream::new(reader, socket));
        qmp.handshake().context("agreeing with QEMU's monitor")?;
        Ok(Some(Self { qmp }))
    }

    /// Waits at most so long for QEMU to say something, and returns what it said.
    pub fn listen(&mut self, at_most: Duration) -> Result<Vec<Notice>> {
        // Reading an answer reads the events before it.
        let gone = self.readable(at_most)? && self.qmp.nop().is_err();
        if gone {
            // A QEMU that ends takes no question and gives no answer, but its last events are there to be read:
            // how it ended is in them.
            self.qmp.read_response::<qmp::query_version>().ok();
        }
        let events: Vec<Event> = self.qmp.events().collect();
        let mut notices = Vec::new();
        for event in events {
            match event {
                Event::GUEST_PANICKED { .. } => notices.push(Notice::Panicked),
                Event::STOP { .. } => notices.push(self.status().map_or(Notice::Gone, Notice::Paused)),
                Event::SHUTDOWN { data, .. } => notices.push(Notice::ShutDown(format!("{:?}", data.reason))),
                _ => {}
            }
        }
        if gone {
            notices.push(Notice::Gone);
        }
        Ok(notices)
    }

    /// Pauses the guest.
    ///
    /// From here, between two of the guest's instructions, time stands still. A guest that pauses its machine
    /// by a device is not so lucky: QEMU may put its clock forward before it knows of the pause.
    pub fn stop(&mut self) -> Result<()> {
        self.qmp.execute(&qmp::stop {}).context("pausing the guest")?;
        // Told of what was asked for.
        self.qmp.events().for_each(drop);
        Ok(())
    }

    /// Saves the paused guest under a name into the one drive that can hold it.
    pub fn save(&mut self, name: &str) -> Result<()> {
        let command_line = format!("savevm {name}");
        let said = self.qmp.execute(&qmp::human_monitor_command { command_line, cpu_index: None });
        // The command says nothing where it succeeds.
        let said = said.context("saving the guest")?;
        ensure!(said.trim().is_empty(), "saving the guest: QEMU says {}", said.trim());
        Ok(())
    }

    /// How many instructions the guest has executed; on the virtual clock, where they are counted.
    pub fn instructions(&mut self) -> Result<u64> {
        let counted = self.qmp.execute(&qmp::query_replay {}).context("asking for the instruction count")?;
        u64::try_from(counted.icount).context("QEMU's instruction count is negative")
    }

    /// Lets the paused guest go on.
    pub fn resume(&mut self) -> Result<()> {
        self.qmp.execute(&qmp::cont {}).context("letting the guest go on")?;
        Ok(())
    }

    fn status(&mut self) -> Option<RunState> {
        self.qmp.execute(&qmp::query_status {}).ok().map(|info| info.status)
    }

    fn readable(&self, at_most: Duration) -> Result<bool> {
        is_readable(self.qmp.inner().get_ref_write(), at_most)
    }
}

/// Waits in short steps: a read with a timeout fails at any signal (signal(7)), and the end of another child is one.
fn wait_for_greeting(socket: &UnixStream, interrupt: &Interrupt) -> Result<()> {
    const STEP: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + ANSWER;
    while !is_readable(socket, STEP)? {
        interrupt.check()?;
        if Instant::now() > deadline {
            return Err(TimedOut(format!("QEMU has not opened its monitor within {ANSWER:?}")).into());
        }
    }
    Ok(())
}

fn is_readable(socket: &UnixStream, at_most: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        // A signal: whoever waits looks at the interrupt flag next.
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno).context("waiting for QEMU's monitor"),
    }
}
