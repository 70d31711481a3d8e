//! Frames over the gate windows of a scheduled port: where in the cycle each traffic class left.

use std::collections::BTreeMap;

use fixture::survey::{Departures, Survey};
use fixture::tsn::GateEntry;
use maud::{Markup, html};

use super::figure::{Figure, Section, Table};
use super::style::KINDS;
use super::svg::{Axis, Picture, Unit, count, duration, n, number, unit};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 132.0;
const TOP: f64 = 42.0;
const ROW: f64 = 66.0;
const GAP: f64 = 10.0;

/// The section; nothing if no port has a schedule.
pub fn section(survey: &Survey) -> Option<Section> {
    let mut figures = Vec::new();
    for interface in &survey.tsn.as_ref()?.interfaces {
        if let Some(gates) = interface.tsn.gate_control_list.as_ref().filter(|gates| !gates.is_empty()) {
            let departures = survey.point(&interface.name).and_then(|point| point.departures.as_ref());
            let port =
                Port { name: &interface.name, gates, classes: classes(survey, &interface.name, departures) };
            figures.push((Some(format!("Port {}", interface.name)), vec![port.figure()]));
        }
    }
    if figures.is_empty() {
        return None;
    }
    let lead = html! {
        p { "The gate control list as the kernel reported it, and the frames that left through the port, laid over one \
             cycle (IEEE 802.1Q-2022, 8.6.8.4). The coloured part of a row is where the gate of that traffic class is open." }
    };
    Some(Section { id: "gates", title: "Gate windows", lead, figures, rest: html! {} })
}

/// A scheduled port.
struct Port<'a> {
    name: &'a str,
    gates: &'a [GateEntry],
    classes: BTreeMap<u8, Class>,
}

/// What left in one traffic class. Nothing is known of the frames where the port was not captured.
#[derive(Default)]
struct Class {
    pcps: Vec<u8>,
    frames: Option<u64>,
    bins: BTreeMap<u32, u64>,
    late: u64,
    latest_ns: u64,
}

/// The classes that priorities are mapped to, or that frames left in.
fn classes(survey: &Survey, name: &str, departures: Option<&Departures>) -> BTreeMap<u8, Class> {
    let mut classes: BTreeMap<u8, Class> = BTreeMap::new();
    let port = name.parse().ok().and_then(|name| survey.scenario.as_ref()?.port(&name));
    for pcp in 0..8 {
        if let Some(class) = port.and_then(|(_, port)| port.traffic_class(pcp)) {
            classes.entry(class.get()).or_default().pcps.push(pcp);
        }
    }
    let Some(departures) = departures else { return classes };
    for class in classes.values_mut() {
        class.frames = Some(0);
    }
    for (pcp, departing) in &departures.by_pcp {
        let class = classes.entry(departing.class).or_default();
        if !class.pcps.contains(pcp) {
            class.pcps.push(*pcp);
        }
        class.frames = Some(class.frames.unwrap_or(0) + departing.frames);
        for (bin, frames) in &departing.bins {
            *class.bins.entry(*bin).or_default() += frames;
        }
        class.late += departing.late;
        class.latest_ns = class.latest_ns.max(departing.latest_ns);
    }
    classes
}

impl Class {
    fn priorities(&self) -> String {
        let list: Vec<String> = self.pcps.iter().map(u8::to_string).collect();
        format!("PCP {}", list.join(", "))
    }
}

