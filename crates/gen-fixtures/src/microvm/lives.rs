//! The microVMs of a run: brought up, waited for, kept as their pools want them, asked at the end, torn down.

use std::time::Duration;

use anyhow::{Context, Result};
use fixture::gptp::Gptp;
use fixture::lldp::{self, Neighbour};
use fixture::scenario::{Node, Scenario};

use super::fault::Faulty;
use super::machines::Machinery;
use crate::clock;
use crate::cmdline::CommandLine;
use crate::events::Events;
use crate::gptp;
use crate::pools::Manager;
use crate::scene::Scene;
use crate::work;

/// How often agents are asked what their daemons have seen.
const POLL: Duration = Duration::from_millis(500);

/// All microVMs, and who manages them.
pub struct MicroVms<'a> {
    network: &'a Scenario,
    manager: Manager<'a, Faulty<'a>>,
}

impl<'a> MicroVms<'a> {
    /// Brings them up as their pools want them at first; nothing if there are none. The command line tells of the
    /// guest's own root, which they share.
    pub fn start(
        network: &'a Scenario,
        seed: u64,
        scene: &'a Scene,
        line: &CommandLine,
        events: &Events,
    ) -> Result<Option<Self>> {
        if network.microvms().next().is_none() {
            return Ok(None);
        }
        let machinery = Machinery::new(network, seed, scene, line.root.as_ref(), events)?;
        let machines = Faulty { machinery, faults: line.microvm_faults.clone() };
        let manager = Manager::new(network, machines, &Machinery::folder())?;
        let mut microvms = Self { network, manager };
        microvms.settle()?;
        if microvms.manager.machines().loses_manager() {
            microvms = microvms.managed_anew()?;
        }
        Ok(Some(microvms))
    }

    fn settle(&mut self) -> Result<()> {
        let settled = self.manager.settle(self.network.convergence_timeout.duration());
        self.or_with_leaks(settled)
    }

    /// The same microVMs under another manager, that knows of them what is on record.
    fn managed_anew(self) -> Result<Self> {
        let mut machines = self.manager.into_machines();
        machines.machinery.forget();
        let manager = Manager::new(self.network, machines, &Machinery::folder())?;
        let mut microvms = Self { network: self.network, manager };
        microvms.settle()?;
        Ok(microvms)
    }

    /// What came of managing; a failure is told with what those that do not run have left behind.
    fn or_with_leaks(&mut self, result: Result<()>) -> Result<()> {
        let Err(error) = result else { return Ok(()) };
        let machinery = &self.manager.machines().machinery;
        let left = machinery.leaks()?;
        if !left.is_empty() {
            return Err(error.context(format!("left behind: {}", left.join("; "))));
        }
        machinery.events.note("of microVMs that do not run nothing is left");
        Err(error)
    }

    /// Waits until each node that is always there has seen its neighbours and, if it follows, measured its offset.
    pub fn converge(&mut self) -> Result<()> {
        self.wait_until_seen(1)
    }

    /// Waits until each following port has so many samples.
    pub fn wait_for_samples(&mut self, least: u32) -> Result<()> {
        self.wait_until_seen(least)
    }

    fn wait_until_seen(&mut self, least: u32) -> Result<()> {
        let network = self.network;
        for node in network.microvms().filter(|node| node.instance.is_none()) {
            clock::wait_until(network.convergence_timeout.duration(), POLL, || {
                let missing = missing(network, node, least, &mut self.manager.machines().machinery)?;
                Ok(if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) })
            })
            .with_context(|| format!("waiting for {}", node.name))?;
        }
        Ok(())
    }

    /// Tells every agent what is to happen, and from when on.
    pub fn tell_course(&mut self, start_ns: u64, scenario: &Scenario) -> Result<()> {
        self.manager.machines().machinery.traffic(start_ns, scenario.parted().1)
    }

    /// Takes the steps of the scenario, each at its time.
    pub fn live(&mut self, start_ns: u64, scenario: &Scenario) -> Result<()> {
        let within = self.network.convergence_timeout.duration();
        let ran = self.manager.run(start_ns, scenario.duration.duration(), within);
        self.or_with_leaks(ran)
    }

    /// Has the agents hand over what their tools said, adds it to the documents, and tears all microVMs down, of
    /// which nothing may be left.
    pub fn collect(mut self, neighbours: &mut Vec<Neighbour>, synchronisation: &mut Gptp) -> Result<()> {
        for name in self.manager.machines().machinery.results()? {
            let heard = work::raw(&format!("lldp/{name}.json0"))?;
            if heard.exists() {
                let text = std::fs::read(&heard).with_context(|| format!("reading {}", heard.display()))?;
                let read = lldp::read(&text).with_context(|| format!("reading {}", heard.display()))?;
                neighbours.extend(read);
            }
            gptp::add_from_microvm(synchronisation, self.network, &name)?;
        }
        self.manager.machines().machinery.tell_memory();
        self.manager.tear_down()?;
        self.manager.machines().machinery.assert_nothing_left()
    }
}

/// What a node has not seen yet.
fn missing(network: &Scenario, node: &Node, least: u32, machines: &mut Machinery) -> Result<Vec<String>> {
    let is_here = |port| network.port(port).is_some_and(|(of, _)| of.name == node.name);
    let seen = machines.seen(&node.name)?;
    let mut missing = Vec::new();
    for port in network.gptp_followers().into_iter().filter(|port| is_here(*port)) {
        let follows = seen.followers.iter().find(|follows| follows.port == *port);
        let samples =
            follows.filter(|follows| follows.grandmaster.is_some()).map_or(0, |follows| follows.samples);
        if samples < least {
            missing.push(format!("{port} has {samples} of {least} samples"));
        }
    }
    for expected in network.neighbours().into_iter().filter(|neighbour| is_here(neighbour.port)) {
        let heard = seen.neighbours.iter().any(|hears| {
            hears.port == expected.port.as_str()
                && hears.peer.as_deref() == Some(expected.peer)
                && hears.peer_port == expected.peer_port.as_str()
        });
        if !heard {
            let (peer, port) = (expected.peer, expected.port);
            missing.push(format!("{port} has not seen by LLDP {} of {peer}", expected.peer_port));
        }
    }
    Ok(missing)
}
