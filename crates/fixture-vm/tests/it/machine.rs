//! What a machine lacks: room on a disk, open files, a home, a QEMU that lives. It is named, and what is good stays.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{Lab, SMALL, ends_with, image, skip};
use crate::project::{command, find, said};

/// The same command with a disk of so many bytes at a folder of the lab; none, with the reason told, where no such disk
/// can be had.
fn with_small_disk(test: &str, run: &Command, at: &Path, size: &str) -> Option<(Option<i32>, String)> {
    fs::create_dir_all(at).unwrap();
    let mut shell = command("unshare");
    let user = if nix::unistd::getuid().is_root() { "--mount" } else { "-rm" };
    let script = format!("mount -t tmpfs -o size={size},mode=0700 tmpfs \"$1\" && shift && exec \"$@\"");
    shell.args([user, "sh", "-c", &script, "sh"]).arg(at).arg(run.get_program()).args(run.get_args());
    shell.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    let text = said(&output);
    if text.contains("unshare:") || text.contains("mount:") {
        skip(test, text.trim());
        return None;
    }
    Some((output.status.code(), text))
}

#[test]
fn a_full_disk_is_named_wherever_it_is() {
    let lab = Lab::new();
    // From here on the store answers, so that no guest runs.
    ends_with(0, lab.run(&[]));
    // A place, what goes there, what is said to be full, and the end: without events a run is still a run.
    let cases: [(&str, &[&str], &str, i32); 4] = [
        ("runs", &["--work-dir", "{}", "--no-cache"], "", 3),
        ("sets", &["--out", "{}/set"], "/set", 3),
        ("events", &["--events-db", "{}/events.db"], "/events.db", 0),
        ("cache", &["--no-cache"], "", 3),
    ];
    for (place, args, full, code) in cases {
        let at = lab.path(place);
        let args: Vec<_> = args.iter().map(|arg| arg.replace("{}", at.to_str().unwrap())).collect();
        let mut run = lab.program(&["run", SMALL, "--guest"]);
        run.arg(image());
        if !args.contains(&"--out".to_owned()) {
            run.arg("--out").arg(lab.path("another"));
        }
        run.args(&args);
        if place == "cache" {
            run.env("XDG_CACHE_HOME", &at);
        }
        // Not one page for a file; folders take none.
        let size = if place == "events" { "8k" } else { "4k" };
        let Some((ended, text)) = with_small_disk("a_full_disk_is_named_wherever_it_is", &run, &at, size)
        else {
            return;
        };
        assert_eq!(ended, Some(code), "{place}: {text}");
        let says = format!("no room left on the disk that holds {}{full}", at.display());
        assert!(text.contains(&says) && text.contains("make room there"), "{place}: {text}");
    }
    lab.assert_nothing_left();
}

#[test]
fn a_home_that_is_no_place_is_an_error_where_it_is_needed() {
    let lab = Lab::new();
    let list = |home: &str, data: Option<&str>| {
        let mut list = lab.program(&["store", "list"]);
        list.env("HOME", home).env_remove("XDG_DATA_HOME");
        list.envs(data.map(|data| ("XDG_DATA_HOME", data)));
        list
    };
    for (home, data, says) in [
        ("", None, "HOME is empty"),
        ("here", None, "HOME is here, which is no absolute path"),
        ("", Some(""), "HOME is empty"),
        ("", Some("data"), "HOME is empty"),
    ] {
        let text = ends_with(3, list(home, data));
        assert!(text.contains(says) && text.contains("XDG_DATA_HOME"), "{text}");
    }
    ends_with(0, list("", lab.path("data").to_str()));
    ends_with(0, list(lab.path("home").to_str().unwrap(), Some("")));
    assert!(lab.path("home/.local/share/fixture-vm/store").is_dir());
}

/// The folder of the one saved guest, and its number on the disk: one that was made again has another.
fn saved(lab: &Lab) -> (PathBuf, u64) {
    let warm = fs::read_dir(lab.path("cache/fixture-vm/warm")).unwrap().map(|entry| entry.unwrap().path());
    let states: Vec<_> = warm.filter(|path| path.join("contents.json").is_file()).collect();
    assert_eq!(states.len(), 1, "{states:?}");
    (states[0].clone(), fs::metadata(&states[0]).unwrap().ino())
}

#[test]
fn a_saved_guest_goes_only_if_qemu_refuses_it_and_not_if_qemu_fails() {
    let lab = Lab::new();
    let Some(qemu) = find("qemu-system-x86_64") else { return };
    // Continues no guest while there is a file that says how it fails.
    let (fake, fault) = (lab.path("qemu"), lab.path("fault"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-loadvm*) [ ! -f '{0}' ] || . '{0}' ;; esac\nexec '{1}' \"$@\"\n",
        fault.display(),
        qemu.display()
    );
    fs::write(&fake, script).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |seed: &str| {
        let mut run = lab.run(&["--no-cache", "--seed", seed]);
        run.env("XDG_CACHE_HOME", lab.path("cache")).env("FIXTURE_VM_QEMU", &fake);
        run
    };
    ends_with(0, run("1"));
    let before = saved(&lab);
    for fails in ["kill -9 $$", "echo 'Could not open: Too many open files' >&2; exit 1"] {
        fs::write(&fault, fails).unwrap();
        let text = ends_with(0, run("1"));
        assert!(text.contains("could not be continued, and stays; this run boots"), "{text}");
        assert_eq!(saved(&lab), before, "{fails}: {text}");
    }
    fs::write(&fault, "echo 'qemu: Error -22 while loading VM state' >&2; exit 1").unwrap();
    let text = ends_with(0, run("1"));
    assert!(text.contains("could not be continued, so it is made again"), "{text}");
    assert_ne!(saved(&lab).1, before.1, "{text}");
    lab.assert_nothing_left();
}

#[test]
fn the_command_line_of_a_dry_run_hands_over_whoever_starts_it() {
    let lab = Lab::new();
    let text = ends_with(0, lab.run(&["--dry-run", "--keep", "all", "--cold"]));
    let folders = lab.run_folders();
    let folder = &folders[0];
    let nonce = fs::read_to_string(folder.join("nonce")).unwrap();
    assert!(nonce.ends_with(" n"), "its guest would hold, with nobody there: {nonce:?}");
    let line = text.lines().find(|line| line.contains("-kernel")).expect("a command line");
    let bare = line.replace("-chardev socket,id=qmp,fd=3 -mon chardev=qmp,mode=control ", "");
    let output = command("timeout").args(["600", "sh", "-c", &bare]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(folder.join("share/status.json").is_file(), "{}", said(&output));
}
