//! Snapshots as users meet them: begun, held, missed, reviewed; on a terminal, in scripts and on CI.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::lab::{Lab, PROGRAM, ends_with, image};
use crate::project::{command, root, said};

fn run(lab: &Lab, scenario: &Path, args: &[&str]) -> Command {
    let mut run = lab.program(&["run"]);
    run.arg(scenario).arg("--guest").arg(image()).arg("--out").arg(lab.out()).args(args).env_remove("CI");
    run
}

/// `fixture-vm review` of this folder, as on a person's machine.
fn review(folder: &Path, args: &[&str]) -> Command {
    let mut review = command(PROGRAM);
    review.arg("review").args(args).arg(folder).env_remove("CI").stdin(Stdio::null());
    review
}

/// Has the snapshot say something else.
fn falsify(snapshot: &Path) -> String {
    let text = fs::read_to_string(snapshot).unwrap();
    assert!(text.contains("      s: 20\n"), "{text}");
    let other = text.replace("      s: 20\n", "      s: 19\n");
    fs::write(snapshot, &other).unwrap();
    other
}

#[test]
fn a_snapshot_is_begun_then_held_then_missed_then_reviewed() {
    let lab = Lab::new();
    let scenario = lab.small();
    let (snapshot, pending) = (lab.path("small.snap"), lab.path("small.snap.new"));
    ends_with(0, run(&lab, &scenario, &[]));
    assert!(!pending.exists(), "nobody asked for a snapshot");

    fs::remove_dir_all(lab.out()).unwrap();
    let begun = ends_with(10, run(&lab, &scenario, &["--snapshot"]));
    assert!(lab.out().join("manifest.json").is_file(), "the new set is in place");
    assert!(begun.contains("is not there yet; review it: fixture-vm review"), "{begun}");
    assert!(pending.is_file() && !snapshot.exists());
    let listed = ends_with(10, review(&lab.path(""), &["--list"]));
    assert!(listed.contains("a new snapshot") && listed.contains("+ scenario: small"), "{listed}");
    ends_with(0, review(&lab.path(""), &["--accept"]));
    assert!(snapshot.is_file() && !pending.exists());

    let held = ends_with(0, run(&lab, &scenario, &[]));
    assert!(held.contains("the fixtures mean what it says"), "{held}");
    let held = ends_with(0, run(&lab, &scenario, &["--clock", "real"]));
    assert!(held.contains("the fixtures mean what it says"), "{held}");
    let other = ends_with(0, run(&lab, &scenario, &["--seed", "2"]));
    assert!(other.contains("not compared: the snapshot is of seed 1, the set of seed 2"), "{other}");

    let false_one = falsify(&snapshot);
    let mut on_ci = run(&lab, &scenario, &[]);
    let missed = ends_with(10, {
        on_ci.env("CI", "true");
        on_ci
    });
    assert!(missed.contains("capture b-p1 streams s: 19 was, 20 is"), "{missed}");
    assert!(!pending.exists(), "nothing is written on CI");
    ends_with(10, run(&lab, &scenario, &[]));
    assert!(pending.is_file());
    ends_with(0, review(&lab.path(""), &["--reject"]));
    assert_eq!(fs::read_to_string(&snapshot).unwrap(), false_one);
    assert!(!pending.exists());

    // A pending snapshot goes once the fixtures mean what the snapshot says again.
    ends_with(10, run(&lab, &scenario, &[]));
    fs::write(&snapshot, false_one.replace("s: 19", "s: 20")).unwrap();
    ends_with(0, run(&lab, &scenario, &[]));
    assert!(!pending.exists());
    lab.assert_nothing_left();
}

/// Three copies of a shipped snapshot; the pending one of each says something else.
fn three_pending() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(root().join("scenarios/vlan-trunk.snap")).unwrap();
    for name in ["one", "two", "three"] {
        fs::write(folder.path().join(format!("{name}.snap")), &text).unwrap();
        let other = text.replacen("neighbours:", "neighbours:\n  x-p1:\n  - y y-p1", 1);
        fs::write(folder.path().join(format!("{name}.snap.new")), other).unwrap();
    }
    folder
}

#[test]
fn on_a_terminal_each_is_asked_for() {
    let folder = three_pending();
    // script(1) gives the program a terminal and passes on what we type.
    let line = format!("'{PROGRAM}' review '{}'", folder.path().display());
    let mut script = command("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env_remove("CI");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a\nwhat\nr\ns\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(10), "{text}");
    assert!(text.contains("neighbours x-p1: nothing was, [\"y y-p1\"] is"), "{text}");
    assert!(text.contains("accepted") && text.contains("rejected"), "{text}");
    assert!(text.contains("1 snapshot still to review"), "{text}");
    let left = |name: &str| folder.path().join(name).exists();
    // In the order of their names: one is accepted, three rejected, two skipped.
    assert_eq!(["one", "three", "two"].map(|name| left(&format!("{name}.snap.new"))), [false, false, true]);
    let holds = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap().contains("y y-p1");
    assert_eq!(["one.snap", "three.snap", "two.snap"].map(holds), [true, false, false]);
}

#[test]
fn nobody_is_asked_where_nobody_can_answer() {
    let folder = three_pending();
    let text = ends_with(2, review(folder.path(), &[]));
    assert!(text.contains("3 snapshots pending, and nobody to ask"), "{text}");
    let text = ends_with(2, review(&folder.path().join("one.snap"), &["--list"]));
    assert!(text.contains("is neither a folder nor a pending snapshot"), "{text}");
    ends_with(0, review(&root().join("docs"), &[]));
}

#[test]
fn every_scenario_with_a_golden_has_a_snapshot_and_none_is_pending() {
    let mut goldens = 0;
    for entry in fs::read_dir(root().join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!path.to_string_lossy().ends_with(".snap.new"), "{} is not reviewed", path.display());
        if path.extension().is_some_and(|extension| extension == "golden") {
            goldens += 1;
            assert!(path.with_extension("snap").is_file(), "{} has no snapshot", path.display());
        }
    }
    assert!(goldens >= 4, "{goldens} goldens");
}
