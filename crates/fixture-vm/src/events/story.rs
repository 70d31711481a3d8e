//! Events and runs as people read them.

use std::io::Write;

use anyhow::Result;
use fixture::printable;
use rusqlite::Connection;
use serde_json::json;

use super::cli::Format;
use super::query::{self, Event, Filter, Run};
use crate::kept::Kept;
use crate::run::folder::is_running;
use crate::run::{summary, timeline};

/// Prints the events that a filter takes, each with its run and type.
pub fn list(db: &Connection, filter: &Filter, format: Format, out: &mut impl Write) -> Result<()> {
    query::each(db, filter, |event| {
        match format {
            Format::Jsonl => writeln!(out, "{}", event.json()?)?,
            Format::Text => {
                let seconds = timeline::seconds(event.mono_ns.try_into().unwrap_or(0));
                let (run, kind) = (printable::line(&event.run), printable::line(&event.kind));
                writeln!(out, "{run}  {seconds:>9}  {kind:<22}  {}", words(event))?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Prints the story of a run as its `timeline.txt` tells it; that of a command that ran tests has the runs of
/// the tests in it, in the order of time.
pub fn timeline(db: &Connection, run: &Run, out: &mut impl Write) -> Result<()> {
    let filter = Filter { run: Some(run.clone()), ..Filter::default() };
    if !run.has_runs {
        write!(out, "{}", timeline::HEADING)?;
        query::each(db, &filter, |event| {
            match event.record() {
                Some(record) => {
                    timeline::entry(&record).map_or(Ok(()), |entry| write!(out, "{entry}"))?;
                }
                None => {
                    let event_line = format!("{} {}", event.kind, event.data);
                    writeln!(
                        out,
                        "{:>9} {:>9}  {}",
                        seconds(event.mono_ns),
                        "",
                        printable::line(&event_line)
                    )?;
                }
            }
            Ok(())
        })?;
        return Ok(());
    }
    writeln!(out, "Seconds since the tests began, and the run of the test; heartbeats left out.\n")?;
    query::each(db, &filter, |event| {
        let line = match event.record() {
            Some(record) => timeline::line(&record),
            None => Some(printable::line(&event.data).into_owned()),
        };
        let who = if event.run == run.id { "" } else { &event.run };
        if let Some(line) = line {
            let (who, line) = (printable::line(who), line.replace('\n', &format!("\n{:21}", "")));
            writeln!(out, "{:>9}  {who:8}  {line}", seconds(event.wall_ns - run.started_ns))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Prints all runs, the last one first, and which guests are kept.
pub fn runs(db: &Connection, kept: &[Kept], format: Format, out: &mut impl Write) -> Result<()> {
    let mut select = db.prepare(
        "SELECT id, strftime('%Y-%m-%d %H:%M:%S', started_ns / 1000000000, 'unixepoch'), command, scenario, seed, \
         outcome, process, detail, ended_ns - started_ns, test FROM runs ORDER BY run DESC",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let text = |column: usize| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
        let process = text(6)?;
        let outcome = match row.get::<_, Option<String>>(5)? {
            Some(outcome) => outcome,
            None if is_running(&process) => "running".into(),
            None => "killed".into(),
        };
        let (id, began, command, detail) = (text(0)?, text(1)?, text(2)?, text(7)?);
        let what = row.get::<_, Option<String>>(3)?.unwrap_or(command);
        let guest = kept.iter().find(|kept| kept.run == id);
        match format {
            Format::Text => {
                let [id, outcome, what, detail] =
                    [id.as_str(), &outcome, &what, summary::first_line(&detail)].map(printable::line);
                let guest = guest.map(|kept| format!("guest kept, {} MiB  ", kept.size >> 20));
                let guest = guest.unwrap_or_default();
                writeln!(out, "{id}  {began}  {outcome:<10}  {what:<16}  {guest}{detail}")?;
            }
            Format::Jsonl => {
                let run = json!({
                    "id": id, "command": text(2)?, "scenario": row.get::<_, Option<String>>(3)?,
                    "seed": row.get::<_, Option<String>>(4)?, "test": row.get::<_, Option<String>>(9)?,
                    "outcome": outcome, "detail": detail, "took_ns": row.get::<_, Option<i64>>(8)?, "kept_bytes": guest.map(|kept| kept.size),
                });
                writeln!(out, "{run}")?;
            }
        }
    }
    Ok(())
}

/// An event in one line.
fn words(event: &Event) -> String {
    let line = event.record().and_then(|record| timeline::line(&record));
    line.map_or_else(
        || printable::line(&event.data).into_owned(),
        |line| line.trim_start().lines().next().unwrap_or_default().to_owned(),
    )
}

fn seconds(ns: i64) -> String {
    timeline::seconds(ns.try_into().unwrap_or(0))
}
