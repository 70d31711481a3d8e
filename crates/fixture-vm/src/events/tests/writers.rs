//! Several writers of one database, in threads and in processes, and one that is killed.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use rusqlite::Connection;

use super::{Home, about, is_whole, note};
use crate::child;
use crate::events::query::{self, Filter};
use crate::events::{Outcome, Place, Recorder};

/// Names the database that a child of these tests writes to.
const CHILD: &str = "FIXTURE_VM_TEST_WRITER";

/// Not a test: what children of these tests do. Writes until it is killed, or so many events; tells each number
/// once it is written.
#[test]
#[ignore = "a child of other tests"]
fn writer() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let (many, path) = given.split_once(' ').unwrap();
    let place = Place { path: path.into(), bound: u64::MAX };
    let mut recorder = Recorder::begin(Some(&place), &about());
    for seq in 0..many.parse().unwrap() {
        recorder.keep(&note(seq));
        println!("wrote {seq}");
    }
    assert!(recorder.id().is_some());
    recorder.end(Outcome::Passed, "");
}

fn start_writer(home: &Home, many: u64) -> child::Process {
    child::Process::spawn(writer_of(home, many)).unwrap()
}

fn writer_of(home: &Home, many: u64) -> std::process::Command {
    let mut command = child::command(std::env::current_exe().unwrap());
    command.args(["--exact", "events::tests::writers::writer", "--ignored", "--nocapture"]);
    command.env(CHILD, format!("{many} {}", home.place.path.display())).stdout(Stdio::piped());
    command
}

#[test]
fn several_processes_at_once_lose_nothing() {
    const EACH: u64 = 400;
    let home = Home::new();
    // None finds the file made: they meet at its making too.
    let mut writers: Vec<_> = (0..4).map(|_| start_writer(&home, EACH)).collect();
    for writer in &mut writers {
        writer.stdout().map(|pipe| std::thread::spawn(move || BufReader::new(pipe).lines().count()));
    }
    for writer in &mut writers {
        assert!(writer.wait(std::time::Duration::from_secs(300)).unwrap().unwrap().success());
    }
    let db = home.place.read().unwrap();
    is_whole(&db);
    let mut per_run =
        db.prepare("SELECT count(*), min(mono_ns), max(mono_ns) FROM events GROUP BY run").unwrap();
    let rows = per_run.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let rows: Vec<(u64, u64, u64)> = rows.map(Result::unwrap).collect();
    assert_eq!(rows, [(EACH, 0, EACH - 1); 4]);
}

#[test]
fn all_who_meet_at_the_making_of_a_database_open_it() {
    for _ in 0..40 {
        let home = Home::new();
        std::thread::scope(|scope| {
            let open = || home.place.open().unwrap();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            all.into_iter().for_each(|one| drop(one.join().unwrap()));
        });
    }
}

