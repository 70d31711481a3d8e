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
use crate::exit::NotReproducible;
use crate::progress::Progress;
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
        let folder = RunFolder::create(&plan.work_dir)?;
        let log = EventLog::start(&folder.path().join(EVENTS), progress)?;
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
        let Self { set: Set { staging, manifest, report }, attempt: Attempt { mut log, folder } } = self;
        log.begin(Stage::Publish)?;
        let mut stored = Ok(None);
        // What the store had keeps the story of the run that made it, and is there still if a crash tears the copy.
        if manifest.answered.is_none() {
            log.tell(staging.path())?;
            staging.sync()?;
            stored = store.map(|store| store.put(staging.path(), &manifest)).transpose();
        }
        let place = staging.publish()?;
        log.done(place.display().to_string())?;
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
