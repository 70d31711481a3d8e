//! Frames by stream and capture point, beside how many were declared; and all else that was captured.

use fixture::scenario::{Scenario, Stream};
use fixture::survey::{Point, Survey};
use maud::{Markup, html};

use super::figure::{Figure, Section, Table};
use super::style::KINDS;
use super::svg::{Axis, Picture, count, n};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = WIDTH - 76.0;
const BAR: f64 = 20.0;
const GAP: f64 = 16.0;
const TOP: f64 = 16.0;
/// The least height of a stream: its name and its way stand beside its bars.
const LEAST: f64 = 38.0;

/// The section; nothing if nothing was captured.
pub fn section(survey: &Survey) -> Option<Section> {
    let points = survey.points.as_ref().filter(|points| !points.is_empty())?;
    let rows = rows(survey.scenario.as_ref(), points);
    let mut figures = Vec::new();
    if !rows.is_empty() {
        figures.push((None, vec![by_stream(&rows)]));
    }
    figures.push((Some("By capture point".to_owned()), vec![by_point(points)]));
    let lead = html! {
        p {
            @if rows.is_empty() { "No stream was declared or captured; below is what was." }
            @else { "How many frames of each stream passed each capture point. The upright mark is how many its talker sends." }
        }
    };
    Some(Section { id: "streams", title: "Frames by stream", lead, figures, rest: html! {} })
}

/// A stream with the capture points at which it was seen, or must be.
struct Row {
    name: String,
    way: Option<String>,
    sent: Option<u64>,
    /// Point, frames, bytes, and whether every frame must be seen there.
    at: Vec<(String, u64, u64, bool)>,
}

fn rows(scenario: Option<&Scenario>, points: &[Point]) -> Vec<Row> {
    let declared = scenario.map_or(0, |scenario| scenario.streams.len());
    let last = points.iter().filter_map(|point| point.streams.keys().next_back()).max();
    let all = declared.max(last.map_or(0, |last| *last as usize + 1));
    (0..all).filter_map(|index| row(scenario, points, index)).collect()
}

fn row(scenario: Option<&Scenario>, points: &[Point], index: usize) -> Option<Row> {
    let stream = scenario.and_then(|scenario| Some((scenario, scenario.streams.get(index)?)));
    let must = stream.map_or(Vec::new(), |(scenario, stream)| scenario.seen_at(stream));
    let at: Vec<_> = points
        .iter()
        .filter_map(|point| {
            let seen = u32::try_from(index).ok().and_then(|index| point.streams.get(&index));
            let is_must = must.iter().any(|name| name.as_str() == point.name);
            let (frames, bytes) = seen.map_or((0, 0), |seen| (seen.frames, seen.bytes));
            (seen.is_some() || is_must).then(|| (point.name.clone(), frames, bytes, is_must))
        })
        .collect();
    match stream {
        Some((_, stream)) => {
            let (name, sent) = (stream.name.clone(), u64::from(stream.count));
            Some(Row { name, way: Some(way(stream)), sent: Some(sent), at })
        }
        // The scenario is not there or does not have it.
        None => (!at.is_empty()).then(|| Row { name: format!("stream {index}"), way: None, sent: None, at }),
    }
}

fn way(stream: &Stream) -> String {
    let to = match (&stream.to, &stream.group) {
        (Some(port), _) => port.to_string(),
        (None, Some(group)) => group.to_string(),
        (None, None) => String::new(),
    };
    format!("{} → {to}", stream.from)
}

fn by_stream(rows: &[Row]) -> Figure {
    let most = rows.iter().flat_map(|row| row.at.iter().map(|at| at.1).chain(row.sent)).max().unwrap_or(1);
    let axis = Axis { pixels: (LEFT, RIGHT), values: (0.0, most.max(1) as f64) };
    let height = |row: &Row| (row.at.len() as f64 * BAR).max(LEAST);
    let tops: Vec<f64> = rows
        .iter()
        .scan(TOP, |top, row| {
            let this = *top;
            *top += height(row) + GAP;
            Some(this)
        })
        .collect();
    let bottom = TOP + rows.iter().map(|row| height(row) + GAP).sum::<f64>() - GAP / 2.0;
    let body = html! {
        (axis.below(TOP - 8.0, bottom, "frames"))
        @for (index, (row, top)) in rows.iter().zip(&tops).enumerate() {
            g data-stream=(row.name) { (draw(row, index % KINDS, *top, height(row), &axis)) }
        }
    };
    let words = |row: &Row| {
        let at: Vec<String> =
            row.at.iter().map(|(point, frames, ..)| format!("{frames} at {point}")).collect();
        let at = if at.is_empty() { "at no capture point".to_owned() } else { at.join(", ") };
        format!("{}: {at}{}. ", row.name, row.sent.map_or(String::new(), |sent| format!(", {sent} sent")))
    };
    let table_row = |row: &Row| -> Vec<Vec<Markup>> {
        let cells = |(point, frames, bytes, is_must): &(String, u64, u64, bool)| {
            vec![
                html! { (row.name) },
                html! { (point) },
                html! { (count(*frames)) },
                html! { (count(*bytes)) },
                html! { @if let Some(sent) = row.sent { (count(sent)) } },
                html! { @if *is_must { "every frame" } @else { "not every frame" } },
            ]
        };
        row.at.iter().map(cells).collect()
    };
    let lost = rows.iter().flat_map(|row| row.at.iter().filter(|at| at.3 && Some(at.1) < row.sent)).count();
    Figure {
        picture: Picture {
            name: "frames-by-stream".into(),
            title: "Frames by stream and capture point".into(),
            description: rows.iter().map(words).collect(),
            width: WIDTH,
            height: bottom + 44.0,
            body,
        },
        caption: html! {
            @if lost == 0 { "Every frame is where the scenario has it pass." }
            @else { strong .bad-text { "Frames are missing at " (lost) @if lost == 1 { " place" } @else { " places" } ". " } }
            @if rows.iter().any(|row| row.at.iter().any(|at| !at.3)) {
                " Where a stream goes to a group, or past a link that loses frames, not every frame has to be seen."
            }
        },
        table: Table {
            head: vec![
                ("Stream", false),
                ("At", false),
                ("Frames", true),
                ("Bytes", true),
                ("Sent", true),
                ("To be seen", false),
            ],
            rows: rows.iter().flat_map(table_row).collect(),
        },
        is_chart: true,
    }
}