#[test]
fn a_writer_that_is_killed_leaves_all_but_at_most_its_last_event() {
    let home = Home::new();
    let mut writer = start_writer(&home, u64::MAX);
    let mut said = BufReader::new(writer.stdout().unwrap()).lines();
    let number = |line: &str| line.split("wrote ").nth(1).and_then(|n| n.parse::<u64>().ok());
    while said.by_ref().map_while(Result::ok).find_map(|line| number(&line)).unwrap() < 500 {}
    nix::sys::signal::kill(writer.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    let told = said.map_while(Result::ok).filter_map(|line| number(&line)).last().unwrap_or(500);
    writer.wait(std::time::Duration::from_secs(60)).unwrap();

    let db = home.place.read().unwrap();
    is_whole(&db);
    let mut next = 0;
    query::each(&db, &Filter::default(), |event| {
        assert_eq!(event.record(), Some(note(next)));
        next += 1;
        Ok(())
    })
    .unwrap();
    // What was told was written; the one after it may have been too.
    assert!(next > told && next <= told + 2, "told of {told}, found {next}");
    let outcome: Option<String> = db.query_row("SELECT outcome FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!(outcome, None);
}

#[test]
fn a_reader_that_never_comes_to_an_end_keeps_no_event_out() {
    let home = Home::new();
    home.run(50);
    let (begun, is_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let place = &home.place;
        scope.spawn(move || {
            let db = place.read().unwrap();
            let mut seen = 0;
            let read = query::each(&db, &Filter::default(), |_| {
                seen += 1;
                if seen == 1 {
                    begun.send(()).unwrap();
                    // Like one whose output nobody takes.
                    may_go_on.recv().ok();
                }
                Ok(())
            });
            assert_eq!(read.unwrap(), 50, "it reads what was there when it began");
        });
        is_begun.recv().unwrap();
        let mut recorder = Recorder::begin(Some(&home.place), &about());
        (0..300).for_each(|seq| recorder.keep(&note(seq)));
        assert_eq!(home.count(&Filter::default()), 350, "and others see each event as it is written");
        recorder.end(Outcome::Passed, "");
        drop(recorder);
        drop(go_on);
    });
    let db = home.place.read().unwrap();
    assert_eq!(query::missing(&db, &Filter::default()).unwrap(), None);
    is_whole(&db);
}

#[test]
fn events_wait_for_a_program_that_keeps_the_database_to_itself() {
    // From before the run on, or from within it.
    for before in [0, 7] {
        let home = Home::new();
        home.run(1);
        let hog = Connection::open(&home.place.path).unwrap();
        let lock = || hog.execute_batch("BEGIN EXCLUSIVE").unwrap();
        if before == 0 {
            lock();
        }
        let mut recorder = Recorder::begin(Some(&home.place), &about());
        let id = recorder.id().expect("it has its name all the same").to_owned();
        (0..before).for_each(|seq| recorder.keep(&note(seq)));
        if before > 0 {
            lock();
        }
        (before..60).for_each(|seq| recorder.keep(&note(seq)));
        assert_eq!(recorder.id(), Some(&id[..]), "it has not given up");
        hog.execute_batch("COMMIT").unwrap();
        recorder.end(Outcome::Passed, "");
        drop(recorder);
        let db = home.place.read().unwrap();
        let filter = Filter { run: Some(query::run(&db, &id).unwrap()), ..Filter::default() };
        let mut next = 0;
        query::each(&db, &filter, |event| {
            assert_eq!(event.record(), Some(note(next)));
            next += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((next, query::missing(&db, &filter).unwrap()), (60, None));
    }
}

#[test]
fn a_database_that_is_deleted_or_replaced_during_a_run_is_named() {
    type Loss = fn(&Home);
    let losses: [(&str, Loss); 3] = [
        ("deleted", |home| std::fs::remove_file(&home.place.path).unwrap()),
        ("moved", |home| std::fs::rename(&home.place.path, home.dir.path().join("away")).unwrap()),
        ("replaced", |home| {
            let copy = home.dir.path().join("copy");
            std::fs::copy(&home.place.path, &copy).unwrap();
            std::fs::rename(copy, &home.place.path).unwrap();
        }),
    ];
    for (what, lose) in losses {
        let home = Home::new();
        let stderr = home.dir.path().join("stderr");
        let mut command = writer_of(&home, u64::MAX);
        command.stderr(std::fs::File::create(&stderr).unwrap());
        let mut writer = child::Process::spawn(command).unwrap();
        let mut said = BufReader::new(writer.stdout().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("wrote 9")));
        lose(&home);
        let warns = || std::fs::read_to_string(&stderr).unwrap().contains("was deleted or replaced");
        assert!(said.any(|_| warns()), "{what}");
        writer.end(std::time::Duration::from_secs(60)).unwrap();
        let text = std::fs::read_to_string(&stderr).unwrap();
        assert!(text.contains(home.place.path.to_str().unwrap()), "{what}: {text}");
        assert_eq!(text.matches("warning").count(), 1, "{what}: once, not with every event: {text}");
    }
}
