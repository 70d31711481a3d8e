//! The lives of microVMs, each state from when to when by the guest's clock: on the virtual clock the same in every
//! run.

use std::collections::BTreeMap;

use fixture::contract::event::What;
use fixture::contract::vm::VmEvent;
use fixture::pool::State;
use maud::html;

use super::figure::{Figure, Table};
use super::gantt::{LEFT_OF_NAMES, ROW, TOP, WIDTH, short};
use super::svg::{Axis, Picture, n};
use crate::run::events::{Record, Source};

/// Room for the legend.
const LEGEND: f64 = 22.0;
/// Width of a letter of the legend, and of what stands before and after its words.
const LETTER: f64 = 7.0;
const BESIDE: f64 = 42.0;

/// States that look alike, in the order of a life: the deeper it sleeps, the fainter.
const LOOKS: [(&[State], &str); 5] = [
    (&[State::Created, State::Ready], "f-k4"),
    (&[State::Running], "f-k2"),
    (&[State::Warm], "f-k1"),
    (&[State::Sleeping], "f-k0"),
    (&[State::Stopped], "f-rule"),
];

/// Nanoseconds of the guest's clock since the origin of the picture.
type Time = i64;

/// A state that a microVM was in.
#[derive(Debug, Clone, Copy)]
struct Stay {
    state: State,
    from: Time,
    /// Nothing if nothing came after it.
    to: Option<Time>,
}

/// Every microVM with its states, in their order.
struct Lives {
    lives: BTreeMap<String, Vec<Stay>>,
    /// What the times count from, in words.
    since: &'static str,
    /// The first and the last moment of any.
    range: (Time, Time),
}

/// Draws them; nothing if there were none.
pub fn figure(records: &[Record]) -> Option<Figure> {
    Some(Lives::of(records)?.figure())
}

impl Lives {
    /// Out of the events of one guest.
    fn of(records: &[Record]) -> Option<Self> {
        let events = || {
            records.iter().filter_map(|record| match &record.source {
                Source::Guest(event) => Some((event.mono_ns as Time, &event.what)),
                _ => None,
            })
        };
        let changes = || {
            events().filter_map(|(at, what)| match what {
                What::Vm(VmEvent::State { vm, to, .. }) => Some((at, vm, *to)),
                _ => None,
            })
        };
        let (first, ..) = changes().next()?;
        let traffic =
            events().find_map(|(at, what)| matches!(what, What::Vm(VmEvent::Traffic)).then_some(at));
        let (origin, since) = match traffic {
            Some(at) => (at, "scenario time by the guest's clock, s"),
            None => (first, "time since the first microVM by the guest's clock, s"),
        };
        let mut lives: BTreeMap<String, Vec<Stay>> = BTreeMap::new();
        for (at, vm, state) in changes() {
            let life = lives.entry(vm.clone()).or_default();
            if let Some(stay) = life.last_mut().filter(|stay| stay.to.is_none()) {
                stay.to = Some(at - origin);
            }
            // One that is destroyed is no more.
            if state != State::Destroyed {
                life.push(Stay { state, from: at - origin, to: None });
            }
        }
        let goes_on = lives.values().flatten().any(|stay| stay.to.is_none());
        let last = if goes_on { events().next_back()?.0 } else { changes().next_back()?.0 };
        Some(Self { lives, since, range: (first - origin, last - origin) })
    }

    fn figure(&self) -> Figure {
        let (begin, end) = self.range;
        let values = (seconds(begin), seconds(end.max(begin + 1)));
        let axis = Axis { pixels: (LEFT_OF_NAMES, WIDTH - 16.0), values };
        let top = TOP + LEGEND;
        let bottom = top + self.lives.len() as f64 * ROW;
        let body = html! {
            @for (x, words, class) in self.legend() {
                rect class=(class) x=(n(x)) y="2" width="12" height="12" rx="2" {}
                text .f-ink x=(n(x + 18.0)) y="12" { (words) }
            }
            (axis.below(top, bottom, self.since))
            @for (index, (name, life)) in self.lives.iter().enumerate() {
                @let y = top + index as f64 * ROW;
                g data-microvm=(name) {
                    text .f-ink x="0" y=(n(y + ROW / 2.0 + 4.0)) { (short(name, LEFT_OF_NAMES)) }
                    @for stay in life {
                        @let (from, to) = (axis.at(seconds(stay.from)), axis.at(seconds(stay.to.unwrap_or(end))));
                        rect class=(class(stay.state)) data-state=(stay.state) x=(n(from)) y=(n(y + 5.0))
                            width=(n((to - from).max(1.5))) height=(n(ROW - 10.0)) {}
                    }
                }
            }
        };
        let row = |name: &str, stay: &Stay| {
            vec![
                html! { (name) },
                html! { (stay.state) },
                html! { (format!("{:.3}", seconds(stay.from))) },
                html! { @if let Some(to) = stay.to { (format!("{:.3}", seconds(to))) } @else { "the end" } },
            ]
        };
        let words = |(name, life): (&String, &Vec<Stay>)| {
            let states: Vec<&str> = life.iter().map(|stay| stay.state.name()).collect();
            format!("{name}: {}. ", states.join(", "))
        };
        let rows = self.lives.iter().flat_map(|(name, life)| life.iter().map(move |stay| row(name, stay)));
        let many = self.lives.len();
        Figure {
            picture: Picture {
                name: "timeline-microvms".into(),
                title: "Lives of microVMs".into(),
                description: self.lives.iter().map(words).collect(),
                width: WIDTH,
                height: bottom + 44.0,
                body,
            },
            caption: html! {
                (many) @if many == 1 { " microVM" } @else { " microVMs" } ", each with the states that it was in, by the guest's clock."
            },
            table: Table {
                head: vec![("MicroVM", false), ("State", false), ("From, s", true), ("To, s", true)],
                rows: rows.collect(),
            },
            is_chart: true,
        }
    }

    /// For each look that there is: where it stands, the states, and how they are drawn.
    fn legend(&self) -> Vec<(f64, String, &'static str)> {
        let is_there = |state: &State| self.lives.values().flatten().any(|stay| stay.state == *state);
        let mut x = LEFT_OF_NAMES;
        let mut legend = Vec::new();
        for (states, class) in LOOKS {
            let names: Vec<&str> =
                states.iter().filter(|state| is_there(state)).map(|state| state.name()).collect();
            if !names.is_empty() {
                let words = names.join(", ");
                let width = BESIDE + words.len() as f64 * LETTER;
                legend.push((x, words, class));
                x += width;
            }
        }
        legend
    }
}

fn class(state: State) -> &'static str {
    LOOKS.iter().find(|(states, _)| states.contains(&state)).map_or("f-rule", |(_, class)| class)
}

fn seconds(time: Time) -> f64 {
    time as f64 / 1e9
}
