//! Classifiers, gate control lists and shapers as commands for tc(8).

use fixture::scenario::{Cbs, Node, Port, Taprio};

use fixture::value::Nanos;

use super::{Batch, is_bridge};

/// Handle of a port's root queueing discipline; its classes are 100:1, 100:2, ..., one per transmit queue.
const ROOT: &str = "100";

/// Everything for a node's ports. The classifiers come first: taprio stands still if `clsact` is added later.
pub fn commands(node: &Node) -> Batch {
    let scheduled = |port: &&Port| port.taprio.is_some() || !port.cbs.is_empty();
    let mut batch = Batch::new();
    if is_bridge(node) && node.ports.iter().any(|port| scheduled(&port)) {
        node.ports.iter().for_each(|port| priorities_from_tags(port, &mut batch));
    }
    node.ports.iter().filter(scheduled).for_each(|port| schedule(port, &mut batch));
    batch
}

/// The longest cycle among a node's schedules.
pub fn longest_cycle(node: &Node) -> Nanos {
    let cycles = node.ports.iter().filter_map(|port| port.taprio.as_ref()).map(Taprio::cycle);
    cycles.max().unwrap_or(Nanos(0))
}

/// A frame loses its priority on the way through a veth pair; what a bridge port receives gets it back from
/// its tag. The handle of each classifier is the priority plus one.
fn priorities_from_tags(port: &Port, batch: &mut Batch) {
    let name = &port.name;
    batch.push(format!("qdisc add dev {name} clsact"));
    for priority in 0..8 {
        batch.push(format!(
            "filter add dev {name} ingress protocol 802.1Q pref 1 handle {} flower vlan_prio {priority} \
             action skbedit priority {priority}",
            priority + 1
        ));
    }
}

fn schedule(port: &Port, batch: &mut Batch) {
    let name = &port.name;
    let classes = port.traffic_classes();
    let map: String = (0..16)
        .map(|priority| port.traffic_class(priority).map_or(0, |class| class.get()))
        .map(|class| format!(" {class}"))
        .collect();
    let queues: String = (0..classes).map(|class| format!(" 1@{class}")).collect();
    let classes = format!("num_tc {classes} map{map} queues{queues}");
    match &port.taprio {
        Some(taprio) => {
            let gates = gates(taprio);
            batch.push(format!("qdisc add dev {name} parent root handle {ROOT}: taprio {classes} {gates}"));
            if !port.cbs.is_empty() {
                shapers(port, batch);
                // Giving a class its shaper stops the timer of the schedule; a new schedule starts it again.
                batch.push(format!("qdisc change dev {name} parent root handle {ROOT}: taprio {gates}"));
            }
        }
        None => {
            batch.push(format!("qdisc add dev {name} parent root handle {ROOT}: mqprio {classes} hw 0"));
            shapers(port, batch);
        }
    }
}

fn gates(taprio: &Taprio) -> String {
    let entries: String = (taprio.gates.iter())
        .map(|gate| format!(" sched-entry S {:x} {}", gate.states.0, gate.interval.0))
        .collect();
    format!("base-time {}{entries} clockid CLOCK_TAI", taprio.offset().0)
}

fn shapers(port: &Port, batch: &mut Batch) {
    for cbs in &port.cbs {
        let class = cbs.traffic_class.get() + 1;
        let Credits { send_slope, hi, lo } = credits(cbs, &port.cbs);
        batch.push(format!(
            "qdisc add dev {} parent {ROOT}:{class} cbs idleslope {} sendslope {send_slope} hicredit {hi} \
             locredit {lo} offload 0",
            port.name,
            cbs.idle_slope.0 / 1000,
        ));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Credits {
    /// kbit/s
    send_slope: i64,
    /// Bytes.
    hi: i64,
    /// Bytes.
    lo: i64,
}

/// The parameters of a shaper that follow from its reservation (IEEE 802.1Q-2022, annex L.1): the credit
/// grows at most while one frame of any other class and one of each higher shaped class are sent, and sinks
/// at most while one of its own is.
fn credits(cbs: &Cbs, all: &[Cbs]) -> Credits {
    let rate = cbs.port_transmit_rate.0 as i128;
    let idle = cbs.idle_slope.0 as i128;
    let frame = i128::from(cbs.max_frame_size);
    let higher = || all.iter().filter(|other| other.traffic_class > cbs.traffic_class);
    let left = (rate - higher().map(|other| other.idle_slope.0 as i128).sum::<i128>()).max(1);
    let higher_frames: i128 = higher().map(|other| i128::from(other.max_frame_size)).sum();
    let hi = ceiling(idle * frame, left) + ceiling(idle * higher_frames, rate);
    let lo = -ceiling((rate - idle) * frame, rate);
    Credits { send_slope: ((idle - rate) / 1000) as i64, hi: hi as i64, lo: lo as i64 }
}

fn ceiling(dividend: i128, divisor: i128) -> i128 {
    (dividend + divisor - 1) / divisor
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture::scenario::Gate;
    use fixture::value::{GateMask, Rate, TrafficClass};

    #[test]
    fn a_base_time_is_an_offset_from_a_whole_cycle() {
        let gate = |states, us| Gate { states: GateMask(states), interval: Nanos::micros(us) };
        let begin = |base_time| {
            gates(&Taprio { base_time: Nanos(base_time), gates: vec![gate(2, 200), gate(1, 800)] })
        };
        for (base_time, offset) in [
            (0, 0),
            (250_000, 250_000),
            (1_000_000, 0),
            (2_000_000_000_000_250_000, 250_000),
            (u64::MAX, 551_615),
        ] {
            let words =
                format!("base-time {offset} sched-entry S 2 200000 sched-entry S 1 800000 clockid CLOCK_TAI");
            assert_eq!(begin(base_time), words, "{base_time}");
        }
    }

    fn cbs(class: u8, idle: u64) -> Cbs {
        Cbs {
            traffic_class: TrafficClass::new(class).unwrap(),
            idle_slope: Rate(idle),
            port_transmit_rate: Rate(1_000_000_000),
            max_frame_size: 1522,
        }
    }

    #[test]
    fn credits_of_one_shaper() {
        let class = cbs(1, 20_000_000);
        assert_eq!(
            credits(&class, std::slice::from_ref(&class)),
            Credits { send_slope: -980_000, hi: 31, lo: -1492 }
        );
    }

    #[test]
    fn a_lower_class_waits_for_the_higher_too() {
        let (b, a) = (cbs(1, 100_000_000), cbs(2, 200_000_000));
        let both = [b.clone(), a.clone()];
        // 1522 x 0.1 / 0.8 and 1522 x 0.1, each rounded up.
        assert_eq!(credits(&b, &both), Credits { send_slope: -900_000, hi: 191 + 153, lo: -1370 });
        assert_eq!(credits(&a, &both), Credits { send_slope: -800_000, hi: 305, lo: -1218 });
    }
}
