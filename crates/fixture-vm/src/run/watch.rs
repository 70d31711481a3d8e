//! Watching a guest: its events, QEMU's notices, deadlines; each way to fail told apart.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fixture::contract::event::{Failure, GuestEvent, Step, What};
use fixture::contract::{self};
use fixture::printable;
use qapi::qmp::RunState;

use super::console::{panic_line, with_console};
use super::events::{EventLog, QemuEvent, Stage};
use super::limits::Bounds;
use super::lines::Lines;
use crate::exit::{GuestFailed, TimedOut};
use crate::interrupt::Interrupt;
use crate::qemu::args::Files;
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
    /// Longest time without a word of the guest, from its first one on.
    pub silence: Duration,
    /// After how long the scenario is told to be slow, once for each such time.
    pub slow: Option<Duration>,
}

/// How long a guest that has said its last word may take to power off.
const POWER_OFF: Duration = Duration::from_secs(20);

/// How often the events file is looked at: so long may a guest wait for its next stage, or its end.
const TICK: Duration = Duration::from_millis(5);

/// How many events are taken before the limits are looked at again.
const AT_ONCE: usize = 256;

/// Watches one guest from its boot to its end.
pub struct Watch<'a> {
    guest: Guest,
    bounds: Bounds<'a>,
    console: &'a Path,
    deadlines: &'a Deadlines,
    interrupt: &'a Interrupt,
}

/// Where a guest holds until it is given what it needs next; there it can be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// It has booted.
    Ready,
    /// Its network has converged.
    Converged,
}

impl Milestone {
    /// The step whose end it is.
    fn step(self) -> Step {
        match self {
            Milestone::Ready => Step::Boot,
            Milestone::Converged => Step::Converge,
        }
    }
}

impl<'a> Watch<'a> {
    /// Begins to watch; the deadline of the boot runs from here.
    pub fn begin(
        files: &'a Files,
        stderr: &'a Path,
        deadlines: &'a Deadlines,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let (guest, bounds) = (Guest::new(&files.events, deadlines)?, Bounds::of(files, stderr));
        Ok(Self { guest, bounds, console: &files.console, deadlines, interrupt })
    }

    /// Watches until the guest holds, or has held.
    pub fn until(&mut self, at: Milestone, qemu: &mut Running, log: &mut EventLog) -> Result<()> {
        self.watch(Some(at), qemu, log)
    }

    /// Whether the paused guest still holds there, and has not read what comes next.
    pub fn still_holds(&mut self, at: Milestone, log: &mut EventLog) -> Result<bool> {
        self.hear(None, false, log)?;
        Ok(self.guest.reached == Some(at) && self.guest.step == Some(at.step()))
    }

    /// The guest goes on with the scenario: from here the scenario's deadline runs.
    pub fn scenario_begins(&mut self) {
        self.guest.scenario_begins(self.deadlines);
    }

    /// Whether the guest stays as it is, to be saved.
    pub fn is_held(&self) -> bool {
        self.guest.held
    }

    /// Watches until the guest has powered off, or holds, after handing over; anything else is an error.
    pub fn until_handed_over(&mut self, qemu: &mut Running, log: &mut EventLog) -> Result<()> {
        self.watch(None, qemu, log)
    }

