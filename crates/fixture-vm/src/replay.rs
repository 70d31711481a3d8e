//! `fixture-vm replay`: runs a recorded run again, instruction by instruction, compares, or lets a debugger in.
//!
//! A replay ends where the hand-over begins: the fixtures are final then, and from there on the guest works
//! with the share, whose answers QEMU's log does not hold.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use fixture::contract::event::{GuestEvent, Step, What};
use fixture::contract::handover::NONCE_FILE;
use fixture::contract::input::Farewell;
use fixture::file;
use fixture::printable;

use crate::events::{self, Outcome, Place, Recorder};
use crate::exit::{NotReproducible, TimedOut, Usage};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;
use crate::qemu::args::{self, Files, Log, Ports, Saved};
use crate::qemu::binary::Qemu;
use crate::qemu::process::Running;
use crate::run::events::EventLog;
use crate::run::folder::{RunFolder, base};
use crate::run::recording::Recording;

const EXAMPLES: &str = "\
Examples:
  fixture-vm run scenarios/tsn-three-node.yaml --out out/tsn --record
  fixture-vm replay out/tsn
  fixture-vm replay out/tsn --gdb 1234     then: gdb -ex 'target remote :1234'

In gdb, `reverse-stepi` and `reverse-continue` go backwards.";

/// What `replay` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// The set of a run made with --record, or the recording's own folder
    pub run: PathBuf,
    /// Wait for a debugger: on a port of this machine, or on a socket with this path
    #[arg(long, value_name = "PORT|SOCKET")]
    pub gdb: Option<String>,
    /// Print events as JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Longest time without a word of the guest
    #[arg(long, value_parser = crate::cli::duration, value_name = "T", default_value = "5min")]
    pub silence: Duration,
    /// Where run folders are made [default: the user's runtime folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// The event database [default: $FIXTURE_VM_EVENTS, else fixture-vm/events.db in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub events_db: Option<PathBuf>,
}

/// How often the events are looked at.
const TICK: Duration = Duration::from_millis(20);

/// Replays a recorded run.
pub fn run(args: &ReplayArgs, interrupt: &Interrupt) -> Result<()> {
    let (recording, about) = Recording::open(&args.run).map_err(|error| Usage(format!("{error:#}")))?;
    interrupt.unwinds();
    let qemu = Qemu::find()?;
    let image = about.parts(&qemu)?;
    let folder = RunFolder::create(&base(args.work_dir.as_deref()))?;
    let debugger = args.gdb.as_deref().map(gdb_option).transpose()?;
    let files = files(&recording, &qemu, &image, folder.path(), debugger)?;

    let arguments = args::arguments(&about.machine, &files);
    let mut running = Running::start(&qemu.path, &arguments, &folder.path().join("qemu.stderr"))?;
    folder.note_qemu(running.pid())?;
    let replayed = match &args.gdb {
        Some(place) => {
            output::tell(invitation(place, &files.kernel));
            debug(&mut running, interrupt)
        }
        None => {
            let place = Place::find(args.events_db.as_deref())?;
            let what = events::About { command: "replay", ..events::About::default() };
            let recorder = Recorder::begin(Some(&place), &what);
            let path = folder.path().join("events.jsonl");
            let log = EventLog::start(&path, Progress::new(args.json), recorder)?;
            let said = Said::of(&recording)?;
            Follow { said, files: &files, log, told: 0 }.through(&mut running, args.silence, interrupt)
        }
    };
    running.end()?;
    replayed
}

fn files(
    recording: &Recording,
    qemu: &Qemu,
    image: &Image,
    folder: &Path,
    debugger: Option<OsString>,
) -> Result<Files> {
    let at = |name: &str| folder.join(name);
    fs::create_dir(at("share")).context("making the share")?;
    let farewell = file::read_text(&recording.nonce(), file::DOCUMENT).context("reading the nonce")?;
    let Farewell { nonce, .. } = Farewell::from_text(&farewell)?;
    fs::write(at("share").join(NONCE_FILE), nonce).context("copying the nonce")?;
    // QEMU writes to it, and the recording stays as it is.
    let disk = at("snapshots.qcow2");
    fs::copy(recording.snapshots(), &disk).context("copying the snapshots")?;
    fs::write(at("guest-events"), "").context("making the events")?;
    Ok(Files {
        firmware: qemu.firmware.clone(),
        kernel: image.kernel(),
        initramfs: image.initramfs(),
        root: image.root(),
        console: at("console.log"),
        events: at("guest-events"),
        network: recording.network(),
        course: recording.course(),
        nonce: recording.nonce(),
        share: at("share"),
        saved: Some(Saved { disk, over: None, resume: None }),
        log: Log::Replayed { log: recording.log(), debugger },
        ports: Ports::Files,
    })
}

/// QEMU's `-gdb` for a port of this machine or the path of a socket.
fn gdb_option(place: &str) -> Result<OsString, Usage> {
    if let Ok(port) = place.parse::<u16>() {
        return Ok(format!("tcp:127.0.0.1:{port},server=on,wait=off").into());
    }
    if place.contains(',') {
        return Err(Usage(format!("--gdb {place}: the path of a socket can have no comma here")));
    }
    Ok(format!("unix:{place},server=on,wait=off").into())
}

