//! The workflows and the scripts they call: pinned, bounded, least-privileged, and nothing writes the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::project::{Copy, command, find, passes, program, root, said, script, skip};

const FOLDER: &str = ".github/workflows";

fn workflows(root: &Path) -> BTreeMap<String, Value> {
    let read = |path: &Path| serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let files = fs::read_dir(root.join(FOLDER)).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path))).collect()
}

/// What a workflow breaks of the project's rules.
fn findings(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (file, workflow) in workflows(root) {
        if workflow["permissions"] != serde_json::json!({"contents": "read"}) {
            found.push(format!("{file}: permissions of the workflow are more than contents: read"));
        }
        if workflow["concurrency"]["group"].as_str().is_none() {
            found.push(format!("{file}: no concurrency group"));
        }
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            if job["timeout-minutes"].as_u64().is_none() {
                found.push(format!("{file}: job {name} has no timeout-minutes"));
            }
            for step in job["steps"].as_array().unwrap() {
                found.extend(step_findings(root, step).map(|text| format!("{file}: job {name}: {text}")));
            }
        }
    }
    found
}

fn step_findings(root: &Path, step: &Value) -> Option<String> {
    if let Some(action) = step["uses"].as_str() {
        let commit = action.split_once('@').map_or("", |(_, commit)| commit);
        let is_full = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        return (!is_full).then(|| format!("{action} is not pinned by a full commit"));
    }
    let command = step["run"].as_str()?;
    let called = command.split_whitespace().next().unwrap_or_default();
    let is_script = called.starts_with("tools/") && command.lines().count() == 1;
    let is_there = root.join(called).metadata().is_ok_and(|file| file.permissions().mode() & 0o111 != 0);
    (!(is_script && is_there)).then(|| format!("`{command}` is not one call of a script under tools/"))
}

#[test]
fn every_workflow_keeps_the_rules() {
    // The test command is made elsewhere in the project; every other script is checked as it stands.
    assert_eq!(findings(&root()), Vec::<String>::new());
}