    /// Watches until the guest holds there, or else until it has ended.
    fn watch(&mut self, until: Option<Milestone>, qemu: &mut Running, log: &mut EventLog) -> Result<()> {
        loop {
            self.interrupt.check()?;
            // Whether QEMU has ended is asked first, its notices and the guest's events are read after: what
            // was said before the end is all there.
            let ended = qemu.ended()?;
            let notices = qemu.listen(TICK)?;
            self.hear(until, ended.is_some(), log)?;
            if let Some(failure) = &self.guest.failure {
                let is_last =
                    ended.is_some() || self.guest.held || self.guest.last_word.elapsed() > POWER_OFF;
                if is_last {
                    return Err(self.failed(told(failure)));
                }
            }
            // A signal from outside shuts QEMU down, too.
            let by_guest =
                |notice: &Notice| matches!(notice, Notice::ShutDown(reason) if !reason.contains("host"));
            self.guest.is_off |= notices.iter().any(by_guest);
            for notice in notices {
                self.take(notice, qemu, log)?;
            }
            if until.is_some() && self.guest.reached >= until {
                return Ok(());
            }
            if self.guest.held && self.guest.handed_over {
                return Ok(());
            }
            if let Some(status) = ended {
                return self.ended(status, qemu);
            }
            if let Some(after) = self.guest.slow(self.deadlines) {
                log.slow(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))?;
            }
            if let Some(text) = self.guest.overdue(self.deadlines) {
                return Err(TimedOut(with_console(text, self.console)).into());
            }
        }
    }

    /// Takes every event that is there, and sees that the guest keeps within its limits.
    fn hear(&mut self, until: Option<Milestone>, ended: bool, log: &mut EventLog) -> Result<()> {
        loop {
            let more = self.guest.hear(until, log)?;
            if let Some(text) = self.bounds.passed(ended)? {
                return Err(self.failed(text));
            }
            if !more {
                return Ok(());
            }
            self.interrupt.check()?;
        }
    }

    /// Takes what QEMU says of the machine, as far as it is not what was waited for.
    fn take(&self, notice: Notice, qemu: &Running, log: &mut EventLog) -> Result<()> {
        if let Some(event) = told_by_qemu(&notice) {
            log.qemu(event)?;
        }
        let place = self.guest.place();
        match notice {
            Notice::Panicked => Err(self.failed(panicked(&self.guest, self.console))),
            // Before its pvpanic driver is there, a kernel that panics can only restart.
            Notice::ShutDown(reason) if reason.contains("reset") && panic_line(self.console).is_some() => {
                Err(self.failed(panicked(&self.guest, self.console)))
            }
            Notice::Paused(RunState::internal_error) => Err(self.failed(format!(
                "QEMU stopped the guest {place} (internal-error): the accelerator cannot run this guest; use --accel tcg{}",
                qemu.words()
            ))),
            // A guest that panics is paused too; the notice of the panic is the one to tell.
            Notice::Paused(RunState::guest_panicked | RunState::shutdown) => Ok(()),
            Notice::Paused(state) => Err(self.failed(format!("QEMU paused the guest {place} ({state:?})"))),
            Notice::ShutDown(reason) if reason.contains("reset") => {
                Err(self.failed(format!("the guest restarted {place} ({reason})")))
            }
            Notice::ShutDown(_) | Notice::Gone => Ok(()),
        }
    }

    /// QEMU has ended, as it should or not.
    fn ended(&self, status: ExitStatus, qemu: &Running) -> Result<()> {
        if self.guest.handed_over {
            return Ok(());
        }
        let place = self.guest.place();
        if !self.has_run() {
            bail!("QEMU ended before the guest's first sign ({status}){}", qemu.words());
        }
        if status.success() && self.guest.is_off {
            return Err(self.failed(format!("the guest powered off {place} without a word")));
        }
        Err(self.failed(format!("QEMU died {place} ({status}){}", qemu.words())))
    }

    /// Whether anything was seen of the guest: an event, a line on its console, its power-off.
    pub fn has_run(&self) -> bool {
        let console = || std::fs::metadata(self.console).is_ok_and(|console| console.len() > 0);
        self.guest.next_seq > 0 || self.guest.is_off || console()
    }

    /// Whether the guest has booted.
    pub fn has_booted(&self) -> bool {
        self.guest.reached.is_some()
    }

    fn failed(&self, text: String) -> anyhow::Error {
        GuestFailed(with_console(text, self.console)).into()
    }
}

/// What is known of the guest.
struct Guest {
    lines: Lines,
    next_seq: u64,
    step: Option<Step>,
    stage_ends: Instant,
    scenario: Option<Instant>,
    slow_told: u32,
    hand_over_ends: Duration,
    reached: Option<Milestone>,
    last_word: Instant,
    failure: Option<Failure>,
    handed_over: bool,
    held: bool,
    /// It has powered off, or restarted.
    is_off: bool,
}

