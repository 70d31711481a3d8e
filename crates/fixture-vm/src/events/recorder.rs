//! Writing a run's events as they happen. They wait while others keep the database busy; a database that cannot
//! take them is told of once, and left alone.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::Value;

use super::about::{About, Outcome};
use super::database::{self, PATIENCE, Place};
use super::retention;
use crate::output;
use crate::room::RoomAt;
use crate::run::events::{HostEvent, Record, Source, wall_ns};
use fixture::contract::event::{Step, What};

/// How long an event waits for others who keep the database busy. Then it waits for the next one, and the run
/// goes on.
const MOMENT: Duration = Duration::from_millis(500);

/// How long a database that was busy is left alone.
const PAUSE: Duration = Duration::from_secs(2);

/// Writes the events of one run. Dropping it ends the run.
pub struct Recorder {
    open: Option<Open>,
    ended: Option<(Outcome, String)>,
}

struct Open {
    id: String,
    about: About,
    started_ns: i64,
    place: Place,
    /// None as long as others have kept the database busy.
    base: Option<Base>,
    /// Not written yet, in order.
    waiting: Vec<Columns>,
    /// When the database was found busy last.
    busy: Option<Instant>,
    written: i64,
}

/// The database with the run's row in it.
struct Base {
    db: Connection,
    run: i64,
    file: Option<(u64, u64)>,
}

/// An event as the database has it.
struct Columns {
    mono_ns: i64,
    wall_ns: i64,
    source: &'static str,
    kind: String,
    test: Option<String>,
    data: String,
}

impl Recorder {
    /// Begins a run. Without a place nothing is written.
    pub fn begin(place: Option<&Place>, about: &About) -> Self {
        let open = place.and_then(|place| {
            Open::begin(place, about).room_at(&place.path).inspect_err(|error| warn(place, error)).ok()
        });
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
        let Some(open) = &mut self.open else { return };
        if let Err(error) = open.keep(record).room_at(&open.place.path) {
            warn(&open.place, &error);
            self.open = None;
        }
    }

    /// Leaves the database no room for more.
    #[cfg(test)]
    pub fn limit_for_test(&self) {
        if let Some(base) = self.open.as_ref().and_then(|open| open.base.as_ref()) {
            base.db.pragma_update(None, "max_page_count", 1).unwrap();
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
        let place = open.place.clone();
        let (outcome, detail) = self.ended.take().unwrap_or((Outcome::BrokenOff, String::new()));
        if let Err(error) = open.end(outcome, &detail).room_at(&place.path) {
            warn(&place, &error);
        }
    }
}

impl Open {
    fn begin(place: &Place, about: &About) -> Result<Self> {
        let mut open = Self {
            id: new_id()?,
            about: about.clone(),
            started_ns: ns(wall_ns()),
            place: place.clone(),
            base: None,
            waiting: Vec::new(),
            busy: None,
            written: 0,
        };
        open.write(MOMENT)?;
        Ok(open)
    }

    fn keep(&mut self, record: &Record) -> Result<()> {
        let mut columns = columns(record)?;
        columns.test = columns.test.or_else(|| self.about.test.clone());
        self.waiting.push(columns);
        match self.busy {
            Some(since) if since.elapsed() < PAUSE => Ok(()),
            _ => self.write(MOMENT).map(drop),
        }
    }

    /// Writes what waits, unless others keep the database busy for longer than that; tells whether it did.
    fn write(&mut self, patience: Duration) -> Result<bool> {
        match self.write_now(patience) {
            Err(error) if database::is_busy(&error) => {
                self.busy = Some(Instant::now());
                Ok(false)
            }
            done => {
                self.busy = None;
                done.map(|()| true)
            }
        }
    }

    fn write_now(&mut self, patience: Duration) -> Result<()> {
        if self.base.is_none() {
            let base = self.begin_in(self.place.open_within(patience)?)?;
            self.base = Some(base);
        }
        let Some(base) = &mut self.base else { return Ok(()) };
        base.is_in_place(&self.place)?;
        base.db.busy_timeout(patience)?;
        base.insert(&self.waiting).context("writing to the event database")?;
        self.written += ns(self.waiting.len() as u64);
        self.waiting.clear();
        Ok(())
    }

