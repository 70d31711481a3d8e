//! The network as declared, and beside it as LLDP saw it.

use fixture::survey::Survey;
use maud::{Markup, html};

use super::figure::{Figure, Section, Table};
use super::layout;
use super::links::{End, Link, Network, Verdict, network};
use super::svg::{Picture, n};

const BOX: f64 = 40.0;
const MARGIN: f64 = 26.0;
/// Width of a letter of a port's label, and of a node's name.
const LETTER: f64 = 6.8;
const NAME_LETTER: f64 = 8.2;

/// Which of the two networks is drawn.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Declared,
    Seen,
}

/// The section; nothing if the set has neither a scenario nor neighbours.
pub fn section(survey: &Survey) -> Option<Section> {
    let scenario = survey.scenario.as_ref().map(|scenario| scenario.unfolded());
    let neighbours = survey.neighbours.as_deref();
    let network = network(scenario.as_ref(), neighbours.unwrap_or_default());
    if network.nodes.is_empty() {
        return None;
    }
    let place = Places::of(&network);
    let mut figures = Vec::new();
    if scenario.is_some() {
        figures.push(figure(&network, &place, Side::Declared));
    }
    if neighbours.is_some_and(|neighbours| !neighbours.is_empty()) {
        figures.push(figure(&network, &place, Side::Seen));
    }
    let lead = match (scenario.is_some(), neighbours, network.differences()) {
        (true, Some([]), _) => {
            html! { p { "No neighbour was seen by LLDP, so only what the scenario declares is drawn." } }
        }
        (true, Some(_), 0) => {
            html! { p { "At the end LLDP saw every link that the scenario declares between nodes that speak it then, and no other." } }
        }
        (true, Some(_), n) => {
            html! { p { strong .bad-text { (n) @if n == 1 { " link differs" } @else { " links differ" } } " between what the scenario declares and what LLDP saw." } }
        }
        (true, None, _) => {
            html! { p { "The set has no LLDP neighbours, so only what the scenario declares is drawn." } }
        }
        (false, _, _) => html! { p { "The set has no scenario, so only what LLDP saw is drawn." } },
    };
    Some(Section { id: "topology", title: "Topology", lead, figures: vec![(None, figures)], rest: html! {} })
}

/// Places in pixels.
struct Places {
    at: Vec<(f64, f64)>,
    widths: Vec<f64>,
    size: (f64, f64),
}

impl Places {
    fn of(network: &Network) -> Self {
        let pairs: Vec<_> = network.links.iter().map(|link| (link.ends[0].node, link.ends[1].node)).collect();
        let width = |node: &super::links::Node| {
            let role = node.role.map_or(0.0, |role| role.len() as f64 * 6.2);
            (node.name.chars().count() as f64 * NAME_LETTER).max(role).max(44.0) + 22.0
        };
        let widths: Vec<f64> = network.nodes.iter().map(width).collect();
        let widest = widths.iter().copied().fold(0.0, f64::max);
        let ports = network.links.iter().flat_map(|link| &link.ends);
        let label = ports.map(|end| end.port.len() as f64 * LETTER).fold(0.0, f64::max);
        let length = widest + label + 40.0;
        let at: Vec<_> = layout::places(network.nodes.len(), &pairs)
            .into_iter()
            .map(|(x, y)| (x * length, y * length * 0.8))
            .collect();
        let least = |pick: fn(&(f64, f64)) -> f64| at.iter().map(pick).fold(f64::INFINITY, f64::min);
        let (left, top) = (least(|place| place.0), least(|place| place.1));
        let (dx, dy) = (widest / 2.0 + MARGIN - left, BOX / 2.0 + MARGIN - top);
        let at: Vec<_> = at.into_iter().map(|(x, y)| (x + dx, y + dy)).collect();
        let most = |pick: fn(&(f64, f64)) -> f64| at.iter().map(pick).fold(0.0, f64::max);
        let size =
            (most(|place| place.0) + widest / 2.0 + MARGIN, most(|place| place.1) + BOX / 2.0 + MARGIN);
        Self { at, widths, size }
    }

