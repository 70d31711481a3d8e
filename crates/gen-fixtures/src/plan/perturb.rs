//! What a seed varies: when daemons start, when streams begin, and the random numbers of netem.
//!
//! Each of the three is drawn from a sequence of its own, and its parts in the scenario's order: a stream more
//! moves no daemon.

use std::fmt;

use fixture::scenario::Scenario;
use fixture::value::Nanos;

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
    /// Its node, by its place in the scenario.
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
}

impl Perturbation {
    /// What this seed does to this scenario.
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let mut seeds = SplitMix64::new(seed);
        let [mut start, mut stream, mut netem] = std::array::from_fn(|_| SplitMix64::new(seeds.next()));
        let bounds = scenario.perturb.clone().unwrap_or_default();

        let nodes = || scenario.nodes.iter().enumerate();
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
        Self { starts, streams, netem }
    }

    /// What was drawn, as the evidence of a run keeps it. The seeds of netem are in the commands for tc.
    pub fn text(&self, scenario: &Scenario) -> String {
        let starts = self.starts.iter().map(|start| format!("{start}\n"));
        let late = scenario.streams.iter().zip(&self.streams);
        let streams = late.map(|(stream, late)| format!("stream {} begins {late} later\n", stream.name));
        starts.chain(streams).collect()
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
    use fixture::scenario::Perturb;

    fn perturbed() -> Scenario {
        let bounds = Perturb { start: Nanos::micros(50_000), stream_offset: Nanos::micros(1_000) };
        Scenario { perturb: Some(bounds), ..shipped("tsn-three-node.yaml") }
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
}