fn invitation(place: &str, kernel: &Path) -> String {
    let remote = if place.parse::<u16>().is_ok() { format!(":{place}") } else { place.to_owned() };
    format!(
        "The guest waits before its first instruction:\n  gdb -ex 'target remote {remote}' {}\n\
         `kill` in gdb, or Ctrl-C here, ends it.",
        kernel.display()
    )
}

/// Leaves the guest to the debugger.
fn debug(running: &mut Running, interrupt: &Interrupt) -> Result<()> {
    while running.ended()?.is_none() {
        interrupt.check()?;
        running.listen(TICK)?;
    }
    Ok(())
}

/// What the guest wrote when it was recorded, up to where the replay ends.
struct Said {
    console: Vec<u8>,
    events: Vec<u8>,
}

impl Said {
    fn of(recording: &Recording) -> Result<Self> {
        let (console, events) = recording.said()?;
        Ok(Self { console, events: until_hand_over(&events)?.to_vec() })
    }
}

/// The events up to the last one that the log decides: the begin of the hand-over, or a failure.
fn until_hand_over(events: &[u8]) -> Result<&[u8]> {
    let mut end = 0;
    for line in events.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        end += line.len();
        let event: GuestEvent = serde_json::from_slice(line).context("reading a recorded event")?;
        if matches!(event.what, What::StepStarted { step: Step::HandOver } | What::Failed(_)) {
            break;
        }
    }
    ensure!(end > 0, "the recorded guest said nothing, so there is nothing to compare; use --gdb");
    Ok(&events[..end])
}

/// Follows a replay and compares it with the recording.
struct Follow<'a> {
    said: Said,
    files: &'a Files,
    log: EventLog,
    /// Bytes of the events that were compared and told.
    told: usize,
}

impl Follow<'_> {
    fn through(mut self, running: &mut Running, silence: Duration, interrupt: &Interrupt) -> Result<()> {
        let mut last_word = Instant::now();
        while self.told < self.said.events.len() {
            interrupt.check()?;
            running.listen(TICK)?;
            let ended = running.ended()?;
            if self.hear()? {
                last_word = Instant::now();
            } else if let Some(status) = ended {
                bail!(NotReproducible(format!(
                    "the replay ended before the recorded run did ({status}){}",
                    running.words()
                )));
            } else if last_word.elapsed() > silence {
                bail!(TimedOut(format!("the replayed guest has been silent for {silence:?}")));
            }
        }
        let console = fs::read(&self.files.console).context("reading the console")?;
        ensure!(
            self.said.console.starts_with(&console),
            NotReproducible("the console of the replay is not the recorded one".into())
        );
        let events = self.said.events.iter().filter(|byte| **byte == b'\n').count();
        self.log.end(Outcome::Passed, "the same as recorded");
        drop(self.log);
        output::tell(format_args!(
            "replayed: {events} events and {} bytes of console, the same as recorded",
            console.len()
        ));
        Ok(())
    }

    /// Takes the whole lines that are new; tells whether there were any.
    fn hear(&mut self) -> Result<bool> {
        let events = fs::read(&self.files.events).context("reading the guest's events")?;
        let before = self.told;
        for line in events[before..].split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") || self.told == self.said.events.len() {
                break;
            }
            if !self.said.events[self.told..].starts_with(line) {
                bail!(NotReproducible(format!(
                    "the replay went another way than the recorded run; the first other event is\n  {}",
                    printable::line(String::from_utf8_lossy(line).trim())
                )));
            }
            self.log.guest(serde_json::from_slice(line).context("reading a replayed event")?)?;
            self.told += line.len();
        }
        Ok(self.told > before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_ends_at_the_hand_over_or_at_a_failure() {
        let event =
            |seq: u32, what: &str| format!(r#"{{"seq":{seq},"mono_ns":1,"wall_ns":2,{what}}}"#) + "\n";
        let ready = event(0, r#""event":"ready""#);
        let hand_over = event(1, r#""event":"step-started","step":"hand-over""#);
        let failed = event(1, r#""event":"failed","step":"topology","message":"m""#);
        for last in [&hand_over, &failed] {
            let events = format!("{ready}{last}{}", event(2, r#""event":"done""#));
            assert_eq!(until_hand_over(events.as_bytes()).unwrap(), format!("{ready}{last}").as_bytes());
        }
        let cut = format!("{ready}{}", &hand_over[..20]);
        assert_eq!(until_hand_over(cut.as_bytes()).unwrap(), ready.as_bytes());
        assert!(until_hand_over(b"").is_err());
    }

    #[test]
    fn a_debugger_comes_by_a_port_of_this_machine_or_a_socket() {
        assert_eq!(gdb_option("1234").unwrap(), "tcp:127.0.0.1:1234,server=on,wait=off");
        assert_eq!(gdb_option("/run/g").unwrap(), "unix:/run/g,server=on,wait=off");
        assert!(gdb_option("/run/a,b").is_err());
    }
}
