//! The story of one command that runs tests: what happened to tests, beside what each run of a test did.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::{About, Outcome, Place, Recorder};
use crate::run::events::{Record, Source, TestEvent, elapsed_ns, wall_ns};

/// Takes the events of tests. Runs of tests name its id ([`crate::run::plan::OfTest`]), so that both are told
/// as one story.
pub struct RunnerLog {
    started: Instant,
    recorder: Mutex<Recorder>,
}

impl RunnerLog {
    /// Begins the story.
    pub fn begin(place: Option<&Place>) -> Self {
        let recorder = Recorder::begin(place, &About { command: "test", ..About::default() });
        Self { started: Instant::now(), recorder: Mutex::new(recorder) }
    }

    /// What users name it by; none if the event database does not have it.
    pub fn id(&self) -> Option<String> {
        self.recorder().id().map(str::to_owned)
    }

    /// Something happened to a test.
    pub fn tell(&self, event: TestEvent) {
        let source = Source::Test(event);
        let record = Record { mono_ns: elapsed_ns(self.started), wall_ns: wall_ns(), source };
        self.recorder().keep(&record);
    }

    /// All tests came to this end; without a word they were broken off.
    pub fn end(&self, outcome: Outcome, detail: impl Into<String>) {
        self.recorder().end(outcome, detail);
    }

    fn recorder(&self) -> std::sync::MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
