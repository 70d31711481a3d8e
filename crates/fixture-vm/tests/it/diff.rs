//! `fixture-vm diff` as a shell sees it: exit codes as diff(1) has them, text and JSON.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::project::command;

fn fixture_vm(args: &[&str]) -> Output {
    command(env!("CARGO_BIN_EXE_fixture-vm")).args(args).output().unwrap()
}

fn set(home: &Path, name: &str, domain: u8) -> String {
    let set = home.join(name);
    fs::create_dir_all(&set).unwrap();
    let text =
        format!(r#"{{"gptp":{{"grandmaster":"02:00:00:ff:fe:00:00:01","domain":{domain},"ports":[]}}}}"#);
    fs::write(set.join("gptp.json"), text).unwrap();
    set.to_str().unwrap().to_owned()
}

#[test]
fn exit_codes_are_those_of_diff() {
    let home = tempfile::tempdir().unwrap();
    let (a, b, c) = (set(home.path(), "a", 0), set(home.path(), "b", 0), set(home.path(), "c", 1));
    let code = |args: &[&str]| fixture_vm(args).status.code();
    assert_eq!(code(&["diff", &a, &b]), Some(0));
    assert_eq!(code(&["diff", &a, &c]), Some(1));
    let file = format!("{a}/gptp.json");
    assert_eq!(code(&["diff", &file, &format!("{c}/gptp.json")]), Some(1));
    for other in [&file, home.path().to_str().unwrap(), "/nonexistent"] {
        assert_eq!(code(&["diff", &a, other]), Some(2), "{other}");
    }
}

#[test]
fn differences_are_told_to_people_and_machines() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (set(home.path(), "a", 0), set(home.path(), "b", 1));
    let text = String::from_utf8(fixture_vm(&["diff", &a, &b]).stdout).unwrap();
    assert!(text.ends_with("\ngptp.json:\n  domain: 0 against 1\n"), "{text}");
    let json: serde_json::Value =
        serde_json::from_slice(&fixture_vm(&["diff", &a, &b, "--json"]).stdout).unwrap();
    assert_eq!(json["files"][0]["differences"][0]["difference"], "value");
    assert_eq!(json["files"][0]["differences"][0]["b"], 1);
}
