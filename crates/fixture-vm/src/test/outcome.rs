//! What became of a test: each try, and what of it all counts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fixture::scenario::Clock;
use serde::{Serialize, Serializer};

use super::catalogue::Part;
use super::failure::Failure;

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The test's name.
    pub test: String,
    /// The scenario's file.
    pub file: PathBuf,
    /// What it is for.
    pub part: Part,
    /// The guest's clock.
    #[serde(serialize_with = "clock")]
    pub clock: Clock,
    /// What counts.
    pub status: Status,
    /// Why it was not run, or why it failed although a try passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From its begin to its end, in nanoseconds, with all tries.
    pub took_ns: u64,
    /// Where its set is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixtures: Option<PathBuf>,
    /// What the golden says of the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
    /// The tries in their order; none if it was not run.
    pub tries: Vec<Try>,
}

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It passed at once.
    Passed,
    /// It failed and then passed, on the real clock.
    Flaky,
    /// It was not run.
    NotRun,
    /// The user interrupted it.
    Interrupted,
    /// It failed.
    Failed,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Try {
    /// From its begin to its end, in nanoseconds.
    pub took_ns: u64,
    /// Whether the store had the set, so that no guest ran.
    pub answered_from_store: bool,
    /// Whether the scenario took longer than it should.
    pub slow: bool,
    /// How long QEMU was there, from before its start to its end: the rest of the try is the harness's own time.
    /// Absent where no guest ran, and of a try that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_ns: Option<u64>,
    /// How long each stage took; what failed has none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stages_ns: BTreeMap<&'static str, u64>,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What a golden says of a set that is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "text")]
pub enum Golden {
    /// The bytes are those that it names.
    Agrees(String),
    /// It does not know these inputs.
    Unknown(String),
    /// It names them from now on.
    Updated(String),
}

/// All that is told at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// How many tests have each status.
    pub passed: usize,
    /// See [`Status`].
    pub flaky: usize,
    /// See [`Status`].
    pub failed: usize,
    /// See [`Status`].
    pub not_run: usize,
    /// See [`Status`].
    pub interrupted: usize,
    /// How many that passed were slow.
    pub slow: usize,
    /// How many were answered from the store.
    pub answered_from_store: usize,
    /// How many goldens did not know the inputs.
    pub golden_unknown: usize,
    /// From the first test's begin to the last one's end, in nanoseconds.
    pub took_ns: u64,
    /// CPU time of all processes that were started for the tests, in nanoseconds.
    pub guests_cpu_ns: u64,
}

impl Outcome {
    /// The last try that failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.tries.iter().rev().find_map(|one| one.failure.as_ref())
    }

    /// Whether its scenario took longer than it should, in the last try.
    pub fn is_slow(&self) -> bool {
        self.tries.last().is_some_and(|one| one.slow)
    }

    /// Whether the store had the set.
    pub fn is_answered(&self) -> bool {
        self.tries.last().is_some_and(|one| one.answered_from_store)
    }
}

impl Summary {
    /// Counts.
    pub fn of(outcomes: &[Outcome], took_ns: u64, guests_cpu_ns: u64) -> Self {
        let count = |counts: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|one| counts(one)).count();
        let with = |status| count(&|one: &Outcome| one.status == status);
        Self {
            passed: with(Status::Passed),
            flaky: with(Status::Flaky),
            failed: with(Status::Failed),
            not_run: with(Status::NotRun),
            interrupted: with(Status::Interrupted),
            slow: count(&Outcome::is_slow),
            answered_from_store: count(&Outcome::is_answered),
            golden_unknown: count(&|one: &Outcome| matches!(one.golden, Some(Golden::Unknown(_)))),
            took_ns,
            guests_cpu_ns,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn clock<S: Serializer>(clock: &Clock, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(clock.name())
}
