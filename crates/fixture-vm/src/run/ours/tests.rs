//! Folders that are ours, and what makes them another's.

use fixture::contract::handover::FileDigest;
use serde_json::json;

use super::*;

/// The manifest of a set of ours with these files.
pub fn manifest(files: &[&str]) -> String {
    let digest = FileDigest { sha256: String::new(), size: 0 };
    let files: std::collections::BTreeMap<_, _> = files.iter().map(|name| (*name, &digest)).collect();
    let closure = json!({
        "digest": "", "input": "", "image": "", "qemu": "", "qemu_sha256": "", "firmware": {},
        "accelerator": "tcg", "machine": [],
    });
    let manifest = json!({
        "contract": contract::VERSION, "fixture_vm": "", "scenario": "s", "clock": "virtual", "seed": 1,
        "window_ns": [0, 1], "files": files, "closure": closure,
        "guest": { "kind": "debian", "kernel": "", "tools": {}, "exit_status": 0 },
        "run": { "nonce": "", "started_ns": 0, "took_ns": 0 },
    });
    manifest.to_string()
}

/// Puts a set of ours in place, with files that are another's.
pub fn put_set(dir: &Path, others: &[&str]) {
    fs::create_dir_all(dir.join("raw/tc")).unwrap();
    fs::write(dir.join(MANIFEST), manifest(&["lldp.json", "raw/tc/sw"])).unwrap();
    for name in ["lldp.json", "raw/tc/sw", "timeline.txt"].iter().chain(others) {
        fs::write(dir.join(name), "").unwrap();
    }
}

fn is_ours(path: &Path, kind: Kind) -> bool {
    matches!(look(path, kind).unwrap(), There::Ours(_))
}

#[test]
fn a_set_is_ours_as_long_as_it_holds_only_what_it_lists() {
    let home = tempfile::tempdir().unwrap();
    let set = home.path().join("set");
    assert!(matches!(look(&set, Kind::Set).unwrap(), There::Nothing));
    put_set(&set, &[]);
    assert!(is_ours(&set, Kind::Set) && !is_ours(&set, Kind::Failed) && !is_ours(&set, Kind::Recording));
    fs::create_dir(set.join("empty")).unwrap();
    assert!(!is_ours(&set, Kind::Set), "a folder of another's");
    fs::remove_dir(set.join("empty")).unwrap();
    fs::remove_file(set.join("lldp.json")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", set.join("lldp.json")).unwrap();
    assert!(!is_ours(&set, Kind::Set), "a link in place of a file");
}

#[test]
fn what_a_failed_run_left_is_known_by_its_list_whatever_a_guest_called_it() {
    let home = tempfile::tempdir().unwrap();
    let failed = home.path().join("set.failed");
    fs::create_dir_all(failed.join("share/raw")).unwrap();
    assert!(!is_ours(&failed, Kind::Failed));
    fs::write(failed.join("console.log"), "").unwrap();
    fs::write(failed.join("share/raw").join(std::ffi::OsStr::from_bytes(b"\xff\n\\")), "").unwrap();
    mark_failed(&failed).unwrap();
    assert!(is_ours(&failed, Kind::Failed));
    fs::write(failed.join("share/notes"), "").unwrap();
    let There::Foreign(what) = look(&failed, Kind::Failed).unwrap() else { panic!("it is ours") };
    assert_eq!(what, "it holds what no run put there: share/notes");
}

#[test]
fn many_entries_are_named_in_part_and_an_unknown_folder_is_not_searched() {
    let home = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        fs::create_dir_all(home.path().join(name).join("deep")).unwrap();
    }
    let There::Foreign(what) = look(home.path(), Kind::Set).unwrap() else { panic!("it is ours") };
    assert!(what.ends_with("it has no manifest.json: a/, b/, c/, d/, e/ and 2 more"), "{what}");
}

#[test]
fn mount_points_are_read_as_the_kernel_writes_them() {
    assert_eq!(unescaped(br"/mnt/a\040b\134c\"), Path::new("/mnt/a b\\c\\"));
    assert!(
        is_mounted(Path::new("/proc")) && is_mounted(Path::new("/")) && !is_mounted(Path::new("/proc/1"))
    );
}
