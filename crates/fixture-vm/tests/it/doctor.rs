//! What this machine is fit for: `doctor`, and the accelerator as a run chooses it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::{Lab, SMALL, ends_with, image};
use crate::project::said;

/// Verdict of each check, by name.
fn verdicts(text: &str) -> BTreeMap<String, String> {
    let checks: Vec<Value> = serde_json::from_str(text).unwrap();
    for check in &checks {
        let mended = check["verdict"] == "pass" || check["mend"].is_string();
        assert!(mended, "no mend: {check}");
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    checks.iter().map(|check| (text(&check["check"]), text(&check["verdict"]))).collect()
}

#[test]
fn doctor_tells_every_check_and_changes_nothing() {
    let lab = Lab::new();
    let before = lab.run_folders();
    let output = lab.program(&["doctor", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let verdicts = verdicts(&String::from_utf8(output.stdout).unwrap());
    for check in ["qemu", "firmware", "accelerator", "9p", "image", "work room", "leftovers"] {
        assert!(verdicts.contains_key(check), "{check} is not in {verdicts:?}");
    }
    assert_eq!(verdicts["qemu"], "pass");
    assert_eq!(lab.run_folders(), before);
    lab.assert_nothing_left();
}

#[test]
fn doctor_fails_with_the_mend_where_qemu_is_missing() {
    let lab = Lab::new();
    let mut doctor = lab.program(&["doctor", "--json"]);
    doctor.env("PATH", lab.path("no programs")).env_remove("FIXTURE_VM_QEMU");
    let output = doctor.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(verdicts(&String::from_utf8(output.stdout).unwrap())["qemu"], "fail");
}

#[test]
fn the_accelerator_is_the_one_that_runs_guest_code() {
    let lab = Lab::new();
    let output = lab.program(&["doctor", "--json"]).output().unwrap();
    let works = verdicts(&String::from_utf8(output.stdout).unwrap())["accelerator"] == "pass";

    let plan = |accel: &str| {
        let mut run =
            lab.program(&["run", SMALL, "--clock", "real", "--dry-run", "--accel", accel, "--guest"]);
        run.arg(image()).arg("--out").arg(lab.out());
        run
    };
    let auto = ends_with(0, plan("auto"));
    assert!(auto.contains(if works { "-accel kvm" } else { "-accel tcg" }), "{auto}");
    if works {
        assert!(ends_with(0, plan("kvm")).contains("-accel kvm"));
    } else {
        assert!(auto.contains("since KVM does not work here"), "{auto}");
        let refused = ends_with(3, plan("kvm"));
        assert!(refused.contains("use --accel auto or tcg"), "{refused}");
    }
    assert!(ends_with(0, plan("tcg")).contains("-accel tcg"));
}
