//! Tells the host what happens: one JSON line per event on the second serial port, and a line for people
//! on the console.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use fixture::contract::event::{Failure, GuestEvent, HEARTBEAT_NS, Step, What};
use nix::libc::O_NOCTTY;
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};

use crate::clock;
use crate::shell;

/// The second serial port.
const PORT: &str = "/dev/ttyS1";

/// The channel to the host. Clones share it.
#[derive(Debug, Clone)]
pub struct Events(Arc<Mutex<Channel>>);

#[derive(Debug)]
struct Channel {
    port: File,
    seq: u64,
    step: Step,
    last_ns: u64,
    silent: bool,
    /// What was told of microVMs and pools, as lines of JSON that count from 0.
    lives: String,
    told: u64,
}

impl Events {
    /// Opens the serial port and begins to send a heartbeat whenever nothing else was sent for a while.
    pub fn open() -> Result<Self> {
        let port = OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY).open(PORT).with_context(
            || format!("opening {PORT}, the event channel: does the machine have two serial ports?"),
        )?;
        raw(&port).with_context(|| format!("setting up {PORT}"))?;
        let channel = Channel {
            port,
            seq: 0,
            step: Step::Boot,
            last_ns: clock::monotonic(),
            silent: false,
            lives: String::new(),
            told: 0,
        };
        let events = Self(Arc::new(Mutex::new(channel)));
        let heart = events.clone();
        std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || heart.beat())
            .context("a thread")?;
        shell::serve(&events)?;
        Ok(events)
    }

    /// Sends an event.
    pub fn send(&self, what: What) {
        self.channel().send(what);
    }

    /// Something worth telling within the present step.
    pub fn note(&self, text: impl Into<String>) {
        let mut channel = self.channel();
        let step = channel.step;
        channel.send(What::Note { step, text: text.into() });
    }

    /// A step begins.
    pub fn begin(&self, step: Step) {
        let mut channel = self.channel();
        channel.step = step;
        channel.send(What::StepStarted { step });
    }

    /// The present step.
    pub fn step(&self) -> Step {
        self.channel().step
    }

    /// The run has failed, in the present step.
    pub fn fail(&self, message: String, command: Option<fixture::contract::event::FailedCommand>) {
        let mut channel = self.channel();
        let step = channel.step;
        channel.send(What::Failed(Failure { step, message, command }));
    }

    /// Sends nothing any more, not even heartbeats: what a hung guest does.
    pub fn fall_silent(&self) {
        self.channel().silent = true;
    }

    /// Everything that was told of microVMs and pools, for the set.
    pub fn lives(&self) -> String {
        self.channel().lives.clone()
    }

    /// Waits until the serial port has sent everything.
    pub fn flush(&self) {
        let _ = tcdrain(&self.channel().port);
    }

    /// The host's side of the port, to read from.
    pub fn host_side(&self) -> Result<File> {
        self.channel().port.try_clone().context("sharing the event channel")
    }

    fn beat(&self) {
        loop {
            let last = self.channel().last_ns;
            clock::sleep_until(last + HEARTBEAT_NS);
            let mut channel = self.channel();
            if channel.last_ns == last {
                let step = channel.step;
                channel.send(What::Heartbeat { step });
            }
        }
    }

    /// A poisoned channel is used on: the panic that poisoned it is about to be reported through it.
    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn send(&mut self, what: What) {
        if self.silent {
            return;
        }
        if let Some(line) = for_people(&what) {
            println!("{line}");
        }
        self.last_ns = clock::monotonic();
        let event = GuestEvent { seq: self.seq, mono_ns: self.last_ns, wall_ns: clock::realtime(), what };
        self.seq += 1;
        let line = as_line(&event);
        if matches!(event.what, What::Vm(_)) {
            self.lives += &as_line(&GuestEvent { seq: self.told, ..event });
            self.told += 1;
        }
        // Without this port nobody hears of the failure either; the console has the line.
        if let Err(error) = self.port.write_all(line.as_bytes()) {
            println!("fixture-vm: {PORT}: {error}");
        }
    }
}

fn as_line(event: &GuestEvent) -> String {
    serde_json::to_string(event).expect("events have string keys and finite numbers") + "\n"
}

/// No echo, no line discipline: the bytes as they are.
pub fn raw(port: &File) -> nix::Result<()> {
    let mut settings = tcgetattr(port)?;
    cfmakeraw(&mut settings);
    tcsetattr(port, SetArg::TCSANOW, &settings)
}

fn for_people(what: &What) -> Option<String> {
    let text = match what {
        What::Hello { program, kernel, .. } => format!("gen-fixtures {program} on Linux {kernel}"),
        What::Ready => "ready".into(),
        What::Converged => "converged".into(),
        What::StepStarted { .. } | What::Heartbeat { .. } => return None,
        What::StepDone { step, detail } => format!("{}: {detail}", step.name()),
        What::Note { step, text } => format!("{}: {text}", step.name()),
        What::Failed(failure) => format!("{} failed: {}", failure.step.name(), failure.message),
        What::Vm(event) => event.to_string(),
        What::Done => "done".into(),
        // A line of ours would be in the midst of what the shell shows.
        What::Held | What::ShellTook { .. } | What::ShellEnded { .. } => return None,
    };
    Some(format!("fixture-vm: {text}"))
}
