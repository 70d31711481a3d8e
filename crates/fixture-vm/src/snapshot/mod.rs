//! Expectation snapshots: what a scenario's fixtures mean, kept beside it as `NAME.snap` and compared.
//!
//! A comparison that finds another meaning leaves it as `NAME.snap.new` beside the snapshot, for [`review`] to
//! accept or reject; where `CI` is set nothing is written.

mod file;
pub mod review;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::diff::Change;
use fixture::printable;
use fixture::snapshot::{Incomparable, Snapshot, compare};
use fixture::survey::Survey;

pub use file::{beside, pending};

use crate::exit::Usage;

/// What a comparison may leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether a scenario without a snapshot gets one to review; otherwise it is left alone.
    pub wanted: bool,
    /// Whether a person is there to review: something new is written as pending.
    pub keeps_pending: bool,
}

impl Policy {
    /// The policy of a command; on CI, which the environment variable `CI` tells, nothing is written.
    pub fn new(wanted: bool) -> Self {
        Self { wanted, keeps_pending: !on_ci() }
    }
}

/// Whether a CI system runs this.
pub fn on_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// There is no snapshot, and none was wanted; or it is of another seed.
    NotCompared(Option<String>),
    /// The set means what the snapshot says.
    Agrees,
    /// There is no snapshot yet, though one is wanted.
    New(Unreviewed),
    /// The set means something else.
    Differs(Unreviewed),
}

/// Something that somebody has to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreviewed {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// Where the new one waits for review, if it was written.
    pub pending: Option<PathBuf>,
    /// What is different; empty for a new snapshot.
    pub changes: Vec<Change>,
}

/// Refuses a snapshot beside a scenario file that could not be compared with a set of the scenario.
pub fn check_readable(scenario_file: &Path, scenario: &str) -> Result<(), Usage> {
    let path = beside(scenario_file);
    match file::read(&path)? {
        Some(snapshot) if snapshot.scenario != scenario => {
            let other = Incomparable::Scenario(snapshot.scenario, scenario.to_owned());
            Err(Usage(format!("{}: {other}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Compares a set with the snapshot beside its scenario file.
pub fn check(scenario: &Path, set: &Path, policy: Policy) -> Result<Verdict> {
    let snapshot = beside(scenario);
    let expected = file::read(&snapshot)?;
    if expected.is_none() && !policy.wanted {
        return Ok(Verdict::NotCompared(None));
    }
    let survey = Survey::of(set).with_context(|| format!("reading {}", set.display()))?;
    let seen = Snapshot::of(&survey).with_context(|| format!("making a snapshot of {}", set.display()))?;
    let waiting = pending(&snapshot);
    let changes = match &expected {
        None => Vec::new(),
        Some(expected) => match compare(expected, &seen) {
            Ok(changes) if changes.is_empty() => {
                file::remove(&waiting)?;
                return Ok(Verdict::Agrees);
            }
            Ok(changes) => changes,
            Err(error @ Incomparable::Seed(..)) => return Ok(Verdict::NotCompared(Some(error.to_string()))),
            Err(error) => return Err(error).with_context(|| format!("reading {}", snapshot.display())),
        },
    };
    let pending = policy.keeps_pending.then_some(waiting);
    if let Some(pending) = &pending {
        file::write(pending, &seen)?;
    }
    let unreviewed = Unreviewed { snapshot, pending, changes };
    Ok(if expected.is_some() { Verdict::Differs(unreviewed) } else { Verdict::New(unreviewed) })
}

impl Verdict {
    /// What there is to tell, if anything.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::NotCompared(why) => why.as_ref().map(|why| format!("not compared: {why}")),
            Self::Agrees => Some("the fixtures mean what it says".into()),
            Self::New(new) => Some(format!("{} is not there yet; {}", new.snapshot.display(), new.next())),
            Self::Differs(unreviewed) => Some(unreviewed.text()),
        }
    }

    /// Whether there is nothing to review.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::NotCompared(_) | Self::Agrees)
    }
}

impl Unreviewed {
    fn text(&self) -> String {
        let shown = self.snapshot.display();
        format!("the fixtures do not mean what {shown} says:\n{}{}", in_words(&self.changes), self.next())
    }

    fn next(&self) -> String {
        match &self.pending {
            Some(pending) => format!("review it: fixture-vm review {}", pending.display()),
            None => "run it where CI is not set, then fixture-vm review, and commit the snapshot".into(),
        }
    }
}

/// Changes, one a line: `capture sw-p1 streams control: 200 was, 199 is`.
pub fn in_words(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change { what, a, b } in changes {
        let what = what.trim_start_matches('/').replace('/', " ").replace("~1", "/").replace("~0", "~");
        let value = |side: &Option<serde_json::Value>| match side {
            None => "nothing".to_owned(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        // Writing to a string cannot fail.
        let line = format!("{what}: {} was, {} is", value(a), value(b));
        let _ = writeln!(text, "  {}", printable::line(&line));
    }
    text
}
