//! ptp4l: one per node with gPTP; and pmc, which asks each following node how far it is from its master.

mod measured;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fixture::gptp::{ClockIdentity, Gptp, PortSync, Sample, pmc};
use fixture::scenario::{NodeKind, Scenario};
use fixture::value::PortName;

use self::measured::measured;
use crate::child::Daemon;
use crate::clock;
use crate::plan::{NodePlan, WORK, ptp4l_socket};
use crate::scene::Scene;
use crate::tools::{SOON, Tool, Tools};
use crate::work;

/// How often a following node is asked: as often as the default Sync interval brings news.
pub const POLL: Duration = Duration::from_millis(125);

/// What a node is asked again and again.
const QUESTION: &str = "GET TIME_STATUS_NP";

/// What a node is asked at the end. Each port answers the first, so it is not the last.
const LAST_QUESTIONS: [&str; 3] = ["PORT_DATA_SET", "DEFAULT_DATA_SET", "PARENT_DATA_SET"];

/// ptp4l of a node.
#[derive(Debug)]
pub struct Ptp4l {
    /// The node's name.
    pub node: String,
    daemon: Daemon,
}

impl Ptp4l {
    /// Starts it in its node's namespaces.
    pub fn start(plan: &NodePlan, config: &str, scene: &Scene, tools: &Tools) -> Result<Self> {
        let node = plan.name.clone();
        let file = work::write_raw(&format!("plan/{node}.ptp4l"), config)?;
        let log = work::raw(&format!("gptp/{node}.log"))?;
        let argv = tools.command(Tool::Ptp4l, ["-m", "-f", &file.to_string_lossy()]);
        let daemon = scene.node(&node).enter(|| Daemon::start(&argv, &log))?;
        Ok(Self { node, daemon })
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemon.check()
    }

    fn listens(&self) -> bool {
        ptp4l_socket(&self.node).exists()
    }
}

/// A port that follows the grandmaster, and the pmc that watches its node.
#[derive(Debug)]
pub struct Follower {
    watched: Watched,
    /// None once it has ended.
    pmc: Option<Daemon>,
}

/// A port whose node is asked by pmc, and what pmc answered.
#[derive(Debug)]
struct Watched {
    port: PortName,
    node: String,
    /// ptp4l counts ports from 1, in the order of its configuration.
    number: u16,
    /// Time between two measurements of the path delay.
    pdelay_ns: u64,
    /// Whether ptp4l steers the node's clock.
    steered: bool,
    /// gPTP domain of the node's ptp4l, which answers to no other.
    domain: u8,
    answers: PathBuf,
}

impl Watched {
    fn of(scenario: &Scenario, port: &PortName) -> Result<Self> {
        let (node, _) = scenario.port(port).context("a following port that no node has")?;
        let number = node.ports.iter().position(|other| other.name == *port).unwrap_or_default() + 1;
        let answers = work::raw(&format!("gptp/{}.pmc", node.name))?;
        let (log_interval, domain) =
            node.gptp.as_ref().map_or((0, 0), |gptp| (gptp.log_pdelay_req_interval, gptp.domain));
        let pdelay_ns = (1e9 * f64::from(log_interval).exp2()) as u64;
        let steered = node.kind == NodeKind::Microvm;
        let (port, node, number) = (port.clone(), node.name.clone(), number as u16);
        Ok(Self { port, node, number, pdelay_ns, steered, domain, answers })
    }

    fn read(&self, answers: &str) -> Result<Vec<pmc::Response>> {
        pmc::read(answers).with_context(|| format!("reading {}", self.answers.display()))
    }

    fn measured_in(&self, answers: &[pmc::Response]) -> Result<Option<(ClockIdentity, Vec<Sample>)>> {
        measured(answers, self.pdelay_ns, self.steered)
            .with_context(|| format!("reading {}", self.answers.display()))
    }
}

impl Follower {
    fn start(scenario: &Scenario, port: &PortName, tools: &Tools) -> Result<Self> {
        let watched = Watched::of(scenario, port)?;
        let log = work::scratch("ptp4l").join(format!("{}.pmc.log", watched.node));
        let argv = tools.command(Tool::Pmc, pmc_arguments(&watched.node, watched.domain));
        let pmc = Daemon::start_with_input(&argv, &watched.answers, &log)?;
        Ok(Self { watched, pmc: Some(pmc) })
    }

    /// The port.
    pub fn port(&self) -> &PortName {
        &self.watched.port
    }

