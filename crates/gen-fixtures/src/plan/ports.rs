//! Links, bridges and VLANs as commands for ip(8) and bridge(8).

use fixture::scenario::{Node, Scenario};
use fixture::value::PortName;

use super::{Batch, is_bridge, vlan_interface};

/// The name of a node's bridge.
const BRIDGE: &str = "br0";

/// Transmit queues of each port: one per traffic class there can be. taprio refuses a single queue.
const QUEUES: u8 = 8;

/// Priority to PCP and back, one to one.
const QOS_MAP: &str = "0:0 1:1 2:2 3:3 4:4 5:5 6:6 7:7";

/// Timers of the spanning tree, in hundredths of a second: the shortest that IEEE 802.1D-2004, 17.14 allows
/// (2 x (forward delay - 1 s) >= max age >= 2 x (hello time + 1 s)).
const STP_TIMERS: &str = "hello_time 100 max_age 600 forward_delay 400";

/// Interface index of the scenario's first port; the others count on from it.
///
/// No two ports have the same, whatever their namespace: the kernel takes a veth whose peer has its own index
/// for a device without a peer, and may take a second to notice its carrier (`linkwatch_urgent_event`).
const FIRST_INDEX: usize = 11;

/// The veth pair of each link that does not lead into a microVM, made in the namespaces of its two nodes.
pub fn links(scenario: &Scenario) -> Batch {
    let end = |name: &PortName| {
        let (node, port) = scenario.port(name)?;
        let place =
            scenario.nodes.iter().flat_map(|node| &node.ports).position(|other| other.name == *name)?;
        let (port, mac, node, index) = (&port.name, &port.mac, &node.name, FIRST_INDEX + place);
        Some(format!(
            "{port} index {index} address {mac} numtxqueues {QUEUES} numrxqueues {QUEUES} netns {node}"
        ))
    };
    let pair = |link: &fixture::scenario::Link| {
        let [a, b] = &link.ends;
        if scenario.is_tap(a) || scenario.is_tap(b) {
            return None;
        }
        Some(format!("link add {} type veth peer name {}", end(a)?, end(b)?))
    };
    scenario.links.iter().filter_map(pair).collect()
}

/// A node's TAPs, which are there before and after the microVMs behind them, its bridge or VLAN interfaces, and
/// everything up.
pub fn interfaces(scenario: &Scenario, node: &Node) -> Batch {
    let mut batch = Batch::new();
    for port in node.ports.iter().filter(|port| scenario.is_tap(&port.name)) {
        batch.push(format!("tuntap add dev {} mode tap", port.name));
        batch.push(format!("link set {} address {}", port.name, port.mac));
    }
    if is_bridge(node) {
        let settings = node.bridge.clone().unwrap_or_default();
        // The bridge takes its first port's address, so that its bridge identifier is not drawn by lot.
        let address = node.ports.first().map(|port| format!(" address {}", port.mac)).unwrap_or_default();
        let (filtering, stp) = (u8::from(settings.vlan_filtering), u8::from(settings.stp));
        let timers = if settings.stp { format!(" {STP_TIMERS}") } else { String::new() };
        batch.push(format!(
            "link add {BRIDGE}{address} type bridge vlan_filtering {filtering} vlan_default_pvid 0 \
             mcast_snooping 0 stp_state {stp}{timers}"
        ));
        batch.extend(node.ports.iter().map(|port| format!("link set {} master {BRIDGE}", port.name)));
        batch.push(format!("link set {BRIDGE} up"));
    }
    batch.extend(node.ports.iter().map(|port| format!("link set {} up", port.name)));
    if !is_bridge(node) {
        for port in &node.ports {
            for vlan in &port.tagged {
                let name = vlan_interface(port.name.as_str(), vlan.get());
                batch.push(format!(
                    "link add link {} name {name} type vlan id {vlan} egress-qos-map {QOS_MAP} \
                     ingress-qos-map {QOS_MAP}",
                    port.name
                ));
                batch.push(format!("link set {name} up"));
            }
        }
    }
    batch
}

/// Which VLANs cross each bridge port, and which of them untagged.
pub fn bridge_vlans(node: &Node) -> Batch {
    let filters = is_bridge(node) && node.bridge.clone().unwrap_or_default().vlan_filtering;
    let mut batch = Batch::new();
    for port in node.ports.iter().filter(|_| filters) {
        batch.extend(port.tagged.iter().map(|vlan| format!("vlan add dev {} vid {vlan}", port.name)));
        batch.extend(
            port.untagged.iter().map(|vlan| format!("vlan add dev {} vid {vlan} pvid untagged", port.name)),
        );
    }
    batch
}
