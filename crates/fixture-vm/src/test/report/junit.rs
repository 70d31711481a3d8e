//! JUnit XML: a test case for each test, with what a rerun showed.

use std::time::Duration;

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::human::describe;
use crate::exit::Code;
use crate::test::failure::Failure;
use crate::test::outcome::{Golden, Outcome, Status, Summary, Try};

/// Renders one document.
pub fn render(outcomes: &[Outcome], summary: &Summary) -> Result<String> {
    let mut suite = TestSuite::new("fixture-vm test");
    suite.set_time(Duration::from_nanos(summary.took_ns));
    suite.add_test_cases(outcomes.iter().map(case));
    let mut report = Report::new("fixture-vm test");
    report.set_time(Duration::from_nanos(summary.took_ns)).add_test_suite(suite);
    report.to_string().context("writing the JUnit report")
}

fn case(outcome: &Outcome) -> TestCase {
    let mut case = TestCase::new(outcome.test.as_str(), status(outcome));
    case.set_classname(outcome.file.display().to_string()).set_time(Duration::from_nanos(outcome.took_ns));
    case.add_property(Property::new("clock", outcome.clock.name()));
    if outcome.is_answered() {
        case.add_property(Property::new("answered-from-store", "true"));
    }
    if outcome.is_slow() {
        case.add_property(Property::new("slow", "true"));
    }
    if let Some(Golden::Unknown(why)) = &outcome.golden {
        case.add_property(Property::new("golden-unknown", why.as_str()));
    }
    case
}

fn status(outcome: &Outcome) -> TestCaseStatus {
    let failed: Vec<&Try> = outcome.tries.iter().filter(|one| one.failure.is_some()).collect();
    match outcome.status {
        Status::Passed => TestCaseStatus::success(),
        Status::Flaky => {
            let mut status = TestCaseStatus::success();
            status.add_reruns(failed.into_iter().filter_map(rerun));
            status
        }
        Status::NotRun | Status::Interrupted => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(outcome.reason.as_deref().unwrap_or_default());
            status
        }
        Status::Failed => {
            // The last failure is the case's own, those before are its reruns.
            let (failure, earlier) = match failed.split_last() {
                Some((last, earlier)) => (last.failure.as_ref(), earlier),
                None => (None, &[][..]),
            };
            let mut status = TestCaseStatus::non_success(failure.map_or(NonSuccessKind::Failure, kind));
            if let Some(failure) = failure {
                let reason = outcome.reason.as_deref().unwrap_or(&failure.reason);
                status.set_message(reason).set_type(word(failure)).set_description(told(failure));
            }
            status.add_reruns(earlier.iter().copied().filter_map(rerun));
            status
        }
    }
}

fn rerun(one: &Try) -> Option<TestRerun> {
    let failure = one.failure.as_ref()?;
    let mut rerun = TestRerun::new(kind(failure));
    rerun.set_time(Duration::from_nanos(one.took_ns)).set_message(failure.reason.as_str());
    rerun.set_type(word(failure)).set_description(told(failure));
    Some(rerun)
}

/// What is missing on the machine is an error; what a test found is a failure.
fn kind(failure: &Failure) -> NonSuccessKind {
    match failure.code {
        code if code == Code::Environment as u8 => NonSuccessKind::Error,
        _ => NonSuccessKind::Failure,
    }
}

/// The kind of failure in a word or two.
fn word(failure: &Failure) -> &'static str {
    const WORDS: [(Code, &str); 4] = [
        (Code::Guest, "guest"),
        (Code::TimedOut, "timeout"),
        (Code::Verification, "verification"),
        (Code::NotReproducible, "not-reproducible"),
    ];
    WORDS.iter().find(|(code, _)| *code as u8 == failure.code).map_or("environment", |(_, word)| word)
}

fn told(failure: &Failure) -> String {
    let mut text = String::new();
    describe(&mut text, failure);
    text
}