impl Port<'_> {
    fn cycle_ns(&self) -> u64 {
        self.gates.iter().map(|gate| u64::from(gate.time_interval_value)).sum()
    }

    /// Begin, end and gates of each entry.
    fn entries(&self) -> Vec<(u64, u64, u8)> {
        let mut begin = 0;
        let entry = |gate: &GateEntry| {
            let end = begin + u64::from(gate.time_interval_value);
            let entry = (begin, end, gate.gate_states_value);
            begin = end;
            entry
        };
        self.gates.iter().map(entry).collect()
    }

    /// When the gate of a class is open; entries that follow each other are one window.
    fn open(&self, class: u8) -> Vec<(u64, u64)> {
        let mut windows: Vec<(u64, u64)> = Vec::new();
        for (begin, end, states) in self.entries() {
            if states >> class & 1 == 1 {
                match windows.last_mut() {
                    Some(last) if last.1 == begin => last.1 = end,
                    _ => windows.push((begin, end)),
                }
            }
        }
        windows
    }

    fn figure(&self) -> Figure {
        let cycle = self.cycle_ns();
        let unit = unit(cycle as f64 / 2.0);
        let axis = Axis { pixels: (LEFT, WIDTH - 16.0), values: (0.0, cycle as f64 / unit.ns) };
        let bottom = TOP + self.classes.len() as f64 * (ROW + GAP);
        let frames: u64 = self.classes.values().filter_map(|class| class.frames).sum();
        let is_captured = self.classes.values().any(|class| class.frames.is_some());
        let body = html! {
            (axis.below(bottom, bottom, &format!("time within the cycle, {}", unit.symbol)))
            @for (row, (number, class)) in self.classes.iter().rev().enumerate() {
                (self.row(*number, class, TOP + row as f64 * (ROW + GAP), &axis, unit))
            }
            (self.list(&axis, unit, bottom))
        };
        let description = format!(
            "A cycle of {}. {}",
            duration(cycle),
            self.classes.iter().map(|(class, frames)| self.words(*class, frames)).collect::<String>()
        );
        let late: u64 = self.classes.values().map(|class| class.late).sum();
        let latest = self.classes.values().map(|class| class.latest_ns).max().unwrap_or(0);
        let caption = html! {
            @if is_captured {
                (count(frames)) " frames over a cycle of " (duration(cycle)) ", counted in "
                (Departures::BINS) " parts of " (duration(cycle / u64::from(Departures::BINS))) "; the number at a row is the most in one part. "
                @if late == 0 { "None was stamped while its gate was shut." }
                @else {
                    (count(late)) " of them were stamped after their gate had shut, the last one " (duration(latest))
                    " later: the stamp is taken when the frame is handed to the device, after the gate let it pass."
                }
            } @else {
                "The port was not captured, its schedule did not come into force, or its cycle does not divide a second, \
                 so that time stamps do not tell where a cycle begins: only the windows are known."
            }
        };
        Figure {
            picture: Picture {
                name: format!("gates-{}", self.name),
                title: format!("Frames over the gate windows of {}", self.name),
                description,
                width: WIDTH,
                height: bottom + 44.0,
                body,
            },
            caption,
            table: self.table(),
            is_chart: true,
        }
    }

    fn words(&self, class: u8, frames: &Class) -> String {
        let windows: Vec<String> = self
            .open(class)
            .iter()
            .map(|(begin, end)| format!("from {} to {}", duration(*begin), duration(*end)))
            .collect();
        let windows = if windows.is_empty() { "never".to_owned() } else { windows.join(" and ") };
        let left = frames.frames.map_or(String::new(), |frames| format!(", {frames} frames left"));
        format!("Class {class} is open {windows}{left}. ")
    }

    /// The entries of the gate control list above the rows.
    fn list(&self, axis: &Axis, unit: Unit, bottom: f64) -> Markup {
        html! {
            text .f-soft.small x="0" y="14" { "gate states" }
            text .f-soft.small x="0" y="30" { "interval" }
            @for (begin, end, states) in self.entries() {
                @let (left, right) = (axis.at(begin as f64 / unit.ns), axis.at(end as f64 / unit.ns));
                line .s-line.thin x1=(n(left)) x2=(n(left)) y1="4" y2=(n(bottom)) {}
                @if right - left > 46.0 {
                    text .f-ink.mono x=(n(left + 7.0)) y="14" { (format!("{states:#04x}")) }
                    text .f-soft.small x=(n(left + 7.0)) y="30" { (duration(end - begin)) }
                }
            }
            line .s-line.thin x1=(n(axis.pixels.1)) x2=(n(axis.pixels.1)) y1="4" y2=(n(bottom)) {}
        }
    }

    fn row(&self, number_of: u8, class: &Class, top: f64, axis: &Axis, unit: Unit) -> Markup {
        let kind = usize::from(number_of) % KINDS;
        let (left, right) = axis.pixels;
        let most = class.bins.values().copied().max().unwrap_or(0);
        let part = self.cycle_ns() as f64 / f64::from(Departures::BINS) / unit.ns;
        let width = (axis.at(part) - axis.at(0.0) - 0.3).max(0.8);
        let tall = ROW - 18.0;
        html! {
            g data-class=(number_of) {
                rect .f-wash x=(n(left)) y=(n(top)) width=(n(right - left)) height=(n(ROW)) {}
                @for (begin, end) in self.open(number_of) {
                    @let (from, to) = (axis.at(begin as f64 / unit.ns), axis.at(end as f64 / unit.ns));
                    rect class={ "tint f-k" (kind) } x=(n(from)) y=(n(top)) width=(n(to - from)) height=(n(ROW)) {}
                    line class={ "thick s-k" (kind) } x1=(n(from)) x2=(n(to)) y1=(n(top + 1.0)) y2=(n(top + 1.0)) {}
                }
                @for (bin, frames) in &class.bins {
                    @let height = (*frames as f64 / most as f64 * tall).max(1.5);
                    rect class={ "f-k" (kind) } x=(n(axis.at(f64::from(*bin) * part))) y=(n(top + ROW - height))
                        width=(n(width)) height=(n(height)) {}
                }
                line .s-line.thin x1=(n(left)) x2=(n(right)) y1=(n(top + ROW)) y2=(n(top + ROW)) {}
                text .f-ink.strong x="0" y=(n(top + 20.0)) { "class " (number_of) }
                text .f-soft.small x="0" y=(n(top + 37.0)) { (class.priorities()) }
                @if let Some(frames) = class.frames {
                    text .f-soft.small x="0" y=(n(top + 53.0)) { (count(frames)) " frames" }
                }
                @if most > 0 {
                    line .s-line.thin x1=(n(left - 5.0)) x2=(n(left)) y1=(n(top + ROW - tall)) y2=(n(top + ROW - tall)) {}
                    text .f-soft.small.end x=(n(left - 8.0)) y=(n(top + ROW - tall + 4.0)) { (number(most as f64)) }
                }
            }
        }
    }

    fn table(&self) -> Table {
        let head = vec![
            ("Class", false),
            ("Priorities", false),
            ("Open", false),
            ("Frames", true),
            ("After the gate", true),
            ("At most after it", true),
        ];
        let row = |(number, class): (&u8, &Class)| {
            let open = self.open(*number);
            vec![
                html! { (number) },
                html! { (class.priorities()) },
                html! {
                    @for (index, (begin, end)) in open.iter().enumerate() {
                        @if index > 0 { ", " } (duration(*begin)) " – " (duration(*end))
                    }
                    @if open.is_empty() { "never" }
                },
                html! { @if let Some(frames) = class.frames { (count(frames)) } },
                html! { @if class.frames.is_some() { (count(class.late)) } },
                html! { @if class.late > 0 { (duration(class.latest_ns)) } },
            ]
        };
        Table { head, rows: self.classes.iter().map(row).collect() }
    }
}
