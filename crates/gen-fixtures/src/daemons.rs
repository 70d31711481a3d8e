//! The daemons of all nodes, started together, watched, and asked at the end.

use anyhow::Result;
use fixture::scenario::Scenario;

use crate::clock;
use crate::events::Events;
use crate::gptp::{self, Follower, Ptp4l};
use crate::lldp::{self, Lldpd};
use crate::plan::Plan;
use crate::plan::perturb::Daemon;
use crate::scene::Scene;
use crate::tools::Tools;

/// Everything that runs in the nodes. Who asks goes before who is asked.
#[derive(Debug)]
pub struct Daemons {
    /// The pmc sessions, once the followers have converged.
    pub followers: Vec<Follower>,
    ptp4ls: Vec<Ptp4l>,
    lldpds: Vec<Lldpd>,
}

impl Daemons {
    /// Starts the daemons of every node of the scene, each at its moment.
    pub fn start(plan: &Plan, scene: &Scene, tools: &Tools) -> Result<Self> {
        let mut daemons = Self { followers: Vec::new(), ptp4ls: Vec::new(), lldpds: Vec::new() };
        let first = clock::monotonic();
        for start in &plan.perturbation.starts {
            let node = &plan.nodes[start.node];
            clock::sleep_until(first + start.after.0);
            match (start.daemon, &node.ptp4l, &node.lldpd) {
                (Daemon::Ptp4l, Some(config), _) => {
                    daemons.ptp4ls.push(Ptp4l::start(node, config, scene, tools)?);
                }
                (Daemon::Lldpd, _, Some(config)) => {
                    daemons.lldpds.push(Lldpd::start(node, config, scene, tools)?);
                }
                _ => unreachable!("the plan starts only what it configures"),
            }
        }
        Ok(daemons)
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.ptp4ls.len() + self.lldpds.len()
    }

    /// Begins to watch every following port of the scene.
    pub fn watch(&mut self, scenario: &Scenario, tools: &Tools) -> Result<Vec<Follower>> {
        gptp::watch(&mut self.ptp4ls, scenario, tools)
    }

    /// Every neighbour that is heard now; keeps the answers as evidence.
    pub fn heard(&mut self, tools: &Tools) -> Result<Vec<fixture::lldp::Neighbour>> {
        let mut all = Vec::new();
        for lldpd in &mut self.lldpds {
            all.extend(lldpd.neighbours(tools)?.unwrap_or_default());
        }
        Ok(all)
    }

    /// Waits until every follower has measured an offset and every neighbour is seen; gives their numbers.
    pub fn converge(
        &mut self,
        scenario: &Scenario,
        tools: &Tools,
        events: &Events,
    ) -> Result<(usize, usize)> {
        let deadline = clock::monotonic() + scenario.convergence_timeout.0;
        let left = || std::time::Duration::from_nanos(deadline.saturating_sub(clock::monotonic()));
        self.followers = gptp::wait_for_followers(&mut self.ptp4ls, scenario, tools, left())?;
        events.note("every following port has measured its offset");
        let neighbours = lldp::wait_for_neighbours(&mut self.lldpds, scenario, tools, left())?;
        Ok((self.followers.len(), neighbours))
    }

    /// An error if any has ended.
    pub fn check(&mut self) -> Result<()> {
        self.ptp4ls.iter_mut().try_for_each(Ptp4l::check)?;
        self.lldpds.iter_mut().try_for_each(Lldpd::check)
    }

    /// What LLDP heard.
    pub fn neighbours(&mut self, tools: &Tools) -> Result<Vec<fixture::lldp::Neighbour>> {
        lldp::collect(&mut self.lldpds, tools)
    }

    /// What gPTP measured; the pmc sessions end.
    pub fn synchronisation(&mut self) -> Result<fixture::gptp::Gptp> {
        gptp::collect(std::mem::take(&mut self.followers))
    }
}
