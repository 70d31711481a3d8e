//! A guest that lies: each of its lies ends as it should, in bounded memory and room, and no file of the host gets out.

mod lies;
mod stand_in;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use self::lies::{LIES, Lie};
use crate::lab::{Lab, PROGRAM, SMALL, end, image};
use crate::project::{command, program, said};

/// What no guest may get at.
const SECRET: &str = "the secret of the host";

/// The most memory that the program may write to, in KiB: limits of events times what they become, and room to spare.
const MEMORY_KIB: u64 = 384 << 10;

/// The most room that a run's folder may ever take: the console's limit, and what is written in the time until the
/// next look and until the guest is ended.
const ROOM: u64 = 512 << 20;

/// The most room that a failed run keeps: a console and its events, the latter three times.
const KEPT: u64 = 80 << 20;

/// A home with a secret, and a QEMU that plays this guest.
struct Stage {
    lab: Lab,
    qemu: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let lab = Lab::new();
        fs::create_dir(lab.path("secret")).unwrap();
        fs::write(lab.path("secret/file"), SECRET).unwrap();
        let script = format!(
            "[ \"$1\" = --version ] && echo 'QEMU emulator version 10.0.2 (a stand-in)' && exit\n\
             {}=$(printf '%s\\n' \"$@\") exec '{}' --exact {} --ignored <&3",
            stand_in::ARGUMENTS,
            std::env::current_exe().unwrap().display(),
            stand_in::TEST,
        );
        Self { lab, qemu: program("qemu", &script) }
    }

    /// A run with the program's memory bounded by the kernel: an allocation beyond it fails, and with it the run.
    fn run(&self, lie: &Lie) -> Command {
        let mut run = command("sh");
        let bounded = format!("ulimit -d {MEMORY_KIB} && exec \"$0\" \"$@\"");
        run.args(["-c", &bounded, PROGRAM, "run", SMALL, "--cold", "--no-cache", "--guest"]).arg(image());
        run.arg("--out").arg(self.lab.out()).args(lie.args);
        for (name, value) in self.lab.program(&[]).get_envs() {
            run.env(name, value.unwrap_or_default());
        }
        run.env("XDG_CACHE_HOME", self.lab.path("cache"))
            .env("FIXTURE_VM_QEMU", self.qemu.path().join("qemu"));
        run.env(stand_in::LIE, lie.name).env(stand_in::SECRET, self.lab.path("secret"));
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run
    }
}

/// Room that all in a folder takes on the disk, in bytes.
fn room(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let taken = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => room(&path),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(|entry| taken(entry.path())).sum()
}

/// Whether a file below the folder holds the text.
fn holds(folder: &Path, text: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let found = |path: PathBuf| {
        if path.is_dir() && !path.is_symlink() {
            return holds(&path, text);
        }
        let small = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 20);
        small && String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text)
    };
    entries.flatten().any(|entry| found(entry.path()))
}

/// Runs to the end; gives exit code, what was said, and the most room that run folders took meanwhile.
fn watched(stage: &Stage, run: &mut Command) -> (Option<i32>, String, u64) {
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let folders = stage.lab.path("runtime");
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(room(&folders), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let output = end(run.spawn().unwrap());
        done.store(true, Ordering::Relaxed);
        output
    });
    (output.status.code(), said(&output), most.into_inner())
}

#[test]
fn each_lie_of_a_guest_has_its_end() {
    let stage = Stage::new();
    let only = std::env::var("FIXTURE_VM_ONLY_LIE").ok();
    let mut wrong = Vec::new();
    for lie in LIES.iter().filter(|lie| only.as_ref().is_none_or(|only| only == lie.name)) {
        let (code, text, room_taken) = watched(&stage, &mut stage.run(lie));
        let mut check = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{}: {what}; exit code {code:?}:\n{text:.2000}", lie.name));
            }
        };
        check(code == Some(lie.code), &format!("exit code {} is right", lie.code));
        check(text.contains(lie.says), &format!("{:?} is not said", lie.says));
        check(!text.contains(SECRET) && !text.contains(&stand_in::sha256(SECRET)), "the secret is said");
        check(room_taken <= ROOM, &format!("the run took {room_taken} bytes"));
        let failed = stage.lab.path("set.failed");
        for kept in [&failed, &stage.lab.out()] {
            check(!holds(kept, SECRET), "the secret is kept");
            check(room(kept) <= KEPT, &format!("{} bytes are kept", room(kept)));
        }
        check(!failed.join("share/.virtfs_metadata").exists(), "QEMU's notes are kept");
        check(code != Some(4) || failed.join("console.log").is_file(), "no evidence is kept");
        stage.lab.assert_nothing_left();
        fs::remove_dir_all(failed).ok();
    }
    assert!(LIES.len() >= 20 && wrong.is_empty(), "{} lies:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn a_share_that_was_closed_and_a_run_that_was_killed_block_no_later_run() {
    let stage = Stage::new();
    let base = stage.lab.path("runtime/fixture-vm");
    let dead = base.join("run-dead");
    fs::create_dir_all(dead.join("share/out/raw")).unwrap();
    fs::create_dir(base.join("run-empty")).unwrap();
    fs::write(dead.join("owner"), "").unwrap();
    for folder in ["share/out", "share"] {
        fs::set_permissions(dead.join(folder), fs::Permissions::from_mode(0o0)).unwrap();
    }
    let doctor = end(stage.lab.program(&["doctor"]).stdout(Stdio::piped()).spawn().unwrap());
    assert!(said(&doctor).contains("2 of dead runs"), "{}", said(&doctor));
    let lie = LIES.iter().find(|lie| lie.name == "the nonce of another run").unwrap();
    let (code, text, _) = watched(&stage, &mut stage.run(lie));
    assert_eq!(code, Some(4), "{text}");
    stage.lab.assert_nothing_left();
}