    /// Asks for the present offset; the answer comes with a later [`Follower::measured`].
    pub fn ask(&mut self) -> Result<()> {
        let pmc = self.pmc.as_mut().context("the session with pmc has ended")?;
        pmc.check()?;
        pmc.ask(QUESTION)
    }

    /// The grandmaster that the node follows, and what was measured against it until now.
    pub fn measured(&self) -> Result<Option<(ClockIdentity, Vec<Sample>)>> {
        let text = self.answers()?;
        self.watched.read(whole(&text)).and_then(|answers| self.watched.measured_in(&answers))
    }

    /// Asks for the state of the node, and ends the session; what it said is in its file then.
    pub fn finish(&mut self) -> Result<()> {
        let Some(mut pmc) = self.pmc.take() else { return Ok(()) };
        self.ask_state(&mut pmc)?;
        let log = pmc.end(SOON)?;
        ensure!(log.is_empty(), "pmc of {} complains: {log}", self.watched.node);
        Ok(())
    }

    /// Asks who the node's grandmaster is and in which state its ports are. One question after the other: pmc
    /// overlooks what it has read ahead.
    fn ask_state(&mut self, pmc: &mut Daemon) -> Result<()> {
        for data_set in LAST_QUESTIONS {
            pmc.ask(&format!("GET {data_set}"))?;
            let answer = format!(" RESPONSE MANAGEMENT {data_set} ");
            clock::wait_until(SOON, Duration::from_millis(2), || {
                pmc.check()?;
                let missing = || format!("ptp4l of {} does not answer GET {data_set}", self.watched.node);
                Ok(if self.answers()?.contains(&answer) { Ok(()) } else { Err(missing()) })
            })?;
        }
        Ok(())
    }

    fn answers(&self) -> Result<String> {
        let file = &self.watched.answers;
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
    }
}

/// What pmc has written without its last answer, of which a part may still be to come.
fn whole(answers: &str) -> &str {
    let last = answers.rfind(" RESPONSE ").unwrap_or_default();
    let line = answers[..last].rfind('\n').map_or(0, |end| end + 1);
    &answers[..line]
}

/// Begins to watch every following port of these nodes, once their ptp4ls listen. Those in microVMs are watched by
/// their agents.
pub fn watch(ptp4ls: &mut [Ptp4l], scenario: &Scenario, tools: &Tools) -> Result<Vec<Follower>> {
    for ptp4l in ptp4ls.iter_mut() {
        clock::wait_until(SOON, Duration::from_millis(5), || {
            ptp4l.check()?;
            let missing = || format!("ptp4l of {} does not listen", ptp4l.node);
            Ok(if ptp4l.listens() { Ok(()) } else { Err(missing()) })
        })?;
    }
    let here = |port: &&PortName| {
        ptp4ls.iter().any(|ptp4l| scenario.port(port).is_some_and(|(node, _)| node.name == ptp4l.node))
    };
    let ports = scenario.gptp_followers().into_iter().filter(here);
    ports.map(|port| Follower::start(scenario, port, tools)).collect()
}

/// Waits until every following port has measured its offset from one and the same grandmaster; the pmc sessions that
/// watched it go on.
pub fn wait_for_followers(
    ptp4ls: &mut [Ptp4l],
    scenario: &Scenario,
    tools: &Tools,
    within: Duration,
) -> Result<Vec<Follower>> {
    let mut followers = watch(ptp4ls, scenario, tools)?;
    clock::wait_until(within, POLL, || {
        ptp4ls.iter_mut().try_for_each(Ptp4l::check)?;
        let mut missing = Vec::new();
        let mut masters = Vec::new();
        for follower in &mut followers {
            follower.ask()?;
            match follower.measured()? {
                Some((master, samples)) if !samples.is_empty() => masters.push(master),
                _ => missing.push(format!("{} of {}", follower.watched.port, follower.watched.node)),
            }
        }
        Ok(if !missing.is_empty() {
            Err(format!("no offset from a grandmaster yet: {}", missing.join(", ")))
        } else if masters.windows(2).any(|pair| pair[0] != pair[1]) {
            Err("the nodes do not follow the same grandmaster yet".into())
        } else {
            Ok(())
        })
    })?;
    Ok(followers)
}

/// Asks each node who its grandmaster is and in which state its ports are, ends the pmc sessions, and makes
/// the document.
pub fn collect(followers: Vec<Follower>) -> Result<Gptp> {
    let mut document = Gptp::default();
    for mut follower in followers {
        follower.finish()?;
        add(&mut document, &follower.watched, &follower.answers()?)?;
    }
    Ok(document)
}

