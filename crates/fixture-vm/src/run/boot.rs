//! From QEMU's start to the guest's power-off: cold, recorded, or from a saved guest, which a cold boot leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fixture::contract::event::HOLD_NS;
use fixture::contract::manifest::Closure;

use super::Prepared;
use super::events::{EventLog, Stage};
use super::folder::RunFolder;
use super::plan::Plan;
use super::recording::Recording;
use super::watch::Watch;
use crate::digest;
use crate::image::Cache;
use crate::interrupt::Interrupt;
use crate::qemu::args::{self, Files, Log, Saved};
use crate::qemu::binary;
use crate::qemu::process::{self, Running};
use crate::warm::{Said, Store};

/// How long a guest that is about to be saved goes on at a time.
const SLICE: Duration = Duration::from_millis(5);

/// Boots the guest and waits until it has handed over and powered off.
pub fn boot(
    plan: &Plan,
    prepared: &Prepared,
    folder: &RunFolder,
    log: &mut EventLog,
    interrupt: &Interrupt,
) -> Result<()> {
    let site = Site { plan, prepared, folder, interrupt };
    log.begin(Stage::Boot)?;
    if plan.record {
        return site.recorded(log);
    }
    if !plan.warm {
        site.cold(None, Log::Discarded, log)?;
        return Ok(());
    }
    let warm = Warm::of(prepared, folder)?;
    if warm.take()? {
        let saved = Saved { disk: warm.disk.clone(), resume: true };
        match site.start(Some(saved), Log::Discarded) {
            Ok(running) => return site.continued(running, log),
            // Whatever it is, if it is not the saved guest's fault, the cold boot meets it too.
            Err(error) => warm.discard(&error)?,
        }
    }
    if let Some(said) = site.cold(Some(&warm.disk), Log::Discarded, log)? {
        warm.add(&said);
    }
    Ok(())
}

/// What a boot is given.
struct Site<'a> {
    plan: &'a Plan,
    prepared: &'a Prepared<'a>,
    folder: &'a RunFolder,
    interrupt: &'a Interrupt,
}