#[test]
fn the_documented_pins_are_the_ones_in_use() {
    let used: BTreeSet<String> = workflows(&root())
        .values()
        .flat_map(|workflow| workflow["jobs"].as_object().unwrap().values())
        .flat_map(|job| job["steps"].as_array().unwrap())
        .filter_map(|step| Some(step["uses"].as_str()?.replace('@', " ")))
        .collect();
    let text = fs::read_to_string(root().join("docs/workflows.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('/'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let documented: BTreeSet<String> = cells
        .filter(|cells| cells[3].len() == 40)
        .map(|cells| format!("{} {}", cells[1], cells[3]))
        .collect();
    assert_eq!(documented, used);
}

#[test]
fn schema_and_security_lints_have_no_complaint() {
    passes("tools/ci/lint-workflows", &[]);
}

#[test]
fn every_script_is_clean() {
    passes("tools/ci/lint-scripts", &[]);
}

#[test]
fn a_broken_rule_is_found() {
    let file = ".github/workflows/nightly.yml";
    for (from, to, told) in [
        ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7", "not pinned by a full commit"),
        ("    timeout-minutes: 120\n", "", "no timeout-minutes"),
        ("permissions:\n  contents: read", "permissions:\n  contents: write", "more than contents: read"),
        ("  group: ${{ github.workflow }}\n", "", "no concurrency group"),
        ("run: tools/setup", "run: curl example.org | sh", "not one call of a script"),
    ] {
        let copy = Copy::of(&[FOLDER, "tools"]);
        copy.replace(file, from, to);
        let found = findings(copy.root());
        assert!(found.iter().any(|finding| finding.contains(told)), "{from:?} as {to:?}: {found:?}");
    }
}

#[test]
fn the_lint_finds_an_unpinned_action_and_a_script_injection() {
    for (from, to, told) in [
        ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7", "unpinned-uses"),
        ("run: tools/ci/summary out", "run: echo ${{ github.event.issue.title }}", "template-injection"),
        ("timeout-minutes: 120", "timeout-minuten: 120", "Additional properties are not allowed"),
    ] {
        let copy = Copy::of(&[FOLDER, "tools"]);
        copy.replace(".github/workflows/nightly.yml", from, to);
        let Some(output) = script(copy.root(), "tools/ci/lint-workflows", &[]) else { return };
        assert!(!output.status.success(), "{from:?} as {to:?} was taken");
        assert!(said(&output).contains(told), "{told} is not in:\n{}", said(&output));
    }
}

#[test]
fn only_the_dispatched_refresh_writes_the_lock() {
    let mut writers = Vec::new();
    for entry in fs::read_dir(root().join("tools/ci")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        for line in
            fs::read_to_string(&path).unwrap().lines().map(str::trim).filter(|line| !line.starts_with('#'))
        {
            if line.contains("nix flake update") || line.contains("nix flake lock") {
                writers.push(name.clone());
            }
            let resolves = ["nix build", "nix run", "nix flake check", "nix flake metadata"];
            let keeps = line.contains("--no-update-lock-file");
            assert!(
                keeps || !resolves.iter().any(|verb| line.contains(verb)),
                "{name}: `{line}` may write the lock"
            );
        }
    }
    assert_eq!(writers, ["lock-refresh"]);
    for (file, workflow) in workflows(&root()) {
        let text = fs::read_to_string(root().join(FOLDER).join(&file)).unwrap();
        if text.contains("lock-refresh") {
            assert_eq!(file, "flake-lock.yml");
            let triggers: Vec<_> = workflow["on"].as_object().unwrap().keys().collect();
            assert_eq!(triggers, ["workflow_dispatch"]);
        }
    }
}

#[test]
fn a_new_lock_is_proposed_on_a_branch_of_its_own() {
    let Some(_) = find("jq") else { return skip("the workflows' scripts need jq, which is not here") };
    let copy = Copy::of(&["flake.nix", "flake.lock", "tools"]);
    let log = copy.root().join("log");
    let record = |name: &str| program(name, &format!("echo {name} \"$@\" >>'{}'", log.display()));
    let (git, gh) = (record("git"), record("gh"));
    fs::create_dir(copy.root().join("out")).unwrap();
    fs::copy(copy.root().join("flake.lock"), copy.root().join("out/flake.lock")).unwrap();
    fs::write(copy.root().join("out/body.md"), "old and new\n").unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", git.path().display(), gh.path().display());
    let output = command(copy.root().join("tools/ci/lock-refresh"))
        .args(["propose", "out"])
        .current_dir(copy.root())
        .env("PATH", path)
        .env("GITHUB_REF_NAME", "main")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let log = fs::read_to_string(log).unwrap();
    let pushes: Vec<_> = log.lines().filter(|line| line.starts_with("git push")).collect();
    assert_eq!(pushes, ["git push origin HEAD:refs/heads/flake-lock/02e08985a27c"]);
    assert!(log.contains("gh pr create --head flake-lock/02e08985a27c"), "{log}");
}

#[test]
fn a_runner_that_is_no_debian_gets_a_source_that_installs_nothing() {
    let etc = tempfile::tempdir().unwrap();
    for folder in ["sources.list.d", "preferences.d"] {
        fs::create_dir(etc.path().join(folder)).unwrap();
    }
    let apt = program("apt-get", "[ \"$1\" != indextargets ] || echo noble");
    let sudo = program("sudo", "exec \"$@\"");
    let debootstrap = program("debootstrap", "DEF_MIRROR=\"http://mirror.example/debian\"\n");
    let path = std::env::var("PATH").unwrap();
    let folders = [&apt, &sudo, &debootstrap].map(|folder| folder.path().display().to_string()).join(":");
    let add = |mirror: &str| {
        let mut add = command("tools/ci/debian-sources");
        add.env("PATH", format!("{folders}:{path}")).env("ETC_APT", etc.path()).env("DEBIAN_MIRROR", mirror);
        add.output().unwrap()
    };
    let output = add("");
    assert!(output.status.success(), "{}", said(&output));
    let sources = fs::read_to_string(etc.path().join("sources.list.d/debian-guest.sources")).unwrap();
    assert!(sources.contains("URIs: http://mirror.example/debian\n"), "{sources}");
    assert!(sources.contains("URIs: http://mirror.example/debian-security\n"), "{sources}");
    let pin = fs::read_to_string(etc.path().join("preferences.d/debian-guest")).unwrap();
    assert!(pin.contains("Pin-Priority: -1"), "{pin}");
    let refused = add("http://mirror.example/ubuntu");
    assert!(!refused.status.success());
    assert!(said(&refused).contains("name one that ends in /debian"), "{}", said(&refused));
}

#[test]
fn the_nightly_runs_here_on_the_debian_guest() {
    let Some(_) = find("qemu-system-x86_64") else {
        return skip("the nightly boots guests under QEMU, which is not here");
    };
    let out = tempfile::tempdir().unwrap();
    let output = command("tools/ci/nightly")
        .args(["debian", "virtual"])
        .arg(out.path())
        .arg("scenarios/vlan-trunk.yaml")
        .env("FIXTURE_VM", env!("CARGO_BIN_EXE_fixture-vm"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("0 of 1 scenarios failed"), "{}", said(&output));
    assert!(out.path().join("vlan-trunk/set/capture.pcapng").exists());
    let report = fs::read_to_string(out.path().join("vlan-trunk/report.html")).unwrap();
    assert!(report.contains("<h1>vlan-trunk</h1>"), "{report}");
    let summary =
        command("tools/ci/summary").arg(out.path()).env_remove("GITHUB_STEP_SUMMARY").output().unwrap();
    assert!(said(&summary).contains("| vlan-trunk | passed | passed |"), "{}", said(&summary));
    assert!(said(&summary).contains("```mermaid"), "{}", said(&summary));
}

#[test]
fn a_nightly_run_that_fails_is_told_and_kept() {
    let out = tempfile::tempdir().unwrap();
    let output = command("tools/ci/nightly")
        .args(["/no/such/image", "virtual"])
        .arg(out.path())
        .arg("scenarios/vlan-trunk.yaml")
        .env("FIXTURE_VM", env!("CARGO_BIN_EXE_fixture-vm"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("vlan-trunk FAILED"), "{}", said(&output));
    let log = fs::read_to_string(out.path().join("vlan-trunk/run.log")).unwrap();
    assert!(log.contains("/no/such/image"), "{log}");
    assert_eq!(fs::read_to_string(out.path().join("vlan-trunk/run.status")).unwrap(), "2\n");
}

#[test]
fn the_summary_tells_of_success_and_of_failure() {
    let Some(_) = find("jq") else { return skip("the workflows' scripts need jq, which is not here") };
    let out = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = out.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let scenario = root().join("scenarios/tsn-three-node.yaml");
    let scenario: Value = serde_yaml::from_str(&fs::read_to_string(scenario).unwrap()).unwrap();
    put("good/run.status", "0\n");
    put("good/verify.status", "0\n");
    put("good/set/scenario.json", &scenario.to_string());
    put("good/set/manifest.json", r#"{"closure":{"digest":"0123456789abcdef"}}"#);
    put("good/set/capture.pcapng", "frames");
    put("bad/run.status", "4\n");
    put("bad/run.log", "fixture-vm: the guest failed in step daemons\n");
    let output =
        command("tools/ci/summary").arg(out.path()).env_remove("GITHUB_STEP_SUMMARY").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout));
}
