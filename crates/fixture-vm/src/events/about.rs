//! What a run is, as the database keeps it.

use rusqlite::ToSql;
use rusqlite::types::ToSqlOutput;

/// What is known of a run when it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The command: `run`, `replay`, `test`.
    pub command: &'static str,
    /// The scenario's name.
    pub scenario: Option<String>,
    /// The seed.
    pub seed: Option<u64>,
    /// The guest's clock.
    pub clock: Option<&'static str>,
    /// The test that it is run for.
    pub test: Option<String>,
    /// Id of the run that runs the tests.
    pub parent: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has its set.
    Passed,
    /// It failed, and says why.
    Failed,
    /// It ended before it came to a result: interrupted, or something is missing on this machine.
    BrokenOff,
}

impl Outcome {
    /// The name that the database has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::BrokenOff => "broken-off",
        }
    }
}

impl ToSql for Outcome {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}