impl Site<'_> {
    /// From power-on. Where there is a place for it, the guest is saved when it is ready; gives what it had
    /// written by then.
    fn cold(&self, saved: Option<&Path>, qemu_log: Log, log: &mut EventLog) -> Result<Option<Said>> {
        let files = &self.prepared.files;
        for file in [&files.console, &files.events] {
            fs::write(file, "").with_context(|| format!("making {}", file.display()))?;
        }
        if let Some(disk) = saved {
            process::empty_disk(&binary::qemu_img()?, disk)?;
        }
        let drive = saved.map(|disk| Saved { disk: disk.to_owned(), resume: false });
        let mut running = self.start(drive, qemu_log)?;
        let mut watch = self.watch()?;
        watch.until_ready(&mut running, log)?;
        log.done("")?;
        let said = match saved {
            Some(_) => self.save(&mut running, &mut watch, log)?,
            None => None,
        };
        self.finish(running, watch, log)?;
        Ok(said)
    }

    /// From power-on, with all that a replay needs kept; most of all for a run that fails.
    fn recorded(&self, log: &mut EventLog) -> Result<()> {
        let recording = Recording::begin(self.folder.path())?;
        let booted = self.cold(Some(&recording.snapshots()), Log::Kept(recording.log()), log);
        recording.keep(self.prepared, &self.plan.target.recording())?;
        booted?;
        Ok(())
    }

    /// From where a saved guest was ready.
    fn continued(&self, running: Running, log: &mut EventLog) -> Result<()> {
        let watch = self.watch()?;
        log.done("continued from a saved guest")?;
        self.finish(running, watch, log)
    }

    /// From the scenario to the end of QEMU.
    fn finish(&self, mut running: Running, mut watch: Watch, log: &mut EventLog) -> Result<()> {
        log.begin(Stage::Scenario)?;
        let watched = watch.until_handed_over(&mut running, log);
        // Ended before anything else is looked at, so that nothing writes to the share any more.
        running.end()?;
        watched?;
        log.done("")
    }

    /// Saves the guest where it waits; nothing if it was too quick for a busy host.
    fn save(&self, running: &mut Running, watch: &mut Watch, log: &mut EventLog) -> Result<Option<Said>> {
        log.begin(Stage::Save)?;
        running.stop()?;
        let mut said = self.save_if_ready(running, watch, log)?;
        if said.is_some() && self.go_on_in_hold(running, watch, log)? {
            said = self.save_if_ready(running, watch, log)?;
        }
        running.resume()?;
        log.done(match said {
            Some(_) => "the guest as it was ready",
            None => "not saved, the guest was quicker; a later run tries again",
        })?;
        Ok(said)
    }

    fn save_if_ready(
        &self,
        running: &mut Running,
        watch: &mut Watch,
        log: &mut EventLog,
    ) -> Result<Option<Said>> {
        if !watch.is_still_ready(log)? {
            return Ok(None);
        }
        running.save()?;
        let files = &self.prepared.files;
        let read = |file| fs::read(file).context("reading what the guest has written");
        Ok(Some(Said { console: read(&files.console)?, events: read(&files.events)? }))
    }

    /// Lets the stopped guest go on through most of its hold, which whoever continues it has to sit out. False
    /// if it went too far to be saved again; then it stays saved where it was.
    fn go_on_in_hold(&self, running: &mut Running, watch: &mut Watch, log: &mut EventLog) -> Result<bool> {
        // On this clock an instruction takes a nanosecond.
        let until = running.instructions()? + HOLD_NS * 9 / 10;
        while running.instructions()? < until {
            self.interrupt.check()?;
            running.resume()?;
            std::thread::sleep(SLICE);
            running.stop()?;
            if !watch.is_still_ready(log)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn start(&self, saved: Option<Saved>, log: Log) -> Result<Running> {
        let Prepared { qemu, machine, files, .. } = self.prepared;
        let arguments = args::arguments(machine, &Files { saved, log, ..files.clone() });
        let mut running = Running::start(&qemu.path, &arguments, &self.folder.path().join("qemu.stderr"))?;
        self.folder.note_qemu(running.pid())?;
        if let Some(status) = running.ended()? {
            bail!("QEMU ended as it started ({status}): {}", running.stderr());
        }
        Ok(running)
    }

    fn watch(&self) -> Result<Watch<'_>> {
        let files = &self.prepared.files;
        Watch::begin(&files.events, &files.console, &self.plan.deadlines, self.interrupt)
    }
}

/// The saved guest that belongs to this run, or its place.
struct Warm {
    store: Store,
    key: String,
    disk: PathBuf,
    console: PathBuf,
    events: PathBuf,
}

impl Warm {
    fn of(prepared: &Prepared, folder: &RunFolder) -> Result<Self> {
        // All that decides what the guest is when it is ready: everything but the scenario.
        let booted = Closure { digest: String::new(), input: String::new(), ..prepared.closure.clone() };
        Ok(Self {
            store: Store::of(&Cache::of_user()?)?,
            key: digest::of_bytes(&serde_json::to_vec(&booted).context("writing the closure as JSON")?),
            disk: folder.path().join("saved.qcow2"),
            console: prepared.files.console.clone(),
            events: prepared.files.events.clone(),
        })
    }

    fn take(&self) -> Result<bool> {
        self.store.take(&self.key, &self.disk, &self.console, &self.events)
    }

    fn discard(&self, why: &anyhow::Error) -> Result<()> {
        eprintln!("fixture-vm: the saved guest could not be continued, so it is made again: {why:#}");
        self.store.discard(&self.key)
    }

    /// A cache that takes no more is no reason to fail a run that has made its fixtures.
    fn add(&self, said: &Said) {
        if let Err(error) = self.store.add(&self.key, &self.disk, said) {
            eprintln!("fixture-vm: the booted guest is not kept for later runs: {error:#}");
        }
    }
}
