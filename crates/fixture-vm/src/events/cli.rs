//! `fixture-vm events`, `timeline` and `runs`: asking the event database.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use rusqlite::Connection;

use super::query::{self, Filter};
use super::{Place, database, retention, sql, story};
use crate::exit::Usage;
use crate::kept;
use crate::output::{self, Out};
use crate::room::RoomAt;

const EXAMPLES: &str = "\
Examples:
  fixture-vm events --run last
  fixture-vm events --since 1h --type network,vm.panicked
  fixture-vm events export jsonl --run last --out run.jsonl
  fixture-vm events sql \"SELECT type, count(*) FROM events GROUP BY type\"
  fixture-vm events prune --max 64MiB";

/// What `events` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Command {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
    /// How events are printed
    #[arg(long, default_value = "text")]
    format: Format,
    #[command(subcommand)]
    action: Option<Action>,
}

/// Where the database is.
#[derive(Debug, Args)]
pub struct At {
    /// The event database [default: $FIXTURE_VM_EVENTS, else fixture-vm/events.db in the user's data folder]
    #[arg(long, global = true, value_name = "FILE")]
    events_db: Option<PathBuf>,
}

impl At {
    fn place(&self) -> Result<Place> {
        Place::find(self.events_db.as_deref())
    }
}

/// Which events.
#[derive(Debug, Args)]
struct Which {
    /// Of one run: its id, the beginning of it, or `last`
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Of tests whose id begins so
    #[arg(long, value_name = "TEST", value_delimiter = ',')]
    test: Vec<String>,
    /// Since a time: 90s, 10min, 2h or 3d ago, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of a source (host, vm, guest, network, test) or a type, like vm.panicked
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write events, all or chosen ones, to a file or standard output
    Export {
        /// How events are written
        format: ExportFormat,
        #[command(flatten)]
        which: Which,
        /// The file; standard output if absent
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Ask the database in SQL; nothing that is asked can change it
    Sql {
        /// One SELECT; the tables are `runs` and `events`
        statement: String,
        /// How rows are printed
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Remove the oldest runs until the database is small enough
    Prune {
        /// How large it may be [default: $FIXTURE_VM_EVENTS_MAX, else 256MiB]
        #[arg(long, value_name = "SIZE", value_parser = retention::bytes)]
        max: Option<u64>,
    },
}

/// How events and rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Jsonl,
}

/// How events are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line
    Jsonl,
}

/// What `timeline` takes.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    /// The run: its id, the beginning of it, or `last`
    run: String,
    #[command(flatten)]
    at: At,
}

/// What `runs` takes.
#[derive(Debug, Args)]
pub struct RunsArgs {
    #[command(flatten)]
    at: At,
    /// How runs are printed
    #[arg(long, default_value = "text")]
    format: Format,
    /// Remove the guest that is kept of a run, or with `all` every kept guest
    #[arg(long, value_name = "RUN")]
    drop: Option<String>,
}

/// Does what the arguments of `events` ask for.
pub fn run(command: Command) -> Result<()> {
    let place = command.at.place()?;
    let mut out = match &command.action {
        None => output(command.format),
        Some(Action::Export { out: None, .. }) => output::json(),
        Some(Action::Sql { format, .. }) => output(*format),
        Some(Action::Export { .. } | Action::Prune { .. }) => output::text(),
    };
    match command.action {
        None => {
            let db = place.read()?;
            let filter = command.which.filter(&db)?;
            story::list(&db, &filter, command.format, &mut out)?;
        }
        Some(Action::Export { format: ExportFormat::Jsonl, which, out: None }) => {
            export(&place, &which, &mut out)?;
        }
        Some(Action::Export { format: ExportFormat::Jsonl, which, out: Some(path) }) => {
            let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
            let mut file = BufWriter::new(file);
            let count = export(&place, &which, &mut file).room_at(&path)?;
            file.flush().with_context(|| format!("writing {}", path.display())).room_at(&path)?;
            writeln!(out, "{count} events in {}", path.display())?;
        }
        Some(Action::Sql { statement, format }) => sql::answer(&place.read()?, &statement, format, &mut out)?,
        Some(Action::Prune { max }) => {
            let db = place.open()?;
            let gone = retention::keep_to(&db, max.unwrap_or(place.bound), None)?;
            writeln!(out, "{gone} runs removed, {} KiB left", retention::used(&db)?.div_ceil(1024))?;
            database::close(db)?;
        }
    }
    Ok(())
}

fn output(format: Format) -> Out {
    match format {
        Format::Text => output::text(),
        Format::Jsonl => output::json(),
    }
}

/// Does what the arguments of `timeline` ask for.
pub fn timeline(args: &TimelineArgs) -> Result<()> {
    let db = args.at.place()?.read()?;
    let run = query::run(&db, &args.run)?;
    let mut out = output::text();
    story::timeline(&db, &run, &mut out)?;
    Ok(())
}

/// Does what the arguments of `runs` ask for.
pub fn runs(args: &RunsArgs) -> Result<()> {
    let mut out = output(args.format);
    if let Some(run) = &args.drop {
        let kept = kept::Store::of_user()?;
        let gone =
            if run == "all" { kept.all()? } else { vec![kept.find(run, args.at.events_db.as_deref())?] };
        for guest in gone {
            writeln!(out, "{}: {} MiB of its guest removed", guest.run, guest.size >> 20)?;
            guest.remove()?;
        }
    } else {
        story::runs(&args.at.place()?.read()?, &kept::Store::of_user()?.all()?, args.format, &mut out)?;
    }
    Ok(())
}

/// Writes the events as they are read; an export that lacks what the runs wrote is an error.
fn export(place: &Place, which: &Which, to: &mut impl Write) -> Result<u64> {
    let db = place.read()?;
    let filter = which.filter(&db)?;
    if let Some(missing) = query::missing(&db, &filter)? {
        bail!("the export would not be whole: {missing}");
    }
    let count = query::each(&db, &filter, |event| Ok(writeln!(to, "{}", event.json()?)?))?;
    if count > 0 || !query::any_run(&db)? {
        return Ok(count);
    }
    if filter.takes_all() {
        bail!("the export is empty, and the runs were not: the database has no event of them");
    }
    Err(Usage(
        "the export is empty: no event of the runs is of this kind; `fixture-vm events` shows all".into(),
    )
    .into())
}

impl Which {
    fn filter(&self, db: &Connection) -> Result<Filter> {
        let since_ns = self.since.as_deref().map(|text| since(db, text)).transpose()?;
        let run = self.run.as_deref().map(|name| query::run(db, name)).transpose()?;
        Ok(Filter { run, tests: self.test.clone(), since_ns, types: self.types.clone() })
    }
}

/// A time as a user gives it, in nanoseconds since 1970.
fn since(db: &Connection, text: &str) -> Result<i64> {
    const UNITS: [(&str, i64); 4] = [("min", 60), ("s", 1), ("h", 3_600), ("d", 86_400)];
    let ago = UNITS.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(unit)?.parse::<u32>().ok().and_then(|n| i64::from(n).checked_mul(*seconds))
    });
    let seconds: Option<f64> = match ago {
        Some(ago) => db.query_row("SELECT unixepoch('subsec') - ?1", [ago], |row| row.get(0))?,
        None => db.query_row("SELECT unixepoch(?1, 'subsec')", [text], |row| row.get(0))?,
    };
    let wrong = || Usage(format!("--since {text}: expected 90s, 10min, 2h, 3d, or 2026-01-31T12:00:00Z"));
    Ok((seconds.ok_or_else(wrong)? * 1e9) as i64)
}
