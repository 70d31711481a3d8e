//! `timeline.txt`: the events as a story, for someone who has not read the code.

use fixture::contract::event::{GuestEvent, What};
use fixture::printable::{self, QUOTE};

use super::events::{HostEvent, QemuEvent, Record, Source, TestEvent};

/// The whole story. Times are seconds: of the run for the host, of the guest's own clock for the guest.
pub fn timeline(records: &[Record]) -> String {
    let mut text = String::from(HEADING);
    for record in records {
        text.extend(entry(record));
    }
    text
}

/// What the columns are.
pub const HEADING: &str = "Seconds since the run began (host) and since the guest's kernel started (guest); heartbeats left out.\n\n     host     guest\n";

/// An event's line with its times; nothing for what is not worth one.
pub fn entry(record: &Record) -> Option<String> {
    let line = line(record)?;
    let host = seconds(record.mono_ns);
    let guest = match &record.source {
        Source::Guest(GuestEvent { mono_ns, .. }) => seconds(*mono_ns),
        _ => String::new(),
    };
    // What goes on over several lines stays below its event.
    let line = line.replace('\n', &format!("\n{:20}", ""));
    Some(format!("{host:>9} {guest:>9}  {line}\n"))
}

/// What happened, in one line, or more where its text has more; nothing for what is not worth one. Of what others
/// wrote nothing but printable characters is in it, and no line of theirs begins as ours do.
pub fn line(record: &Record) -> Option<String> {
    told(record).map(|told| match told.split_once('\n') {
        None => printable::line(&told).into_owned(),
        Some((first, rest)) => {
            let rest = rest.lines().map(|line| line.strip_prefix(QUOTE).unwrap_or(line));
            let rest = rest.map(|line| format!("\n{QUOTE}{}", printable::line(line)));
            printable::line(first).into_owned() + &rest.collect::<String>()
        }
    })
}

fn told(record: &Record) -> Option<String> {
    Some(match &record.source {
        Source::Host(event) => match event {
            HostEvent::StageStarted { stage } => format!("{} begins", stage.name()),
            HostEvent::StageDone { stage, took_ns, detail } => {
                format!("{} done in {} s{}", stage.name(), seconds(*took_ns), with(detail))
            }
            HostEvent::Kept { run } => format!("the guest is kept: fixture-vm shell {run}"),
            HostEvent::NotKept { message } => format!("the guest is NOT KEPT: {message}"),
            HostEvent::Failed { message } => format!("FAILED: {message}"),
        },
        Source::Qemu(event) => format!("  {}", qemu(event)),
        Source::Test(event) => test(event),
        Source::Guest(event) => match &event.what {
            What::Hello { program, kernel, .. } => {
                format!("  guest: gen-fixtures {program} runs on Linux {kernel}")
            }
            What::Ready => "  guest: ready for the scenario".into(),
            What::Converged => "  guest: the network has converged".into(),
            What::StepStarted { step } => format!("  guest: {} begins", step.name()),
            What::StepDone { step, detail } => format!("  guest: {} done{}", step.name(), with(detail)),
            What::Note { step, text } => format!("  guest: {}: {text}", step.name()),
            What::Heartbeat { .. } | What::ShellTook { .. } => return None,
            What::Failed(failure) => format!("  guest: {} FAILED: {}", failure.step.name(), failure.message),
            What::Vm(event) => format!("  guest: {event}"),
            What::Done => "  guest: everything is handed over".into(),
            What::Held => "  guest: holds, to be saved for a shell".into(),
            What::ShellEnded { status } => format!("  guest: the shell ended with status {status}"),
        },
    })
}

fn qemu(event: &QemuEvent) -> String {
    match event {
        QemuEvent::Started { pid, continued: false } => format!("qemu: runs as process {pid}"),
        QemuEvent::Started { pid, continued: true } => {
            format!("qemu: runs as process {pid}, continuing a saved guest")
        }
        QemuEvent::Saved => "qemu: the machine is saved".into(),
        QemuEvent::Panicked => "qemu: the guest's kernel PANICKED".into(),
        QemuEvent::Paused { state } => format!("qemu: the machine is paused: {state}"),
        QemuEvent::ShutDown { reason } => format!("qemu: the machine is off: {reason}"),
        QemuEvent::Ended { status, .. } => format!("qemu: ended, {status}"),
    }
}

fn test(event: &TestEvent) -> String {
    match event {
        TestEvent::RunnerStarted { tests } => format!("{tests} tests begin"),
        TestEvent::Started { test, attempt, of: 1 } if *attempt == 1 => format!("test {test} begins"),
        TestEvent::Started { test, attempt, of } => format!("test {test} begins, attempt {attempt} of {of}"),
        TestEvent::Slow { test, after_ns } => {
            format!("test {test} is slow: {} s so far", seconds(*after_ns))
        }
        TestEvent::Note { test, text } => format!("test {test}: {text}"),
        TestEvent::AttemptEnded { test, attempt, passed: true, took_ns, .. } => {
            format!("test {test}: attempt {attempt} passed in {} s", seconds(*took_ns))
        }
        TestEvent::AttemptEnded { test, attempt, message, took_ns, .. } => {
            format!("test {test}: attempt {attempt} FAILED in {} s{}", seconds(*took_ns), with(message))
        }
        TestEvent::Ended { test, result, took_ns } => {
            format!("test {test}: {} in {} s", result.name(), seconds(*took_ns))
        }
        TestEvent::RunnerEnded { passed, flaky, failed, skipped } => {
            format!("tests ended: {passed} passed, {flaky} flaky, {failed} failed, {skipped} skipped")
        }
    }
}

/// Nanoseconds as seconds with milliseconds.
pub fn seconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1_000)
}

fn with(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::events::Stage;
    use fixture::contract::event::{Failure, Step};

    #[test]
    fn the_story_reads_from_top_to_bottom() {
        let host =
            |ms: u64, event| Record { mono_ns: ms * 1_000_000, wall_ns: 0, source: Source::Host(event) };
        let guest = |ms: u64, seq, guest_ms: u64, what| Record {
            mono_ns: ms * 1_000_000,
            wall_ns: 0,
            source: Source::Guest(GuestEvent { seq, mono_ns: guest_ms * 1_000_000, wall_ns: 0, what }),
        };
        let failure =
            Failure { step: Step::Topology, message: "tc qdisc add: exit status 2".into(), command: None };
        let records = [
            host(0, HostEvent::StageStarted { stage: Stage::Boot }),
            guest(1803, 0, 900, What::Hello { contract: 1, program: "0.1.0".into(), kernel: "6.12".into() }),
            guest(2200, 1, 1200, What::Ready),
            host(
                2201,
                HostEvent::StageDone { stage: Stage::Boot, took_ns: 2_201_000_000, detail: "TCG".into() },
            ),
            guest(2500, 2, 1500, What::Heartbeat { step: Step::Topology }),
            guest(2600, 3, 1600, What::Failed(failure)),
            host(2700, HostEvent::Failed { message: "the guest failed".into() }),
        ];
        insta::assert_snapshot!(timeline(&records));
    }
}
