//! Telling the user how far a run is: live on a terminal, plain lines elsewhere, JSON for machines.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::output;
use crate::run::events::{HostEvent, Record, Source, TestEvent};
use crate::run::timeline;

/// Where and how progress is told. Results go to standard output, progress to standard error; with JSON, both
/// are lines on standard output.
pub enum Progress {
    /// A line that moves, and one line for each stage that ended.
    Live(ProgressBar),
    /// A line that moves among those of other runs.
    LiveAmong(ProgressBar),
    /// Lines.
    Plain,
    /// One JSON object a line, with the run's name if it is one of several.
    Json(Option<String>),
    /// Only that it is slow: one of several runs, whose end is told by who started it.
    Quiet(String),
}

impl Progress {
    /// Live on a terminal, plain elsewhere, JSON where asked for.
    pub fn new(json: bool) -> Self {
        if json {
            return Self::Json(None);
        }
        if !output::tells_terminal() {
            return Self::Plain;
        }
        let bar = ProgressBar::new_spinner();
        spin(&bar, "{spinner} {elapsed:>4} {msg}");
        Self::Live(bar)
    }

    /// Tells of an event.
    pub fn tell(&self, record: &Record) {
        match self {
            Self::Quiet(run) => {
                if let Some(line) = slow(record) {
                    output::tell(format_args!("{run}: {line}"));
                }
            }
            Self::Json(run) => {
                #[derive(Serialize)]
                struct Line<'a> {
                    #[serde(skip_serializing_if = "Option::is_none")]
                    run: Option<&'a str>,
                    #[serde(flatten)]
                    record: &'a Record,
                }
                if let Ok(line) = serde_json::to_string(&Line { run: run.as_deref(), record }) {
                    output::json_line(line);
                }
            }
            Self::Plain => {
                if let Some(line) = timeline::line(record).filter(|_| !begins(record)) {
                    output::tell(format_args!("{} {line}", timeline::seconds(record.mono_ns)));
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
            Self::LiveAmong(bar) => {
                if let Some(line) = slow(record) {
                    bar.println(format!("{}: {line}", bar.prefix()));
                } else if let Some(line) = timeline::line(record) {
                    bar.set_message(line.trim().to_owned());
                }
            }
        }
    }
}

/// The progress of several runs side by side: a moving line for each that is under way, a line for each end.
pub struct Several {
    json: bool,
    bars: Option<MultiProgress>,
}

impl Several {
    /// Live on a terminal, plain elsewhere, JSON where asked for.
    pub fn new(json: bool) -> Self {
        let live = !json && output::tells_terminal();
        Self { json, bars: live.then(MultiProgress::new) }
    }

    /// The progress of one of them.
    pub fn of(&self, run: &str) -> Progress {
        match &self.bars {
            _ if self.json => Progress::Json(Some(run.to_owned())),
            None => Progress::Quiet(run.to_owned()),
            Some(bars) => {
                let bar = bars.add(ProgressBar::new_spinner().with_prefix(run.to_owned()));
                spin(&bar, "{spinner} {elapsed:>4} {prefix}: {msg}");
                Progress::LiveAmong(bar)
            }
        }
    }

    /// A line that tells how many of so many have ended.
    pub fn overall(&self, count: usize) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.add(ProgressBar::new(count as u64));
        spin(&bar, "{spinner} {elapsed:>4} {pos} of {len} have ended");
        bar
    }

    /// A line for people; with JSON, the result says it all.
    pub fn say(&self, line: &str) {
        match &self.bars {
            _ if self.json => {}
            None => output::tell(line),
            Some(bars) => {
                bars.println(line).ok();
            }
        }
    }
}

fn spin(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Live(bar) | Self::LiveAmong(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn slow(record: &Record) -> Option<String> {
    let is_slow = matches!(record.source, Source::Test(TestEvent::Slow { .. }));
    timeline::line(record).filter(|_| is_slow)
}

fn begins(record: &Record) -> bool {
    use fixture::contract::event::What;
    match &record.source {
        Source::Host(event) => matches!(event, HostEvent::StageStarted { .. } | HostEvent::Failed { .. }),
        // What is worth telling of these is told by the stage, or by who runs the tests.
        Source::Qemu(_) | Source::Test(_) => true,
        Source::Guest(event) => matches!(event.what, What::StepStarted { .. }),
    }
}
