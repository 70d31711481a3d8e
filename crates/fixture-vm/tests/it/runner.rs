//! `fixture-vm test` with real guests: what passes, what fails and how it is told, what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::{Lab, SMALL, ends_with, image, shipped};
use crate::project::{root, said};
use crate::readme::commands;

/// A project in a lab: copies of the small scenario under other names.
struct Project {
    lab: Lab,
}

impl Project {
    fn new(file: &str) -> Self {
        let lab = Lab::new();
        fs::create_dir(lab.path("project")).unwrap();
        fs::write(lab.path("project/fixture-vm.toml"), file).unwrap();
        Self { lab }
    }

    /// Adds a scenario with some text replaced.
    fn scenario(self, name: &str, replace: &[(&str, &str)]) -> Self {
        let mut text = fs::read_to_string(SMALL).unwrap().replace("name: small", &format!("name: {name}"));
        for (from, to) in replace {
            assert!(text.contains(from), "{from:?}");
            text = text.replacen(from, to, 1);
        }
        fs::write(self.folder().join(name).with_extension("yaml"), text).unwrap();
        self
    }

    fn folder(&self) -> PathBuf {
        self.lab.path("project")
    }

    /// `fixture-vm test` in the project's folder.
    fn test(&self, args: &[&str]) -> Command {
        let mut command = self.lab.program(&["test", "--guest"]);
        command.arg(image()).args(args).current_dir(self.folder());
        command
    }

