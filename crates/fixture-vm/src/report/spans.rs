//! What went on from when to when, out of the events of a run.

use std::collections::BTreeMap;

use fixture::contract::event::What;

use crate::run::events::{HostEvent, Record, Source, TestEvent};

/// Something that took a while. Times are nanoseconds since the run began.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What.
    pub name: String,
    /// When it began.
    pub begin_ns: u64,
    /// When it ended; nothing if it never did.
    pub end_ns: Option<u64>,
    /// Whether it is what failed.
    pub failed: bool,
    /// What came of it.
    pub detail: String,
    /// Moments in it that were worth telling.
    pub notes: Vec<(u64, String)>,
}

impl Span {
    fn new(name: impl Into<String>, begin_ns: u64) -> Self {
        let name = name.into();
        Self { name, begin_ns, end_ns: None, failed: false, detail: String::new(), notes: Vec::new() }
    }

    fn end(&mut self, at: u64, detail: &str) {
        self.end_ns = Some(at);
        detail.clone_into(&mut self.detail);
    }
}

/// The harness's stages, in their order.
pub fn stages(records: &[Record]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for Record { mono_ns, source, .. } in records {
        let Source::Host(event) = source else { continue };
        match event {
            HostEvent::StageStarted { stage } => spans.push(Span::new(stage.name(), *mono_ns)),
            HostEvent::StageDone { detail, .. } => {
                if let Some(span) = open(&mut spans) {
                    span.end(*mono_ns, detail);
                }
            }
            HostEvent::Failed { message } => {
                if let Some(span) = open(&mut spans) {
                    span.failed = true;
                    span.end(*mono_ns, message);
                }
            }
            HostEvent::Kept { .. } | HostEvent::NotKept { .. } => {}
        }
    }
    spans
}

/// The guest's steps, in their order, on the host's clock.
pub fn steps(records: &[Record]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for Record { mono_ns, source, .. } in records {
        let Source::Guest(event) = source else { continue };
        match &event.what {
            What::StepStarted { step } => spans.push(Span::new(step.name(), *mono_ns)),
            What::StepDone { detail, .. } => {
                if let Some(span) = open(&mut spans) {
                    span.end(*mono_ns, detail);
                }
            }
            What::Note { text, .. } => {
                if let Some(span) = open(&mut spans) {
                    span.notes.push((*mono_ns, text.clone()));
                }
            }
            What::Failed(failure) => {
                if let Some(span) = open(&mut spans) {
                    span.failed = true;
                    span.end(*mono_ns, &failure.message);
                }
            }
            _ => {}
        }
    }
    spans
}

/// The attempts at tests, in the order in which they began.
pub fn tests(records: &[Record]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut going: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for Record { mono_ns, source, .. } in records {
        match source {
            Source::Test(TestEvent::Started { test, attempt, .. }) => {
                going.insert((test, *attempt), spans.len());
                let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                spans.push(Span::new(format!("{test}{again}"), *mono_ns));
            }
            Source::Test(TestEvent::AttemptEnded { test, attempt, passed, message, .. }) => {
                if let Some(index) = going.remove(&(test.as_str(), *attempt)) {
                    spans[index].failed = !passed;
                    spans[index].end(*mono_ns, message);
                }
            }
            _ => {}
        }
    }
    spans
}

/// What goes on.
fn open(spans: &mut [Span]) -> Option<&mut Span> {
    spans.last_mut().filter(|span| span.end_ns.is_none())
}
