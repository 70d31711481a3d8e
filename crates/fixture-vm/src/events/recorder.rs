//! Writing a run's events as they happen; a database that cannot take them is told of once, and left alone.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use rusqlite::{Connection, params};
use serde_json::Value;

use super::about::{About, Outcome};
use super::database::{self, Place};
use super::retention;
use crate::output;
use crate::run::events::{HostEvent, Record, Source, wall_ns};
use fixture::contract::event::{Step, What};

/// Writes the events of one run. Dropping it ends the run.
pub struct Recorder {
    open: Option<Open>,
    ended: Option<(Outcome, String)>,
}

struct Open {
    id: String,
    db: Connection,
    place: Place,
    run: i64,
    test: Option<String>,
    written: i64,
}

impl Recorder {
    /// Begins a run. Without a place nothing is written.
    pub fn begin(place: Option<&Place>, about: &About) -> Self {
        let open = place.and_then(|place| begin(place, about).inspect_err(warn).ok());
        Self { open, ended: None }
    }

    /// What users name the run by; none if the database does not have it.
    pub fn id(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.id.as_str())
    }

    /// Writes an event.
    pub fn keep(&mut self, record: &Record) {
        if let Source::Host(HostEvent::Failed { message }) = &record.source {
            self.ended = Some((Outcome::Failed, message.clone()));
        }
        if let Err(error) = self.open.as_mut().map_or(Ok(()), |open| open.keep(record)) {
            warn(&error);
            self.open = None;
        }
    }

    /// Leaves the database no room for more.
    #[cfg(test)]
    pub fn limit_for_test(&self) {
        if let Some(open) = &self.open {
            open.db.pragma_update(None, "max_page_count", 1).unwrap();
        }
    }

    /// The run has come to this end.
    pub fn end(&mut self, outcome: Outcome, detail: impl Into<String>) {
        self.ended = Some((outcome, detail.into()));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (outcome, detail) = self.ended.take().unwrap_or((Outcome::BrokenOff, String::new()));
        if let Err(error) = open.end(outcome, &detail) {
            warn(&error);
        }
    }
}

fn begin(place: &Place, about: &About) -> Result<Open> {
    let db = place.open()?;
    let parent: Option<i64> = match &about.parent {
        Some(id) => db.query_row("SELECT run FROM runs WHERE id = ?1", [id], |row| row.get(0)).ok(),
        None => None,
    };
    // Ids are drawn, so two may meet: then another is drawn.
    let mut insert = db.prepare(
        "INSERT INTO runs (id, command, scenario, seed, clock, test, parent, process, started_ns) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
    )?;
    let id = loop {
        let id = new_id()?;
        let seed = about.seed.map(|seed| seed.to_string());
        let process = crate::run::folder::this_process();
        let row = params![
            id,
            about.command,
            about.scenario,
            seed,
            about.clock,
            about.test,
            parent,
            process,
            ns(wall_ns())
        ];
        if insert.execute(row).context("beginning a run in the event database")? == 1 {
            break id;
        }
    };
    drop(insert);
    let run = db.last_insert_rowid();
    Ok(Open { id, db, place: place.clone(), run, test: about.test.clone(), written: 0 })
}

impl Open {
    fn keep(&mut self, record: &Record) -> Result<()> {
        let (source, kind, test, data) = columns(record)?;
        let mut insert = self.db.prepare_cached(
            "INSERT INTO events (run, mono_ns, wall_ns, source, type, test, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let test = test.as_ref().or(self.test.as_ref());
        insert
            .execute(params![self.run, ns(record.mono_ns), ns(record.wall_ns), source, kind, test, data])
            .context("writing to the event database")?;
        self.written += 1;
        Ok(())
    }

    fn end(self, outcome: Outcome, detail: &str) -> Result<()> {
        let ended = "UPDATE runs SET ended_ns = ?2, outcome = ?3, detail = ?4, events = ?5 WHERE run = ?1";
        self.db
            .execute(ended, params![self.run, ns(wall_ns()), outcome, detail, self.written])
            .context("ending a run in the event database")?;
        retention::keep_to(&self.db, self.place.bound, Some(self.run))?;
        database::close(self.db).context("the event database")
    }
}

/// Source, type, test and data of an event, as columns.
fn columns(record: &Record) -> Result<(&'static str, String, Option<String>, String)> {
    let told = serde_json::to_value(&record.source).context("writing an event as JSON")?;
    let inner = told.as_object().and_then(|told| told.values().next());
    let name = inner.and_then(|event| event.get("event")).and_then(Value::as_str).unwrap_or("unnamed");
    let test = inner.and_then(|event| event.get("test")).and_then(Value::as_str);
    let source = source(&record.source);
    // microVMs and pools have names with their own prefix.
    let kind = if name.contains('.') { name.to_owned() } else { format!("{source}.{name}") };
    Ok((source, kind, test.map(str::to_owned), told.to_string()))
}

/// What an event is about.
fn source(source: &Source) -> &'static str {
    match source {
        Source::Host(_) => "host",
        Source::Qemu(_) => "vm",
        Source::Test(_) => "test",
        Source::Guest(event) => match &event.what {
            What::Vm(_) => "vm",
            What::StepStarted { step } | What::StepDone { step, .. } | What::Note { step, .. }
                if is_network(*step) =>
            {
                "network"
            }
            _ => "guest",
        },
    }
}

/// In these steps the guest tells of links, captures, daemons, neighbours, clocks and streams.
fn is_network(step: Step) -> bool {
    (Step::Topology..=Step::Traffic).contains(&step)
}

/// SQLite's integers have a sign; 2^63 ns after 1970 is the year 2262.
fn ns(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Eight hexadecimal digits.
fn new_id() -> Result<String> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn warn(error: &anyhow::Error) {
    output::tell(format_args!(
        "fixture-vm: warning: what this run does from here on is only in its own files, not in the event database: {error:#}"
    ));
}
