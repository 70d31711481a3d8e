//! MicroVMs for real: clocks of their own that start wrong and converge; a pool that scales, sleeps and wakes.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use fixture::pcapng::{Block, Reader};
use serde_json::Value;

use crate::lab::{Lab, ends_with, image, shipped};

/// How far off each clock starts, in nanoseconds: more than anything that the network adds.
const STARTS: [(&str, u64); 2] = [("early-p1", 100_000), ("late-p1", 400_000)];

/// Runs a shipped scenario into the lab's set; what it said. A loaded machine may take its time.
fn run(lab: &Lab, scenario: &str, args: &[&str]) -> String {
    let mut run = lab.program(&["run", "--no-cache", "--silence", "10min", "--timeout", "60min"]);
    run.args(args).arg(shipped(scenario)).arg("--guest").arg(image()).arg("--out").arg(lab.out());
    ends_with(0, run)
}

/// The median of samples.
fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[test]
fn clocks_of_microvms_start_wrong_and_converge() {
    let lab = Lab::new();
    let text = run(&lab, "microvm-gptp", &["--cold"]);
    assert!(text.contains("microvm-gptp, virtual clock") && text.contains("valid: no errors"), "{text}");
    assert!(text.contains("microVMs run on QEMU with nested KVM"), "{text}");
    for step in ["create started", "TAP created", "VMM started", "agent ready", "running to stopped"] {
        assert!(text.contains(&format!("late: {step}")), "no {step}: {text}");
    }
    let gptp: Value = serde_json::from_slice(&fs::read(lab.out().join("gptp.json")).unwrap()).unwrap();
    for (name, start) in STARTS {
        let ports = gptp["gptp"]["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name).unwrap();
        let samples: Vec<u64> = port["samples"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sample| sample["sync_error_ns"].as_u64().unwrap())
            .collect();
        let (begin, end) = samples.split_at(20);
        let (first, last) = (*begin.iter().max().unwrap(), median(&end[end.len() - 20..]));
        assert!(first > start, "{name} starts right, at most {first} ns off");
        assert!(last * 3 < first, "{name} does not converge: {first} ns at first, {last} ns at last");
    }
    let lldp = fs::read_to_string(lab.out().join("lldp.json")).unwrap();
    assert!(lldp.contains("early-p1") && lldp.contains("a clock that is behind and too slow"), "{lldp}");
    lab.assert_nothing_left();
}

/// The states of a microVM that the guest told of: each with its name and the nanoseconds in which it was in it,
/// what led to it belonging to it.
fn states(set: &Path, vm: &str) -> Vec<(String, RangeInclusive<u64>)> {
    let mut states: Vec<(String, RangeInclusive<u64>)> = Vec::new();
    for line in fs::read_to_string(set.join("raw/pool/events.jsonl")).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["event"] == "vm.state" && event["vm"] == vm {
            let (at, took) = (event["wall_ns"].as_u64().unwrap(), event["took_ns"].as_u64().unwrap());
            if let Some((_, span)) = states.last_mut() {
                *span = *span.start()..=at;
            }
            states.push((event["to"].as_str().unwrap().to_owned(), at - took..=u64::MAX));
        }
    }
    states
}

/// When frames of a stream were captured at a point.
fn frames(set: &Path, point: &str, stream: u32) -> Vec<u64> {
    let mut reader = Reader::new(fs::File::open(set.join("capture.pcapng")).unwrap());
    let (mut interfaces, mut times) = (Vec::new(), Vec::new());
    while let Some(raw) = reader.next_block().unwrap() {
        match Block::decode(&raw, 0).unwrap() {
            Block::Interface(interface) => {
                interfaces.push((interface.name() == Some(point), interface.resolution()));
            }
            Block::Packet(packet) => {
                let (here, resolution) = interfaces[packet.interface as usize];
                let tagged = packet.data.get(12..14) == Some(&[0x81, 0x00]);
                // The streams' magic is behind the EtherType, and the stream's number behind that.
                let magic = packet.data.get(18..22) == Some(b"fxvm");
                if here && tagged && magic && packet.data[22..26] == stream.to_be_bytes() {
                    times.push(u64::try_from(resolution.nanoseconds(packet.ticks)).unwrap());
                }
            }
            _ => {}
        }
    }
    times
}

#[test]
fn a_pool_gives_the_same_bytes_twice_and_its_capture_lives_and_timeline_agree() {
    let lab = Lab::new();
    let text = run(&lab, "microvm-pool", &["--check", "2"]);
    assert!(text.contains("2 runs gave the same bytes"), "{text}");
    let set = lab.out();

    let states = states(&set, "worker-1");
    let names: Vec<&str> = states.iter().map(|(name, _)| name.as_str()).collect();
    let life = "created ready running warm sleeping running stopped";
    assert_eq!(names.join(" "), life);

    // Each of its bursts was sent in the one of its two lives that it was meant for, and in no other state.
    let running: Vec<_> = states.iter().filter(|(name, _)| name == "running").map(|(_, span)| span).collect();
    for (stream, count, span) in [(2, 60, running[0]), (3, 100, running[1])] {
        let times = frames(&set, "sw-worker-1", stream);
        assert_eq!(times.len(), count, "frames of stream {stream}");
        assert!(times.iter().all(|time| span.contains(time)), "stream {stream}: {times:?} not in {span:?}");
    }

    // The timeline tells the same life, in the same order.
    let timeline = fs::read_to_string(set.join("timeline.txt")).unwrap();
    let mut rest = timeline.as_str();
    for (from, to) in names.iter().zip(&names[1..]) {
        let told = format!("worker-1: {from} to {to}");
        let at = rest.find(&told).unwrap_or_else(|| panic!("no {told} in its place: {timeline}"));
        rest = &rest[at + told.len()..];
    }
    lab.assert_nothing_left();
}
