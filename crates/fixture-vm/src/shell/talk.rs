//! Talking with a guest's shell: keys to its console, its console to the screen, until it says that it has ended.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fixture::contract::event::{GuestEvent, What};
use fixture::contract::shell::{KEYS_AHEAD, KNOCK};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::terminal::Raw;
use crate::exit::{GuestFailed, TimedOut};
use crate::interrupt::Interrupt;
use crate::output;
use crate::qemu::process::Running;

/// Ctrl-]: ends it all, as in telnet(1).
const ESCAPE: u8 = 0x1d;
/// Ctrl-D: what the shell's input ends with.
const END: u8 = 0x04;

/// How long a guest may say nothing. It has a word or a heartbeat every two seconds of its time.
const SILENCE: Duration = Duration::from_secs(60);

/// Status of a shell that was ended by [`ESCAPE`].
const ESCAPED: i32 = 0;

/// What has to be watched together.
pub struct Talk {
    console: UnixStream,
    events: UnixStream,
    /// Ends are dropped last of all: the terminal is put back when everything else is over.
    _raw: Option<Raw>,
    interactive: bool,
    line: Vec<u8>,
    to_send: VecDeque<u8>,
    status: Option<i32>,
    heard: Instant,
    /// Keys on their way, and those that the shell has; none before there is a shell.
    sent: u64,
    taken: Option<u64>,
}

impl Talk {
    /// Asks the guest for the shell.
    pub fn begin(console: UnixStream, mut events: UnixStream, interactive: bool) -> Result<Self> {
        for socket in [&console, &events] {
            socket.set_nonblocking(true).context("setting up a socket")?;
        }
        events.write_all(&[KNOCK]).context("asking the guest for a shell")?;
        let raw = interactive.then(Raw::begin).transpose()?;
        Ok(Self {
            console,
            events,
            _raw: raw,
            interactive,
            line: Vec::new(),
            to_send: VecDeque::new(),
            status: None,
            heard: Instant::now(),
            sent: 0,
            taken: None,
        })
    }

    /// Passes everything on until the shell has ended; gives its status.
    pub fn until_the_end(mut self, qemu: &mut Running, interrupt: &Interrupt) -> Result<i32> {
        let mut input = self.interactive;
        loop {
            interrupt.check()?;
            let ended = qemu.ended()?;
            let [keys, console, events] = self.wait(input)?;
            if console {
                self.show()?;
            }
            if events {
                self.hear()?;
            }
            if keys && !self.take_keys(&mut input)? {
                return Ok(ESCAPED);
            }
            if let Some(status) = self.status {
                // What the shell wrote before its end came before the word of it.
                self.show()?;
                return Ok(status);
            }
            if let Some(status) = ended {
                return Err(GuestFailed(format!(
                    "QEMU ended before the shell did ({status}){}",
                    qemu.words()
                ))
                .into());
            }
            if self.heard.elapsed() > SILENCE {
                return Err(TimedOut(format!("the kept guest has said nothing for {SILENCE:?}")).into());
            }
            self.send()?;
        }
    }

    /// Waits until there is something to read: keys, console, events.
    fn wait(&self, input: bool) -> Result<[bool; 3]> {
        let stdin = stdin();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut polled = vec![readable(self.console.as_fd()), readable(self.events.as_fd())];
        // Keys wait as long as those before them are not sent.
        if input && self.to_send.len() < 4096 {
            polled.push(readable(stdin.as_fd()));
        }
        match poll(&mut polled, PollTimeout::from(100_u16)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waiting for the guest"),
        }
        let is = |n: usize| polled.get(n).is_some_and(|fd| fd.any().unwrap_or(false));
        Ok([is(2), is(0), is(1)])
    }

    /// Takes what was typed; false if it asks for the end of it all.
    fn take_keys(&mut self, input: &mut bool) -> Result<bool> {
        let mut keys = [0; 512];
        let n = stdin().read(&mut keys).context("reading what is typed")?;
        if n == 0 {
            *input = false;
            self.to_send.push_back(END);
        }
        if keys[..n].contains(&ESCAPE) {
            return Ok(false);
        }
        self.to_send.extend(&keys[..n]);
        Ok(true)
    }

    /// Sends keys, as many as the guest's serial port surely holds.
    fn send(&mut self) -> Result<()> {
        let Some(taken) = self.taken else { return Ok(()) };
        let room = KEYS_AHEAD.saturating_sub(self.sent.saturating_sub(taken)) as usize;
        let keys: Vec<u8> = self.to_send.drain(..self.to_send.len().min(room)).collect();
        self.sent += keys.len() as u64;
        self.console.write_all(&keys).context("writing to the guest's console")
    }

    fn show(&mut self) -> Result<()> {
        let bytes = read(&mut self.console)?;
        if !bytes.is_empty() {
            self.heard = Instant::now();
        }
        let mut out = output::raw();
        out.write_all(&bytes)?;
        Ok(out.flush()?)
    }

    /// Hears what the shell has taken and whether it has ended. The first line may be the end of one that was under
    /// way when the guest was saved.
    fn hear(&mut self) -> Result<()> {
        self.line.extend(read(&mut self.events)?);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(GuestEvent { what: What::ShellTook { keys }, .. }) => self.taken = Some(keys),
                Ok(GuestEvent { what: What::ShellEnded { status }, .. }) => self.status = Some(status),
                _ => {}
            }
            self.heard = Instant::now();
        }
        Ok(())
    }
}

/// Everything that is there.
fn read(socket: &mut UnixStream) -> Result<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading from the guest"),
        }
    }
}
