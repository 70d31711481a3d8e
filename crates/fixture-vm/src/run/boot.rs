//! From QEMU's start to the guest's power-off: cold, recorded, or from a saved guest, which an earlier run left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fixture::contract::event::HOLD_NS;
use fixture::contract::manifest::Closure;
use fixture::scenario::Clock;

use super::Prepared;
use super::events::{EventLog, HostEvent, QemuEvent, Stage};
use super::folder::RunFolder;
use super::ours::Kind;
use super::plan::Plan;
use super::recording::{About, Recording};
use super::watch::{Milestone, Watch};
use crate::cli::Keep;
use crate::digest;
use crate::exit::{Code, GuestFailed, TimedOut, code_of};
use crate::image::Cache;
use crate::interrupt::Interrupt;
use crate::kept;
use crate::output;
use crate::qemu::args::{self, Files, Log, Saved};
use crate::qemu::binary;
use crate::qemu::process::{self, Running};
use crate::room::RoomAt;
use crate::warm::{Need, Said, Store};

/// Size in bytes of a disk that is only there for a guest to be saved in: of no matter to what is saved.
const SMALLEST: u64 = 64 << 10;

/// How long a guest that is about to be saved goes on at a time.
const SLICE: Duration = Duration::from_millis(5);

/// Boots the guest and waits until it has handed over and powered off, or holds; then it is given as it was saved.
pub fn boot(
    plan: &Plan,
    prepared: &Prepared,
    folder: &RunFolder,
    log: &mut EventLog,
    interrupt: &Interrupt,
) -> Result<Option<SavedAtEnd>> {
    let site = Site { plan, prepared, folder, interrupt };
    log.begin(Stage::Boot)?;
    if plan.record {
        return site.recorded(log).map(|()| None);
    }
    let Some(furthest) = plan.warm else {
        let disk = (plan.keep != Keep::None).then(|| site.disk());
        return site.cold(disk.as_deref(), None, Log::Discarded, log).map(|ended| ended.kept_guest);
    };
    let store = Store::of(&Cache::of_user()?)?;
    // A guest that may be kept is saved in its disk once more.
    let kept = if plan.keep == Keep::None { Need::ToContinue } else { Need::Whole };
    let converged = (furthest == Milestone::Converged).then(|| site.place(furthest)).transpose()?;
    if let Some(place) = &converged {
        if let Some(running) = site.take(&store, place, kept, log)? {
            return site.continued(running, place.at, None, log).map(|ended| ended.kept_guest);
        }
    }
    // Saved for later runs only where an earlier one had this network: most networks never come again.
    let place = match converged {
        Some(place) if store.was_wanted(&place.key)? => Some(place),
        _ => None,
    };
    let booted = site.place(Milestone::Ready)?;
    let need = if place.is_some() { Need::Whole } else { kept };
    if let Some(running) = site.take(&store, &booted, need, log)? {
        let Ended { said, kept_guest } = site.continued(running, booted.at, place.as_ref(), log)?;
        if let (Some(place), Some(said)) = (place, said) {
            site.add(&store, &place, &said);
        }
        return Ok(kept_guest);
    }
    let Ended { said, kept_guest } = site.cold(Some(&site.disk()), Some(booted.at), Log::Discarded, log)?;
    if let Some(said) = said {
        site.add(&store, &booted, &said);
    }
    Ok(kept_guest)
}

/// What a guest has left when QEMU has ended.
struct Ended {
    /// What it had written when it was saved for later runs, if its disk can be added to those.
    said: Option<Said>,
    kept_guest: Option<SavedAtEnd>,
}

/// A guest that was saved at its end, to be kept if its run comes to what was asked for.
pub struct SavedAtEnd {
    saved: Result<()>,
    disk: PathBuf,
}

/// Keeps the guest that was saved at its end, and tells.
pub fn keep(
    prepared: &Prepared,
    folder: &RunFolder,
    guest: Option<SavedAtEnd>,
    log: &mut EventLog,
) -> Result<()> {
    let Some(SavedAtEnd { saved, disk }) = guest else { return Ok(()) };
    let run = log.run_id().map_or_else(|| folder.id(), str::to_owned);
    let overlay = Some(prepared.files.root.as_path()).filter(|_| prepared.machine.clock == Clock::Real);
    let keep = || kept::Store::of_user()?.keep(&run, &disk, overlay, &About::of(prepared));
    log.host(match saved.and_then(|()| keep()) {
        Ok(()) => HostEvent::Kept { run },
        Err(error) => HostEvent::NotKept { message: format!("{error:#}") },
    })
}

/// Where a guest is saved, and under which name it is kept.
pub(super) struct Place {
    at: Milestone,
    pub(super) key: String,
}

/// What a boot is given.
pub(super) struct Site<'a> {
    plan: &'a Plan,
    pub(super) prepared: &'a Prepared<'a>,
    pub(super) folder: &'a RunFolder,
    pub(super) interrupt: &'a Interrupt,
}

