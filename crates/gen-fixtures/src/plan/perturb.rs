//! What a seed varies: when daemons start, when streams begin, the random numbers of netem, and microVMs: their
//! clocks and their daemons.
//!
//! Each of the four is drawn from a sequence of its own, and its parts in the scenario's order: a stream more
//! moves no daemon.

use std::fmt;

use fixture::scenario::{Node, NodeKind, Perturb, Scenario};
use fixture::value::{Nanos, Offset};

use super::splitmix::SplitMix64;

/// A daemon that is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// ptp4l(8)
    Ptp4l,
    /// lldpd(8)
    Lldpd,
}

/// A daemon's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which daemon.
    pub daemon: Daemon,
    /// Its node, by its place in the plan.
    pub node: usize,
    /// Its node's name.
    pub name: String,
    /// When, after the first could start.
    pub after: Nanos,
}

/// What follows from a scenario and a seed. Without `perturb` in the scenario, nothing is late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Perturbation {
    /// The daemons in the order of their starts; of those at one moment ptp4l, which takes longer to converge,
    /// goes first.
    pub starts: Vec<Start>,
    /// How much later than the scenario says each stream begins, in the scenario's order.
    pub streams: Vec<Nanos>,
    /// The seed of netem at each port, in the scenario's order, whether it has a netem or not.
    pub netem: Vec<u64>,
    /// The microVMs, in the scenario's order.
    pub microvms: Vec<MicroVm>,
}

/// What the seed does to a microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroVm {
    /// Its node's name.
    pub name: String,
    /// How far its clock is ahead of where the scenario puts it.
    pub clock: Offset,
    /// Its daemons, after its own first could start.
    pub starts: Vec<Start>,
}

impl MicroVm {
    fn draw(node: &Node, bounds: &Perturb, numbers: &mut SplitMix64) -> Self {
        let clock = Offset(numbers.up_to(2 * bounds.clock_offset.0) as i64 - bounds.clock_offset.0 as i64);
        let daemons = [(Daemon::Ptp4l, node.gptp.is_some()), (Daemon::Lldpd, node.lldp.is_some())];
        // Both are drawn, so that a daemon more moves no other.
        let drawn = daemons.map(|(daemon, wanted)| (daemon, wanted, Nanos(numbers.up_to(bounds.start.0))));
        let wanted = drawn.into_iter().filter(|(_, wanted, _)| *wanted);
        let start = |(daemon, _, after)| Start { daemon, node: 0, name: node.name.clone(), after };
        let mut starts: Vec<_> = wanted.map(start).collect();
        starts.sort_by_key(|start| start.after);
        Self { name: node.name.clone(), clock, starts }
    }
}

impl Perturbation {
    /// What this seed does to this scenario.
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let mut seeds = SplitMix64::new(seed);
        let [mut start, mut stream, mut netem, mut microvm] =
            std::array::from_fn(|_| SplitMix64::new(seeds.next()));
        let bounds = scenario.perturb.clone().unwrap_or_default();

        let namespaces = || scenario.nodes.iter().filter(|node| node.kind == NodeKind::Namespace);
        let nodes = || namespaces().enumerate();
        let ptp4ls = nodes().filter(|(_, node)| node.gptp.is_some()).map(|node| (Daemon::Ptp4l, node));
        let lldpds = nodes().filter(|(_, node)| node.lldp.is_some()).map(|node| (Daemon::Lldpd, node));
        let starts = ptp4ls.chain(lldpds).map(|(daemon, (at, node))| Start {
            daemon,
            node: at,
            name: node.name.clone(),
            after: Nanos(start.up_to(bounds.start.0)),
        });
        let mut starts: Vec<_> = starts.collect();
        starts.sort_by_key(|start| start.after);

