//! Every form of the report, of a session in which everything happens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fixture::scenario::Clock;

use super::{github, human, json, junit};
use crate::test::catalogue::Part;
use crate::test::failure::{Broken, Failure};
use crate::test::outcome::{Golden, Outcome, Status, Summary, Try};

fn outcome(test: &str, status: Status, failures: &[Failure]) -> Outcome {
    let mut tries: Vec<Try> = failures.iter().map(|failure| one(Some(failure.clone()))).collect();
    if matches!(status, Status::Passed | Status::Flaky) {
        tries.push(one(None));
    }
    Outcome {
        test: test.into(),
        file: PathBuf::from(format!("scenarios/{test}.yaml")),
        part: Part::Test,
        clock: Clock::Virtual,
        status,
        reason: None,
        took_ns: 1_500_000_000 * tries.len() as u64,
        fixtures: (status == Status::Passed).then(|| PathBuf::from(format!("out/{test}"))),
        golden: None,
        tries,
    }
}

fn one(failure: Option<Failure>) -> Try {
    Try {
        took_ns: 1_500_000_000,
        answered_from_store: false,
        slow: false,
        guest_ns: Some(1_400_000_000),
        stages_ns: BTreeMap::from([("boot", 900_000_000), ("scenario", 500_000_000)]),
        failure,
    }
}

fn failure(code: u8, message: &str, broken: Vec<Broken>) -> Failure {
    Failure {
        code,
        reason: message.lines().next().unwrap().into(),
        broken,
        message: message.into(),
        last_events: vec!["    2.600     1.600    guest: converge begins".into()],
        kept: Some("out/x.failed".into()),
        again: "fixture-vm run scenarios/x.yaml --seed 1 --out out/x".into(),
    }
}

fn session() -> (Vec<Outcome>, Summary) {
    let silent = failure(
        5,
        "the guest has been silent for 4s in step converge\nthe console's last lines:\n  ::error::[    1.0] <x> & \u{1b}[31m",
        Vec::new(),
    );
    let wrong = Broken {
        rule: "gptp-samples",
        expected: "Every following port has as many samples as expected.",
        seen: "gptp.json, /gptp/ports/0: 4 samples, 400 were expected".into(),
    };
    let wrong = failure(6, "the fixtures are not right: 1 expectation does not hold", vec![wrong]);
    let mut all = vec![
        Outcome { part: Part::SetUp, ..outcome("a-set-up", Status::Passed, &[]) },
        outcome("answered", Status::Passed, &[]),
        Outcome {
            clock: Clock::Real,
            reason: Some("passed at try 2".into()),
            ..outcome("flaky", Status::Flaky, std::slice::from_ref(&silent))
        },
        outcome("hang", Status::Failed, &[wrong.clone(), silent]),
        Outcome { reason: Some("its set-up x did not pass".into()), ..outcome("left", Status::NotRun, &[]) },
        outcome("missing", Status::Failed, &[failure(3, "no room on the disk", Vec::new())]),
        Outcome { reason: Some("interrupted".into()), ..outcome("stopped", Status::Interrupted, &[]) },
        outcome("wrong", Status::Failed, &[wrong]),
    ];
    all[1].tries[0].answered_from_store = true;
    all[1].tries[0].slow = true;
    all[1].golden = Some(Golden::Unknown("answered.golden does not know closure 0123".into()));
    let summary = Summary::of(&all, 12_345_000_000, 9_000_000_000);
    (all, summary)
}

#[test]
fn people_read_what_failed_last() {
    let (outcomes, summary) = session();
    let lines: Vec<_> = outcomes.iter().map(|outcome| human::line(outcome, false)).collect();
    insta::assert_snapshot!(
        "human",
        format!("{}\n----\n{}", lines.join("\n"), human::report(&outcomes, &summary, false))
    );
    assert!(human::line(&outcomes[3], true).contains("\x1b[1;31m"));
}

#[test]
fn programs_read_a_line_each() {
    let (outcomes, summary) = session();
    let lines: Vec<_> = outcomes.iter().map(json::test).chain([json::summary(&summary)]).collect();
    for line in &lines {
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap().is_object() && !line.contains('\n'));
    }
    insta::assert_snapshot!("json", lines.join("\n"));
}

#[test]
fn ci_systems_read_junit() {
    let (outcomes, summary) = session();
    insta::assert_snapshot!("junit", junit::render(&outcomes, &summary).unwrap());
}

#[test]
fn workflows_get_annotations_and_nothing_that_a_guest_made_up() {
    let (outcomes, summary) = session();
    let text = github::render(&outcomes, &summary);
    let commands: Vec<_> = text.lines().filter(|line| line.starts_with("::")).collect();
    assert!(!commands.iter().any(|line| line.starts_with("::error::[")), "{text}");
    insta::assert_snapshot!("github", text);
}
