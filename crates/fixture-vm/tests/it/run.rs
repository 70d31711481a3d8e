//! Boot to fixtures, for real: every shipped scenario, and the ways of a user around them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::lab::{Lab, SMALL, ends_with, image, shipped};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Runs a shipped scenario and verifies the set by the flag that workflows call.
fn runs(name: &str, lab: &Lab) -> std::path::PathBuf {
    let set = lab.path(name);
    let mut run = lab.program(&["run"]);
    run.arg(shipped(name)).arg("--guest").arg(image()).arg("--out").arg(&set);
    let text = ends_with(0, run);
    assert!(text.contains("valid: no errors"), "{text}");
    let mut verify = lab.program(&["--verify"]);
    verify.arg(&set);
    ends_with(0, verify);
    lab.assert_nothing_left();
    set
}

#[test]
fn tsn_three_node_gives_four_fixtures_with_all_that_was_declared() {
    let lab = Lab::new();
    let set = runs("tsn-three-node", &lab);

    let lldp = json(&set.join("lldp.json"));
    let seen: Vec<_> = lldp["lldp"]["interface"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|entry| entry.as_object().unwrap())
        .map(|(port, seen)| {
            format!("{port} sees {}", seen["chassis"].as_object().unwrap().keys().next().unwrap())
        })
        .collect();
    for neighbour in ["gm-p1 sees sw", "sw-p1 sees gm", "sw-p2 sees ep", "ep-p1 sees sw"] {
        assert!(seen.iter().any(|line| line == neighbour), "{neighbour} is not in {seen:?}");
    }

    let tsn = json(&set.join("qcc-yang.json"));
    let ports = tsn["interfaces"].as_array().unwrap();
    let scheduled = ports.iter().find(|port| port["name"] == "sw-p2").unwrap();
    let gates: Vec<_> = scheduled["tsn"]["gate-control-list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gate| {
            (gate["gate-states-value"].as_u64().unwrap(), gate["time-interval-value"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(gates, [(4, 300_000), (2, 300_000), (1, 400_000)]);

    let gptp = json(&set.join("gptp.json"));
    for port in ["sw-p1", "ep-p1"] {
        let ports = gptp["gptp"]["ports"].as_array().unwrap();
        let port =
            ports.iter().find(|entry| entry["name"] == port).unwrap_or_else(|| panic!("{port}: {gptp}"));
        assert!(port["samples"].as_array().unwrap().len() >= 8, "{port}");
    }

    let manifest = json(&set.join("manifest.json"));
    assert_eq!(manifest["guest"]["exit_status"], 0);
    assert_eq!(manifest["run"]["nonce"].as_str().unwrap().len(), 32);
    for tool in ["lldpd", "ptp4l", "dumpcap", "ip"] {
        assert!(manifest["guest"]["tools"][tool].is_string(), "{tool}: {manifest}");
    }
    let story = fs::read_to_string(set.join("timeline.txt")).unwrap();
    assert!(story.contains("converge done"), "{story}");
}

#[test]
fn lldp_ring_sees_every_neighbour_twice() {
    let lab = Lab::new();
    let set = runs("lldp-ring", &lab);
    let lldp = json(&set.join("lldp.json"));
    assert_eq!(lldp["lldp"]["interface"].as_array().unwrap().len(), 8);
}

#[test]
fn vlan_trunk_carries_its_streams() {
    runs("vlan-trunk", &Lab::new());
}

#[test]
fn the_real_clock_has_an_overlay_and_leaves_the_image_alone() {
    let lab = Lab::new();
    let before = fs::metadata(image().join("root.img")).unwrap().modified().unwrap();
    let mut dry = lab.run(&["--clock", "real", "--dry-run"]);
    dry.args(["--keep", "all"]);
    let line = ends_with(0, dry);
    assert!(line.contains("root.qcow2"), "{line}");
    let text = ends_with(0, lab.run(&["--clock", "real"]));
    assert!(text.contains("valid: no errors"), "{text}");
    assert_eq!(json(&lab.out().join("manifest.json"))["clock"], "real");
    assert_eq!(fs::metadata(image().join("root.img")).unwrap().modified().unwrap(), before);
}

#[test]
fn two_runs_of_the_virtual_clock_give_the_same_bytes() {
    let lab = Lab::new();
    let digests = |name: &str| {
        let set = lab.path(name);
        let mut run = lab.program(&["run"]);
        run.arg(shipped("tsn-three-node")).arg("--guest").arg(image()).arg("--out").arg(&set);
        ends_with(0, run);
        json(&set.join("manifest.json"))["files"].clone()
    };
    let (first, second) = (digests("first"), digests("second"));
    for (file, digest) in first.as_object().unwrap() {
        assert_eq!(Some(digest), second.get(file), "{file} differs");
    }
}

#[test]
fn surroundings_do_not_change_a_byte() {
    let lab = Lab::new();
    let files = |name: &str, prepare: &dyn Fn(&mut std::process::Command)| {
        let mut run = lab.program(&["run", SMALL, "--no-cache", "--cold", "--guest"]);
        run.arg(image()).arg("--out").arg(lab.path(name));
        prepare(&mut run);
        ends_with(0, run);
        json(&lab.path(name).join("manifest.json"))["files"].clone()
    };
    let plain = files("plain", &|_| ());
    let other = files("another place, with a comma", &|run| {
        run.current_dir("/").arg("--work-dir").arg(lab.path("work, elsewhere"));
        run.env("TZ", "Asia/Kolkata").env("LC_ALL", "de_DE.UTF-8").env("SOME_VARIABLE", "x".repeat(5000));
    });
    assert_eq!(plain, other);
    lab.assert_nothing_left();
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let lab = Lab::new();
    let start = |name: &str| {
        let mut run = lab.program(&["run", SMALL, "--guest"]);
        run.arg(image()).arg("--out").arg(lab.path(name));
        run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut runs = [start("one"), start("two")];
    for run in &mut runs {
        assert_eq!(run.wait().unwrap().code(), Some(0));
    }
    let nonce = |name: &str| json(&lab.path(name).join("manifest.json"))["run"]["nonce"].clone();
    assert_ne!(nonce("one"), nonce("two"));
    lab.assert_nothing_left();
}

#[test]
fn json_is_one_object_a_line_and_nothing_else() {
    let lab = Lab::new();
    let output = lab.run(&["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stderr);
    // Root is warned, once.
    assert!(told.lines().all(|line| line.starts_with("warning: running as root")), "{told}");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let result = &lines.last().unwrap()["result"];
    assert_eq!(result["fixtures"], lab.out().display().to_string());
    assert!(result["stages_ns"]["boot"].as_u64().unwrap() > 0);
}
