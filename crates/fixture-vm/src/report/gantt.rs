//! The timeline as a Gantt chart: stages of the harness, steps of the guest, tests; below them the lives of microVMs.

use maud::{Markup, html};

use super::figure::{Figure, Section, Table};
use super::lives;
use super::spans::{self, Span};
use super::svg::{Axis, Picture, duration, n};
use crate::run::events::Record;
use crate::run::timeline;

/// Width of a chart.
pub const WIDTH: f64 = 960.0;
const LEFT: f64 = 132.0;
/// Names of tests and microVMs are longer than those of stages.
pub const LEFT_OF_NAMES: f64 = 280.0;
/// Height of a bar and what is between two.
pub const ROW: f64 = 26.0;
/// What is above the first.
pub const TOP: f64 = 10.0;
/// Width of a duration's text.
const WORD: f64 = 64.0;

/// The section; nothing if there are no events.
pub fn section(records: &[Record]) -> Option<Section> {
    let end_ns = records.iter().map(|record| record.mono_ns).max()?;
    let (stages, steps, tests) = (spans::stages(records), spans::steps(records), spans::tests(records));
    let mut figures = Vec::new();
    let mut add = |heading: &str, figure: Figure| figures.push((Some(heading.to_owned()), vec![figure]));
    if !stages.is_empty() {
        let kind = Kind { name: "timeline-stages", title: "Stages of the run", left: LEFT, class: "f-k0" };
        add("The run", kind.figure(&stages, (0, end_ns)));
    }
    if !steps.is_empty() {
        let kind = Kind { name: "timeline-steps", title: "Steps of the guest", left: LEFT, class: "f-k2" };
        add("Within the guest", kind.figure(&steps, range(&steps, end_ns)));
    }
    // The one attempt that a run itself is says nothing that its stages do not.
    if tests.len() > 1 {
        let kind = Kind { name: "timeline-tests", title: "Tests", left: LEFT_OF_NAMES, class: "f-k3" };
        add("Tests", kind.figure(&tests, (0, end_ns)));
    }
    if let Some(lives) = lives::figure(records) {
        add("Lives of microVMs", lives);
    }
    if figures.is_empty() {
        return None;
    }
    let lead = html! {
        p { "What happened when, by the host's clock since the run began. An upright mark in a bar is a moment worth telling; \
             the table has all of them." }
    };
    let rest = html! {
        details {
            summary { "The whole story" }
            pre tabindex="0" { (timeline::timeline(records)) }
        }
    };
    Some(Section { id: "timeline", title: "Timeline", lead, figures, rest })
}

/// From the first begin to the last end.
fn range(spans: &[Span], end_ns: u64) -> (u64, u64) {
    let begin = spans.iter().map(|span| span.begin_ns).min().unwrap_or(0);
    (begin, spans.iter().map(|span| span.end_ns.unwrap_or(end_ns)).max().unwrap_or(end_ns))
}

struct Kind {
    name: &'static str,
    title: &'static str,
    left: f64,
    class: &'static str,
}

impl Kind {
    fn figure(&self, spans: &[Span], (from, to): (u64, u64)) -> Figure {
        let Self { name, title, left, .. } = self;
        let axis = axis(*left, (from, to));
        let bottom = TOP + spans.len() as f64 * ROW;
        let body = html! {
            (axis.below(TOP, bottom, "time since the run began, s"))
            @for (index, span) in spans.iter().enumerate() {
                (self.bar(span, TOP + index as f64 * ROW, &axis, to))
            }
        };
        let took = |span: &Span| span.end_ns.unwrap_or(to).saturating_sub(span.begin_ns);
        let ended = spans.iter().filter(|span| span.end_ns.is_some());
        let longest = ended.max_by_key(|span| took(span));
        let words = |span: &Span| {
            let how = match (span.failed, span.end_ns) {
                (true, _) => ", failed",
                (false, None) => ", going on when this was written",
                (false, Some(_)) => "",
            };
            format!("{} {}{how}. ", span.name, duration(took(span)))
        };
        Figure {
            picture: Picture {
                name: (*name).into(),
                title: (*title).into(),
                description: spans.iter().map(words).collect(),
                width: WIDTH,
                height: bottom + 44.0,
                body,
            },
            caption: html! {
                (duration(to - from)) " in all"
                @if let Some(longest) = longest { "; longest: " (longest.name) ", " (duration(took(longest))) }
                "."
                @for failed in spans.iter().filter(|span| span.failed) {
                    " " strong .bad-text { (failed.name) " failed: " (failed.detail) }
                }
            },
            table: table(spans),
            is_chart: true,
        }
    }

    fn bar(&self, span: &Span, top: f64, axis: &Axis, end_ns: u64) -> Markup {
        let end = span.end_ns.unwrap_or(end_ns);
        let (from, to) = (axis.at(seconds(span.begin_ns)), axis.at(seconds(end)));
        let width = (to - from).max(1.5);
        let y = top + ROW / 2.0 + 4.0;
        let fits_after = from + width + WORD < axis.pixels.1;
        let class = if span.failed { "f-bad" } else { self.class };
        html! {
            g data-span=(span.name) {
                text .f-ink x="0" y=(n(y)) { (short(&span.name, self.left)) }
                rect class=(class) x=(n(from)) y=(n(top + 5.0)) width=(n(width)) height=(n(ROW - 10.0)) rx="2" {}
                @for (at, _) in &span.notes {
                    @let x = n(axis.at(seconds(*at)));
                    line .s-paper.thick x1=(x) x2=(x) y1=(n(top + 8.0)) y2=(n(top + ROW - 8.0)) {}
                }
                @let text = span.end_ns.map_or(String::new(), |end| duration(end.saturating_sub(span.begin_ns)));
                @if fits_after { text .f-soft.small x=(n(from + width + 6.0)) y=(n(y)) { (text) } }
                @else if from - WORD > axis.pixels.0 { text .f-soft.small.end x=(n(from - 6.0)) y=(n(y)) { (text) } }
                @else { text .f-paper.small.end x=(n(from + width - 6.0)) y=(n(y)) { (text) } }
            }
        }
    }
}

fn axis(left: f64, (from, to): (u64, u64)) -> Axis {
    Axis { pixels: (left, WIDTH - 16.0), values: (seconds(from), seconds(to.max(from + 1))) }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// As much of the end of a name as there is room for: that tells more than the beginning.
pub fn short(name: &str, room: f64) -> String {
    let (most, letters) = ((room / 6.4) as usize, name.chars().count());
    match letters > most {
        true => format!("…{}", name.chars().skip(letters + 1 - most).collect::<String>()),
        false => name.to_owned(),
    }
}

fn table(spans: &[Span]) -> Table {
    let head = vec![
        ("What", false),
        ("Begins, s", true),
        ("Ends, s", true),
        ("Took", true),
        ("What came of it", false),
    ];
    let row = |span: &Span| {
        vec![
            html! { (span.name) },
            html! { (timeline::seconds(span.begin_ns)) },
            html! { @if let Some(end) = span.end_ns { (timeline::seconds(end)) } },
            html! { @if let Some(end) = span.end_ns { (duration(end.saturating_sub(span.begin_ns))) } },
            html! {
                @for (at, text) in &span.notes { (timeline::seconds(*at)) ": " (text) br; }
                @if span.failed { strong .bad-text { "failed: " } }
                @else if span.end_ns.is_none() { "going on when this was written" }
                (span.detail)
            },
        ]
    };
    Table { head, rows: spans.iter().map(row).collect() }
}
