//! Watching a guest: its events, QEMU's notices, deadlines; each way to fail told apart.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fixture::contract::event::{Failure, GuestEvent, Step, What};
use fixture::contract::{self};
use qapi::qmp::RunState;

use super::events::{EventLog, Stage};
use crate::exit::{GuestFailed, TimedOut};
use crate::interrupt::Interrupt;
use crate::qemu::monitor::Notice;
use crate::qemu::process::Running;

/// How long each stage may take, by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From QEMU's start to the guest being ready.
    pub boot: Duration,
    /// From the scenario read to the fixtures made.
    pub scenario: Duration,
    /// From the first word of the hand-over to power-off.
    pub hand_over: Duration,
    /// Longest time without a word of the guest.
    pub silence: Duration,
}

/// How long a guest that has said its last word may take to power off.
const POWER_OFF: Duration = Duration::from_secs(20);

/// How often the events file is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How many lines of the console a failure shows.
const CONSOLE_LINES: usize = 12;

/// Watches until the guest has powered off after handing over; anything else is an error.
pub fn watch(
    qemu: &mut Running,
    events: &Path,
    console: &Path,
    deadlines: &Deadlines,
    log: &mut EventLog,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut guest = Guest::new(events, deadlines)?;
    let failed = |text: String| -> anyhow::Error { GuestFailed(with_console(text, console)).into() };
    loop {
        interrupt.check()?;
        let notices = qemu.listen(TICK)?;
        // QEMU is asked first and the events read after: what a dead guest said is all there.
        let ended = qemu.ended()?;
        guest.hear(log)?;
        if let Some(failure) = &guest.failure {
            if ended.is_some() || guest.last_word.elapsed() > POWER_OFF {
                return Err(failed(told(failure)));
            }
        }
        for notice in notices {
            match notice {
                Notice::Panicked => return Err(failed(panicked(&guest, console))),
                // Before its pvpanic driver is there, a kernel that panics can only restart.
                Notice::ShutDown(reason) if reason.contains("reset") && panic_line(console).is_some() => {
                    return Err(failed(panicked(&guest, console)));
                }
                Notice::Paused(RunState::internal_error) => {
                    let text = format!(
                        "QEMU stopped the guest {} (internal-error): the accelerator cannot run this guest; use --accel tcg\n{}",
                        guest.place(),
                        qemu.stderr()
                    );
                    return Err(failed(text));
                }
                // A guest that panics is paused too; the notice of the panic is the one to tell.
                Notice::Paused(RunState::guest_panicked | RunState::shutdown) => {}
                Notice::Paused(state) => {
                    return Err(failed(format!("QEMU paused the guest {} ({state:?})", guest.place())));
                }
                Notice::ShutDown(reason) if reason.contains("reset") => {
                    return Err(failed(format!("the guest restarted {} ({reason})", guest.place())));
                }
                Notice::ShutDown(_) | Notice::Gone => {}
            }
        }
        if let Some(status) = ended {
            if guest.handed_over {
                return Ok(());
            }
            if status.success() {
                return Err(failed(format!("the guest powered off {} without a word", guest.place())));
            }
            let mut text = format!("QEMU died {} ({status})", guest.place());
            let stderr = qemu.stderr();
            if !stderr.is_empty() {
                text += &format!(":\n{stderr}");
            }
            return Err(failed(text));
        }
        if let Some(text) = guest.overdue(deadlines) {
            return Err(TimedOut(with_console(text, console)).into());
        }
    }
}

/// What is known of the guest.
struct Guest {
    lines: BufReader<File>,
    partial: Vec<u8>,
    next_seq: u64,
    step: Option<Step>,
    stage_ends: Instant,
    hand_over_ends: Duration,
    scenario_ends: Duration,
    last_word: Instant,
    failure: Option<Failure>,
    handed_over: bool,
}