fn draw(row: &Row, kind: usize, top: f64, height: f64, axis: &Axis) -> Markup {
    html! {
        text .f-ink.strong x="0" y=(n(top + 14.0)) { (row.name) }
        @if let Some(way) = &row.way { text .f-soft.small x="0" y=(n(top + 31.0)) { (way) } }
        @for (index, (point, frames, _, is_must)) in row.at.iter().enumerate() {
            @let (y, end) = (top + index as f64 * BAR, axis.at(*frames as f64));
            @let mark = axis.at(row.sent.unwrap_or(0) as f64);
            @let is_lost = *is_must && Some(*frames) < row.sent;
            text .f-soft.mono.end x=(n(LEFT - 8.0)) y=(n(y + 14.0)) { (point) }
            rect class={ "f-k" (kind) } x=(n(LEFT)) y=(n(y + 3.0)) width=(n(end - LEFT)) height=(n(BAR - 6.0)) {}
            text class=(if is_lost { "f-bad" } else { "f-ink" }) x=(n(end.max(mark) + 9.0)) y=(n(y + 14.0)) { (count(*frames)) }
        }
        @if row.at.is_empty() { text .f-soft x=(n(LEFT + 8.0)) y=(n(top + 14.0)) { "at no capture point" } }
        @if let Some(sent) = row.sent {
            @let x = n(axis.at(sent as f64));
            line .s-ink.thick x1=(x) x2=(x) y1=(n(top - 1.0)) y2=(n(top + height + 1.0)) {}
        }
    }
}

/// What is told apart at a capture point.
const PARTS: [(&str, &str); 4] = [("streams", "f-k0"), ("gPTP", "f-k2"), ("LLDP", "f-k1"), ("other", "f-k6")];

fn parts(point: &Point) -> [u64; 4] {
    let streams = point.streams.values().map(|stream| stream.frames).sum();
    [streams, point.gptp, point.lldp, point.other()]
}

fn by_point(points: &[Point]) -> Figure {
    let most = points.iter().map(|point| point.frames).max().unwrap_or(1).max(1);
    let axis = Axis { pixels: (LEFT, RIGHT), values: (0.0, most as f64) };
    let top = TOP + 22.0;
    let bottom = top + points.len() as f64 * (BAR + 8.0);
    let body = html! {
        @for (index, (name, class)) in PARTS.iter().enumerate() {
            @let x = LEFT + index as f64 * 92.0;
            rect class=(class) x=(n(x)) y="2" width="12" height="12" rx="2" {}
            text .f-ink x=(n(x + 18.0)) y="12" { (name) }
        }
        (axis.below(top - 8.0, bottom, "frames"))
        @for (index, point) in points.iter().enumerate() {
            @let y = top + index as f64 * (BAR + 8.0);
            g data-point=(point.name) {
                text .f-ink.mono.end x=(n(LEFT - 8.0)) y=(n(y + 14.0)) { (point.name) }
                @for (part, (from, to)) in PARTS.iter().zip(spans(&parts(point))) {
                    @if to > from {
                        rect class=(part.1) x=(n(axis.at(from as f64))) y=(n(y))
                            width=(n((axis.at(to as f64) - axis.at(from as f64) - 1.0).max(1.0))) height=(n(BAR)) {}
                    }
                }
                text .f-ink x=(n(axis.at(point.frames as f64) + 9.0)) y=(n(y + 14.0)) { (count(point.frames)) }
            }
        }
    };
    let words = |point: &Point| {
        let list: Vec<String> =
            PARTS.iter().zip(parts(point)).map(|((name, _), frames)| format!("{frames} {name}")).collect();
        format!("{}: {} frames, {}. ", point.name, point.frames, list.join(", "))
    };
    let row = |point: &Point| {
        let mut cells = vec![html! { (point.name) }];
        cells.extend(parts(point).map(|frames| html! { (count(frames)) }));
        cells.push(html! { (count(point.frames)) });
        cells
    };
    Figure {
        picture: Picture {
            name: "capture-points".into(),
            title: "Frames by capture point".into(),
            description: points.iter().map(words).collect(),
            width: WIDTH,
            height: bottom + 44.0,
            body,
        },
        caption: html! { "Everything that was captured, by what it carries." },
        table: Table {
            head: vec![
                ("Point", false),
                ("Streams", true),
                ("gPTP", true),
                ("LLDP", true),
                ("Other", true),
                ("All", true),
            ],
            rows: points.iter().map(row).collect(),
        },
        is_chart: true,
    }
}

/// Each part from the end of the one before to its own.
fn spans(parts: &[u64; 4]) -> Vec<(u64, u64)> {
    let mut end = 0;
    let span = |part: &u64| {
        let begin = end;
        end += part;
        (begin, end)
    };
    parts.iter().map(span).collect()
}
