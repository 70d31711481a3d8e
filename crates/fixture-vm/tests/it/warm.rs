//! Saved guests, for real: who continues from one gets the bytes of a cold boot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::lab::{Lab, SMALL, ends_with, image, shipped};

/// What a run says when it had a saved guest.
const CONTINUED: &str = "continued from a saved guest";
/// What a run says when it saved one.
const SAVED: &str = "the guest as it was ready";

/// What a run says when it had a saved guest whose network had converged.
const CONTINUED_CONVERGED: &str = "continued from a guest whose network had converged";
/// What a run says when it saved one.
const SAVED_CONVERGED: &str = "the guest as its network had converged";

/// A run of the small scenario with a cache that only this test has.
fn run(lab: &Lab, set: &str, args: &[&str]) -> Command {
    run_of(lab, Path::new(SMALL), set, args)
}

fn run_of(lab: &Lab, scenario: &Path, set: &str, args: &[&str]) -> Command {
    let mut run = lab.program(&["run"]);
    run.arg(scenario).arg("--guest");
    run.arg(image())
        .arg("--out")
        .arg(lab.path(set))
        .arg("--no-cache")
        .args(args)
        .env("XDG_CACHE_HOME", lab.path("cache"));
    run
}

/// The set's files that are made of what happened in the guest before the hand-over, by their name.
fn made(set: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let manifest: Value = serde_json::from_slice(&fs::read(set.join("manifest.json")).unwrap()).unwrap();
    let files = manifest["files"].as_object().unwrap().keys();
    let mut made: Vec<_> = files.map(|name| (name.into(), fs::read(set.join(name)).unwrap())).collect();
    assert!(made.iter().any(|(name, bytes)| name == Path::new("capture.pcapng") && bytes.len() > 1000));

    let events = fs::read_to_string(set.join("events.jsonl")).unwrap();
    let guest = events.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line.get("guest").cloned()
    });
    let before: Vec<_> = guest.take_while(|event| event["step"] != "hand-over").collect();
    assert!(before.len() > 10, "{before:?}");
    made.push(("events before the hand-over".into(), serde_json::to_vec(&before).unwrap()));
    made
}

fn assert_same(a: &Path, b: &Path) {
    for (one, other) in made(a).into_iter().zip(made(b)) {
        assert_eq!(one.0, other.0);
        assert!(one.1 == other.1, "{} differs between {} and {}", one.0.display(), a.display(), b.display());
    }
    assert_eq!(made(a).len(), made(b).len());
}

/// The one saved guest of this lab.
fn state(lab: &Lab) -> PathBuf {
    let states: Vec<_> = fs::read_dir(lab.path("cache/fixture-vm/warm"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("contents.json").is_file())
        .collect();
    assert_eq!(states.len(), 1, "{states:?}");
    states[0].clone()
}

#[test]
fn a_saved_guest_gives_the_bytes_of_a_cold_boot_for_every_seed_and_is_made_again_when_torn() {
    let lab = Lab::new();
    let cold = ends_with(0, run(&lab, "cold", &["--seed", "7", "--cold"]));
    assert!(!cold.contains(SAVED) && !cold.contains(CONTINUED), "{cold}");
    assert!(!lab.path("cache/fixture-vm/warm").exists(), "--cold saves nothing");

    // Saved with another seed than the one it is continued with.
    let saving = ends_with(0, run(&lab, "saving", &["--seed", "1"]));
    assert!(saving.contains(SAVED) && !saving.contains(CONTINUED), "{saving}");
    let warm = ends_with(0, run(&lab, "warm", &["--seed", "7"]));
    assert!(warm.contains(CONTINUED) && !warm.contains(SAVED), "{warm}");
    assert_same(&lab.path("cold"), &lab.path("warm"));

    let disk = File::options().write(true).open(state(&lab).join("state.qcow2")).unwrap();
    disk.set_len(disk.metadata().unwrap().len() / 2).unwrap();
    let mended = ends_with(0, run(&lab, "mended", &["--seed", "7"]));
    assert!(mended.contains("cannot be used") && mended.contains(SAVED), "{mended}");
    assert_same(&lab.path("cold"), &lab.path("mended"));
    assert!(state(&lab).join("contents.json").is_file());
    lab.assert_nothing_left();
}

/// Another course for the network of the shipped three-node scenario: other streams, times and expectations.
const OTHER_COURSE: &str = "
streams:
  - { name: urgent, from: gm-p1, to: ep-p1, vlan: 20, pcp: 7, size: 300, interval: 1ms, count: 30, offset: 3ms }
expect:
  gptp: { min_samples: 5 }
captures:";

#[test]
fn a_guest_whose_network_has_converged_gives_another_course_in_it_the_bytes_of_a_cold_boot() {
    let lab = Lab::new();
    let one = shipped("tsn-three-node");
    let text = fs::read_to_string(&one).unwrap();
    let (network, rest) = text.split_once("\nstreams:").unwrap();
    let captures = rest.split_once("\ncaptures:").unwrap().1.split_once("\nexpect:").unwrap().0;
    let network =
        network.replace("name: tsn-three-node", "name: another").replace("duration: 2s", "duration: 500ms");
    let other = lab.path("other.yaml");
    fs::write(&other, format!("{network}{OTHER_COURSE}{captures}\n")).unwrap();

    let cold = ends_with(0, run_of(&lab, &other, "cold", &["--cold"]));
    assert!(!cold.contains(CONTINUED) && !cold.contains(CONTINUED_CONVERGED), "{cold}");
    // The first run of a network notes it; the second, which continues from a booted guest, saves it converged.
    let first = ends_with(0, run_of(&lab, &one, "first", &[]));
    assert!(first.contains(SAVED) && !first.contains(SAVED_CONVERGED), "{first}");
    let second = ends_with(0, run_of(&lab, &one, "second", &[]));
    assert!(second.contains(CONTINUED) && second.contains(SAVED_CONVERGED), "{second}");
    assert_same(&lab.path("first"), &lab.path("second"));
    let third = ends_with(0, run_of(&lab, &other, "third", &[]));
    assert!(third.contains(CONTINUED_CONVERGED), "{third}");
    assert_same(&lab.path("cold"), &lab.path("third"));
    // Another seed is another network.
    let seed = ends_with(0, run_of(&lab, &other, "seed", &["--seed", "9"]));
    assert!(seed.contains(CONTINUED) && !seed.contains(CONTINUED_CONVERGED), "{seed}");
    lab.assert_nothing_left();
}
