//! From what tools say to the fixture set. What must not be empty and is, fails here.

use std::fs;

use anyhow::{Context, Result, ensure};
use fixture::contract::{GPTP, LIVES, LLDP, TSN};
use fixture::lldp;
use fixture::scenario::{MayBeEmpty, Scenario};
use fixture::tsn::{Qcc, read_link, read_port};

use crate::capture::{self, Capture};
use crate::child;
use crate::daemons::Daemons;
use crate::events::Events;
use crate::lldp::sort;
use crate::microvm::MicroVms;
use crate::scene::Scene;
use crate::tools::{SOON, Tool, Tools};
use crate::work;

/// Writes the four fixtures; gives a line that counts what is in them.
pub fn collect(
    scenario: &Scenario,
    scene: &Scene,
    mut daemons: Daemons,
    microvms: Option<MicroVms>,
    captures: Vec<Capture>,
    tools: &Tools,
    events: &Events,
) -> Result<String> {
    let mut neighbours = daemons.neighbours(tools)?;
    events.note("LLDP asked");
    let mut synchronisation = daemons.synchronisation()?;
    events.note("gPTP asked");
    if let Some(microvms) = microvms {
        // As they are before they are torn down.
        let path = LIVES.strip_prefix("raw/").expect("lives are evidence");
        work::write_raw(path, events.lives())?;
        microvms.collect(&mut neighbours, &mut synchronisation)?;
        sort(&mut neighbours);
        events.note("microVMs asked and gone");
    }
    let schedules = schedules(scenario, scene, tools)?;
    events.note("schedules asked");
    let frames = capture::stop_and_merge(captures)?;
    drop(daemons);

    let may_be_empty = |fixture| scenario.expect.empty.contains(&fixture);
    for (port, frames) in &frames {
        ensure!(*frames > 0, "not one frame was captured at {port}");
    }
    ensure!(!neighbours.is_empty() || may_be_empty(MayBeEmpty::Lldp), "no node has seen a neighbour by LLDP");
    ensure!(
        !schedules.interfaces.is_empty() || may_be_empty(MayBeEmpty::Tsn),
        "the kernel reports no gate control list, shaper or classifier on any port"
    );
    let samples: usize = synchronisation.ports.iter().map(|port| port.samples.len()).sum();
    ensure!(
        samples > 0 || may_be_empty(MayBeEmpty::Gptp),
        "no port has measured its offset from a grandmaster"
    );

    let summary = format!(
        "{} frames at {} points, {} neighbours, {} ports with a TSN configuration, {samples} gPTP samples",
        frames.iter().map(|(_, frames)| frames).sum::<u64>(),
        frames.len(),
        neighbours.len(),
        schedules.interfaces.len(),
    );
    write(LLDP, lldp::write(&neighbours))?;
    write(TSN, schedules.write())?;
    write(GPTP, synchronisation.write())?;
    Ok(summary)
}

/// Asks tc and ip for every port of a node with a schedule or a shaper.
fn schedules(scenario: &Scenario, scene: &Scene, tools: &Tools) -> Result<Qcc> {
    let mut interfaces = Vec::new();
    for node in &scenario.nodes {
        if !node.ports.iter().any(|port| port.taprio.is_some() || !port.cbs.is_empty()) {
            continue;
        }
        let ask = |tool, file: String, args: &[&str]| -> Result<Vec<u8>> {
            let said = scene.node(&node.name).enter(|| Ok(child::run(&tools.command(tool, args), SOON)?))?;
            work::write_raw(&file, &said)?;
            Ok(said)
        };
        let links = ask(Tool::Ip, format!("link/{}.json", node.name), &["-j", "-d", "link", "show"])?;
        let links = read_link(&links).with_context(|| format!("reading the links of {}", node.name))?;
        for port in &node.ports {
            let name = port.name.as_str();
            let qdiscs =
                ask(Tool::Tc, format!("tc/{name}.qdisc.json"), &["-j", "qdisc", "show", "dev", name])?;
            let filter = ["-j", "filter", "show", "dev", name, "ingress"];
            let filters = ask(Tool::Tc, format!("tc/{name}.filter.json"), &filter)?;
            let filters = (!filters.is_empty()).then_some(filters.as_slice());
            let mut read = read_port(name, &qdiscs, filters)
                .with_context(|| format!("reading what tc says of {name}"))?;
            read.mtu = links.iter().find(|link| link.ifname == name).map(|link| link.mtu);
            interfaces
                .extend(read.to_interface().with_context(|| format!("reading what tc says of {name}"))?);
        }
    }
    Ok(Qcc { interfaces })
}

fn write(name: &str, bytes: Vec<u8>) -> Result<()> {
    fs::write(work::set().join(name), bytes).with_context(|| format!("writing {name}"))
}