    /// What the program said, with what differs from run to run taken out: times, this home, the console.
    fn steady(&self, text: &str) -> String {
        let home = self.folder().display().to_string();
        let image = image().display().to_string();
        let is_time = |word: &str| word.contains('.') && word.parse::<f64>().is_ok();
        let mut lines = Vec::new();
        let mut in_console = false;
        for line in text.replace(&home, "PROJECT").replace(&image, "IMAGE").lines() {
            let words: Vec<_> = line.split_whitespace().map(|w| if is_time(w) { "T" } else { w }).collect();
            let mut line = words.join(" ");
            // How many bytes is told here.
            line.truncate(line.find("hand-over done:").unwrap_or(line.len()));
            in_console &= !line.starts_with("last events:");
            if !in_console {
                lines.push(line.clone());
            }
            in_console |= line.ends_with("the console's last lines:");
        }
        lines.join("\n")
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const FAILING: &str = r#"
scenarios = ["*.yaml"]
junit = "junit.xml"

[[group]]
name = "impatient"
filter = "name(=hang)"
defaults = { silence = "4s" }

[[group]]
name = "needs-panic"
filter = "name(=waits)"
set-up = ["panic"]
tear-down = ["last"]

[[group]]
name = "again"
filter = "flaky or unstable"
defaults = { retries = 1 }
"#;

#[test]
fn every_way_to_fail_is_told_with_reason_last_events_and_the_command_that_repeats_it() {
    let project = Project::new(FAILING)
        .scenario("good", &[])
        .scenario(
            "wrong",
            &[("  empty:", "  streams: [{ stream: s, at: b-p1, min_frames: 1, max_frames: 7 }]\n  empty:")],
        )
        .scenario("hang", &[])
        .scenario("panic", &[])
        .scenario("waits", &[])
        .scenario("last", &[])
        .scenario("flaky", &[("duration:", "clock: real\nduration:")])
        .scenario("unstable", &[]);
    let faults = [
        "--fault=hang=hang@converge",
        "--fault=panic=crash@traffic",
        "--fault=flaky#1=fail@converge",
        "--fault=unstable#1=fail@converge",
    ];
    let output = project.test(&faults).output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    insta::assert_snapshot!(project.steady(&String::from_utf8(output.stdout).unwrap()));

    // One line for each, as it ended.
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in
        ["PASS", "good", "FLAKY", "NOT RUN", "waits: its set-up panic did not pass", "last: tear-down"]
    {
        assert!(stderr.contains(line), "{line:?} is not in:\n{stderr}");
    }
    let out = project.folder().join("fixture-vm-out");
    let sets = ["flaky", "flaky.failed", "good", "hang.failed", "last", "panic.failed"];
    assert_eq!(names(&out), [&sets[..], &["unstable", "unstable.failed", "wrong.failed"]].concat());
    let junit = fs::read_to_string(project.folder().join("junit.xml")).unwrap();
    for text in [
        r#"tests="8" skipped="1" errors="0" failures="4""#,
        r#"type="timeout""#,
        r#"type="guest""#,
        r#"type="verification""#,
        "<flakyFailure",
    ] {
        assert!(junit.contains(text), "{text} is not in:\n{junit}");
    }
    // The story of tests and runs is one in the event database.
    let events = ends_with(0, project.lab.program(&["events", "--test", "unstable"]));
    assert!(events.contains("attempt 2 of 2") && events.contains("test unstable"), "{events}");
    project.lab.assert_nothing_left();
}

#[test]
fn tests_are_chosen_listed_run_side_by_side_and_answered_by_the_store() {
    let project = Project::new(
        "scenarios = [\"*.yaml\"]\n[[group]]\nname = \"tagged\"\nfilter = \"tag(x)\"\nat-most = 1\n",
    )
    .scenario("one", &[("duration:", "tags: [x]\nduration:")])
    .scenario("two", &[("duration:", "tags: [x, y]\nduration:")])
    .scenario("three", &[]);
    let list = |args: &[&str]| {
        let output = project.test(args).arg("--list").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    insta::assert_snapshot!(list(&[]));
    let chosen = |args: &[&str]| -> Vec<String> {
        let text = list(&[args, &["--format", "json"]].concat());
        let tests = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["test"].clone());
        tests.map(|test| test.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(chosen(&["tag(x) and not tag(y)", "three"]), ["one", "three"]);
    let shards: Vec<_> = (1..=3).flat_map(|n| chosen(&["--shard", &format!("{n}/3")])).collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
    let text = ends_with(0, project.test(&["--no-run"]));
    assert!(
        text.contains("3 tests") && !project.folder().join("fixture-vm-out").join("one").exists(),
        "{text}"
    );

    let run = || {
        let output = project.test(&["--format", "json", "--out", "sets"]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let first = run();
    assert_eq!(first.len(), 4);
    assert_eq!(first[3]["summary"]["passed"], 3);
    for line in &first[..3] {
        assert_eq!(line["test"]["tries"][0]["answered_from_store"], false);
        assert!(line["test"]["tries"][0]["stages_ns"]["scenario"].as_u64().unwrap() > 0);
        assert!(Path::new(line["test"]["fixtures"].as_str().unwrap()).join("manifest.json").is_file());
    }
    assert_eq!(run()[3]["summary"]["answered_from_store"], 3);
    let github = ends_with(0, project.test(&["--format", "github"]));
    assert!(github.contains("3 tests in"), "{github}");
    project.lab.assert_nothing_left();
}

#[test]
fn the_first_failure_stops_what_has_not_begun_if_asked_for() {
    let project = Project::new("scenarios = [\"*.yaml\"]\nfail-fast = true\njobs = 1\n")
        .scenario("a", &[])
        .scenario("b", &[]);
    let text = ends_with(9, project.test(&["--fault=a=fail@input"]));
    assert!(text.contains("b: a test had failed before") && text.contains("1 failed, 1 not run"), "{text}");
    assert_eq!(names(&project.folder().join("fixture-vm-out")), ["a.failed"]);
    // Without the fault the same place holds the set, and nothing of the failure.
    ends_with(0, project.test(&["=a"]));
    assert_eq!(names(&project.folder().join("fixture-vm-out")), ["a"]);
}

#[test]
fn an_interrupt_ends_the_guests_and_what_ran_is_still_reported() {
    let project = Project::new("scenarios = [\"*.yaml\"]\njobs = 1\n")
        .scenario("a", &[])
        .scenario("b", &[])
        .scenario("c", &[]);
    let mut tests = project.test(&["--fault=b=stall@traffic"]);
    let tests = tests.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stalls = || {
        let folders = project.lab.run_folders();
        let read = |folder: &PathBuf| fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
        folders.iter().any(|folder| {
            let events = read(folder);
            events.contains("\"test\":\"b\"") && events.contains(r#""event":"step-started","step":"traffic""#)
        })
    };
    project.lab.wait_until("the second test's traffic", stalls);
    kill(Pid::from_raw(i32::try_from(tests.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = tests.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("3 tests in") && text.contains("1 passed, 1 not run, 1 interrupted"), "{text}");
    project.lab.assert_nothing_left();
}

#[test]
fn what_is_wrong_with_a_project_is_told_before_anything_starts() {
    let told = |project: &Project, args: &[&str]| project.steady(&ends_with(2, project.test(args)));
    let mut all = Vec::new();
    let good = || Project::new("scenarios = [\"*.yaml\"]\n").scenario("one", &[]);
    all.push(told(&good(), &["two"]));
    all.push(told(&good(), &["tag(x"]));
    all.push(told(&good(), &["--shard", "3/2"]));
    all.push(told(&good().scenario("two", &[("name: two", "name: one")]), &[]));
    all.push(told(&good().scenario("two", &[("duration: 100ms", "duration: soon")]), &[]));
    all.push(told(&good(), &["--project", "nowhere"]));
    all.push(told(&Project::new("scenarios = [\"*.yaml\", \"more/*.yaml\"]\n").scenario("one", &[]), &[]));
    let group =
        "scenarios = [\"one.yaml\"]\n[[group]]\nname = \"g\"\nfilter = \"all()\"\nset-up = [\"first\"]\n";
    all.push(told(&Project::new(group).scenario("one", &[]), &[]));
    let small = "scenarios = [\"one.yaml\"]\n[defaults]\nmemory = 16\n";
    all.push(told(&Project::new(small).scenario("one", &[]), &[]));
    insta::assert_snapshot!(all.join("\n\n"));

    // A folder below the project finds it; a folder of scenarios needs none.
    let project = good();
    let below = project.folder().join("below");
    fs::create_dir(&below).unwrap();
    let mut list = project.test(&["--list"]);
    assert!(
        ends_with(0, {
            list.current_dir(&below);
            list
        })
        .contains("1 test")
    );
    fs::remove_file(project.folder().join("fixture-vm.toml")).unwrap();
    let text = ends_with(2, project.test(&["--list"]));
    assert!(text.contains("no fixture-vm.toml in") && text.contains("--project"), "{text}");
    assert!(ends_with(0, project.test(&["--list", "--project", "."])).contains("one: ./one.yaml"));
}

/// The words of a command as a shell splits them, as far as the pages use that.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split('\'').enumerate() {
        match n % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn the_page_is_right_its_project_file_is_read_and_its_commands_work() {
    let page = root().join("docs/test.md");
    let text = fs::read_to_string(&page).unwrap();
    let file = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let project = Project::new(file).scenario("small", &[]).scenario("last", &[]);
    fs::copy(shipped("vlan-trunk"), project.folder().join("vlan-trunk.yaml")).unwrap();
    let lines = commands(&page);
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        let words = words(line.strip_prefix("fixture-vm test").unwrap());
        ends_with(0, project.test(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    assert_eq!(names(&project.folder().join("out")), ["junit.xml", "test"]);
    let sets = ["junit.xml", "last", "small", "vlan-trunk"];
    assert_eq!(names(&project.folder().join("out/test")), sets);
}
