//! What will be done, as plain text before anything is done: the command lists for ip, bridge and tc and the
//! configuration of every daemon. All of it follows from the scenario and the seed alone.

mod lldp;
mod netem;
pub mod perturb;
mod ports;
mod ptp;
mod schedule;
mod splitmix;

use std::path::{Path, PathBuf};

use fixture::scenario::{Node, NodeKind, Role, Scenario};
use fixture::value::{Nanos, PortName};

use self::perturb::Perturbation;

/// The scratch folder of a run.
pub const WORK: &str = "/run/fixture-vm";

/// A list of commands, one a line, for the `-batch` option of iproute2's tools.
pub type Batch = Vec<String>;

/// The plan of a scene.
#[derive(Debug)]
pub struct Plan {
    /// ip(8): veth pairs, each end made in its node's namespace.
    pub links: Batch,
    /// The nodes that are namespaces, in the scenario's order.
    pub nodes: Vec<NodePlan>,
    /// What the seed varies.
    pub perturbation: Perturbation,
}

/// The plan of a node.
#[derive(Debug)]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// Its ports that are veth, in the scenario's order.
    pub ports: Vec<String>,
    /// ip(8): TAPs of microVMs, bridge, VLAN interfaces, everything up.
    pub ip: Batch,
    /// bridge(8): VLANs of bridge ports.
    pub bridge: Batch,
    /// tc(8): classifiers, schedules and netem. To be done once every link has carrier: a schedule whose link goes
    /// away under it stands still.
    pub tc: Batch,
    /// The longest cycle of a schedule in `tc`; zero without one.
    pub longest_cycle: Nanos,
    /// Configuration of lldpd, as lldpcli(8) reads it.
    pub lldpd: Option<String>,
    /// Configuration of ptp4l(8).
    pub ptp4l: Option<String>,
}

impl Plan {
    /// The plan of a scenario with a seed.
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let perturbation = Perturbation::of(scenario, seed);
        let mut netem_seeds = perturbation.netem.iter().copied();
        let nodes = scenario.nodes.iter().filter_map(|node| {
            let netem = netem::commands(scenario, node, &mut netem_seeds);
            (node.kind == NodeKind::Namespace).then(|| NodePlan::of(scenario, node, netem))
        });
        Self { links: ports::links(scenario), nodes: nodes.collect(), perturbation }
    }

    /// The plan of a machine that is this node of the scenario and nothing else.
    pub fn of_microvm(scenario: &Scenario, node: &Node, seed: u64) -> Self {
        let all = Perturbation::of(scenario, seed);
        let starts = all.microvm(&node.name).map_or(Vec::new(), |microvm| microvm.starts.clone());
        let perturbation = Perturbation { starts, ..all };
        let nodes = vec![NodePlan::of(scenario, node, Batch::new())];
        Self { links: Batch::new(), nodes, perturbation }
    }
}

impl NodePlan {
    fn of(scenario: &Scenario, node: &Node, netem: Batch) -> Self {
        Self {
            name: node.name.clone(),
            ports: (node.ports.iter().map(|port| &port.name))
                .filter(|port| !scenario.is_tap(port))
                .map(PortName::to_string)
                .collect(),
            ip: ports::interfaces(scenario, node),
            bridge: ports::bridge_vlans(node),
            tc: schedule::commands(node).into_iter().chain(netem).collect(),
            longest_cycle: schedule::longest_cycle(node),
            lldpd: node.lldp.as_ref().map(|settings| lldp::config(node, settings)),
            ptp4l: node.gptp.as_ref().map(|settings| ptp::config(node, settings)),
        }
    }
}

/// lldpd's control socket of a node.
pub fn lldpd_socket(node: &str) -> PathBuf {
    Path::new(WORK).join(format!("lldpd/{node}.socket"))
}

/// ptp4l's control socket of a node.
pub fn ptp4l_socket(node: &str) -> PathBuf {
    Path::new(WORK).join(format!("ptp4l/{node}.socket"))
}

/// The interface through which a node sends and receives the frames of a VLAN.
pub fn vlan_interface(port: &str, vlan: u16) -> String {
    format!("{port}.{vlan}")
}

fn is_bridge(node: &Node) -> bool {
    node.role == Role::Bridge
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The whole plan as text: what a reader of a snapshot wants to see.
    fn text(plan: &Plan) -> String {
        let mut text = format!("# links\n{}\n", plan.links.join("\n"));
        for node in &plan.nodes {
            for (what, batch) in [("ip", &node.ip), ("bridge", &node.bridge), ("tc", &node.tc)] {
                if !batch.is_empty() {
                    text += &format!("\n# {}: {what}\n{}\n", node.name, batch.join("\n"));
                }
            }
            for (what, config) in [("lldpd", &node.lldpd), ("ptp4l", &node.ptp4l)] {
                if let Some(config) = config {
                    text += &format!("\n# {}: {what}\n{config}", node.name);
                }
            }
        }
        text
    }

    pub fn shipped(name: &str) -> Scenario {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios").join(name);
        let yaml = std::fs::read_to_string(path).unwrap();
        fixture::scenario::read::from_yaml(name, &yaml).unwrap()
    }

    #[test]
    fn tsn_three_node() {
        insta::assert_snapshot!(text(&Plan::of(&shipped("tsn-three-node.yaml"), 1)));
    }

    #[test]
    fn lldp_ring() {
        insta::assert_snapshot!(text(&Plan::of(&shipped("lldp-ring.yaml"), 1)));
    }

    #[test]
    fn vlan_trunk() {
        insta::assert_snapshot!(text(&Plan::of(&shipped("vlan-trunk.yaml"), 1)));
    }

    #[test]
    fn microvm_pool() {
        insta::assert_snapshot!(text(&Plan::of(&shipped("microvm-pool.yaml"), 1)));
    }

    #[test]
    fn a_microvm_of_it() {
        let scenario = shipped("microvm-pool.yaml").unfolded();
        let node = scenario.nodes.iter().find(|node| node.name == "worker-1").unwrap();
        let plan = Plan::of_microvm(&scenario, node, 1);
        let starts: Vec<_> = plan.perturbation.starts.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(text(&plan) + "\n# starts\n" + &starts.join("\n"));
    }

    #[test]
    fn seed_search() {
        let scenario = shipped("seed-search.yaml");
        let plan = Plan::of(&scenario, 1);
        insta::assert_snapshot!(text(&plan) + "\n# perturbation\n" + &plan.perturbation.text(&scenario));
    }
}
