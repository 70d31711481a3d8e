//! The story of a run: every event of host and guest, kept as it happens, told live and at the end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fixture::contract::event::GuestEvent;
use fixture::contract::{EVENTS, TIMELINE};
use serde::{Deserialize, Serialize};

use super::plan::OfTest;
use super::timeline;
pub use super::vocabulary::{HostEvent, QemuEvent, Stage, TestEvent, TestResult};
use crate::events::{Outcome, Recorder};
use crate::progress::Progress;
use crate::room::RoomAt;

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Nanoseconds since the run began, by the host's monotonic clock.
    pub mono_ns: u64,
    /// Nanoseconds since 1970, by the host's real-time clock.
    pub wall_ns: u64,
    /// Who tells.
    #[serde(flatten)]
    pub source: Source,
}

/// Who tells of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The harness.
    Host(HostEvent),
    /// QEMU, or the harness of what it had QEMU do.
    Qemu(QemuEvent),
    /// The guest; its own times are in it.
    Guest(GuestEvent),
    /// What runs tests.
    Test(TestEvent),
}

/// Keeps the events: in memory for the timeline, in a file and in the database as they come, and told to the user.
pub struct EventLog {
    started: Instant,
    started_wall_ns: u64,
    path: PathBuf,
    file: File,
    records: Vec<Record>,
    stage: Option<(Stage, Instant)>,
    progress: Progress,
    recorder: Recorder,
    attempt: Option<OfTest>,
}

impl EventLog {
    /// Begins the story.
    pub fn start(path: &Path, progress: Progress, recorder: Recorder) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display())).room_at(path)?;
        Ok(Self {
            started: Instant::now(),
            started_wall_ns: wall_ns(),
            path: path.to_owned(),
            file,
            records: Vec::new(),
            stage: None,
            progress,
            recorder,
            attempt: None,
        })
    }

    /// What users name the run by; none if the event database does not have it.
    pub fn run_id(&self) -> Option<&str> {
        self.recorder.id()
    }

    /// When the story began, and how long it has been going on, both in nanoseconds.
    pub fn times_ns(&self) -> (u64, u64) {
        (self.started_wall_ns, elapsed_ns(self.started))
    }

    /// A stage begins.
    pub fn begin(&mut self, stage: Stage) -> Result<()> {
        self.stage = Some((stage, Instant::now()));
        self.host(HostEvent::StageStarted { stage })
    }

    /// The current stage ends well.
    pub fn done(&mut self, detail: impl Into<String>) -> Result<()> {
        let Some((stage, since)) = self.stage.take() else { return Ok(()) };
        self.host(HostEvent::StageDone { stage, took_ns: elapsed_ns(since), detail: detail.into() })
    }

    /// An event of the host.
    pub fn host(&mut self, event: HostEvent) -> Result<()> {
        self.keep(Source::Host(event))
    }

    /// An event of the guest.
    pub fn guest(&mut self, event: GuestEvent) -> Result<()> {
        self.keep(Source::Guest(event))
    }

    /// An event of QEMU.
    pub fn qemu(&mut self, event: QemuEvent) -> Result<()> {
        self.keep(Source::Qemu(event))
    }

    /// An event of the test that this is run for.
    pub fn test(&mut self, event: TestEvent) -> Result<()> {
        self.keep(Source::Test(event))
    }

    /// The run is an attempt at a test, which begins.
    pub fn begin_attempt(&mut self, attempt: &OfTest) -> Result<()> {
        let OfTest { id: test, attempt: number, of, .. } = attempt.clone();
        self.attempt = Some(attempt.clone());
        self.test(TestEvent::Started { test, attempt: number, of })
    }

    /// The test that this run is an attempt at takes longer than it should.
    pub fn slow(&mut self, after_ns: u64) -> Result<()> {
        match &self.attempt {
            Some(OfTest { id: test, .. }) => self.test(TestEvent::Slow { test: test.clone(), after_ns }),
            None => Ok(()),
        }
    }

    /// The attempt at a test has ended, if the run is one; without a message it passed.
    pub fn end_attempt(&mut self, failure: Option<String>) -> Result<()> {
        let Some(OfTest { id: test, attempt, .. }) = self.attempt.take() else { return Ok(()) };
        let (passed, took_ns) = (failure.is_none(), elapsed_ns(self.started));
        let message = failure.unwrap_or_default();
        self.test(TestEvent::AttemptEnded { test, attempt, passed, took_ns, message })
    }

    /// The run has come to this end; without a word it is broken off, or failed if it said so.
    pub fn end(&mut self, outcome: Outcome, detail: impl Into<String>) {
        self.recorder.end(outcome, detail);
    }

    /// The story so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The name under which the guest is kept, if it is.
    pub fn kept(&self) -> Option<&str> {
        self.records.iter().find_map(|record| match &record.source {
            Source::Host(HostEvent::Kept { run }) => Some(run.as_str()),
            _ => None,
        })
    }

    /// How long each ended stage took, in nanoseconds.
    pub fn stage_times(&self) -> Vec<(Stage, u64)> {
        let took = |record: &Record| match record.source {
            Source::Host(HostEvent::StageDone { stage, took_ns, .. }) => Some((stage, took_ns)),
            _ => None,
        };
        self.records.iter().filter_map(took).collect()
    }

    /// How long QEMU was there, in nanoseconds, if a guest ran.
    pub fn guest_ns(&self) -> Option<u64> {
        self.records.iter().find_map(|record| match record.source {
            Source::Qemu(QemuEvent::Ended { ran_ns, .. }) => Some(ran_ns),
            _ => None,
        })
    }

    /// Writes the story so far to a folder, as lines of JSON and as text.
    pub fn tell(&self, to: &Path) -> Result<()> {
        let mut lines = Vec::new();
        for record in &self.records {
            serde_json::to_writer(&mut lines, record).context("writing an event as JSON")?;
            lines.push(b'\n');
        }
        fs::write(to.join(EVENTS), lines).context("adding the events")?;
        fs::write(to.join(TIMELINE), timeline::timeline(&self.records)).context("adding the timeline")
    }

    fn keep(&mut self, source: Source) -> Result<()> {
        let record = Record { mono_ns: elapsed_ns(self.started), wall_ns: wall_ns(), source };
        let mut line = serde_json::to_vec(&record).context("writing an event as JSON")?;
        line.push(b'\n');
        self.file.write_all(&line).context("writing events.jsonl").room_at(&self.path)?;
        self.recorder.keep(&record);
        self.progress.tell(&record);
        self.records.push(record);
        Ok(())
    }
}

/// Nanoseconds since then.
pub fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Now, nanoseconds since 1970 by the host's clock.
pub fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
