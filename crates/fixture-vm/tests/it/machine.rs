//! What a machine lacks: room on a disk, a home; and what a dry run leaves for whoever starts its command line.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, SMALL, ends_with, image, skip};
use crate::project::{command, said};

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
    let cases: [(&str, &[&str]); 2] =
        [("runs", &["--work-dir", "{}", "--no-cache"]), ("cache", &["--no-cache"])];
    for (place, args) in cases {
        let at = lab.path(place);
        let args: Vec<_> = args.iter().map(|arg| arg.replace("{}", at.to_str().unwrap())).collect();
        let mut run = lab.program(&["run", SMALL, "--guest"]);
        run.arg(image()).arg("--out").arg(lab.path("another"));
        run.args(&args);
        if place == "cache" {
            run.env("XDG_CACHE_HOME", &at);
        }
        // Not one page for a file; folders take none.
        let test = "a_full_disk_is_named_wherever_it_is";
        let Some((ended, text)) = with_small_disk(test, &run, &at, "4k") else {
            return;
        };
        assert_eq!(ended, Some(3), "{place}: {text}");
        let says = format!("no room left on the disk that holds {}", at.display());
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
