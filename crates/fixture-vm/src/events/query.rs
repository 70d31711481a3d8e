//! Reading events: which runs and which of their events, one after the other, however many there are.

use anyhow::{Context, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::database::VERSION;
use crate::exit::Usage;
use crate::run::events::{Record, Source};

/// A run as the database has it.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its row.
    pub row: i64,
    /// What users name it by.
    pub id: String,
    /// When it began, in nanoseconds since 1970.
    pub started_ns: i64,
    /// Whether other runs were made for it.
    pub has_runs: bool,
}

/// The run that a user names: by its id, the beginning of it, or as `last`.
pub fn run(db: &Connection, name: &str) -> Result<Run> {
    const SELECT: &str =
        "SELECT run, id, started_ns, EXISTS (SELECT 1 FROM runs AS r WHERE r.parent = runs.run) FROM runs";
    let one = |row: &Row| -> rusqlite::Result<Run> {
        Ok(Run { row: row.get(0)?, id: row.get(1)?, started_ns: row.get(2)?, has_runs: row.get(3)? })
    };
    let mut found = match name {
        "last" => {
            let mut last = db.prepare(&format!("{SELECT} WHERE parent IS NULL ORDER BY run DESC LIMIT 1"))?;
            last.query_map([], one)?.collect::<rusqlite::Result<Vec<_>>>()?
        }
        _ => {
            let prefix = format!("{SELECT} WHERE substr(id, 1, length(?1)) = ?1 ORDER BY run");
            db.prepare(&prefix)?.query_map([name], one)?.collect::<rusqlite::Result<Vec<_>>>()?
        }
    };
    match (found.len(), found.pop()) {
        (1, Some(run)) => Ok(run),
        (0, _) => {
            Err(Usage(format!("no run {name} is in the event database; `fixture-vm runs` lists them")).into())
        }
        (n, _) => Err(Usage(format!("{n} runs begin with {name}; give more digits")).into()),
    }
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this run, and of those made for it; of all if absent.
    pub run: Option<Run>,
    /// Of these tests: the id, or the beginning of it.
    pub tests: Vec<String>,
    /// Not before this time, in nanoseconds since 1970.
    pub since_ns: Option<i64>,
    /// Of these sources (`vm`) or types (`vm.started`).
    pub types: Vec<String>,
}

impl Filter {
    /// Whether it takes every event of its runs.
    pub fn takes_all(&self) -> bool {
        self.tests.is_empty() && self.since_ns.is_none() && self.types.is_empty()
    }

    /// The condition of SQL, and its values.
    fn sql(&self) -> (String, Vec<Value>) {
        let (mut all, mut values) = (vec!["1".to_owned()], Vec::new());
        let mut value = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        if let Some(run) = &self.run {
            let row = value(run.row.into());
            all.push(match run.has_runs {
                false => format!("e.run = {row}"),
                true => format!("e.run IN (SELECT run FROM runs WHERE run = {row} OR parent = {row})"),
            });
        }
        if let Some(since) = self.since_ns {
            let since = value(since.into());
            // Events are nearly in the order of time: from the first that is late enough on, few are not. The sign has
            // SQLite look for it by time; by itself it would begin at the first event that there is.
            all.push(format!("e.event >= (SELECT min(+event) FROM events WHERE wall_ns >= {since})"));
            all.push(format!("e.wall_ns >= {since}"));
        }
        let mut any = |names: &[String], condition: &dyn Fn(&str) -> String| {
            let each: Vec<_> = names.iter().map(|name| condition(&value(name.clone().into()))).collect();
            if !each.is_empty() {
                all.push(format!("({})", each.join(" OR ")));
            }
        };
        any(&self.tests, &|name| format!("substr(e.test, 1, length({name})) = {name}"));
        any(&self.types, &|name| {
            format!(
                "e.source = {name} OR e.type = {name} OR substr(e.type, 1, length({name}) + 1) = {name} || '.'"
            )
        });
        (all.join(" AND "), values)
    }
}

/// An event as the database has it.
pub struct Event {
    /// The run's id.
    pub run: String,
    /// Since the run began.
    pub mono_ns: i64,
    /// Since 1970.
    pub wall_ns: i64,
    /// Source and name.
    pub kind: String,
    /// The test it belongs to.
    pub test: Option<String>,
    /// As `events.jsonl` has it.
    pub data: String,
}

impl Event {
    fn of(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            run: row.get(0)?,
            mono_ns: row.get(1)?,
            wall_ns: row.get(2)?,
            kind: row.get(3)?,
            test: row.get(4)?,
            data: row.get(5)?,
        })
    }

    /// The event in this program's words; none if another version had other words.
    pub fn record(&self) -> Option<Record> {
        let source: Source = serde_json::from_str(&self.data).ok()?;
        Some(Record {
            mono_ns: self.mono_ns.try_into().ok()?,
            wall_ns: self.wall_ns.try_into().ok()?,
            source,
        })
    }

    /// One line of JSON: that of `events.jsonl`, and which run and test it belongs to.
    pub fn json(&self) -> Result<String> {
        let run = serde_json::to_string(&self.run)?;
        let test = match &self.test {
            Some(test) => format!(",\"test\":{}", serde_json::to_string(test)?),
            None => String::new(),
        };
        let data = self.data.strip_prefix('{').context("an event in the database is no JSON object")?;
        Ok(format!("{{\"run\":{run}{test},\"mono_ns\":{},\"wall_ns\":{},{data}", self.mono_ns, self.wall_ns))
    }
}

/// Gives each event that the filter takes, in the order in which they were written; tells how many.
pub fn each(db: &Connection, filter: &Filter, mut take: impl FnMut(&Event) -> Result<()>) -> Result<u64> {
    let (condition, values) = filter.sql();
    let mut select = db.prepare(&format!(
        "SELECT r.id, e.mono_ns, e.wall_ns, e.type, e.test, e.data FROM events AS e JOIN runs AS r USING (run) \
         WHERE {condition} ORDER BY e.event"
    ))?;
    let mut rows = select.query(params_from_iter(values)).context("reading events")?;
    let mut count = 0;
    while let Some(row) = rows.next().context("reading events")? {
        take(&Event::of(row)?)?;
        count += 1;
    }
    Ok(count)
}

/// What is missing of the filter's runs, in words; nothing if all is there.
pub fn missing(db: &Connection, filter: &Filter) -> Result<Option<String>> {
    let (condition, values) = Filter { run: filter.run.clone(), ..Filter::default() }.sql();
    let mut runs = db.prepare(&format!(
        "SELECT e.id, e.events, (SELECT count(*) FROM events WHERE events.run = e.run) AS there FROM runs AS e \
         WHERE {condition} AND e.events IS NOT NULL AND e.events <> there LIMIT 1"
    ))?;
    let mut rows = runs.query(params_from_iter(values))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (id, wrote, there): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(Some(format!(
        "run {id} wrote {wrote} events and the database (version {VERSION}) has {there} of them"
    )))
}

/// Whether any run is in the database that the filter could take events of.
pub fn any_run(db: &Connection) -> Result<bool> {
    Ok(db.query_row("SELECT EXISTS (SELECT 1 FROM runs)", [], |row| row.get(0))?)
}
