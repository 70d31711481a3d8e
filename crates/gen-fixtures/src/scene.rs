//! The scene: every node's namespaces, links, VLANs and schedules, built as the plan says.

use std::time::Duration;

use anyhow::{Context, Result};
use fixture::scenario::{Node, Scenario};

use crate::child;
use crate::clock;
use crate::events::Events;
use crate::netns::Namespace;
use crate::plan::{Batch, NodePlan, Plan};
use crate::tools::{SOON, Tool, Tools};
use crate::work;

/// How long a link takes to have carrier once both its ends are up.
const CARRIER: Duration = Duration::from_secs(30);

/// The nodes. Dropped, they go with all that was built in them.
#[derive(Debug)]
pub struct Scene {
    nodes: Vec<Namespace>,
}

impl Scene {
    /// Builds everything.
    pub fn build(plan: &Plan, tools: &Tools, events: &Events) -> Result<Self> {
        let nodes = plan.nodes.iter().map(|node| Namespace::create(&node.name)).collect::<Result<_>>()?;
        let scene = Self { nodes };
        batch(tools, Tool::Ip, "links", &plan.links)?;
        for (node, plan) in scene.nodes.iter().zip(&plan.nodes) {
            node.enter(|| {
                batch(tools, Tool::Ip, &plan.name, &plan.ip)?;
                batch(tools, Tool::Bridge, &plan.name, &plan.bridge)
            })
            .with_context(|| format!("building {}", plan.name))?;
        }
        events.note("links are up");
        scene.wait_for_carrier(&plan.nodes)?;
        events.note("every port has carrier");
        for (node, plan) in scene.nodes.iter().zip(&plan.nodes) {
            node.enter(|| batch(tools, Tool::Tc, &plan.name, &plan.tc))
                .with_context(|| format!("scheduling the ports of {}", plan.name))?;
        }
        clock::sleep(until_in_force(&plan.nodes));
        Ok(scene)
    }

    /// Builds the one node that this machine is, whose interfaces have their ports' names already.
    pub fn own(plan: &NodePlan, tools: &Tools) -> Result<Self> {
        let scene = Self { nodes: vec![Namespace::own(&plan.name)?] };
        batch(tools, Tool::Ip, &plan.name, &plan.ip)?;
        scene.wait_for_carrier(std::slice::from_ref(plan))?;
        batch(tools, Tool::Tc, &plan.name, &plan.tc)?;
        clock::sleep(until_in_force(std::slice::from_ref(plan)));
        Ok(scene)
    }

    /// Whether the node is here, and not in another machine.
    pub fn has(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name() == name)
    }

    /// A node's namespaces.
    pub fn node(&self, name: &str) -> &Namespace {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.expect("the plan names only nodes of its own scenario")
    }

    /// Waits until the spanning tree has decided about every port: before it has, no frame of a stream passes.
    pub fn wait_for_spanning_tree(&self, scenario: &Scenario, tools: &Tools) -> Result<()> {
        let within = scenario.convergence_timeout.duration();
        let with_stp = |node: &&Node| node.bridge.as_ref().is_some_and(|bridge| bridge.stp);
        let argv = tools.command(Tool::Bridge, ["-j", "link", "show"]);
        for node in scenario.nodes.iter().filter(with_stp) {
            clock::wait_until(within, POLL, || {
                let said = self.node(&node.name).enter(|| Ok(child::run(&argv, SOON)?))?;
                let ports: Vec<serde_json::Value> =
                    serde_json::from_slice(&said).context("reading what bridge says of its ports")?;
                let passing: Vec<_> = ports.iter().filter(|port| is_passing(port)).collect();
                let missing = || format!("{}: {} ports do not forward yet", node.name, passing.len());
                Ok(if passing.is_empty() { Ok(()) } else { Err(missing()) })
            })?;
        }
        Ok(())
    }

    fn wait_for_carrier(&self, plans: &[NodePlan]) -> Result<()> {
        for (node, plan) in self.nodes.iter().zip(plans) {
            let ports: Vec<&str> = plan.ports.iter().map(String::as_str).collect();
            clock::wait_until(CARRIER, Duration::from_millis(2), || {
                let waiting = node.without_carrier(&ports)?;
                let missing = || format!("{}: no carrier on {}", plan.name, waiting.join(", "));
                Ok(if waiting.is_empty() { Ok(()) } else { Err(missing()) })
            })?;
        }
        Ok(())
    }
}

/// How long from now every schedule is in force. Before, all gates are open (`taprio_dequeue` in
/// net/sched/sch_taprio.c). One begins with the first whole cycle after it was given to the kernel, and one that takes
/// the place of another when a cycle of that ends.
fn until_in_force(plans: &[NodePlan]) -> Duration {
    2 * plans.iter().map(|plan| plan.longest_cycle.duration()).max().unwrap_or_default()
}

/// The states of a bridge port from which the spanning tree still moves it on.
const PASSING_STATES: [&str; 2] = ["listening", "learning"];

/// How often bridges are asked for the states of their ports: each question is a process.
const POLL: Duration = Duration::from_millis(250);

/// A port as `bridge -j link show` tells of it.
fn is_passing(port: &serde_json::Value) -> bool {
    port["state"].as_str().is_some_and(|state| PASSING_STATES.contains(&state))
}

/// Gives a list of commands to one of iproute2's tools, in one process; it stops at the first that fails and
/// names its line.
pub fn batch(tools: &Tools, tool: Tool, name: &str, commands: &Batch) -> Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let file = work::write_raw(&format!("plan/{name}.{}", tool.name()), commands.join("\n") + "\n")?;
    child::run(&tools.command(tool, ["-batch", &file.to_string_lossy()]), SOON)?;
    Ok(())
}
