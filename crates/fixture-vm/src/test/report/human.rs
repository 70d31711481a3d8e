//! The report for people: a line for each test as it ends; what failed comes last, with all that is known of it.

use std::fmt::Write;

use fixture::printable::{self, QUOTE};

use crate::run::timeline::seconds;
use crate::test::catalogue::Part;
use crate::test::failure::Failure;
use crate::test::outcome::{Golden, Outcome, Status, Summary};

/// One line for a test that has ended.
pub fn line(outcome: &Outcome, colour: bool) -> String {
    let (word, code) = match outcome.status {
        Status::Passed if outcome.is_slow() => ("PASS", "33"),
        Status::Passed => ("PASS", "32"),
        Status::Flaky => ("FLAKY", "33"),
        Status::NotRun => ("NOT RUN", "33"),
        Status::Interrupted => ("STOPPED", "33"),
        Status::Failed => ("FAIL", "31"),
    };
    let word = format!("{word:>8}");
    let word = if colour { format!("\x1b[1;{code}m{word}\x1b[0m") } else { word };
    let took = match outcome.tries.len() {
        0 => format!("{:11}", ""),
        _ => format!("{:>9} s", seconds(outcome.took_ns)),
    };
    let mut more = Vec::new();
    match outcome.part {
        Part::Test => {}
        Part::SetUp => more.push("set-up".to_owned()),
        Part::TearDown => more.push("tear-down".to_owned()),
    }
    more.extend(outcome.is_answered().then(|| "answered from the store".to_owned()));
    more.extend(outcome.is_slow().then(|| "slow".to_owned()));
    more.extend(matches!(outcome.golden, Some(Golden::Unknown(_))).then(|| "golden unknown".to_owned()));
    more.extend(match (&outcome.reason, outcome.failure()) {
        (Some(reason), _) => Some(reason.clone()),
        (None, Some(failure)) => Some(failure.reason.clone()),
        (None, None) => None,
    });
    let more = if more.is_empty() { String::new() } else { format!(": {}", more.join("; ")) };
    format!("{word} {took}  {}", printable::line(&format!("{}{more}", outcome.test)))
}

/// The report at the end.
pub fn report(outcomes: &[Outcome], summary: &Summary, colour: bool) -> String {
    let mut text = String::new();
    let with = |status| outcomes.iter().filter(move |outcome| outcome.status == status);
    for outcome in with(Status::NotRun).chain(with(Status::Interrupted)).chain(with(Status::Flaky)) {
        text += &line(outcome, colour);
        text.push('\n');
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.status == Status::Passed) {
        if let Some(Golden::Unknown(why) | Golden::Updated(why)) = &outcome.golden {
            text += &format!("{}\n", printable::line(&format!("golden of {}: {why}", outcome.test)));
        }
    }
    for outcome in with(Status::Failed) {
        text.push('\n');
        text += &line(outcome, colour);
        text.push('\n');
        if let Some(failure) = outcome.failure() {
            describe(&mut text, failure);
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text += &counts(summary);
    text.push('\n');
    text
}

/// The counts in one line; what is none is left out.
pub fn counts(summary: &Summary) -> String {
    let all = summary.passed + summary.flaky + summary.failed + summary.not_run + summary.interrupted;
    let tests = if all == 1 { "1 test".into() } else { format!("{all} tests") };
    let mut parts = vec![format!("{} passed", summary.passed)];
    for (count, words) in [
        (summary.flaky, "flaky"),
        (summary.failed, "failed"),
        (summary.not_run, "not run"),
        (summary.interrupted, "interrupted"),
        (summary.slow, "slow"),
        (summary.answered_from_store, "answered from the store"),
        (summary.golden_unknown, "with a golden that does not know the inputs"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {words}"));
        }
    }
    format!("{tests} in {} s: {}", seconds(summary.took_ns), parts.join(", "))
}

/// All that is known of a failure.
pub fn describe(text: &mut String, failure: &Failure) {
    let mut line = |what: &str, said: &str| {
        // Of a text with several lines, those after the first may be a guest's.
        let sign = if what.is_empty() { '|' } else { ':' };
        let said = said.strip_prefix(QUOTE).unwrap_or(said);
        writeln!(text, "{what:>12}{sign} {}", printable::line(said)).expect("strings grow");
    };
    line("reason", &failure.reason);
    for broken in &failure.broken {
        line("expected", &format!("{} [{}]", broken.expected, broken.rule));
        line("seen", &broken.seen);
    }
    // The report of a set says in its table what `broken` says already.
    let rest = if failure.broken.is_empty() { failure.message.lines().skip(1) } else { "".lines().skip(1) };
    for more in rest {
        line("", more);
    }
    if !failure.last_events.is_empty() {
        line("last events", "host and guest seconds");
    }
    for event in &failure.last_events {
        line("", event);
    }
    if let Some(kept) = &failure.kept {
        line("kept", &kept.display().to_string());
    }
    line("again", &failure.again);
}
