//! The trace from requirement to test: this project's holds, and each way to break one is found.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::project::{Copy, command, root, said};

fn trace(root: &Path, args: &[&str]) -> Output {
    command(env!("CARGO_BIN_EXE_fixture-vm"))
        .arg("trace")
        .args(args)
        .arg("--root")
        .arg(root)
        .output()
        .unwrap()
}

#[test]
fn this_project_is_traced() {
    let output = trace(&root(), &["check"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_matrix_has_every_requirement() {
    let requirements = fs::read_to_string(root().join("artifacts/requirements.yaml")).unwrap();
    for format in ["text", "markdown"] {
        let output = trace(&root(), &["report", "--format", format]);
        let text = said(&output);
        for id in requirements.lines().filter_map(|line| line.trim().strip_prefix("- id: ")) {
            assert!(text.contains(id), "{id} is not in:\n{text}");
        }
    }
}

#[test]
fn a_requirement_that_loses_its_link_is_found() {
    let parts = ["artifacts", "crates", ".github", "tools"];
    let copy = Copy::of(&parts);
    copy.replace("artifacts/verification.yaml", "target: REQ-NIX-LOCK", "target: REQ-NIX-LOCKS");
    let output = trace(copy.root(), &["check"]);
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("links to REQ-NIX-LOCKS, which no file defines"), "{text}");
    assert!(text.contains("REQ-NIX-LOCK: is implemented, and no implemented verification"), "{text}");
}

#[test]
fn a_renamed_test_is_found() {
    let copy = Copy::of(&["artifacts", "crates", ".github", "tools"]);
    copy.replace("crates/fixture-vm/tests/it/nix.rs", "fn a_stale_lock_is", "fn an_old_lock_is");
    let output = trace(copy.root(), &["check"]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("runs no test: no test of fixture-vm has \"nix::a_stale_lock_is"),
        "{}",
        said(&output)
    );
}

const REQUIREMENTS: &str = "\
artifacts:
  - id: REQ-1
    type: requirement
    title: One
    description: The first.
    status: implemented
    tags: [a]
  - id: REQ-2
    type: requirement
    title: Two
    description: Part of the first.
    status: draft
    links:
      - {type: refines, target: REQ-1}
";

const VERIFICATION: &str = "\
artifacts:
  - id: TEST-1
    type: feature
    title: The first is tested
    description: It is.
    status: implemented
    fields:
      method: automated-test
      steps:
        - run: cargo test -p x first
        - run: tools/ci/look
    links:
      - {type: satisfies, target: REQ-1}
";

const SOURCE: &str = "\
mod tests {
    #[test]
    fn first_holds() {}

    #[test]
    #[ignore = \"slow\"]
    fn second_is_long() {}
}
";

/// A project of two requirements, one crate and one script.
fn small() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("artifacts/requirements.yaml", REQUIREMENTS),
        ("artifacts/verification.yaml", VERIFICATION),
        ("crates/x/src/lib.rs", SOURCE),
        ("tools/ci/look", "#!/bin/sh\n"),
        ("tools/test", "tools/ci/look\n"),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::set_permissions(folder.path().join("tools/ci/look"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn each_rule_finds_what_it_is_for() {
    let output = trace(small().path(), &["check"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("2 requirements, 1 shown by tests, 1 still drafts"), "{}", said(&output));

    let (requirements, verification) = ("artifacts/requirements.yaml", "artifacts/verification.yaml");
    let mut all = String::new();
    for (file, from, to) in [
        (requirements, "tags: [a]", "owner: me"),
        (requirements, "status: draft", "status: done"),
        (requirements, "id: REQ-2", "id: REQ-1"),
        (requirements, "target: REQ-1", "target: REQ-9"),
        (requirements, "refines", "satisfies"),
        (requirements, "status: draft", "status: implemented"),
        (requirements, "title: One", "title: ''"),
        (verification, "status: implemented", "status: draft"),
        (verification, "cargo test -p x first", "cargo test -p x third"),
        (verification, "cargo test -p x first", "cargo test -p x second"),
        (verification, "cargo test -p x first", "cargo test -p y"),
        (verification, "cargo test -p x first", "true"),
        (verification, "tools/ci/look", "tools/ci/gone"),
        ("tools/test", "tools/ci/look", "true"),
        (
            verification,
            "        - run: cargo test -p x first\n        - run: tools/ci/look\n",
            "        []\n",
        ),
        (verification, "    links:\n      - {type: satisfies, target: REQ-1}\n", ""),
    ] {
        let project = small();
        let path = project.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not hold {from:?}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
        let output = trace(project.path(), &["check"]);
        assert!(!output.status.success(), "{from:?} as {to:?} was taken");
        all += &format!("{from:?} as {to:?}\n{}\n", String::from_utf8_lossy(&output.stderr));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_test_that_failed_or_did_not_run_is_found() {
    let project = small();
    let log = project.path().join("log");
    let check = |text: &str| {
        fs::write(&log, text).unwrap();
        trace(project.path(), &["check", "--results", log.to_str().unwrap()])
    };
    assert!(check("test tests::first_holds ... ok\n").status.success());
    let failed = check("test tests::first_holds ... FAILED\n");
    assert!(!failed.status.success());
    assert!(said(&failed).contains("tests::first_holds of x did not pass"), "{}", said(&failed));
    let absent = check("test tests::other ... ok\n");
    assert!(!absent.status.success());
    assert!(said(&absent).contains("tests::first_holds of x was not run"), "{}", said(&absent));
}

#[test]
fn a_folder_without_artifacts_is_told() {
    let empty = tempfile::tempdir().unwrap();
    let output = trace(empty.path(), &["check"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("run this at the top of the project"), "{}", said(&output));
}