        let streams = scenario.streams.iter().map(|_| Nanos(stream.up_to(bounds.stream_offset.0))).collect();
        let netem = scenario.nodes.iter().flat_map(|node| &node.ports).map(|_| netem.next()).collect();
        let microvms = scenario.microvms().map(|node| MicroVm::draw(node, &bounds, &mut microvm)).collect();
        Self { starts, streams, netem, microvms }
    }

    /// What was drawn for a microVM.
    pub fn microvm(&self, name: &str) -> Option<&MicroVm> {
        self.microvms.iter().find(|microvm| microvm.name == name)
    }

    /// What was drawn, as the evidence of a run keeps it. The seeds of netem are in the commands for tc.
    pub fn text(&self, scenario: &Scenario) -> String {
        let starts = self.starts.iter().map(|start| format!("{start}\n"));
        let late = scenario.streams.iter().zip(&self.streams);
        let streams = late.map(|(stream, late)| format!("stream {} begins {late} later\n", stream.name));
        let microvms = self.microvms.iter().flat_map(|microvm| {
            let clock = format!("clock of {} begins {} ahead\n", microvm.name, microvm.clock);
            std::iter::once(clock).chain(microvm.starts.iter().map(|start| format!("{start}\n")))
        });
        starts.chain(streams).chain(microvms).collect()
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let daemon = match self.daemon {
            Daemon::Ptp4l => "ptp4l",
            Daemon::Lldpd => "lldpd",
        };
        write!(f, "{daemon} of {} starts after {}", self.name, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::shipped;

    fn perturbed() -> Scenario {
        Scenario { perturb: Some(bounds()), ..shipped("tsn-three-node.yaml") }
    }

    fn bounds() -> Perturb {
        Perturb {
            start: Nanos::micros(50_000),
            stream_offset: Nanos::micros(1_000),
            clock_offset: Nanos::micros(200),
        }
    }

    #[test]
    fn without_bounds_nothing_is_late() {
        let scenario = shipped("tsn-three-node.yaml");
        let Perturbation { starts, streams, .. } = Perturbation::of(&scenario, 7);
        let order: Vec<_> = starts.iter().map(|start| (start.daemon, start.node)).collect();
        let declared = [Daemon::Ptp4l, Daemon::Lldpd].map(|daemon| [0, 1, 2].map(|node| (daemon, node)));
        assert_eq!(order, declared.concat());
        assert!(starts.iter().all(|start| start.after == Nanos(0)));
        assert_eq!(streams, [Nanos(0); 3]);
    }

    #[test]
    fn a_seed_always_means_the_same() {
        insta::assert_snapshot!(Perturbation::of(&perturbed(), 7).text(&perturbed()));
    }

    #[test]
    fn seeds_vary_order_offsets_and_netem_within_the_bounds() {
        let scenario = perturbed();
        let all: Vec<_> = (1..=50).map(|seed| Perturbation::of(&scenario, seed)).collect();
        for one in &all {
            assert!(one.starts.iter().all(|start| start.after <= Nanos::micros(50_000)));
            assert!(one.streams.iter().all(|late| *late <= Nanos::micros(1_000)));
            assert!(one.starts.is_sorted_by_key(|start| start.after));
        }
        let different = |key: fn(&Perturbation) -> String| {
            all.iter().map(key).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert!(different(|p| p.starts.iter().map(|s| format!("{:?}{} ", s.daemon, s.node)).collect()) > 40);
        assert_eq!(different(|p| format!("{:?}", p.streams)), 50);
        assert_eq!(different(|p| format!("{:?}", p.netem)), 50);
    }

    #[test]
    fn a_stream_more_moves_no_daemon() {
        let (scenario, mut more) = (perturbed(), perturbed());
        more.streams.push(more.streams[0].clone());
        let (one, other) = (Perturbation::of(&scenario, 3), Perturbation::of(&more, 3));
        assert_eq!((&one.starts, &one.netem), (&other.starts, &other.netem));
        assert_eq!(one.streams, other.streams[..3]);
    }

    #[test]
    fn clocks_and_daemons_of_microvms_vary_either_way_and_only_within_their_bounds() {
        let scenario = shipped("microvm-gptp.yaml");
        let of = |seed, bounds| {
            let scenario = Scenario { perturb: Some(bounds), ..scenario.clone() };
            Perturbation::of(&scenario, seed).microvm("late").cloned().unwrap()
        };
        let all: Vec<_> = (1..=50).map(|seed| of(seed, bounds())).collect();
        assert!(all.iter().all(|late| late.clock.0.abs() <= 200_000));
        assert!(
            all.iter().any(|late| late.clock.0 < -50_000) && all.iter().any(|late| late.clock.0 > 50_000)
        );
        assert!(all.iter().flat_map(|late| &late.starts).all(|start| start.after <= Nanos::micros(50_000)));
        let lldpd_first = all.iter().filter(|late| late.starts[0].daemon == Daemon::Lldpd).count();
        assert!((10..40).contains(&lldpd_first), "{lldpd_first}");
        let still = of(7, Perturb::default());
        assert_eq!((still.clock, still.starts[1].after), (Offset(0), Nanos(0)));
    }
}
