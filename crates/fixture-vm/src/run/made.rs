//! A run under way, a set that only has to be put in place, and one that is.

use std::path::PathBuf;

use anyhow::Result;
use fixture::contract::EVENTS;
use fixture::contract::manifest::Manifest;
use fixture::verify::Report;

use super::events::{EventLog, Stage};
use super::folder::RunFolder;
use super::plan::Plan;
use super::publish::Staging;
use crate::events::{About, Outcome, Recorder};
use crate::exit::NotReproducible;
use crate::progress::Progress;
use crate::room::RoomAt;
use crate::store::{Put, Store};

/// A run under way: its story so far, and the folder that holds everything of it.
pub struct Attempt {
    /// What happened.
    pub log: EventLog,
    /// The run's folder.
    pub folder: RunFolder,
}

impl Attempt {
    /// Begins a run.
    pub fn begin(plan: &Plan, progress: Progress) -> Result<Self> {
        let folder = RunFolder::create(&plan.work_dir).room_at(&plan.work_dir)?;
        let about = About {
            command: "run",
            scenario: Some(plan.input.scenario.name.clone()),
            seed: Some(plan.input.seed),
            clock: Some(plan.input.clock.name()),
            test: plan.test.as_ref().map(|test| test.id.clone()),
            parent: plan.test.as_ref().and_then(|test| test.runner.clone()),
        };
        let recorder = Recorder::begin(plan.events.as_ref(), &about);
        let mut log = EventLog::start(&folder.path().join(EVENTS), progress, recorder)?;
        if let Some(test) = &plan.test {
            log.begin_attempt(test)?;
        }
        Ok(Self { log, folder })
    }
}

/// A complete and verified set beside its place.
pub struct Set {
    /// Where it is; dropping it removes the set.
    pub staging: Staging,
    /// Its table of contents and origin.
    pub manifest: Manifest,
    /// What verification found.
    pub report: Report,
}

/// A run that has its set.
pub struct Made {
    // Dropped in this order: the staging goes before the folder in which it is noted.
    /// The set.
    pub set: Set,
    /// The run.
    pub attempt: Attempt,
}

/// A set in its place.
pub struct Published {
    /// Its place.
    pub place: PathBuf,
    /// Its table of contents and origin.
    pub manifest: Manifest,
    /// What verification found.
    pub report: Report,
    /// The run's story.
    pub log: EventLog,
    /// What the store made of it. A set that cannot be stored is published all the same.
    pub stored: Result<Option<Put>>,
}

impl Made {
    /// Puts the set in its place, and in the store if there is one.
    pub fn publish(self, store: Option<&Store>) -> Result<Published> {
        let Self { set: Set { mut staging, manifest, report }, attempt: Attempt { mut log, folder } } = self;
        log.end_attempt(None)?;
        log.begin(Stage::Publish)?;
        // What the store had keeps the story of the run that made it.
        let is_new = manifest.answered.is_none();
        if is_new {
            log.tell(staging.path()).room_at(staging.target())?;
        }
        staging.sync().room_at(staging.target())?;
        let store = store.filter(|_| is_new);
        let stored = store.map(|store| store.put(staging.path(), &manifest)).transpose();
        staging.publish().room_at(staging.target())?;
        let place = staging.target().to_owned();
        log.done(place.display().to_string())?;
        drop(staging);
        log.end(Outcome::Passed, place.display().to_string());
        drop(folder);
        Ok(Published { place, manifest, report, log, stored })
    }
}

impl Published {
    /// An error if the store has other bytes for the same inputs.
    pub fn reproduced(&self) -> Result<(), NotReproducible> {
        match &self.stored {
            Ok(Some(Put::Differs(other))) => Err(NotReproducible(format!(
                "an earlier run with the same inputs gave other bytes, which the store keeps: \
                 fixture-vm diff {} {}",
                other.display(),
                self.place.display()
            ))),
            _ => Ok(()),
        }
    }
}
