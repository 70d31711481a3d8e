//! lldpd: one per node that speaks LLDP, and what it has heard.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fixture::lldp::{self, Neighbour};
use fixture::scenario::Scenario;

use crate::child::{self, Daemon};
use crate::clock;
use crate::plan::{NodePlan, lldpd_socket};
use crate::scene::Scene;
use crate::tools::{SOON, Tool, Tools};
use crate::work;

/// Where Debian's lldpd locks up its unprivileged half.
const CHROOT: &str = "/run/lldpd";

/// How often a node is asked for its neighbours: each question is a process.
const POLL: Duration = Duration::from_millis(250);

/// lldpd of a node.
#[derive(Debug)]
pub struct Lldpd {
    node: String,
    daemon: Daemon,
}

impl Lldpd {
    /// Starts it in its node's namespaces.
    pub fn start(plan: &NodePlan, config: &str, scene: &Scene, tools: &Tools) -> Result<Self> {
        fs::create_dir_all(CHROOT).with_context(|| format!("making {CHROOT}"))?;
        let node = plan.name.clone();
        let file = work::write_raw(&format!("plan/{node}.lldpd"), config)?;
        let log = work::raw(&format!("lldp/{node}.log"))?;
        let (socket, file) = (lldpd_socket(&node), file.to_string_lossy());
        // -d: in the foreground, since it tells of fatal errors only there.
        let argv = tools.command(Tool::Lldpd, ["-d", "-u", &socket.to_string_lossy(), "-O", &file]);
        let daemon = scene.node(&node).enter(|| Daemon::start(&argv, &log))?;
        Ok(Self { node, daemon })
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemon.check()
    }

    /// Asks for the neighbours; keeps the answer as evidence. Nothing if the daemon does not listen yet.
    pub fn neighbours(&mut self, tools: &Tools) -> Result<Option<Vec<Neighbour>>> {
        self.daemon.check()?;
        let socket = lldpd_socket(&self.node);
        if !Path::new(&socket).exists() {
            return Ok(None);
        }
        let argv = tools.command(
            Tool::Lldpcli,
            ["-u", &socket.to_string_lossy(), "-f", "json0", "show", "neighbors", "details"],
        );
        let answer = child::run(&argv, SOON)?;
        let file = work::write_raw(&format!("lldp/{}.json0", self.node), &answer)?;
        lldp::read(&answer).map(Some).with_context(|| format!("reading {}", file.display()))
    }
}

/// Waits until every node has seen each of its neighbours; gives how many there are.
pub fn wait_for_neighbours(
    lldpds: &mut [Lldpd],
    scenario: &Scenario,
    tools: &Tools,
    within: Duration,
) -> Result<usize> {
    let expected = scenario.neighbours();
    for lldpd in lldpds {
        let of_node = |port| scenario.port(port).is_some_and(|(node, _)| node.name == lldpd.node);
        let mut waiting: Vec<_> = expected.iter().filter(|neighbour| of_node(neighbour.port)).collect();
        clock::wait_until(within, POLL, || {
            let seen = lldpd.neighbours(tools)?.unwrap_or_default();
            waiting.retain(|expected| !seen.iter().any(|neighbour| is(neighbour, expected)));
            let missing = || {
                let names: Vec<_> =
                    waiting.iter().map(|n| format!("{} of {} on {}", n.peer_port, n.peer, n.port)).collect();
                format!("{} has not seen by LLDP: {}", lldpd.node, names.join("; "))
            };
            Ok(if waiting.is_empty() { Ok(()) } else { Err(missing()) })
        })?;
    }
    Ok(expected.len())
}

/// Asks every node once more; gives all neighbours of all nodes, in the order of their interfaces.
pub fn collect(lldpds: &mut [Lldpd], tools: &Tools) -> Result<Vec<Neighbour>> {
    let mut all = Vec::new();
    for lldpd in lldpds {
        let seen = lldpd.neighbours(tools)?;
        all.extend(seen.with_context(|| format!("lldpd of {} does not listen any more", lldpd.node))?);
    }
    sort(&mut all);
    Ok(all)
}

/// In the order of their interfaces, whoever was asked first.
pub fn sort(neighbours: &mut [Neighbour]) {
    neighbours.sort_by(|a, b| {
        (&a.interface, &a.chassis.id, &a.port.id).cmp(&(&b.interface, &b.chassis.id, &b.port.id))
    });
}

fn is(seen: &Neighbour, expected: &fixture::scenario::derive::Neighbour) -> bool {
    seen.interface == expected.port.as_str()
        && seen.chassis.name.as_deref() == Some(expected.peer)
        && seen.port.id.value == expected.peer_port.as_str()
}