    /// Where a line from a node towards a direction leaves its box.
    fn leaves(&self, node: usize, (ux, uy): (f64, f64)) -> f64 {
        let across = if ux.abs() < 1e-6 { f64::INFINITY } else { self.widths[node] / 2.0 / ux.abs() };
        let along = if uy.abs() < 1e-6 { f64::INFINITY } else { BOX / 2.0 / uy.abs() };
        across.min(along)
    }
}

fn figure(network: &Network, place: &Places, side: Side) -> Figure {
    let shown = network.links.iter().filter(|link| side == Side::Seen || link.is_declared);
    let links: Vec<&Link> = shown.collect();
    let seen = links.iter().filter(|link| link.is_seen()).count();
    let declared = network.nodes.iter().filter(|node| node.role.is_some()).count();
    let (name, title, description, caption) = match side {
        Side::Declared => (
            "topology-declared",
            "The network as declared",
            format!("{} nodes and {} links of the scenario.", declared, links.len()),
            html! { "As the scenario declares it." },
        ),
        Side::Seen => (
            "topology-seen",
            "The network as LLDP saw it",
            format!(
                "{seen} links seen, {} of them from both ends; {} differ from what was declared.",
                links.iter().filter(|link| link.sees == [true, true]).count(),
                network.differences()
            ),
            html! { "As LLDP saw it. " (legend(&links)) },
        ),
    };
    let body = html! {
        @for link in &links { (draw_link(network, place, link, side)) }
        @for (index, node) in network.nodes.iter().enumerate() {
            @let ((x, y), width) = (place.at[index], place.widths[index]);
            @let shown = match side { Side::Declared => node.role.is_some(), Side::Seen => node.is_seen };
            @let undeclared = node.role.is_none();
            @if shown || side == Side::Seen {
                g {
                    rect .f-wash.thick .s-bad[undeclared] .s-line[!undeclared] .dash[!shown] rx="6" x=(n(x - width / 2.0))
                        y=(n(y - BOX / 2.0)) width=(n(width)) height=(n(BOX)) {}
                    text .f-ink.strong.mid x=(n(x)) y=(n(if node.role.is_some() { y - 2.0 } else { y + 4.0 })) { (node.name) }
                    @if let Some(role) = node.role { text .f-soft.small.mid x=(n(x)) y=(n(y + 13.0)) { (role) } }
                }
            }
        }
        // After the boxes, so that none hides a label.
        @for link in &links { (label(place, &link.ends[0], &link.ends[1])) (label(place, &link.ends[1], &link.ends[0])) }
    };
    let rows = links.iter().map(|link| row(network, link, side)).collect();
    let head = match side {
        Side::Declared => vec![("Port", false), ("Node", false), ("Port", false), ("Node", false)],
        Side::Seen => vec![
            ("Port", false),
            ("Node", false),
            ("Port", false),
            ("Node", false),
            ("Sees the other", true),
            ("Compared", false),
        ],
    };
    Figure {
        picture: Picture {
            name: name.into(),
            title: title.into(),
            description,
            width: place.size.0,
            height: place.size.1,
            body,
        },
        caption,
        table: Table { head, rows },
        is_chart: false,
    }
}

fn legend(links: &[&Link]) -> Markup {
    let has = |verdict: Verdict| links.iter().any(|link| link.verdict() == verdict);
    html! {
        @if has(Verdict::Unseen) { "Dashed: declared and not seen. " }
        @if has(Verdict::OneWay) { "With one arrow: seen from one end only. " }
        @if has(Verdict::Undeclared) { "With a label: not declared. " }
        @if has(Verdict::Silent) { "Faint: LLDP did not run at both ends at the end, so that nothing could be seen." }
    }
}

fn row(network: &Network, link: &Link, side: Side) -> Vec<Markup> {
    let [a, b] = &link.ends;
    let name = |end: &End| html! { (network.nodes[end.node].name) };
    let mut cells = vec![html! { (a.port) }, name(a), html! { (b.port) }, name(b)];
    if side == Side::Seen {
        let sees = link.sees.iter().filter(|sees| **sees).count();
        cells.push(html! { (sees) " of 2" });
        cells.push(html! { (link.verdict().name()) });
    }
    cells
}

