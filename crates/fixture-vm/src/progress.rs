//! Telling the user how far a run is: live on a terminal, plain lines elsewhere, JSON for machines.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::events::{HostEvent, Record, Source};
use crate::run::timeline;

/// Where and how progress is told. Results go to standard output, progress to standard error; with JSON, both
/// are lines on standard output.
pub enum Progress {
    /// A line that moves, and one line for each stage that ended.
    Live(ProgressBar),
    /// Lines.
    Plain,
    /// One JSON object a line.
    Json,
}

impl Progress {
    /// Live on a terminal, plain elsewhere, JSON where asked for.
    pub fn new(json: bool) -> Self {
        if json {
            return Self::Json;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Plain;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Live(bar)
    }

    /// Tells of an event.
    pub fn tell(&self, record: &Record) {
        match self {
            Self::Json => {
                if let Ok(line) = serde_json::to_string(record) {
                    // A reader that went away is no reason to fail a run.
                    writeln!(std::io::stdout(), "{line}").ok();
                }
            }
            Self::Plain => {
                if let Some(line) = timeline::line(record).filter(|_| !begins(record)) {
                    writeln!(std::io::stderr(), "{} {line}", timeline::seconds(record.mono_ns)).ok();
                }
            }
            Self::Live(bar) => {
                let Some(line) = timeline::line(record) else { return };
                match &record.source {
                    Source::Host(HostEvent::StageDone { .. }) => bar.println(format!("  {line}")),
                    Source::Host(HostEvent::Failed { .. }) => bar.finish_and_clear(),
                    _ => bar.set_message(line.trim().to_owned()),
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn begins(record: &Record) -> bool {
    use fixture::contract::event::What;
    match &record.source {
        Source::Host(event) => matches!(event, HostEvent::StageStarted { .. } | HostEvent::Failed { .. }),
        Source::Guest(event) => matches!(event.what, What::StepStarted { .. }),
    }
}
