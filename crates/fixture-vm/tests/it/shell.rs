//! Kept guests, for real: what is kept, what a shell finds in it, and that keeping changes no byte.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::lab::{Lab, SMALL, end, ends_with, image};

/// The id that a failed run tells.
fn kept_id(text: &str) -> String {
    let id = text.split("fixture-vm shell ").last().and_then(|rest| rest.split_whitespace().next());
    id.unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn shell(lab: &Lab, run: &str, line: &str) -> String {
    ends_with(0, lab.program(&["shell", run, "--command", line]))
}

fn kept_folders(lab: &Lab) -> usize {
    fs::read_dir(lab.path("state/fixture-vm/kept")).map_or(0, Iterator::count)
}

#[test]
fn a_guest_that_failed_is_kept_on_disk_and_every_shell_finds_it_as_it_was() {
    let lab = Lab::new();
    let text = ends_with(4, lab.run(&["--keep", "failed", "--fault", "fail@traffic"]));
    let id = kept_id(&text);
    lab.assert_nothing_left();
    let runs = ends_with(0, lab.program(&["runs"]));
    assert!(runs.contains(&id) && runs.contains("guest kept"), "{runs}");

    let names = shell(&lab, &id, "ip netns list | sort; ip netns exec a ip -brief link show a-p1; seq 3000");
    assert!(names.starts_with("a\nb\na-p1@"), "{names}");
    let numbers: String = (1..=3000).map(|n| format!("{n}\n")).collect();
    assert!(names.ends_with(&numbers), "nothing is lost on the way");
    assert!(!names.contains('\r') && !names.contains('\x1b'), "bytes as they are: {names:?}");

    // Each starts from the same moment.
    let changed = shell(&lab, "last", "ip netns add c; ip netns list | sort | tr '\\n' ' '");
    assert_eq!(changed, "a b c ");
    assert_eq!(shell(&lab, "last", "ip netns list | sort | tr '\\n' ' '"), "a b ");
    let failed = ends_with(4, lab.program(&["shell", &id[..4], "-c", "exit 3"]));
    assert!(failed.contains("the shell ended with status 3"), "{failed}");

    // A shell that is typed into.
    let mut typed = lab.program(&["shell"]);
    let mut typed = typed.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // More than the guest's serial port holds at once; nothing of it is lost.
    let long = format!("echo {} | wc -c\necho $((6 * 7)) from $(hostname)\nexit\n", "x".repeat(500));
    typed.stdin.take().unwrap().write_all(long.as_bytes()).unwrap();
    let output = end(typed);
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && screen.contains("42 from ") && screen.contains("\n501\r"), "{screen}");
    lab.assert_nothing_left();

    let gone = ends_with(0, lab.program(&["runs", "--drop", &id]));
    assert!(gone.starts_with(&id), "{gone}");
    assert_eq!(kept_folders(&lab), 0);
    let none = ends_with(2, lab.program(&["shell", &id]));
    assert!(none.contains("no guest is kept of run"), "{none}");
}

#[test]
fn keeping_changes_no_byte_and_a_guest_that_passed_has_its_network() {
    let lab = Lab::new();
    let manifest = |set: &Path| -> Value {
        serde_json::from_slice(&fs::read(set.join("manifest.json")).unwrap()).unwrap()
    };
    ends_with(0, lab.run(&["--no-cache"]));
    let plain = manifest(&lab.out());
    let text = ends_with(0, lab.run(&["--no-cache", "--keep", "all"]));
    let kept = manifest(&lab.out());
    assert_eq!((&plain["files"], &plain["closure"]), (&kept["files"], &kept["closure"]));
    assert!(plain["files"].as_object().unwrap().len() > 4 && text.contains("the guest is kept"), "{text}");
    assert!(shell(&lab, "last", "ip -n b -brief link").contains("b-p1"));
    // Only failed ones were asked for.
    ends_with(0, lab.run(&["--no-cache", "--keep", "failed"]));
    assert_eq!(kept_folders(&lab), 1);
    lab.assert_nothing_left();
}

#[test]
fn a_guest_whose_fixtures_are_not_right_is_kept_and_the_last_run_s_is_no_other_s() {
    let lab = Lab::new();
    let text = fs::read_to_string(SMALL).unwrap();
    let wrong = lab.path("wrong.yaml");
    let most = "  streams: [{ stream: s, at: b-p1, min_frames: 1, max_frames: 7 }]\n  empty:";
    fs::write(&wrong, text.replace("  empty:", most)).unwrap();
    let run = |scenario: &Path, keep: &str| {
        let mut run = lab.program(&["run", "--keep", keep, "--no-cache", "--guest"]);
        run.arg(image()).arg("--out").arg(lab.out()).arg(scenario);
        run
    };
    ends_with(6, run(&wrong, "none"));
    assert_eq!(kept_folders(&lab), 0);
    let text = ends_with(6, run(&wrong, "failed"));
    let id = kept_id(&text);
    assert_eq!(shell(&lab, "last", "ip netns list | wc -l").trim(), "2");
    let runs = ends_with(0, lab.program(&["runs"]));
    let reasons = runs.lines().filter(|line| line.contains("failed"));
    assert!(reasons.clone().count() == 2 && !runs.contains("/.set."), "{runs}");
    ends_with(0, run(Path::new(SMALL), "failed"));
    assert_eq!(kept_folders(&lab), 1, "one that did well is not kept");
    let none = ends_with(2, lab.program(&["shell", "last", "--command", "true"]));
    assert!(none.contains("kept no guest"), "{none}");
    assert_eq!(shell(&lab, &id, "echo it").trim(), "it");
    lab.assert_nothing_left();
}

#[test]
fn a_guest_that_takes_too_long_is_kept_and_a_dead_one_is_not() {
    let lab = Lab::new();
    let stalled = ["--keep", "failed", "--fault", "stall@traffic", "--timeout", "20s"];
    let text = ends_with(5, lab.run(&stalled));
    assert_eq!(shell(&lab, &kept_id(&text), "ip netns list | wc -l").trim(), "2");
    let text = ends_with(4, lab.run(&["--keep", "failed", "--fault", "crash@traffic"]));
    assert!(!text.contains("fixture-vm shell"), "{text}");
    assert_eq!(kept_folders(&lab), 1);
    lab.assert_nothing_left();
}

#[test]
fn on_the_real_clock_the_roots_overlay_is_kept_too() {
    let lab = Lab::new();
    let text = ends_with(4, lab.run(&["--keep", "failed", "--clock", "real", "--fault", "fail@collect"]));
    let found = shell(&lab, &kept_id(&text), "ls /usr/sbin/tc; ip netns list | wc -l");
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["/usr/sbin/tc", "2"]);
    let recorded = ends_with(2, lab.run(&["--keep", "all", "--record"]));
    assert!(recorded.contains("replay --gdb"), "{recorded}");
}
