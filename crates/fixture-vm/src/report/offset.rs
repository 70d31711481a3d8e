//! gPTP: how far each following port was from the grandmaster, over time.

use fixture::gptp::{Gptp, PortSync};
use fixture::survey::Survey;
use maud::{Markup, html};

use super::figure::{Figure, Section, Table};
use super::style::KINDS;
use super::svg::{Axis, Picture, Unit, count, duration, n, number, round_up, unit};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 132.0;
const TOP: f64 = 14.0;
const PANEL: f64 = 96.0;
const GAP: f64 = 22.0;

/// The section; nothing if no port followed.
pub fn section(survey: &Survey) -> Option<Section> {
    let gptp = survey.gptp.as_ref()?;
    let first = gptp.ports.iter().flat_map(|port| &port.samples).map(|sample| sample.timestamp_ns).min()?;
    let allowed = survey.scenario.as_ref().and_then(|scenario| scenario.expect.gptp.as_ref()?.max_sync_error);
    let chart = Chart::of(gptp, first, allowed.map(|nanos| nanos.0));
    let lead = html! {
        p {
            @if let Some(grandmaster) = gptp.grandmaster {
                "Every port follows the grandmaster " code { (grandmaster) }
                @if let Some(domain) = gptp.domain { " in domain " (domain) } ". "
            }
            "Each point is one measurement: the magnitude of the offset from the master when a Sync message \
             arrived (IEEE 802.1AS-2020)."
        }
    };
    let figures = vec![(None, vec![chart.figure()])];
    Some(Section { id: "offset", title: "gPTP offset", lead, figures, rest: html! {} })
}

struct Chart<'a> {
    ports: Vec<&'a PortSync>,
    first_ns: u64,
    allowed_ns: Option<u64>,
    time: Axis,
    most: f64,
    unit: Unit,
}

impl<'a> Chart<'a> {
    fn of(gptp: &'a Gptp, first_ns: u64, allowed_ns: Option<u64>) -> Self {
        let samples = || gptp.ports.iter().flat_map(|port| &port.samples);
        let last = samples().map(|sample| sample.timestamp_ns).max().unwrap_or(first_ns);
        let largest = samples().map(|sample| sample.sync_error_ns).max().unwrap_or(0);
        let most = round_up(largest.max(1) as f64);
        let seconds = ((last - first_ns) as f64 / 1e9).max(1e-3);
        Self {
            ports: gptp.ports.iter().filter(|port| !port.samples.is_empty()).collect(),
            first_ns,
            allowed_ns,
            time: Axis { pixels: (LEFT, WIDTH - 16.0), values: (0.0, seconds) },
            most,
            unit: unit(most),
        }
    }

    fn figure(&self) -> Figure {
        let bottom = TOP + self.ports.len() as f64 * (PANEL + GAP) - GAP;
        let body = html! {
            (self.time.below(TOP, bottom, "time since the first measurement, s"))
            @for (index, port) in self.ports.iter().enumerate() {
                (self.panel(port, index % KINDS, TOP + index as f64 * (PANEL + GAP)))
            }
        };
        let words = |port: &&PortSync| {
            let (least, median, largest) = spread(port);
            format!(
                "{}: {} measurements from {} to {}, median {}. ",
                port.name,
                port.samples.len(),
                duration(least),
                duration(largest),
                duration(median)
            )
        };
        let largest = self.ports.iter().map(|port| spread(port).2).max().unwrap_or(0);
        let caption = html! {
            @if largest == 0 { "Every offset is 0 ns." }
            @else { "The largest offset is " (duration(largest)) "." }
            @if let Some(allowed) = self.allowed_ns { " The last one of each port may be " (duration(allowed)) "." }
        };
        Figure {
            picture: Picture {
                name: "gptp-offset".into(),
                title: "gPTP offset over time".into(),
                description: self.ports.iter().map(words).collect(),
                width: WIDTH,
                height: bottom + 44.0,
                body,
            },
            caption,
            table: self.table(),
            is_chart: true,
        }
    }

    fn panel(&self, port: &PortSync, kind: usize, top: f64) -> Markup {
        let axis = Axis { pixels: (top + PANEL, top), values: (0.0, self.most / self.unit.ns) };
        let places: Vec<(f64, f64)> = port
            .samples
            .iter()
            .map(|sample| {
                let seconds = (sample.timestamp_ns - self.first_ns) as f64 / 1e9;
                (self.time.at(seconds), axis.at(sample.sync_error_ns as f64 / self.unit.ns))
            })
            .collect();
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{},{}", n(*x), n(*y))).collect();
        let (left, right) = self.time.pixels;
        html! {
            g data-port=(port.name) {
                @for tick in axis.ticks(3.0) {
                    @let y = n(axis.at(tick));
                    line .s-rule x1=(n(left)) x2=(n(right)) y1=(y) y2=(y) {}
                    text .f-soft.end x=(n(left - 8.0)) y=(n(axis.at(tick) + 4.0)) { (number(tick)) }
                }
                @if let Some(allowed) = self.allowed_ns.filter(|allowed| *allowed as f64 <= self.most) {
                    @let y = axis.at(allowed as f64 / self.unit.ns);
                    line .s-bad.dash x1=(n(left)) x2=(n(right)) y1=(n(y)) y2=(n(y)) {}
                    text .f-bad.small.end x=(n(right)) y=(n(y - 4.0)) { "allowed at the end" }
                }
                line .s-line x1=(n(left)) x2=(n(right)) y1=(n(top + PANEL)) y2=(n(top + PANEL)) {}
                polyline class={ "none s-k" (kind) } stroke-width="1.5" points=(line.join(" ")) {}
                @for (x, y) in &places { circle class={ "f-k" (kind) } cx=(n(*x)) cy=(n(*y)) r="2.6" {} }
                text .f-ink.strong x="0" y=(n(top + 14.0)) { (port.name) }
                text .f-soft.small x="0" y=(n(top + 31.0)) { "offset, " (self.unit.symbol) }
            }
        }
    }

    fn table(&self) -> Table {
        let head = vec![
            ("Port", false),
            ("Measurements", true),
            ("Least", true),
            ("Median", true),
            ("Largest", true),
            ("Last", true),
        ];
        let row = |port: &&PortSync| {
            let (least, median, largest) = spread(port);
            let last = port.samples.last().map_or(0, |sample| sample.sync_error_ns);
            let mut cells = vec![html! { (port.name) }, html! { (count(port.samples.len() as u64)) }];
            cells.extend([least, median, largest, last].map(|ns| html! { (duration(ns)) }));
            cells
        };
        Table { head, rows: self.ports.iter().map(row).collect() }
    }
}

/// Least, median and largest offset.
fn spread(port: &PortSync) -> (u64, u64, u64) {
    let mut offsets: Vec<u64> = port.samples.iter().map(|sample| sample.sync_error_ns).collect();
    offsets.sort_unstable();
    let at = |index: usize| offsets.get(index).copied().unwrap_or(0);
    (at(0), at(offsets.len() / 2), at(offsets.len().saturating_sub(1)))
}
