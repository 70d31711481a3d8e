//! `timeline.txt`: the events as a story, for someone who has not read the code.

use std::fmt::Write;

use fixture::contract::event::{GuestEvent, What};

use super::events::{HostEvent, Record, Source};

/// The whole story. Times are seconds: of the run for the host, of the guest's own clock for the guest.
pub fn timeline(records: &[Record]) -> String {
    let mut text = String::from(
        "Seconds since the run began (host) and since the guest's kernel started (guest); heartbeats left out.\n\n     host     guest\n",
    );
    for record in records {
        let Some(line) = line(record) else { continue };
        let host = seconds(record.mono_ns);
        let guest = match &record.source {
            Source::Guest(GuestEvent { mono_ns, .. }) => seconds(*mono_ns),
            Source::Host(_) => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{host:>9} {guest:>9}  {line}");
    }
    text
}

/// What happened, in one line; nothing for what is not worth one.
pub fn line(record: &Record) -> Option<String> {
    Some(match &record.source {
        Source::Host(event) => match event {
            HostEvent::StageStarted { stage } => format!("{} begins", stage.name()),
            HostEvent::StageDone { stage, took_ns, detail } => {
                format!("{} done in {} s{}", stage.name(), seconds(*took_ns), with(detail))
            }
            HostEvent::Failed { message } => format!("FAILED: {message}"),
        },
        Source::Guest(event) => match &event.what {
            What::Hello { program, kernel, .. } => {
                format!("  guest: gen-fixtures {program} runs on Linux {kernel}")
            }
            What::Ready => "  guest: ready for the scenario".into(),
            What::StepStarted { step } => format!("  guest: {} begins", step.name()),
            What::StepDone { step, detail } => format!("  guest: {} done{}", step.name(), with(detail)),
            What::Note { step, text } => format!("  guest: {}: {text}", step.name()),
            What::Heartbeat { .. } => return None,
            What::Failed(failure) => format!("  guest: {} FAILED: {}", failure.step.name(), failure.message),
            What::Done => "  guest: everything is handed over; power-off".into(),
        },
    })
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
