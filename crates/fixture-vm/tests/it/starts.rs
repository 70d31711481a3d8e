//! A QEMU that dies, whenever it does: one code, QEMU's own words, nothing left; and signals at that time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, end, ends_with};
use crate::project::said;

/// A program that gives itself out for QEMU; asked for its version it tells one, else it does this. The monitor is
/// file descriptor 3, `$console` the guest's console.
fn fake_qemu(lab: &Lab, does: &str) -> PathBuf {
    let path = lab.path("qemu");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *-version*) echo 'QEMU emulator version 10.0.2 (fake)'; exit;; esac\n\
         greet() {{ printf '{{\"QMP\":{{\"version\":{{\"qemu\":{{\"micro\":2,\"minor\":0,\"major\":10}},\"package\":\"\"}},\
         \"capabilities\":[]}}}}\\n' >&3; read -r line <&3; printf '{{\"return\":{{}}}}\\n' >&3; }}\n\
         for word; do case \"$word\" in *id=console,append=on,path=*) console=${{word##*path=}};; esac; done\n\
         console=$(printf %s \"$console\" | sed 's/,,/,/g')\n{does}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn run(lab: &Lab, does: &str) -> Command {
    let mut run = lab.run(&["--no-cache", "--cold"]);
    run.env("FIXTURE_VM_QEMU", fake_qemu(lab, does));
    run
}

#[test]
fn a_qemu_that_dies_has_one_code_and_its_own_words() {
    let lab = Lab::new();
    let wild = "printf 'fixture-vm: all is well\\n\\033[2Jcannot allocate memory\\n' >&2";
    let cases = [
        (format!("{wild}; exit 1"), 3, "QEMU ended as it started (exit status: 1)"),
        (format!("{wild}; kill -9 $$"), 3, "QEMU ended as it started (signal: 9"),
        (format!("{wild}; exec 3>&-; sleep 1000"), 3, "QEMU closed its monitor as it started"),
        (format!("{wild}; echo nonsense >&3; sleep 1000"), 3, "QEMU gave its monitor up as it started"),
        (format!("{wild}; greet; exit 1"), 3, "(exit status: 1)"),
        (format!("{wild}; greet; kill -9 $$"), 3, "(signal: 9"),
        (format!("{wild}; greet; echo Linux > \"$console\"; exit 1"), 4, "QEMU died before its first step"),
        (
            format!("{wild}; greet; echo Linux > \"$console\"; kill -9 $$"),
            4,
            "QEMU died before its first step",
        ),
    ];
    for (does, code, says) in cases {
        let text = ends_with(code, run(&lab, &does));
        assert!(text.contains(says), "{does}: {text}");
        assert!(text.contains("  | \\x1b[2Jcannot allocate memory"), "{does}: {text}");
        let ours = text.lines().filter(|line| line.starts_with("fixture-vm: ")).count();
        assert_eq!(ours, 1, "QEMU's line is none of ours: {text}");
        lab.assert_nothing_left();
    }
    let mut gone = lab.run(&["--no-cache"]);
    gone.env("FIXTURE_VM_QEMU", lab.path("nowhere"));
    ends_with(3, gone);
}

#[test]
fn a_signal_while_qemu_starts_is_an_interrupt() {
    let lab = Lab::new();
    let begun = lab.path("begun");
    let mark = format!("echo > '{}'; ", begun.display());
    for does in ["sleep 1000", "greet; sleep 1000", "trap '' TERM; sleep 2; exit 1"] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            fs::remove_file(&begun).ok();
            let mut run = run(&lab, &format!("{mark}{does}"));
            let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            lab.wait_until("QEMU's start", || begun.exists());
            kill(Pid::from_raw(i32::try_from(run.id()).unwrap()), signal).unwrap();
            let output = end(run);
            assert_eq!(output.status.code(), Some(130), "{does}: {}", said(&output));
            assert!(said(&output).contains("fixture-vm: interrupted"), "{does}: {}", said(&output));
            lab.assert_nothing_left();
        }
    }
}

#[test]
fn a_command_that_has_nothing_to_clean_up_ends_at_the_first_signal() {
    let lab = Lab::new();
    // It waits for a list that nobody writes.
    let mut verify = lab.program(&["verify", "-"]);
    let verify = verify.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", verify.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let bits = caught.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
        bits & (1 << (Signal::SIGTERM as u32 - 1)) != 0
    };
    lab.wait_until("its handlers", caught);
    kill(Pid::from_raw(i32::try_from(verify.id()).unwrap()), Signal::SIGTERM).unwrap();
    // Its standard input stays open until it has ended.
    let mut verify = verify;
    let stdin = verify.stdin.take();
    let output = end(verify);
    drop(stdin);
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
}

#[test]
fn memory_that_no_guest_can_have_is_refused_before() {
    let lab = Lab::new();
    for memory in ["0", "1", "4294967295"] {
        let text = ends_with(2, lab.run(&["--memory", memory]));
        assert!(text.contains(&format!("--memory {memory} is")), "{text}");
    }
    for wrong in [["--memory", "4294967296"], ["--memory", "-1"], ["--cpus", "0"], ["--cpus", "256"]] {
        ends_with(2, lab.run(&wrong));
    }
    lab.assert_nothing_left();
}
