//! The database under all that can happen to it: older versions, other files, a full disk, and what is asked of it.

use std::path::Path;
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed};

use fixture::contract::event::{GuestEvent, Step, What};
use rusqlite::Connection;

use super::cli::Format;
use super::database::VERSION;
use super::query::{self, Filter};
use super::{About, Outcome, Place, Recorder, retention, sql};
use crate::run::events::{HostEvent, QemuEvent, Record, Source, Stage};

mod writers;

/// A database in a folder of its own.
struct Home {
    dir: tempfile::TempDir,
    place: Place,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { path: dir.path().join("events.db"), bound: u64::MAX };
        Self { dir, place }
    }

    /// A run with so many notes of the guest, in order.
    fn run(&self, notes: u64) -> String {
        let mut recorder = Recorder::begin(Some(&self.place), &about());
        (0..notes).for_each(|seq| recorder.keep(&note(seq)));
        recorder.end(Outcome::Passed, "/out");
        recorder.id().unwrap().to_owned()
    }

    fn count(&self, filter: &Filter) -> u64 {
        query::each(&self.place.read().unwrap(), filter, |_| Ok(())).unwrap()
    }
}

fn about() -> About {
    About { command: "run", scenario: Some("small".into()), seed: Some(u64::MAX), ..About::default() }
}

fn note(seq: u64) -> Record {
    let what = What::Note { step: Step::Traffic, text: format!("number {seq}") };
    let guest = GuestEvent { seq, mono_ns: seq, wall_ns: seq, what };
    Record { mono_ns: seq, wall_ns: 1_000_000 + seq, source: Source::Guest(guest) }
}

fn is_whole(db: &Connection) {
    let said: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
}

fn schema(db: &Connection) -> Vec<String> {
    let mut select = db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    // How a statement is laid out is of no matter.
    let plain = |sql: String| {
        let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        lines.collect::<String>().split_whitespace().collect::<String>()
    };
    select.query_map([], |row| row.get(0)).unwrap().map(|sql| plain(sql.unwrap())).collect()
}

#[test]
fn every_earlier_version_becomes_that_of_today_with_all_that_is_in_it() {
    let fresh = Home::new();
    let wanted = schema(&fresh.place.open().unwrap());
    for version in 0..=VERSION {
        let home = Home::new();
        if version > 0 {
            let file =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/events/testdata/{version}.sql"));
            let sql =
                std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            Connection::open(&home.place.path).unwrap().execute_batch(&sql).unwrap();
        } else {
            std::fs::write(&home.place.path, "").unwrap();
        }
        // Whoever only reads has it brought up to date too.
        let db = home.place.read().unwrap();
        assert_eq!(schema(&db), wanted, "version {version}");
        let now: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(now, VERSION);
        is_whole(&db);
        let events = query::each(&db, &Filter::default(), |event| {
            assert!(event.record().is_some(), "{}", event.data);
            Ok(())
        });
        assert_eq!(events.unwrap(), if version > 0 { 3 } else { 0 });
        if version > 0 {
            assert_eq!(query::run(&db, "0a1b").unwrap().row, 1);
            assert_eq!(query::run(&db, "last").unwrap().id, "4e5f6071");
        }
        home.run(5);
        assert_eq!(home.count(&Filter::default()), events_of(version) + 5);
    }
}

fn events_of(version: i64) -> u64 {
    if version > 0 { 3 } else { 0 }
}