impl Guest {
    fn new(events: &Path, deadlines: &Deadlines) -> Result<Self> {
        let file = File::open(events).with_context(|| format!("opening {}", events.display()))?;
        Ok(Self {
            lines: BufReader::new(file),
            partial: Vec::new(),
            next_seq: 0,
            step: None,
            stage_ends: Instant::now() + deadlines.boot,
            hand_over_ends: deadlines.hand_over,
            scenario_ends: deadlines.scenario,
            last_word: Instant::now(),
            failure: None,
            handed_over: false,
        })
    }

    /// Reads every whole line that is there.
    fn hear(&mut self, log: &mut EventLog) -> Result<()> {
        loop {
            self.lines.read_until(b'\n', &mut self.partial).context("reading the guest's events")?;
            if self.partial.last() != Some(&b'\n') {
                return Ok(());
            }
            let line = std::mem::take(&mut self.partial);
            self.last_word = Instant::now();
            match serde_json::from_slice::<GuestEvent>(&line) {
                Ok(event) => self.take(event, log)?,
                Err(error) => {
                    let text = String::from_utf8_lossy(&line);
                    return Err(
                        GuestFailed(format!("the guest sent no event: {error}: {}", text.trim())).into()
                    );
                }
            }
        }
    }

    fn take(&mut self, event: GuestEvent, log: &mut EventLog) -> Result<()> {
        if event.seq != self.next_seq {
            let message =
                format!("the guest's events {} to {} are lost", self.next_seq, event.seq.wrapping_sub(1));
            return Err(GuestFailed(message).into());
        }
        self.next_seq += 1;
        match &event.what {
            What::Hello { contract, .. } if *contract != contract::VERSION => {
                let message = format!(
                    "the image's guest program speaks contract {contract}, this fixture-vm speaks {}; build the image again",
                    contract::VERSION
                );
                return Err(GuestFailed(message).into());
            }
            What::StepStarted { step } => self.step = Some(*step),
            What::Failed(failure) => self.failure = Some(failure.clone()),
            What::Done => self.handed_over = true,
            _ => {}
        }
        let next = match &event.what {
            What::Ready => Some((Stage::Scenario, self.scenario_ends)),
            What::StepStarted { step: Step::HandOver } => Some((Stage::HandOver, self.hand_over_ends)),
            _ => None,
        };
        log.guest(event)?;
        if let Some((stage, within)) = next {
            log.done("")?;
            log.begin(stage)?;
            self.stage_ends = Instant::now() + within;
        }
        Ok(())
    }

    /// Where the guest is, for messages.
    fn place(&self) -> String {
        match self.step {
            Some(step) => format!("in step {}", step.name()),
            None => "before its first step".into(),
        }
    }

    fn overdue(&self, deadlines: &Deadlines) -> Option<String> {
        if self.last_word.elapsed() > deadlines.silence {
            let text = format!("the guest has been silent for {:?} {}", deadlines.silence, self.place());
            return Some(text);
        }
        (Instant::now() > self.stage_ends).then(|| format!("the guest took too long {}", self.place()))
    }
}

fn panicked(guest: &Guest, console: &Path) -> String {
    let why = panic_line(console).unwrap_or_default();
    format!("the guest's kernel panicked {}{why}", guest.place())
}

/// Why the kernel says it panicked, if it could still say so.
fn panic_line(console: &Path) -> Option<String> {
    let bytes = std::fs::read(console).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find(|line| line.contains("Kernel panic - not syncing: "))?;
    line.split_once("not syncing").map(|(_, why)| why.to_owned())
}

/// A guest's failure as the user reads it.
fn told(failure: &Failure) -> String {
    let mut text = format!("the guest failed in step {}: {}", failure.step.name(), failure.message);
    if let Some(command) = &failure.command {
        text += &format!("\n  command: {}\n  ended: {}", command.argv.join(" "), command.ended);
        for line in command.stderr.lines() {
            text += &format!("\n  stderr: {line}");
        }
    }
    text
}

/// The text, and the console's last lines.
fn with_console(text: String, console: &Path) -> String {
    let bytes = std::fs::read(console).unwrap_or_default();
    let shown = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = shown.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
    if last.is_empty() {
        return format!("{text}\nthe console is empty");
    }
    format!("{text}\nthe console's last lines:\n  {}", last.join("\n  "))
}
