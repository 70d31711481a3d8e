//! The story of a run: every event of host and guest, kept as it happens, told live and at the end.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fixture::contract::event::GuestEvent;
use fixture::contract::{EVENTS, TIMELINE};
use serde::Serialize;

use super::timeline;
use crate::progress::Progress;

/// The host's stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// The booted guest is saved for later runs.
    Save,
    /// From the scenario read to the fixtures made.
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
            Stage::Scenario => "scenario",
            Stage::HandOver => "hand-over",
            Stage::Collect => "collect",
            Stage::Verify => "verify",
            Stage::Publish => "publish",
        }
    }
}

/// What happened on the host.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// The run failed.
    Failed {
        /// The chain of causes, outermost first.
        message: String,
    },
}

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The harness.
    Host(HostEvent),
    /// The guest; its own times are in it.
    Guest(GuestEvent),
}

/// Keeps the events: in memory for the timeline, in a file as they come, and told to the user.
pub struct EventLog {
    started: Instant,
    started_wall_ns: u64,
    file: File,
    records: Vec<Record>,
    stage: Option<(Stage, Instant)>,
    progress: Progress,
}

impl EventLog {
    /// Begins the story.
    pub fn start(path: &Path, progress: Progress) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self {
            started: Instant::now(),
            started_wall_ns: wall_ns(),
            file,
            records: Vec::new(),
            stage: None,
            progress,
        })
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

    /// How long each ended stage took, in nanoseconds.
    pub fn stage_times(&self) -> Vec<(Stage, u64)> {
        let took = |record: &Record| match record.source {
            Source::Host(HostEvent::StageDone { stage, took_ns, .. }) => Some((stage, took_ns)),
            _ => None,
        };
        self.records.iter().filter_map(took).collect()
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
        self.file.write_all(&line).context("writing events.jsonl")?;
        self.progress.tell(&record);
        self.records.push(record);
        Ok(())
    }
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
