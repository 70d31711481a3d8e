//! One run as the database tells it: its events, when it was, and where it put its set.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Place;
use super::query::{self, Filter};
use crate::run::events::Record;

/// A run, without those made for it.
pub struct ToldRun {
    /// What users name it by.
    pub id: String,
    /// Its events, but for those that another version had other words for.
    pub records: Vec<Record>,
    /// Where it put its set, if it published one.
    pub set: Option<PathBuf>,
    /// When it began and ended, nanoseconds since 1970.
    pub window_ns: (u64, u64),
}

/// The ids of the last run: its own, and those of the runs that were made for it. A replay is none.
pub fn ids_of_last(place: &Place) -> Result<Vec<String>> {
    let db = place.read()?;
    let mut ids = db.prepare(
        "WITH last AS (SELECT run FROM runs WHERE parent IS NULL AND command <> 'replay' ORDER BY run DESC LIMIT 1) \
         SELECT id FROM runs, last WHERE runs.run = last.run OR runs.parent = last.run ORDER BY runs.run",
    )?;
    let ids = ids.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>();
    ids.context("reading the last run")
}

/// The run that a user names: by its id, the beginning of it, or as `last`.
pub fn told(place: &Place, name: &str) -> Result<ToldRun> {
    let db = place.read()?;
    let run = query::run(&db, name)?;
    let (ended_ns, set): (Option<i64>, Option<String>) = db
        .query_row(
            "SELECT ended_ns, CASE WHEN command = 'run' AND outcome = 'passed' THEN detail END FROM runs WHERE run = ?1",
            [run.row],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .context("reading a run")?;
    let mut records = Vec::new();
    let filter = Filter { run: Some(run.clone()), ..Filter::default() };
    query::each(&db, &filter, |event| {
        if event.run == run.id {
            records.extend(event.record());
        }
        Ok(())
    })?;
    let ns = |ns: i64| u64::try_from(ns).unwrap_or(0);
    let window_ns = (ns(run.started_ns), ended_ns.map_or(u64::MAX, ns));
    Ok(ToldRun { id: run.id, records, set: set.map(PathBuf::from), window_ns })
}
