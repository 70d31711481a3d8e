//! The event database as users meet it: the story of a run, exports, several runs at once, and a file that is none.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Lab, Live, PROGRAM, SMALL, ends_with, image};
use crate::project::{command, root, said};
use crate::readme;

/// What `events sql` prints, without the line of names.
fn ask(lab: &Lab, sql: &str) -> Vec<String> {
    let text = ends_with(0, lab.program(&["events", "sql", sql]));
    text.lines().skip(1).map(str::to_owned).collect()
}

/// A run of the small scenario to a place of its own; from the second one on the store answers.
fn run(lab: &Lab, name: &str) -> Command {
    let mut run = lab.program(&["run", SMALL, "--guest"]);
    run.arg(image()).arg("--out").arg(lab.path(name));
    run
}

#[test]
fn the_database_has_the_whole_story_of_a_run() {
    let lab = Lab::new();
    let text = ends_with(0, run(&lab, "set"));
    let id = text.lines().find_map(|line| line.strip_prefix("run ")?.split(':').next()).expect("an id");
    assert_eq!((id.len(), id.chars().all(|c| c.is_ascii_hexdigit())), (8, true), "{id}");

    // The set's story ends where the set is complete; the database has what came after.
    let in_set = fs::read_to_string(lab.path("set/timeline.txt")).unwrap();
    let in_database = ends_with(0, lab.program(&["timeline", &id[..5]]));
    let rest = in_database.strip_prefix(&in_set).unwrap_or_else(|| panic!("{in_set}\n{in_database}"));
    assert!(rest.contains("publish done"), "{rest}");
    for words in ["qemu: runs as process", "guest: ready for the scenario", "qemu: ended, exit status: 0"] {
        assert!(in_set.contains(words), "{words} is not in {in_set}");
    }
    assert_eq!(in_database, ends_with(0, lab.program(&["timeline", "last"])));

    let exported = ends_with(0, lab.program(&["events", "export", "jsonl", "--run", id]));
    let lines =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let mut exported = lines(&exported);
    for line in &mut exported {
        assert_eq!(line.as_object_mut().unwrap().remove("run").unwrap(), id);
    }
    let in_set = lines(&fs::read_to_string(lab.path("set/events.jsonl")).unwrap());
    assert_eq!(exported[..in_set.len()], in_set);
    assert_eq!(ask(&lab, "SELECT outcome, events FROM runs"), [format!("passed\t{}", exported.len())]);
    assert_eq!(
        ask(&lab, "SELECT DISTINCT source FROM events ORDER BY 1"),
        ["guest", "host", "network", "vm"]
    );

    let empty = ends_with(2, lab.program(&["events", "export", "jsonl", "--type", "test"]));
    assert!(empty.contains("the export is empty"), "{empty}");
    let wrong = ends_with(2, lab.program(&["timeline", "nobody"]));
    assert!(wrong.contains("no run nobody"), "{wrong}");
    let write = ends_with(2, lab.program(&["events", "sql", "DELETE FROM runs"]));
    assert!(write.contains("only reads"), "{write}");
}

#[test]
fn runs_at_once_all_have_their_events_and_a_killed_one_what_it_had_told() {
    let lab = Lab::new();
    ends_with(0, run(&lab, "first"));
    let mut at_once: Vec<_> = (0..6)
        .map(|n| {
            let mut run = run(&lab, &format!("set-{n}"));
            run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for run in &mut at_once {
        assert!(run.wait().unwrap().success());
    }
    let uneven = "SELECT id FROM runs WHERE events <> (SELECT count(*) FROM events e WHERE e.run = runs.run)";
    assert_eq!(ask(&lab, uneven), Vec::<String>::new());
    assert_eq!(ask(&lab, "SELECT count(*) FROM runs WHERE outcome = 'passed'"), ["7"]);

    let mut live = Live::start(lab.run(&["--fault", "stall@traffic"]));
    live.until(r#""event":"step-started","step":"traffic""#);
    live.signal(Signal::SIGKILL);
    live.end();
    let last = "SELECT type FROM events WHERE type <> 'guest.heartbeat' ORDER BY event DESC LIMIT 1";
    assert_eq!(ask(&lab, last), ["network.step-started"]);
    assert_eq!(ask(&lab, "PRAGMA integrity_check"), ["ok"]);
    let runs = ends_with(0, lab.program(&["runs"]));
    assert!(runs.lines().next().unwrap().contains("killed"), "{runs}");
    lab.wait_until("QEMU to die with its harness", || lab.processes().is_empty());
}

#[test]
fn a_database_that_is_none_is_told_of_once_and_fails_no_run() {
    let lab = Lab::new();
    let file = lab.path("events.db");
    fs::write(&file, "years of work, which nobody may write over").unwrap();
    let mut run = lab.run(&["--events-db"]);
    run.arg(&file);
    let text = ends_with(0, run);
    assert_eq!(text.matches("fixture-vm: warning: ").count(), 1, "{text}");
    assert!(text.contains("it is no SQLite database; move it away") && !text.contains("\nrun "), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "years of work, which nobody may write over");
    assert!(lab.out().join("timeline.txt").is_file());
    let none = ends_with(2, lab.program(&["events"]));
    assert!(none.contains("nothing was run yet"), "{none}");
}

#[test]
fn the_commands_of_the_page_work_in_their_order() {
    let lab = Lab::new();
    let here = lab.path("here");
    fs::create_dir_all(here.join("scenarios")).unwrap();
    fs::copy(root().join("scenarios/vlan-trunk.yaml"), here.join("scenarios/vlan-trunk.yaml")).unwrap();
    let lines = readme::commands(&root().join("docs/events.md"));
    assert!(lines.len() >= 10, "{lines:?}");
    for line in lines {
        // A shell takes the quotes off.
        let guest = format!("\"$PROGRAM\" run --guest '{}' ", image().display());
        let line = line.replace("fixture-vm run ", &guest).replace("fixture-vm ", "\"$PROGRAM\" ");
        let mut shell = command("sh");
        shell
            .args(["-c", &line])
            .envs(lab.program(&[]).get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = shell.env("PROGRAM", PROGRAM).current_dir(&here).output().unwrap();
        assert!(output.status.success(), "{line}\n{}", said(&output));
        // A test id is only there if `fixture-vm test` ran.
        assert!(line.contains("--test") || line.contains("--type") || !output.stdout.is_empty(), "{line}");
    }
    lab.assert_nothing_left();
}
