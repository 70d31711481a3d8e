//! What breaks: guest, QEMU, harness, disk, image, paths. After each the right exit code, one clear message,
//! nothing left behind, and the former set as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::{
    Lab, Live, PROGRAM, SMALL, ends_with, image, image_copy, rename_program, replace_initramfs, skip,
};
use crate::project::{command, root};

/// Runs with a former set in place; the run must fail with this code and say all of this.
fn fails(lab: &Lab, code: i32, run: Command, says: &[&str]) -> String {
    lab.put_former_set();
    let text = ends_with(code, run);
    for words in says {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    let messages = text.lines().filter(|line| line.starts_with("fixture-vm: ")).count();
    assert_eq!(messages, 1, "one message, not several:\n{text}");
    lab.assert_former_set();
    lab.assert_nothing_left();
    text
}

fn guest_fault(fault: &str, args: &[&str], code: i32, says: &[&str]) {
    let lab = Lab::new();
    let mut run = lab.run(&["--fault", fault]);
    run.args(args);
    fails(&lab, code, run, says);
    let kept = lab.path("set.failed");
    for file in ["console.log", "events.jsonl", "timeline.txt"] {
        assert!(kept.join(file).is_file(), "{file} is not kept for diagnosis");
    }
}

#[test]
fn a_step_that_fails_names_itself() {
    guest_fault("fail@topology", &[], 4, &["the guest failed in step topology", "asked for a failure"]);
}

#[test]
fn a_guest_program_that_panics_tells() {
    guest_fault("panic@capture", &[], 4, &["in step capture", "asked for a panic"]);
}

#[test]
fn a_guest_program_that_ends_is_a_kernel_panic() {
    guest_fault(
        "exit@daemons",
        &[],
        4,
        &["the guest's kernel panicked in step daemons", "Attempted to kill init"],
    );
}

#[test]
fn a_kernel_panic_is_told_with_the_console() {
    guest_fault(
        "crash@traffic",
        &[],
        4,
        &["the guest's kernel panicked in step traffic", "the console's last lines"],
    );
}

#[test]
fn a_silent_guest_is_ended() {
    guest_fault("hang@converge", &["--silence", "4s"], 5, &["silent for 4s in step converge"]);
}

#[test]
fn a_guest_that_only_lives_runs_into_its_deadline() {
    guest_fault("stall@traffic", &["--timeout", "6s"], 5, &["took too long in step traffic"]);
}

/// Runs the small scenario on another image.
fn run_on(lab: &Lab, image: &Path) -> Command {
    let mut run = lab.program(&["run", SMALL, "--guest"]);
    run.arg(image).arg("--out").arg(lab.out());
    run
}

#[test]
fn a_corrupt_image_is_found_before_it_boots() {
    let lab = Lab::new();
    let copy = image_copy(&lab);
    let mut root = fs::read(copy.join("root.img")).unwrap();
    let middle = root.len() / 2;
    root[middle] ^= 1;
    fs::write(copy.join("root.img"), root).unwrap();
    fails(&lab, 3, run_on(&lab, &copy), &["root.img is corrupt", "make the image again"]);
}

#[test]
fn an_image_without_its_guest_program_is_a_kernel_panic_at_boot() {
    let lab = Lab::new();
    let copy = image_copy(&lab);
    let mut initramfs = fs::read(copy.join("initramfs")).unwrap();
    rename_program(&mut initramfs, b"tini");
    replace_initramfs(&copy, &initramfs);
    fails(&lab, 4, run_on(&lab, &copy), &["the guest's kernel panicked before its first step"]);
}

#[test]
fn an_image_without_a_module_names_it() {
    let lab = Lab::new();
    let recipe = lab.path("recipe");
    fs::create_dir(&recipe).unwrap();
    let text = fs::read_to_string(root().join("tools/debian/recipe.yaml")).unwrap();
    assert!(text.contains("9p, 9pnet_virtio"));
    fs::write(recipe.join("recipe.yaml"), text.replace(", 9p, 9pnet_virtio", "")).unwrap();
    fs::copy(root().join("tools/debian/debian.lock"), recipe.join("debian.lock")).unwrap();
    let mut build = lab.program(&["image", "build", "--recipe"]);
    build.arg(&recipe);
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    fails(&lab, 4, run_on(&lab, &image), &["the guest failed in step hand-over", "9p"]);
}

#[test]
fn a_share_that_is_not_the_share_is_refused_by_the_guest() {
    let lab = Lab::new();
    lab.put_former_set();
    let mut live = Live::start(lab.run(&[]));
    live.until(r#""event":"ready""#);
    fs::write(lab.run_folders()[0].join("share/nonce"), "00000000000000000000000000000000").unwrap();
    let (code, stderr) = live.end();
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("step hand-over") && stderr.contains("nonce"), "{stderr}");
    lab.assert_former_set();
    lab.assert_nothing_left();
}

#[test]
fn qemu_killed_in_any_stage_is_told() {
    for step in ["boot", "topology", "traffic", "hand-over"] {
        let lab = Lab::new();
        lab.put_former_set();
        let stall = format!("stall@{step}");
        let mut live = Live::start(lab.run(&["--fault", &stall]));
        live.until(&format!(r#""event":"step-started","step":"{step}""#));
        let noted = fs::read_to_string(lab.run_folders()[0].join("qemu")).unwrap();
        let pid = noted.split(' ').next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let (code, stderr) = live.end();
        assert_eq!(code, Some(4), "{stderr}");
        assert!(stderr.contains(&format!("QEMU died in step {step} (signal: 9")), "{stderr}");
        lab.assert_former_set();
        lab.assert_nothing_left();
    }
}

#[test]
fn interrupted_in_any_stage_unwinds() {
    for (step, signal) in
        [("boot", Signal::SIGINT), ("traffic", Signal::SIGTERM), ("hand-over", Signal::SIGINT)]
    {
        let lab = Lab::new();
        lab.put_former_set();
        let stall = format!("stall@{step}");
        let mut live = Live::start(lab.run(&["--fault", &stall]));
        live.until(&format!(r#""event":"step-started","step":"{step}""#));
        live.signal(signal);
        let (code, stderr) = live.end();
        assert_eq!(code, Some(130), "{stderr}");
        // As root there is a warning before it.
        let messages = stderr.lines().filter(|line| !line.starts_with("warning: ")).count();
        assert_eq!(messages, 1, "{stderr}");
        lab.assert_former_set();
        lab.assert_nothing_left();
    }
}

#[test]
fn killed_in_any_stage_leaves_no_qemu_and_the_next_run_sweeps() {
    for step in ["boot", "traffic", "hand-over"] {
        let lab = Lab::new();
        lab.put_former_set();
        let stall = format!("stall@{step}");
        let mut live = Live::start(lab.run(&["--fault", &stall]));
        live.until(&format!(r#""event":"step-started","step":"{step}""#));
        live.signal(Signal::SIGKILL);
        assert_eq!(live.end().0, None);
        lab.wait_until("QEMU to die with its harness", || lab.processes().is_empty());
        assert_eq!(lab.run_folders().len(), 1);
        let doctor = ends_with(0, lab.program(&["doctor"]));
        assert!(doctor.contains("1 of dead runs"), "{doctor}");
        ends_with(0, lab.run(&["--dry-run"]));
        lab.assert_former_set();
        lab.assert_nothing_left();
    }
}

#[test]
fn a_set_cannot_go_where_nothing_can_be_written() {
    let lab = Lab::new();
    let mut run = lab.program(&["run", SMALL, "--out", "/proc/fixtures/set", "--guest"]);
    run.arg(image());
    let text = ends_with(3, run);
    assert!(text.contains("making /proc/fixtures"), "{text}");
    lab.assert_nothing_left();
}

#[test]
fn a_folder_of_other_things_is_not_replaced() {
    let lab = Lab::new();
    fs::create_dir(lab.out()).unwrap();
    fs::write(lab.out().join("thesis.tex"), "years of work").unwrap();
    let text = ends_with(2, lab.run(&[]));
    assert!(text.contains("holds something that is no fixture set"), "{text}");
    assert!(lab.out().join("thesis.tex").is_file());
}

#[test]
fn a_full_disk_is_told_by_whoever_meets_it() {
    let lab = Lab::new();
    lab.put_former_set();
    // A mount namespace of the test's own: the mount goes with it.
    let script = format!(
        "mount -t tmpfs -o size=128k tmpfs '{0}' && exec '{PROGRAM}' run '{SMALL}' --out '{1}' --work-dir '{0}/w' --guest '{2}'",
        lab.path("runtime").display(),
        lab.out().display(),
        image().display(),
    );
    let mut shell = command("unshare");
    let user = if nix::unistd::getuid().is_root() { "--mount" } else { "-rm" };
    shell.args([user, "sh", "-c", &script]);
    shell.env(
        "XDG_CACHE_HOME",
        lab.program(&[]).get_envs().find(|(key, _)| *key == "XDG_CACHE_HOME").unwrap().1.unwrap(),
    );
    let output = shell.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare:") || text.contains("mount:") {
        return skip("a_full_disk_is_told_by_whoever_meets_it", text.trim());
    }
    assert_eq!(output.status.code(), Some(3), "{text}");
    let says = format!("no room left on the disk that holds {}", lab.path("runtime").display());
    assert!(text.contains(&says) && text.contains("No space left on device"), "{text}");
    lab.assert_former_set();
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let lab = Lab::new();
    let cases: [(&[&str], &str); 5] = [
        (&["--accel", "kvm"], "the virtual clock counts instructions, which KVM cannot do"),
        (&["--cpus", "2"], "use --cpus 1"),
        (&["--memory", "16"], "--memory 16 is too little"),
        (&["--guest", "windows"], "--guest windows"),
        (&["--timeout", "soon"], "is not a time with its unit"),
    ];
    for (args, says) in cases {
        let mut run = lab.program(&["run", SMALL, "--out"]);
        run.arg(lab.out()).args(args);
        let text = ends_with(2, run);
        assert!(text.contains(says), "{says:?} is not in:\n{text}");
        lab.assert_nothing_left();
    }
    let mut run = lab.program(&["run", "no-such.yaml", "--out"]);
    run.arg(lab.out());
    assert!(ends_with(2, run).contains("no-such.yaml cannot be read"));
}
