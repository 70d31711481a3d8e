//! Exit codes that need no guest: what is wrong with an input is told at once, with the code that the docs give.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::stat::Mode;

use crate::lab::{Lab, SMALL, ends_with};
use crate::project::root;

/// Things that are no input, in a folder of their own.
fn no_inputs(lab: &Lab) -> [(&'static str, PathBuf); 4] {
    let folder = lab.path("no inputs");
    fs::create_dir(&folder).unwrap();
    nix::unistd::mkfifo(&folder.join("fifo"), Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", folder.join("device")).unwrap();
    File::create(folder.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    let says =
        [("fifo", "a FIFO"), ("device", "a device"), ("sparse", "1099511627776 bytes"), (".", "a folder")];
    says.map(|(name, says)| (says, folder.join(name)))
}

fn run(lab: &Lab, scenario: &Path, args: &[&str], code: i32, says: &str) {
    let mut run = lab.program(&["run"]);
    run.arg(scenario).arg("--out").arg(lab.out()).args(args);
    let text = ends_with(code, run);
    assert!(text.contains(says), "{says:?} is not in:\n{text}");
    assert!(!lab.out().exists());
    lab.assert_nothing_left();
}

#[test]
fn a_scenario_a_golden_and_a_snapshot_are_regular_files() {
    let lab = Lab::without_image();
    for (says, path) in no_inputs(&lab) {
        run(&lab, &path, &[], 2, says);
        let scenario = lab.small();
        for (extension, args) in
            [("golden", &["--golden"][..]), ("golden", &["--update-golden"]), ("snap", &[])]
        {
            let beside = scenario.with_extension(extension);
            symlink(&path, &beside).unwrap();
            run(&lab, &scenario, args, 2, says);
            fs::remove_file(beside).unwrap();
        }
    }
}

#[test]
fn a_golden_or_snapshot_that_cannot_be_compared_is_found_before_the_run() {
    let lab = Lab::without_image();
    let scenario = lab.small();
    let shipped = |name: &str| fs::read_to_string(root().join("scenarios").join(name)).unwrap();
    let (golden, snap) = (shipped("vlan-trunk.golden"), shipped("vlan-trunk.snap"));
    let version = |text: &str| text.replace("\nversion: 1\n", "\nversion: 9\n");
    let cases = [
        ("golden", "no: [yaml".to_owned(), "is no golden"),
        ("golden", "version: 1\n".into(), "is no golden"),
        ("golden", version(&golden), "has version 9"),
        ("golden", golden, "is the golden of scenario `vlan-trunk`, not of `small`"),
        ("golden", "\u{0}\u{1}".into(), "is no golden"),
        ("snap", "no: [yaml".into(), "is no snapshot"),
        ("snap", version(&snap), "has version 9"),
        ("snap", snap, "is of scenario `vlan-trunk`, not of `small`"),
    ];
    for (extension, text, says) in cases {
        let beside = scenario.with_extension(extension);
        fs::write(&beside, text).unwrap();
        run(&lab, &scenario, if extension == "golden" { &["--golden"] } else { &[] }, 2, says);
        fs::remove_file(&beside).unwrap();
    }
    fs::write(scenario.with_extension("golden"), b"\xff").unwrap();
    run(&lab, &scenario, &["--golden"], 2, "not UTF-8");
}

#[test]
fn a_scenario_that_no_guest_can_be_given_is_refused_before_the_run() {
    let lab = Lab::without_image();
    let scenario = lab.small();
    let text = fs::read_to_string(&scenario).unwrap();
    let streams: String = (0..1000)
        .map(|n| format!("  - {{ name: a-stream-of-many-{n}, from: a-p1, to: b-p1, vlan: 10, pcp: 3, size: 100, interval: 1ms, count: 1 }}\n"))
        .collect();
    fs::write(&scenario, text.replace("streams:\n", &format!("streams:\n{streams}"))).unwrap();
    run(&lab, &scenario, &[], 2, "split it");
}

#[test]
fn every_other_command_refuses_what_is_no_input() {
    let lab = Lab::without_image();
    let file = Path::new(SMALL);
    for (says, path) in no_inputs(&lab) {
        let given = |args: &[&str], code: i32| {
            let mut command = lab.program(args);
            command.arg(&path);
            let text = ends_with(code, command);
            assert!(text.contains(says), "{args:?}: {says:?} is not in:\n{text}");
        };
        given(&["verify", ".", "--scenario"], 2);
        if says == "a folder" {
            continue;
        }
        given(&["verify"], 6);
        given(&["diff", file.to_str().unwrap()], 2);
        given(&["test", "--list", "--project"], 2);
        if !says.ends_with("bytes") {
            let mut runs = lab.program(&["runs", "--events-db"]);
            runs.arg(&path);
            assert!(ends_with(2, runs).contains("is no regular file"));
        }
        let set = lab.path("set with another's file");
        fs::create_dir(&set).unwrap();
        symlink(&path, set.join("lldp.json")).unwrap();
        for (args, code) in [(["verify"], 6), (["report"], 2)] {
            let mut command = lab.program(&args);
            command.arg(&set);
            assert!(ends_with(code, command).contains("symbolic link"));
        }
        fs::remove_dir_all(set).unwrap();
    }
    let mut endless = lab.program(&["verify", "-"]);
    endless.stdin(Stdio::from(File::open("/dev/zero").unwrap()));
    assert!(ends_with(2, endless).contains("the list of sets on standard input cannot be read"));
}

#[test]
fn codes_without_a_guest_are_those_of_the_table() {
    let lab = Lab::without_image();
    let (small, other) = (lab.small(), lab.path("other.yaml"));
    fs::write(&other, "another").unwrap();
    let snap = root().join("scenarios/vlan-trunk.snap");
    fs::copy(&snap, lab.path("a.snap.new")).unwrap();
    let (small, other, home) = (small.to_str().unwrap(), other.to_str().unwrap(), lab.path(""));
    let cases: [(i32, &[&str]); 9] = [
        (0, &["diff", small, small]),
        (0, &["completions", "bash"]),
        (1, &["diff", small, other]),
        (2, &["diff", small, "no-such-file"]),
        (2, &["run", small]),
        (2, &["run", small, "--out", "."]),
        (3, &["run", small, "--out", "/proc/no/set"]),
        (6, &["verify", small]),
        (10, &["review", "--list", home.to_str().unwrap()]),
    ];
    for (code, args) in cases {
        ends_with(code, lab.program(args));
    }
}
