//! What can happen in a run, beside what the guest tells of itself: in harness, QEMU and tests.

use serde::{Deserialize, Serialize};

/// The host's stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// What will be done.
    Plan,
    /// The guest image is found or built.
    Image,
    /// The store is asked for a set with the same inputs.
    Store,
    /// From QEMU's start until the guest is ready for the scenario.
    Boot,
    /// The guest is saved for later runs, as it was ready or as its network had converged.
    Save,
    /// The network is built and converges.
    Network,
    /// From there to the fixtures made.
    Scenario,
    /// The set is written to the share; the guest powers off.
    HandOver,
    /// The set is taken from the share.
    Collect,
    /// The set is verified.
    Verify,
    /// The set is put in place.
    Publish,
}

impl Stage {
    /// The stage's name as messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Plan => "plan",
            Stage::Image => "image",
            Stage::Store => "store",
            Stage::Boot => "boot",
            Stage::Save => "save",
            Stage::Network => "network",
            Stage::Scenario => "scenario",
            Stage::HandOver => "hand-over",
            Stage::Collect => "collect",
            Stage::Verify => "verify",
            Stage::Publish => "publish",
        }
    }
}

/// What happened on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HostEvent {
    /// A stage began.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// A stage ended well.
    StageDone {
        /// Which.
        stage: Stage,
        /// How long it took.
        took_ns: u64,
        /// What came of it, in a few words.
        detail: String,
    },
    /// The guest is kept as it was at its end, for `fixture-vm shell`.
    Kept {
        /// The name to ask for it by.
        run: String,
    },
    /// The guest should be kept and cannot be.
    NotKept {
        /// Why.
        message: String,
    },
    /// The run failed.
    Failed {
        /// The chain of causes, outermost first.
        message: String,
    },
}

/// What happened to QEMU and the machine in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum QemuEvent {
    /// The process runs.
    Started {
        /// Its process id.
        pid: i32,
        /// Whether a saved guest is continued.
        continued: bool,
    },
    /// The paused machine was saved.
    Saved,
    /// The guest's kernel panicked (pvpanic).
    Panicked,
    /// QEMU paused the machine by itself.
    Paused {
        /// QMP's RunState.
        state: String,
    },
    /// The guest powered off or was reset.
    ShutDown {
        /// QMP's ShutdownCause.
        reason: String,
    },
    /// The process has ended.
    Ended {
        /// How: `exit status: 0`, `signal: 9 (SIGKILL)`.
        status: String,
        /// How long it was there, from before its start on; 0 in records of earlier versions.
        #[serde(default)]
        ran_ns: u64,
    },
}

/// What happened to tests. `test` is the id that the runner shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum TestEvent {
    /// The tests were chosen and begin.
    RunnerStarted {
        /// How many.
        tests: usize,
    },
    /// An attempt at a test begins.
    Started {
        /// Which.
        test: String,
        /// From 1.
        attempt: u32,
        /// How many there may be.
        of: u32,
    },
    /// A test takes longer than it should.
    Slow {
        /// Which.
        test: String,
        /// How long it has been going on.
        after_ns: u64,
    },
    /// Something worth telling of a test: what it waits for, which expectation does not hold.
    Note {
        /// Which.
        test: String,
        /// One line.
        text: String,
    },
    /// An attempt at a test has ended.
    AttemptEnded {
        /// Which.
        test: String,
        /// From 1.
        attempt: u32,
        /// Whether all that it expects held.
        passed: bool,
        /// How long it took.
        took_ns: u64,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// A test has its result.
    Ended {
        /// Which.
        test: String,
        /// The result.
        result: TestResult,
        /// How long all attempts took.
        took_ns: u64,
    },
    /// All tests have their results.
    RunnerEnded {
        /// Passed at once.
        passed: usize,
        /// Passed on a retry.
        flaky: usize,
        /// Failed or timed out.
        failed: usize,
        /// Not run.
        skipped: usize,
    },
}

/// What came of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestResult {
    /// It passed at once.
    Passed,
    /// It passed on a retry.
    Flaky,
    /// It failed.
    Failed,
    /// It took too long.
    TimedOut,
    /// It was not run.
    Skipped,
}

impl TestResult {
    /// The name as messages write it.
    pub fn name(self) -> &'static str {
        match self {
            TestResult::Passed => "passed",
            TestResult::Flaky => "flaky",
            TestResult::Failed => "failed",
            TestResult::TimedOut => "timed out",
            TestResult::Skipped => "skipped",
        }
    }
}
