//! Killed at any moment: every command, by SIGINT, SIGTERM and SIGKILL. Each has the right exit code, the set that
//! was there stays whole or is replaced by a whole one, and the next run finds nothing that it cannot sweep.
//!
//! `FIXTURE_VM_KILLS=200` runs as many; the nightly does. The moments are spread over the length of each command by
//! the golden ratio, so that few of them already lie in all stages, and more of them lie between those.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, SMALL, end, ends_with, image};
use crate::project::said;

/// How many kills there are if the environment does not say.
const KILLS: usize = 24;

/// How much of a command's length the moments are spread over: a little more than all of it.
const SPREAD: f64 = 1.05;

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL];

/// A command that is killed, and the exit codes that it has if it gets to its end first.
struct Victim {
    name: &'static str,
    args: Vec<String>,
    ends: &'static [i32],
}

fn victims(lab: &Lab) -> Vec<Victim> {
    let (out, image) = (lab.out().display().to_string(), image().display().to_string());
    let victim = |name, args: &[&str], ends| Victim {
        name,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ends,
    };
    let run = |name, more: &[&str], ends| {
        let mut args = vec!["run", SMALL, "--out", &out, "--guest", &image];
        args.extend(more);
        victim(name, &args, ends)
    };
    vec![
        run("a continued run", &["--no-cache"], &[0]),
        run("an answer from the store", &[], &[0]),
        run("a run that fails", &["--fault", "fail@converge"], &[4]),
        run("a cold run", &["--cold"], &[0]),
        run("two runs that are compared", &["--check", "2", "--no-cache"], &[0]),
        run("a recorded run", &["--record"], &[0]),
        victim("verify", &["verify", &out], &[0]),
        victim("diff", &["diff", &out, &out], &[0]),
        victim("report", &["report", &out, "--out", &lab.path("report.html").display().to_string()], &[0]),
        victim("store verify", &["store", "verify"], &[0]),
        victim("events export", &["events", "export", "jsonl"], &[0]),
    ]
}

/// The command with its outputs kept from the tests'.
fn command(lab: &Lab, victim: &Victim) -> Command {
    let args: Vec<_> = victim.args.iter().map(String::as_str).collect();
    let mut command = lab.program(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether the process handles a signal by now, or has ended already (proc_pid_status(5): `SigCgt`, `State`).
///
/// Before its `main` a program handles none: a signal then ends it as it ends any program.
fn catches(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").trim();
    let caught = u64::from_str_radix(field("SigCgt:"), 16).unwrap();
    field("State:").starts_with('Z') || caught >> (signal as i32 - 1) & 1 == 1
}

/// The exit code of a command that gets this signal after so long; none where the signal ended it.
fn killed_after(lab: &Lab, victim: &Victim, signal: Signal, after: Duration) -> (Option<i32>, String) {
    let child = command(lab, victim).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    lab.wait_until("the command to take over signals", || catches(pid, Signal::SIGTERM));
    std::thread::sleep(after);
    // It is not waited for yet, so the id is its own even if it has ended.
    kill(pid, signal).unwrap();
    let output = end(child);
    (output.status.code(), said(&output))
}

#[test]
fn killed_at_any_moment_every_command_ends_as_documented_and_leaves_nothing() {
    let kills = std::env::var("FIXTURE_VM_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let lab = Lab::new();
    let victims = victims(&lab);
    // The first run of a network saves the guest that later ones continue.
    ends_with(0, lab.run(&[]));
    let length = |victim: &Victim| {
        let begun = Instant::now();
        let output = end(command(&lab, victim).spawn().unwrap());
        assert!(output.status.code().is_some_and(|code| victim.ends.contains(&code)), "{}", said(&output));
        begun.elapsed()
    };
    let lengths: Vec<_> = victims.iter().map(length).collect();
    for n in 0..kills {
        let victim = &victims[n % victims.len()];
        let signal = SIGNALS[n % SIGNALS.len()];
        let moment = (n as f64 * 0.618_033_988_749_895).fract() * SPREAD;
        let after = lengths[n % victims.len()].mul_f64(moment);
        let (code, text) = killed_after(&lab, victim, signal, after);
        let what = format!("kill {n}: {} got {signal} after {after:?}:\n{text}", victim.name);
        let right = match code {
            None => signal == Signal::SIGKILL,
            Some(130) => signal != Signal::SIGKILL,
            Some(code) => victim.ends.contains(&code),
        };
        assert!(right, "exit code {code:?}; {what}");
        assert!(!text.contains("panicked at"), "{what}");
        lab.wait_until("QEMU to end with its harness", || lab.processes().is_empty());
        ends_with(0, lab.run(&["--dry-run"]));
        lab.assert_nothing_left();
        let verified = end(command(&lab, &victims[6]).spawn().unwrap());
        assert!(verified.status.success(), "the set is not whole; {what}\n{}", said(&verified));
        let stored = end(command(&lab, &victims[9]).spawn().unwrap());
        assert!(stored.status.success(), "the store is not whole; {what}\n{}", said(&stored));
    }
    assert_eq!(
        ends_with(0, lab.program(&["events", "sql", "PRAGMA integrity_check"])).lines().nth(1),
        Some("ok")
    );
}