fn draw_link(network: &Network, place: &Places, link: &Link, side: Side) -> Markup {
    let [a, b] = &link.ends;
    let ((x1, y1), (x2, y2)) = (place.at[a.node], place.at[b.node]);
    let length = (x2 - x1).hypot(y2 - y1);
    if length < 1.0 {
        return html! {};
    }
    let (ux, uy) = ((x2 - x1) / length, (y2 - y1) / length);
    let (from, to) = (place.leaves(a.node, (ux, uy)), length - place.leaves(b.node, (ux, uy)));
    let point = |along: f64, beside: f64| (x1 + ux * along - uy * beside, y1 + uy * along + ux * beside);
    let verdict = link.verdict();
    let is_bad = side == Side::Seen && verdict.is_difference();
    let is_faint = side == Side::Seen && verdict == Verdict::Silent;
    let class = match (side, is_bad, is_faint) {
        (_, true, _) => "s-bad",
        (_, _, true) => "s-rule",
        (Side::Seen, ..) => "s-k0",
        (Side::Declared, ..) => "s-line",
    };
    let dashed = side == Side::Seen && !link.is_seen() && verdict == Verdict::Unseen;
    let ((ax, ay), (bx, by)) = (point(from, 0.0), point(to, 0.0));
    let middle = point((from + to) / 2.0, 0.0);
    html! {
        g data-link={ (network.nodes[a.node].name) " " (network.nodes[b.node].name) } data-verdict=(verdict.name()) {
            line class={ "thick " (class) (if dashed { " dash" } else { "" }) } x1=(n(ax)) y1=(n(ay)) x2=(n(bx)) y2=(n(by)) {}
            @if side == Side::Seen && verdict == Verdict::OneWay {
                // The arrow points at the end that is seen.
                @let (tip, back) = if link.sees[0] { (to, to - 9.0) } else { (from, from + 9.0) };
                @let (t, l, r) = (point(tip, 0.0), point(back, 5.0), point(back, -5.0));
                path .f-bad d={ "M" (n(t.0)) " " (n(t.1)) "L" (n(l.0)) " " (n(l.1)) "L" (n(r.0)) " " (n(r.1)) "Z" } {}
            }
            @if is_bad {
                text .f-bad.small.mid.halo.s-paper x=(n(middle.0)) y=(n(middle.1 + 4.0)) { (verdict.name()) }
            }
        }
    }
}

/// The name of a port, beside its link and just outside of its node's box. Seen from either end labels stand on
/// the same hand, so that the two of a link never meet.
fn label(place: &Places, end: &End, other: &End) -> Markup {
    const CLEAR: f64 = 4.0;
    let ((x, y), (to_x, to_y)) = (place.at[end.node], place.at[other.node]);
    let length = (to_x - x).hypot(to_y - y);
    if length < 1.0 {
        return html! {};
    }
    let (ux, uy) = ((to_x - x) / length, (to_y - y) / length);
    let (nx, ny) = (uy, -ux);
    let (half_width, half_height) = (end.port.len() as f64 * LETTER / 2.0, 6.0);
    // As far beside the line as the label reaches towards it.
    let beside = half_width * nx.abs() + half_height * ny.abs() + CLEAR;
    // As far along it that the label is clear of the edge through which the line leaves the box.
    let leaves = place.leaves(end.node, (ux, uy));
    let is_side = (ux * leaves).abs() >= place.widths[end.node] / 2.0 - 0.01;
    let (u, n_out, half) = match is_side {
        true => (ux.abs(), nx * ux.signum(), half_width),
        false => (uy.abs(), ny * uy.signum(), half_height),
    };
    let along = leaves + ((half + CLEAR - beside * n_out) / u).max(0.0);
    let (lx, ly) = (x + ux * along + nx * beside, y + uy * along + ny * beside);
    html! { text .mono.f-soft.halo.s-paper.mid x=(n(lx)) y=(n(ly + 4.0)) { (end.port) } }
}