    /// Ids are drawn, so two may meet: then another is drawn, unless somebody has been told this one.
    fn begin_in(&mut self, db: Connection) -> Result<Base> {
        let file = self.place.file();
        let about = &self.about;
        let parent: Option<i64> = match &about.parent {
            Some(id) => db.query_row("SELECT run FROM runs WHERE id = ?1", [id], |row| row.get(0)).ok(),
            None => None,
        };
        let mut insert = db.prepare(
            "INSERT INTO runs (id, command, scenario, seed, clock, test, parent, process, started_ns) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
        )?;
        loop {
            let seed = about.seed.map(|seed| seed.to_string());
            let process = crate::run::folder::this_process();
            let row = params![
                self.id,
                about.command,
                about.scenario,
                seed,
                about.clock,
                about.test,
                parent,
                process,
                self.started_ns
            ];
            if insert.execute(row).context("beginning a run in the event database")? == 1 {
                break;
            }
            ensure!(self.busy.is_none(), "the event database has another run {}", self.id);
            self.id = new_id()?;
        }
        drop(insert);
        let run = db.last_insert_rowid();
        Ok(Base { db, run, file })
    }

    fn end(mut self, outcome: Outcome, detail: &str) -> Result<()> {
        ensure!(
            self.write(PATIENCE)?,
            "the event database {} is kept busy by another program, and {} events could not be written",
            self.place.path.display(),
            self.waiting.len()
        );
        let Some(base) = self.base else { return Ok(()) };
        let ended = "UPDATE runs SET ended_ns = ?2, outcome = ?3, detail = ?4, events = ?5 WHERE run = ?1";
        base.db
            .execute(ended, params![base.run, ns(wall_ns()), outcome, detail, self.written])
            .context("ending a run in the event database")?;
        retention::keep_to(&base.db, self.place.bound, Some(base.run))?;
        base.is_in_place(&self.place)?;
        database::close(base.db).context("the event database")
    }
}

impl Base {
    /// All of them or, with an error, none.
    fn insert(&mut self, events: &[Columns]) -> Result<()> {
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = change.prepare_cached(
                "INSERT INTO events (run, mono_ns, wall_ns, source, type, test, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for Columns { mono_ns, wall_ns, source, kind, test, data } in events {
                insert.execute(params![self.run, mono_ns, wall_ns, source, kind, test, data])?;
            }
        }
        Ok(change.commit()?)
    }

    /// A file that was deleted takes everything, and nobody will ever read it.
    fn is_in_place(&self, place: &Place) -> Result<()> {
        ensure!(
            place.file() == self.file,
            "{} was deleted or replaced during the run, with what the run had written",
            place.path.display()
        );
        Ok(())
    }
}

/// Source, type, test and data of an event, as columns.
fn columns(record: &Record) -> Result<Columns> {
    let told = serde_json::to_value(&record.source).context("writing an event as JSON")?;
    let inner = told.as_object().and_then(|told| told.values().next());
    let name = inner.and_then(|event| event.get("event")).and_then(Value::as_str).unwrap_or("unnamed");
    let test = inner.and_then(|event| event.get("test")).and_then(Value::as_str);
    let source = source(&record.source);
    // microVMs and pools have names with their own prefix.
    let kind = if name.contains('.') { name.to_owned() } else { format!("{source}.{name}") };
    Ok(Columns {
        mono_ns: ns(record.mono_ns),
        wall_ns: ns(record.wall_ns),
        source,
        kind,
        test: test.map(str::to_owned),
        data: told.to_string(),
    })
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

fn warn(place: &Place, error: &anyhow::Error) {
    output::tell(format_args!(
        "fixture-vm: warning: what this run does from here on is only in its own files, not in the event database {}: {error:#}",
        place.path.display()
    ));
}
