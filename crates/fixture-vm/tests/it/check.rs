//! The same run several times, goldens, and sweeps over seeds, for real.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, ends_with, image};

fn run(lab: &Lab, scenario: &Path, args: &[&str]) -> Command {
    let mut run = lab.program(&["run"]);
    run.arg(scenario).arg("--guest").arg(image()).arg("--out").arg(lab.out()).args(args);
    run
}

#[test]
fn a_check_runs_as_often_as_asked_and_finds_no_difference() {
    let lab = Lab::new();
    let text = ends_with(0, run(&lab, &lab.small(), &["--check", "2"]));
    assert!(text.contains("2 runs gave the same bytes"), "{text}");
    assert!(lab.out().join("manifest.json").is_file());
    lab.assert_nothing_left();
}

#[test]
fn the_real_clock_does_not_give_the_same_bytes_and_the_first_difference_is_named() {
    let lab = Lab::new();
    let text = ends_with(7, run(&lab, &lab.small(), &["--check", "2", "--clock", "real"]));
    assert!(text.contains("gave other bytes than the first") && text.contains("capture.pcapng"), "{text}");
    lab.assert_nothing_left();
}

#[test]
fn a_set_holds_the_scenario_as_it_was_run_whatever_its_file_says_of_clock_and_seed() {
    let lab = Lab::new();
    let scenario = lab.small();
    ends_with(0, run(&lab, &scenario, &[]));
    let recorded = || fs::read_to_string(lab.out().join("scenario.json")).unwrap();
    let first = recorded();
    let text = fs::read_to_string(&scenario).unwrap();
    fs::write(&scenario, text.replace("name: small", "name: small\nclock: real\nseed: 7")).unwrap();
    // Equal inputs: other bytes than those in the store would end it with 7.
    ends_with(0, run(&lab, &scenario, &["--clock", "virtual", "--seed", "1", "--no-cache"]));
    assert_eq!(recorded(), first);
}

#[test]
fn a_golden_is_unknown_then_recorded_then_held_then_missed() {
    let lab = Lab::new();
    let scenario = lab.small();
    let unknown = ends_with(8, run(&lab, &scenario, &["--golden"]));
    assert!(lab.out().join("manifest.json").is_file(), "the new set is in place");
    assert!(unknown.contains("nothing was compared"), "{unknown}");

    ends_with(0, run(&lab, &scenario, &["--update-golden"]));
    let held = ends_with(0, run(&lab, &scenario, &["--golden"]));
    assert!(held.contains("the fixtures are those of"), "{held}");

    let golden = scenario.with_extension("golden");
    let text = fs::read_to_string(&golden).unwrap();
    let at = text.find("capture.pcapng").unwrap()
        + text[text.find("capture.pcapng").unwrap()..].find("sha256: ").unwrap()
        + 8;
    let mut changed = text.clone();
    let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    changed.replace_range(at..=at, digit);
    fs::write(&golden, changed).unwrap();
    fs::remove_dir_all(lab.out()).unwrap();
    let missed = ends_with(7, run(&lab, &scenario, &["--golden"]));
    assert!(lab.out().join("manifest.json").is_file(), "the new set is in place");
    assert!(missed.contains("the fixtures are not those of"), "{missed}");
}

#[test]
fn a_sweep_tells_of_every_seed_and_how_to_repeat_one_that_fails() {
    let lab = Lab::new();
    let scenario = lab.small();
    let text = ends_with(0, run(&lab, &scenario, &["--seeds", "1..2"]));
    assert!(text.contains("2 of 2 seeds held"), "{text}");

    // The stream has one frame more than may be seen.
    let wanted = fs::read_to_string(&scenario).unwrap().replace(
        "expect:\n",
        "expect:\n  streams: [{ stream: s, at: b-p1, min_frames: 1, max_frames: 19 }]\n",
    );
    fs::write(&scenario, wanted).unwrap();
    let output = run(&lab, &scenario, &["--seeds", "5..5"]).output().unwrap();
    let text = crate::project::said(&output);
    assert!(matches!(output.status.code(), Some(4 | 6)), "{text}");
    assert!(text.contains("0 of 1 seeds held") && text.contains("--seed 5"), "{text}");
    lab.assert_nothing_left();
}