#[test]
fn what_is_no_event_database_of_ours_is_told_and_left_as_it_is() {
    type Make = fn(&Path);
    let cases: [(&str, Make); 3] = [
        ("no SQLite database", |path| std::fs::write(path, "years of work, and more than a header").unwrap()),
        ("something else", |path| {
            Connection::open(path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap()
        }),
        ("its version is 99", |path| {
            drop(Place { path: path.into(), bound: 1 }.open().unwrap());
            Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        }),
    ];
    for (says, make) in cases {
        let home = Home::new();
        make(&home.place.path);
        let before = std::fs::read(&home.place.path).unwrap();
        for error in [home.place.open().unwrap_err(), home.place.read().unwrap_err()] {
            let text = format!("{error:#}");
            assert!(text.contains(says) && text.contains("events.db"), "{text}");
        }
        // And a run goes on without it.
        let mut recorder = Recorder::begin(Some(&home.place), &about());
        recorder.keep(&note(0));
        assert_eq!(recorder.id(), None);
        drop(recorder);
        assert_eq!(std::fs::read(&home.place.path).unwrap(), before);
    }
}

#[test]
fn a_database_that_is_full_ends_the_record_and_not_the_run() {
    let home = Home::new();
    let mut recorder = Recorder::begin(Some(&home.place), &about());
    recorder.keep(&note(0));
    recorder.limit_for_test();
    (1..2000).for_each(|seq| recorder.keep(&note(seq)));
    assert_eq!(recorder.id(), None, "it has given up");
    drop(recorder);
    let db = home.place.read().unwrap();
    is_whole(&db);
    assert!(home.count(&Filter::default()) >= 1);
}

#[test]
fn every_connection_is_set_up_and_the_log_is_emptied_at_the_end() {
    let home = Home::new();
    home.run(200);
    let db = home.place.open().unwrap();
    let number =
        |db: &Connection, name: &str| -> i64 { db.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
    for (db, query_only) in [(&db, 0), (&home.place.read().unwrap(), 1)] {
        let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(
            (number(db, "foreign_keys"), number(db, "busy_timeout"), number(db, "query_only")),
            (1, 10_000, query_only)
        );
    }
    drop(db);
    let log = home.dir.path().join("events.db-wal");
    assert!(!log.exists() || std::fs::metadata(log).unwrap().len() == 0);
}

#[test]
fn nothing_that_is_asked_can_write() {
    let home = Home::new();
    home.run(3);
    let before = std::fs::read(&home.place.path).unwrap();
    let other = home.dir.path().join("other.db");
    let attach = format!("ATTACH DATABASE '{}' AS other", other.display());
    let vacuum = format!("VACUUM INTO '{}'", other.display());
    let writes = [
        "DELETE FROM events",
        "UPDATE runs SET outcome = 'passed'",
        "INSERT INTO runs (id, command, process, started_ns) VALUES ('x', 'run', '', 0)",
        "WITH gone AS (SELECT 1) DELETE FROM runs",
        "DROP TABLE events",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA user_version = 7",
        "PRAGMA writable_schema = 1",
        "BEGIN IMMEDIATE",
        "SELECT 1; DELETE FROM events",
        "SELECT load_extension('x')",
        "REINDEX",
        &attach,
        &vacuum,
        "",
    ];
    let ask = |sql: &str| {
        let mut out = Vec::new();
        sql::answer(&home.place.read().unwrap(), sql, Format::Text, &mut out)
            .map(|()| String::from_utf8(out).unwrap())
    };
    for sql in writes {
        let error = ask(sql).err().unwrap_or_else(|| panic!("{sql} was answered"));
        assert_eq!(crate::exit::code_of(&error), crate::exit::Code::Usage, "{sql}: {error:#}");
    }
    assert_eq!(std::fs::read(&home.place.path).unwrap(), before);
    assert!(!other.exists());
    assert_eq!(
        ask("SELECT count(*) AS n, max(mono_ns) FROM events WHERE type LIKE 'network.%'").unwrap(),
        "n\tmax(mono_ns)\n3\t2\n"
    );
    assert!(ask("PRAGMA table_info(events)").unwrap().contains("wall_ns"));
    let mut lines = Vec::new();
    sql::answer(
        &home.place.read().unwrap(),
        "SELECT id, seed, NULL AS n FROM runs",
        Format::Jsonl,
        &mut lines,
    )
    .unwrap();
    let row: serde_json::Value = serde_json::from_slice(&lines).unwrap();
    assert_eq!((row["seed"].as_str(), row["n"].is_null()), (Some("18446744073709551615"), true));
    // The first two of the four bars hold alone.
    assert!(home.place.read().unwrap().execute("DELETE FROM events", []).is_err());
}

#[test]
fn events_are_found_by_run_source_type_test_and_time() {
    let home = Home::new();
    let first = home.run(4);
    let mut recorder =
        Recorder::begin(Some(&home.place), &About { test: Some("lldp/ring".into()), ..about() });
    let host = |source| Record { mono_ns: 1, wall_ns: 5_000_000, source };
    recorder.keep(&host(Source::Host(HostEvent::StageStarted { stage: Stage::Plan })));
    recorder.keep(&host(Source::Qemu(QemuEvent::Panicked)));
    recorder.keep(&host(Source::Host(HostEvent::Failed { message: "the guest's kernel panicked".into() })));
    drop(recorder);

    let db = home.place.read().unwrap();
    let of = |name: &str| Filter { run: Some(query::run(&db, name).unwrap()), ..Filter::default() };
    let types =
        |names: &[&str]| Filter { types: names.iter().map(|n| (*n).into()).collect(), ..Filter::default() };
    assert_eq!((home.count(&of(&first)), home.count(&of("last")), home.count(&Filter::default())), (4, 3, 7));
    assert_eq!(home.count(&types(&["network"])), 4);
    assert_eq!(home.count(&types(&["vm.panicked", "host.failed"])), 2);
    assert_eq!(home.count(&types(&["net"])), 0, "no part of a name");
    assert_eq!(home.count(&Filter { tests: vec!["lldp".into()], ..Filter::default() }), 3);
    assert_eq!(home.count(&Filter { since_ns: Some(1_000_002), ..Filter::default() }), 5);
    let (outcome, detail): (String, String) = db
        .query_row("SELECT outcome, detail FROM runs ORDER BY run DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((outcome.as_str(), detail.as_str()), ("failed", "the guest's kernel panicked"));
    assert!(query::run(&db, "nothing").is_err() && query::run(&db, "").is_err());
}

/// How many thousand instructions SQLite's machine takes for a question: what it costs on any host, however busy.
fn thousand_steps(db: &Connection, filter: &Filter) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    db.progress_handler(1000, Some(move || counted.fetch_add(1, Relaxed) == u64::MAX));
    query::each(db, filter, |_| Ok(())).unwrap();
    steps.load(Relaxed)
}

#[test]
fn of_ten_thousand_events_a_run_or_the_last_ones_are_found_without_looking_at_all() {
    let home = Home::new();
    (0..99).for_each(|_| drop(home.run(100)));
    home.place.open().unwrap().execute("UPDATE events SET wall_ns = wall_ns + 1000 * run", []).unwrap();
    let run = home.run(100);
    let db = home.place.read().unwrap();
    let steps = |filter| thousand_steps(&db, &filter);
    // A thousand take some 20 us: all events are read well within 50 ms.
    let all = steps(Filter::default());
    assert!((10..600).contains(&all), "{all}");
    assert!(steps(Filter { run: Some(query::run(&db, &run).unwrap()), ..Filter::default() }) <= all / 20);
    assert!(steps(Filter { since_ns: Some(1_098_000), ..Filter::default() }) <= all / 20);
    assert!(steps(Filter { types: vec!["network".into()], ..Filter::default() }) <= 2 * all);
    assert!(steps(Filter { tests: vec!["small".into()], ..Filter::default() }) <= 2 * all);
}

#[test]
fn an_event_that_went_missing_is_noticed() {
    let home = Home::new();
    let run = home.run(9);
    let filter =
        || Filter { run: Some(query::run(&home.place.read().unwrap(), &run).unwrap()), ..Filter::default() };
    assert_eq!(query::missing(&home.place.read().unwrap(), &filter()).unwrap(), None);
    home.place.open().unwrap().execute("DELETE FROM events WHERE mono_ns = 4", []).unwrap();
    let said = query::missing(&home.place.read().unwrap(), &filter()).unwrap().unwrap();
    assert!(said.contains("wrote 9 events") && said.contains("has 8"), "{said}");
}

#[test]
fn above_the_bound_the_oldest_runs_go_and_those_that_go_on_stay() {
    let home = Home::new();
    let mut goes_on = Recorder::begin(Some(&home.place), &about());
    goes_on.keep(&note(0));
    let runs: Vec<_> = (0..12).map(|_| home.run(400)).collect();
    let used = retention::used(&home.place.open().unwrap()).unwrap();
    let bounded = Place { bound: used / 2, ..home.place.clone() };
    let mut last = Recorder::begin(Some(&bounded), &about());
    last.keep(&note(0));
    let last = {
        let id = last.id().unwrap().to_owned();
        drop(last);
        id
    };

    let db = home.place.open().unwrap();
    assert!(retention::used(&db).unwrap() <= bounded.bound);
    let there = |id: &str| query::run(&db, id).is_ok();
    assert!(there(goes_on.id().unwrap()) && there(&last) && there(&runs[11]) && !there(&runs[0]));
    // Whole runs went, oldest first.
    let first = runs.iter().position(|run| there(run)).unwrap();
    assert!(runs[first..].iter().all(|run| there(run)));
    assert_eq!(query::missing(&db, &Filter::default()).unwrap(), None);
    is_whole(&db);
    assert_eq!(retention::bytes("64MiB"), Ok(64 << 20));
    assert!(retention::bytes("lots").is_err());
}