impl Guest {
    fn new(events: &Path, deadlines: &Deadlines) -> Result<Self> {
        Ok(Self {
            lines: Lines::open(events)?,
            next_seq: 0,
            step: None,
            stage_ends: Instant::now() + deadlines.boot,
            scenario: None,
            slow_told: 0,
            hand_over_ends: deadlines.hand_over,
            reached: None,
            last_word: Instant::now(),
            failure: None,
            handed_over: false,
            held: false,
            is_off: false,
        })
    }

    /// Takes the events that are there, but none after a milestone which is waited for: what follows belongs to the
    /// next stage. Tells whether there may be more.
    fn hear(&mut self, until: Option<Milestone>, log: &mut EventLog) -> Result<bool> {
        for _ in 0..AT_ONCE {
            if until.is_some() && self.reached >= until {
                return Ok(false);
            }
            let Some(event) = self.lines.next()? else { return Ok(false) };
            self.last_word = Instant::now();
            self.take(event, log)?;
        }
        Ok(true)
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
            What::Ready => self.reached = Some(Milestone::Ready),
            What::Converged => self.reached = Some(Milestone::Converged),
            What::StepStarted { step } => self.step = Some(*step),
            What::Failed(failure) => self.failure = Some(failure.clone()),
            What::Done => self.handed_over = true,
            What::Held => self.held = true,
            _ => {}
        }
        let hand_over = matches!(event.what, What::StepStarted { step: Step::HandOver });
        log.guest(event)?;
        if hand_over {
            log.done("")?;
            log.begin(Stage::HandOver)?;
            self.stage_ends = Instant::now() + self.hand_over_ends;
            self.scenario = None;
        }
        Ok(())
    }

    /// The guest goes on with the scenario now.
    fn scenario_begins(&mut self, deadlines: &Deadlines) {
        self.last_word = Instant::now();
        self.stage_ends = self.last_word + deadlines.scenario;
        self.scenario = Some(self.last_word);
    }

    /// How long the scenario has been going on, if it is time to say so.
    fn slow(&mut self, deadlines: &Deadlines) -> Option<Duration> {
        let (slow, since) = (deadlines.slow?, self.scenario?);
        let after = slow * (self.slow_told + 1);
        (since.elapsed() >= after).then(|| {
            self.slow_told += 1;
            after
        })
    }

    /// Where the guest is, for messages.
    fn place(&self) -> String {
        match self.step {
            Some(step) => format!("in step {}", step.name()),
            None => "before its first step".into(),
        }
    }

    fn overdue(&self, deadlines: &Deadlines) -> Option<String> {
        // Before its first word a guest is held to the boot's deadline alone: the first stage of a large one is
        // quiet for long where the machine is slow.
        if self.next_seq > 0 && self.last_word.elapsed() > deadlines.silence {
            let text = format!("the guest has been silent for {:?} {}", deadlines.silence, self.place());
            return Some(text);
        }
        (Instant::now() > self.stage_ends).then(|| format!("the guest took too long {}", self.place()))
    }
}

fn told_by_qemu(notice: &Notice) -> Option<QemuEvent> {
    match notice {
        Notice::Panicked => Some(QemuEvent::Panicked),
        Notice::Paused(state) => Some(QemuEvent::Paused { state: format!("{state:?}") }),
        Notice::ShutDown(reason) => Some(QemuEvent::ShutDown { reason: reason.clone() }),
        Notice::Gone => None,
    }
}

fn panicked(guest: &Guest, console: &Path) -> String {
    let why = panic_line(console).unwrap_or_default();
    format!("the guest's kernel panicked {}{why}", guest.place())
}

/// A guest's failure as the user reads it.
fn told(failure: &Failure) -> String {
    let mut text =
        format!("the guest failed in step {}: {}", failure.step.name(), printable::line(&failure.message));
    if let Some(command) = &failure.command {
        let (words, ended) = (command.argv.join(" "), &command.ended);
        text += &format!("\n  command: {}\n  ended: {}", printable::line(&words), printable::line(ended));
        for line in command.stderr.lines() {
            text += &format!("\n  stderr: {}", printable::line(line));
        }
    }
    text
}