impl Site<'_> {
    /// From power-on, with a disk that the guest can be saved in, and the milestone at which it is.
    fn cold(
        &self,
        disk: Option<&Path>,
        save_at: Option<Milestone>,
        qemu_log: Log,
        log: &mut EventLog,
    ) -> Result<Ended> {
        let files = &self.prepared.files;
        for file in [&files.console, &files.events] {
            fs::write(file, "").with_context(|| format!("making {}", file.display()))?;
        }
        if let Some(disk) = disk {
            process::empty_disk(&binary::qemu_img()?, disk, SMALLEST)?;
        }
        let drive = disk.map(|disk| Saved { disk: disk.to_owned(), over: None, resume: None });
        let mut running = self.start(drive, qemu_log, log)?;
        let mut watch = self.watch()?;
        let mut said = None;
        let mut go_on = || -> Result<()> {
            watch.until(Milestone::Ready, &mut running, log)?;
            log.done("")?;
            if let Some(at) = save_at {
                said = self.save(at, &mut running, &mut watch, log)?;
            }
            watch.scenario_begins();
            self.converge(&mut running, &mut watch, log)?;
            self.hand_over(&mut running, &mut watch, log)
        };
        let watched = go_on();
        self.finish(running, &watch, watched, said, log)
    }

    /// From power-on, with all that a replay needs kept; most of all for a run that fails.
    fn recorded(&self, log: &mut EventLog) -> Result<()> {
        let recording = Recording::begin(self.folder.path())?;
        let booted =
            self.cold(Some(&recording.snapshots()), Some(Milestone::Ready), Log::Kept(recording.log()), log);
        let place = &self.plan.target.path;
        let staging = self.plan.target.stage(Kind::Recording, self.folder).room_at(place)?;
        recording.keep(self.prepared, staging).room_at(place)?;
        booted?;
        Ok(())
    }

    /// From where a saved guest held. Where there is a place for it, it is saved again when its network has
    /// converged.
    fn continued(
        &self,
        mut running: Running,
        at: Milestone,
        place: Option<&Place>,
        log: &mut EventLog,
    ) -> Result<Ended> {
        let mut watch = self.watch()?;
        watch.scenario_begins();
        let mut said = None;
        let mut go_on = || -> Result<()> {
            match at {
                Milestone::Converged => log.done("continued from a guest whose network had converged")?,
                Milestone::Ready => {
                    log.done("continued from a saved guest")?;
                    self.converge(&mut running, &mut watch, log)?;
                }
            }
            if let Some(place) = place {
                said = self.save(place.at, &mut running, &mut watch, log)?;
            }
            self.hand_over(&mut running, &mut watch, log)
        };
        let watched = go_on();
        self.finish(running, &watch, watched, said, log)
    }

    /// From the network read to its convergence.
    fn converge(&self, running: &mut Running, watch: &mut Watch, log: &mut EventLog) -> Result<()> {
        log.begin(Stage::Network)?;
        watch.until(Milestone::Converged, running, log)?;
        log.done("")
    }

    /// From the network's convergence to the guest's last word.
    fn hand_over(&self, running: &mut Running, watch: &mut Watch, log: &mut EventLog) -> Result<()> {
        log.begin(Stage::Scenario)?;
        watch.until_handed_over(running, log)
    }

    /// The end of QEMU, whatever the guest came to. A guest that failed is kept, if it was asked for; one that did
    /// well is saved, and kept by whoever judges its fixtures.
    fn finish(
        &self,
        mut running: Running,
        watch: &Watch,
        watched: Result<()>,
        said: Option<Said>,
        log: &mut EventLog,
    ) -> Result<Ended> {
        let watched = watched.map_err(|error| self.explained(error, &mut running, watch));
        let can_be_kept = match &watched {
            Ok(()) => watch.is_held(),
            Err(error) => watch.is_held() || watch.has_booted() && error.is::<TimedOut>(),
        };
        let saved = (self.plan.keep != Keep::None && can_be_kept)
            .then(|| running.stop().and_then(|()| running.save(args::KEPT_AS)));
        // Ended before anything else is looked at, so that nothing writes to the share any more.
        let status = running.end()?;
        log.qemu(QemuEvent::Ended { status: status.to_string(), ran_ns: running.ran_ns() })?;
        // The disk of a guest that was saved at its end is not one to continue from.
        let said = said.filter(|_| saved.is_none());
        let kept_guest = saved.map(|saved| SavedAtEnd { saved, disk: self.disk() });
        match watched {
            Ok(()) => {
                log.done("")?;
                Ok(Ended { said, kept_guest })
            }
            Err(error) => {
                keep(self.prepared, self.folder, kept_guest, log)?;
                Err(error)
            }
        }
    }

    /// What is wrong with a monitor is that QEMU died, if it did; the guest had run.
    fn explained(&self, error: anyhow::Error, running: &mut Running, watch: &Watch) -> anyhow::Error {
        let error = self.interrupt.or(error);
        if code_of(&error) != Code::Environment || !watch.has_run() {
            return error;
        }
        match running.is_ending() {
            Ok(Some(status)) => {
                GuestFailed(format!("QEMU died ({status}){}\n{error:#}", running.words())).into()
            }
            _ => error,
        }
    }

    /// Saves the guest where it holds; nothing if it was too quick for a busy host.
    fn save(
        &self,
        at: Milestone,
        running: &mut Running,
        watch: &mut Watch,
        log: &mut EventLog,
    ) -> Result<Option<Said>> {
        log.begin(Stage::Save)?;
        running.stop()?;
        let mut said = self.save_if_it_holds(at, running, watch, log)?;
        if said.is_some() && self.go_on_in_hold(at, running, watch, log)? {
            said = self.save_if_it_holds(at, running, watch, log)?;
        }
        running.resume()?;
        log.done(match (&said, at) {
            (Some(_), Milestone::Ready) => "the guest as it was ready",
            (Some(_), Milestone::Converged) => "the guest as its network had converged",
            (None, _) => "not saved, the guest was quicker; a later run tries again",
        })?;
        Ok(said)
    }

    fn save_if_it_holds(
        &self,
        at: Milestone,
        running: &mut Running,
        watch: &mut Watch,
        log: &mut EventLog,
    ) -> Result<Option<Said>> {
        if !watch.still_holds(at, log)? {
            return Ok(None);
        }
        running.save(args::SAVED_AS)?;
        log.qemu(QemuEvent::Saved)?;
        let files = &self.prepared.files;
        let read = |file| fs::read(file).context("reading what the guest has written");
        Ok(Some(Said { console: read(&files.console)?, events: read(&files.events)? }))
    }

    /// Lets the stopped guest go on through most of its hold, which whoever continues it has to sit out. False
    /// if it went too far to be saved again; then it stays saved where it was.
    fn go_on_in_hold(
        &self,
        at: Milestone,
        running: &mut Running,
        watch: &mut Watch,
        log: &mut EventLog,
    ) -> Result<bool> {
        // On this clock an instruction takes a nanosecond.
        let until = running.instructions()? + HOLD_NS * 9 / 10;
        while running.instructions()? < until {
            self.interrupt.check()?;
            running.resume()?;
            std::thread::sleep(SLICE);
            running.stop()?;
            if !watch.still_holds(at, log)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn start(&self, saved: Option<Saved>, qemu_log: Log, log: &mut EventLog) -> Result<Running> {
        let Prepared { qemu, machine, files, .. } = self.prepared;
        let continued = saved.as_ref().is_some_and(|saved| saved.resume.is_some());
        let arguments = args::arguments(machine, &Files { saved, log: qemu_log, ..files.clone() });
        // A guest that was saved has written by then.
        let said = self.written();
        let mut running = Running::start(&qemu.path, &arguments, &self.prepared.stderr)?;
        self.folder.note_qemu(running.pid())?;
        // One that ended with a guest that had begun is judged by who watches.
        if let Some(status) = running.ended()?.filter(|_| self.written() == said) {
            bail!("QEMU ended as it started ({status}){}", running.words());
        }
        log.qemu(QemuEvent::Started { pid: running.pid().as_raw(), continued })?;
        Ok(running)
    }

    /// Bytes that the guest has on its console and as events.
    fn written(&self) -> u64 {
        let files = &self.prepared.files;
        [&files.console, &files.events]
            .iter()
            .map(|file| fs::metadata(file).map_or(0, |file| file.len()))
            .sum()
    }

    fn watch(&self) -> Result<Watch<'_>> {
        let Prepared { files, stderr, .. } = self.prepared;
        Watch::begin(files, stderr, &self.plan.deadlines, self.interrupt)
    }

    /// Where the guest of this run is kept as it holds there.
    fn place(&self, at: Milestone) -> Result<Place> {
        // All that decides what the guest is by then: everything but what it has not read yet.
        let input = match at {
            Milestone::Ready => String::new(),
            Milestone::Converged => digest::of_bytes(&self.plan.input.parts().0.to_bytes()?),
        };
        let closure = Closure { digest: String::new(), input, ..self.prepared.closure.clone() };
        let key = digest::of_bytes(&serde_json::to_vec(&closure).context("writing the closure as JSON")?);
        Ok(Place { at, key })
    }

    /// The disk of a guest that is saved or was.
    pub(super) fn disk(&self) -> PathBuf {
        self.folder.path().join("saved.qcow2")
    }

    /// A cache that takes no more is no reason to fail a run that has made its fixtures.
    fn add(&self, store: &Store, place: &Place, said: &Said) {
        let image = &self.prepared.closure.image;
        let add = || {
            let (disk, overlay) = (self.disk(), self.folder.path().join("overlay.qcow2"));
            let size = fs::metadata(&disk).context("reading the saved guest's size")?.len();
            process::empty_disk(&binary::qemu_img()?, &overlay, size)?;
            store.add(&place.key, image, &disk, &overlay, said)
        };
        if let Err(error) = add() {
            output::tell(format_args!("fixture-vm: the guest is not kept for later runs: {error:#}"));
        }
    }
}
