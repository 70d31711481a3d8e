//! MicroVMs that break, for real: each in a stated state with its step named, nothing left in the guest, and the
//! verdict right.

use std::fs;
use std::process::Command;

use crate::lab::{Lab, data, ends_with, image};

/// What the guest says at the end, once it has looked itself.
const NOTHING_LEFT: &str = "nothing is left of the microVMs: no process, socket, TAP or file";

/// A run of a scenario with these faults. A loaded machine may let a nested guest wait for long.
fn run(lab: &Lab, scenario: &str, faults: &str) -> Command {
    let mut run = lab.program(&["run", "--cold", "--no-cache", "--silence", "300s", "--fault", faults]);
    run.arg(data(scenario)).arg("--guest").arg(image()).arg("--out").arg(lab.out());
    run
}

/// All of this is in the text, one after the other.
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not, or not there, in:\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

/// The lines about one microVM or pool.
fn of(text: &str, name: &str) -> String {
    let name = format!(" {name}: ");
    text.lines().filter(|line| line.contains(&name)).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_a_pool_can_make_good_is_told_and_made_good() {
    let lab = Lab::new();
    let faults =
        "vmm-killed@w-0,agent-hung@w-0,panic@w-0,out-of-memory@w-0,snapshot-torn@z-0,restore-refused@z-1";
    let text = ends_with(0, run(&lab, "microvm-faults", faults));
    assert!(text.contains("valid: no errors"), "{text}");
    let timeline = fs::read_to_string(lab.out().join("timeline.txt")).unwrap();
    let again = ["running to stopped", "create started", "stopped to running, start took"];
    let fell = [
        "FAILED, left stopped: its VMM is gone: ended early, signal 9",
        "FAILED, left stopped: it does not answer: its agent does not answer (waited 5s)",
        "FAILED, left stopped: its VMM is gone: ended early, exit status 0: \
         Kernel panic - not syncing: sysrq triggered crash",
        "FAILED, left stopped: its VMM is gone: ended early, exit status 0: \
         Kernel panic - not syncing: System is deadlocked on memory",
    ];
    let story: Vec<&str> = fell.iter().flat_map(|fell| [&[*fell], &again[..]].concat()).collect();
    in_order(&of(&timeline, "w-0"), &story);
    for (name, cause) in [
        ("z-0", "FAILED at wake, left stopped: unpacking what it was saved to: `/usr/bin/lz4"),
        (
            "z-1",
            "FAILED at wake, left stopped: restoring it: qemu-system-x86_64: Machine type received is 'another'",
        ),
    ] {
        let story = ["warm to sleeping", cause, "sleeping to stopped", "stopped to running, start took"];
        in_order(&of(&timeline, name), &story);
    }
    in_order(&timeline, &[NOTHING_LEFT, "none of 10 secrets in them"]);
    lab.assert_nothing_left();
}

/// Runs with faults that nothing makes good.
fn fails(scenario: &str, faults: &str, says: &str, story: &[&str]) -> Lab {
    let lab = Lab::new();
    lab.put_former_set();
    let text = ends_with(4, run(&lab, scenario, faults));
    assert!(text.contains(says), "{says:?} is not in:\n{text}");
    let timeline = fs::read_to_string(lab.path("set.failed/timeline.txt")).unwrap();
    in_order(&timeline, story);
    lab.assert_former_set();
    lab.assert_nothing_left();
    lab
}

#[test]
fn what_cannot_be_made_good_fails_the_run_with_instance_operation_and_cause() {
    let gone = "the guest failed in step daemons: gm: start failed 3 times, the last time: \
                attaching to sw-p1 of sw: the TAP";
    let at_tap = "gm: create FAILED at tap: attaching to sw-p1 of sw: the TAP";
    let none_left = "of microVMs that do not run nothing is left";
    fails("microvm-cut", "tap-gone@gm", gone, &[at_tap, "FAILED at start, left ready", none_left]);
    let story = [
        "gm: FAILED, left stopped: it does not answer: nor does its VMM",
        "gm: running to stopped",
        "gm: stopped to running, start took",
        "gm: FAILED, left stopped: its TAP is gone",
        at_tap,
        "gm: FAILED at start, left stopped",
        at_tap,
        at_tap,
        none_left,
    ];
    fails("microvm-cut", "vmm-stopped@gm,tap-lost@gm", gone, &story);
}

#[test]
fn a_manager_that_begins_anew_ends_what_it_finds_and_a_secret_that_is_told_fails_the_run() {
    let says = "the guest failed in step hand-over: a secret of a microVM is in raw/microvm/gm.told, which is not \
                handed over";
    let story = [
        "gm: ready to running",
        "gm: FAILED, left stopped: it does not answer: the line to its agent ended with the manager",
        "gm: running to stopped",
        "gm: stopped to running, start took",
        NOTHING_LEFT,
    ];
    let lab = fails("microvm-cut", "manager-lost@gm,secret-told@gm", says, &story);
    let evidence = lab.path("set.failed/share/raw/microvm");
    assert!(evidence.join("gm.console.log").is_file() && !evidence.join("gm.told").exists());
}
