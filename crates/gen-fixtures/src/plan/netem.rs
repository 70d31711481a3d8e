//! Links that delay and lose frames, as commands for tc(8): tc-netem(8) at each end.

use fixture::scenario::{Netem, Node, Scenario};

use super::Batch;

/// Frames that a link holds back at most. netem drops what is more without a word, so this is beyond what any
/// talker sends in the longest delay.
const LIMIT: u32 = 100_000;

/// netem for a node's ports; takes a seed for each port, also for those without.
pub fn commands(scenario: &Scenario, node: &Node, seeds: &mut impl Iterator<Item = u64>) -> Batch {
    let command = |(port, seed): (&fixture::scenario::Port, u64)| {
        let Netem { delay, jitter, loss_permille } = scenario.netem(&port.name)?;
        let loss = format!("{}.{}%", loss_permille / 10, loss_permille % 10);
        Some(format!(
            "qdisc add dev {} root netem limit {LIMIT} delay {}ns {}ns loss random {loss} seed {seed}",
            port.name, delay.0, jitter.0
        ))
    };
    node.ports.iter().zip(seeds).filter_map(command).collect()
}
