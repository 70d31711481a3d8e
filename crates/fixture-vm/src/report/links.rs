//! The network as it was declared and as LLDP saw it: which links are the same, and what is different.

use std::collections::{BTreeMap, BTreeSet};

use fixture::lldp::Neighbour;
use fixture::scenario::{Role, Scenario};

/// Both networks over the same nodes.
#[derive(Debug, Default, PartialEq)]
pub struct Network {
    /// The nodes: those declared in their order, then those that only LLDP names.
    pub nodes: Vec<Node>,
    /// The links, in the same order.
    pub links: Vec<Link>,
}

/// A node.
#[derive(Debug, PartialEq)]
pub struct Node {
    /// Its name; LLDP's system name.
    pub name: String,
    /// What it is declared to be; nothing if it is not declared.
    pub role: Option<&'static str>,
    /// Whether any LLDPDU of it or at it was seen.
    pub is_seen: bool,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Index of the node.
    pub node: usize,
    /// Name of the port.
    pub port: String,
}

/// A link, declared or seen or both.
#[derive(Debug, PartialEq)]
pub struct Link {
    /// Its two ends.
    pub ends: [End; 2],
    /// Whether the scenario has it.
    pub is_declared: bool,
    /// Whether LLDP must show it: both ends speak it.
    pub is_expected: bool,
    /// Which end sees the other.
    pub sees: [bool; 2],
}

/// How a link that was seen compares with what was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Declared, and seen from both ends.
    Same,
    /// Declared, and LLDP does not run at both ends when it is asked what it sees.
    Silent,
    /// Declared, and seen from one end only.
    OneWay,
    /// Declared and not seen.
    Unseen,
    /// Seen and not declared.
    Undeclared,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Same => "as declared",
            Verdict::Silent => "LLDP not at both ends",
            Verdict::OneWay => "seen from one end only",
            Verdict::Unseen => "not seen",
            Verdict::Undeclared => "not declared",
        }
    }

    /// Whether the two networks differ here.
    pub fn is_difference(self) -> bool {
        matches!(self, Verdict::OneWay | Verdict::Unseen | Verdict::Undeclared)
    }
}

impl Link {
    /// How seen and declared compare.
    pub fn verdict(&self) -> Verdict {
        match (self.is_declared, self.is_expected, self.sees) {
            (false, _, _) => Verdict::Undeclared,
            (true, _, [true, true]) => Verdict::Same,
            (true, true, [false, false]) => Verdict::Unseen,
            (true, false, _) => Verdict::Silent,
            (true, true, _) => Verdict::OneWay,
        }
    }

    /// Whether any LLDPDU crossed it.
    pub fn is_seen(&self) -> bool {
        self.sees.contains(&true)
    }
}

/// A port that sees another.
struct Sight<'a> {
    at: &'a str,
    system: &'a str,
    port: &'a str,
}

/// Lays both networks over each other. Without a scenario nothing is declared.
pub fn network(scenario: Option<&Scenario>, neighbours: &[Neighbour]) -> Network {
    let mut network = Network::default();
    let sights: Vec<Sight<'_>> = neighbours.iter().map(|neighbour| sight(neighbour, scenario)).collect();
    if let Some(scenario) = scenario {
        network.declare(scenario);
    }
    // Whose a port is: as LLDP tells, else as declared, else nobody knows and it stands for itself.
    let told: BTreeMap<&str, &str> = sights.iter().map(|sight| (sight.port, sight.system)).collect();
    let owner = |port: &str| -> String {
        let declared = || {
            let (node, _) = scenario?.port(&port.parse().ok()?)?;
            Some(node.name.clone())
        };
        told.get(port).map(|name| (*name).to_owned()).or_else(declared).unwrap_or_else(|| port.to_owned())
    };
    let mut seen = BTreeSet::new();
    for Sight { at, system, port } in &sights {
        let near = End { node: network.node(&owner(at)), port: (*at).to_owned() };
        let far = End { node: network.node(system), port: (*port).to_owned() };
        seen.insert((near, far));
    }
    for (near, far) in seen {
        network.see(near, far);
    }
    network
}

fn sight<'a>(neighbour: &'a Neighbour, scenario: Option<&'a Scenario>) -> Sight<'a> {
    let id = &neighbour.port.id;
    let by_mac = |text: &str| {
        let mac: fixture::value::Mac = text.parse().ok()?;
        let mut ports = scenario?.nodes.iter().flat_map(|node| &node.ports);
        ports.find(|port| port.mac == mac).map(|port| port.name.as_str())
    };
    let port = match id.kind.as_str() {
        "mac" => by_mac(&id.value).unwrap_or(&id.value),
        _ => &id.value,
    };
    let system = neighbour.chassis.name.as_ref().unwrap_or(&neighbour.chassis.id.value);
    Sight { at: &neighbour.interface, system, port }
}

impl Network {
    fn declare(&mut self, scenario: &Scenario) {
        for node in &scenario.nodes {
            let role = match node.role {
                Role::Grandmaster => "grandmaster",
                Role::Bridge => "bridge",
                Role::EndStation => "end station",
            };
            self.nodes.push(Node { name: node.name.clone(), role: Some(role), is_seen: false });
        }
        let expected = scenario.neighbours();
        for link in &scenario.links {
            let ends = link.ends.each_ref().map(|port| {
                let owner = scenario.port(port).map(|(node, _)| node.name.as_str());
                End { node: self.node(owner.unwrap_or(port.as_str())), port: port.as_str().to_owned() }
            });
            let is_expected = expected.iter().any(|neighbour| link.ends.contains(neighbour.port));
            self.links.push(Link { ends, is_declared: true, is_expected, sees: [false; 2] });
        }
    }

    /// The node of this name, which is added if it is new.
    fn node(&mut self, name: &str) -> usize {
        if let Some(index) = self.nodes.iter().position(|node| node.name == name) {
            return index;
        }
        self.nodes.push(Node { name: name.to_owned(), role: None, is_seen: false });
        self.nodes.len() - 1
    }

    fn see(&mut self, near: End, far: End) {
        self.nodes[near.node].is_seen = true;
        self.nodes[far.node].is_seen = true;
        for link in &mut self.links {
            if link.ends == [near.clone(), far.clone()] {
                link.sees[0] = true;
                return;
            }
            if link.ends == [far.clone(), near.clone()] {
                link.sees[1] = true;
                return;
            }
        }
        self.links.push(Link {
            ends: [near, far],
            is_declared: false,
            is_expected: false,
            sees: [true, false],
        });
    }

    /// The links at which both networks differ.
    pub fn differences(&self) -> usize {
        self.links.iter().filter(|link| link.verdict().is_difference()).count()
    }
}