/// Adds the ports of a node in a microVM, whose agent has handed over what its pmc said.
pub fn add_from_microvm(document: &mut Gptp, scenario: &Scenario, node: &str) -> Result<()> {
    let ports = scenario.gptp_followers();
    let of_node = |port: &&PortName| scenario.port(port).is_some_and(|(of, _)| of.name == node);
    for port in ports.into_iter().filter(of_node) {
        let watched = Watched::of(scenario, port)?;
        let answers = std::fs::read_to_string(&watched.answers)
            .with_context(|| format!("reading {}, which its agent hands over", watched.answers.display()))?;
        add(document, &watched, &answers)?;
    }
    Ok(())
}

/// Adds what a port has measured, as pmc's last answers tell it.
fn add(document: &mut Gptp, watched: &Watched, answers: &str) -> Result<()> {
    let answers = watched.read(answers)?;
    let Watched { port, node, number, .. } = watched;
    let (grandmaster, domain) = master_of(&answers, node)?;
    check_follows(&answers, node, port, *number)?;
    let measured = watched.measured_in(&answers)?.filter(|(master, _)| *master == grandmaster);
    let (_, samples) = measured.with_context(|| format!("{node} has only just changed to {grandmaster}"))?;
    ensure!(
        document.grandmaster.is_none_or(|other| other == grandmaster)
            && document.domain.is_none_or(|other| other == domain),
        "{node} follows {grandmaster} in domain {domain}, others another"
    );
    document.grandmaster = Some(grandmaster);
    document.domain = Some(domain);
    document.ports.push(PortSync { name: port.to_string(), samples });
    Ok(())
}

fn master_of(answers: &[pmc::Response], node: &str) -> Result<(ClockIdentity, u8)> {
    let find = |name: &str| {
        let found = answers.iter().find(|answer| answer.data_set == name);
        found.with_context(|| format!("ptp4l of {node} did not answer GET {name}"))
    };
    Ok((find("PARENT_DATA_SET")?.grandmaster()?, find("DEFAULT_DATA_SET")?.domain()?))
}

/// The port itself must be the one that follows, in ptp4l's words: `SLAVE`, or `UNCALIBRATED` since the clock
/// is not steered.
fn check_follows(answers: &[pmc::Response], node: &str, port: &PortName, number: u16) -> Result<()> {
    let of_port = |answer: &&pmc::Response| answer.data_set == "PORT_DATA_SET" && answer.port == number;
    let answer = answers.iter().find(of_port);
    let state = answer
        .with_context(|| format!("ptp4l of {node} did not tell of port {number}, {port}"))?
        .port_state()?;
    match state.as_str() {
        "SLAVE" | "UNCALIBRATED" => Ok(()),
        other => bail!("{port} of {node} is {other} and does not follow the grandmaster"),
    }
}

/// Arguments of pmc(8): 802.1AS headers (`-t 1`), in no hop beyond the node (`-b 0`), in its domain. ptp4l drops
/// management messages of another domain without a word.
fn pmc_arguments(node: &str, domain: u8) -> Vec<String> {
    let (server, own) = (ptp4l_socket(node), format!("{WORK}/ptp4l/{node}.pmc"));
    let (server, domain) = (server.to_string_lossy().into_owned(), domain.to_string());
    ["-u", "-b", "0", "-t", "1", "-d", &domain, "-i", &own, "-s", &server].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_written_answer_waits_for_its_rest() {
        let text = "sending: GET TIME_STATUS_NP\n\t0-0 seq 0 RESPONSE MANAGEMENT TIME_STATUS_NP \n\t\tmaster_offset 5\n";
        let more = format!(
            "{text}sending: GET TIME_STATUS_NP\n\t0-0 seq 1 RESPONSE MANAGEMENT TIME_STATUS_NP \n\t\tmaster_offs"
        );
        assert_eq!(whole(text), "sending: GET TIME_STATUS_NP\n");
        assert_eq!(whole(&more), format!("{text}sending: GET TIME_STATUS_NP\n"));
        assert_eq!(whole("sending: GET T"), "");
    }

    #[test]
    fn pmc_asks_in_the_domain_of_the_node() {
        for domain in [0, 1, 127] {
            let words = pmc_arguments("ep", domain).join(" ");
            assert!(words.contains(&format!(" -d {domain} ")), "{words}");
        }
    }
}
