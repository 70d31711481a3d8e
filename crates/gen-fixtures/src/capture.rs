//! Captures: one dumpcap per capture point, in its node's namespace, into memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fixture::contract::CAPTURE;
use fixture::pcapng::merge::{Input, merge};
use fixture::pcapng::{Block, Reader};
use fixture::scenario::Scenario;
use fixture::stream;
use nix::sys::signal::Signal;

use crate::child::Daemon;
use crate::clock;
use crate::scene::Scene;
use crate::tools::{SOON, Tool, Tools};
use crate::work;

/// EtherType of a VLAN tag (IEEE 802.1Q-2022, table 9-1).
const VLAN_TAG: u16 = 0x8100;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    port: String,
    file: PathBuf,
    dumpcap: Daemon,
}

/// Begins every capture of the scenario and waits until each really captures.
pub fn start_all(scenario: &Scenario, scene: &Scene, tools: &Tools) -> Result<Vec<Capture>> {
    let mut captures = Vec::new();
    for capture in &scenario.captures {
        let port = capture.port.to_string();
        let (node, _) = scenario.port(&capture.port).context("a capture point that no node has")?;
        let file = work::scratch("capture").join(format!("{port}.pcapng"));
        let log = work::raw(&format!("capture/{port}.log"))?;
        // Written to its standard output, dumpcap flushes what it captures as it comes: the file can be
        // watched while it grows.
        let mut args = vec!["-q", "-i", port.as_str(), "-w", "-"];
        if let Some(filter) = &capture.filter {
            args.extend(["-f", filter]);
        }
        let argv = tools.command(Tool::Dumpcap, args);
        let dumpcap = scene.node(&node.name).enter(|| Daemon::start_writing(&argv, &file, &log))?;
        captures.push(Capture { port, file, dumpcap });
    }
    for capture in &mut captures {
        capture.wait_until_capturing()?;
    }
    Ok(captures)
}

impl Capture {
    /// The capture point.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// dumpcap writes the file's head once the socket is open and the filter in force.
    fn wait_until_capturing(&mut self) -> Result<()> {
        clock::wait_until(SOON, Duration::from_millis(2), || {
            self.dumpcap.check()?;
            let began = self.file.metadata().is_ok_and(|file| file.len() > 0);
            Ok(if began { Ok(()) } else { Err(format!("dumpcap on {} does not begin", self.port)) })
        })
    }

    /// Frames of each stream captured so far, by the stream's index.
    pub fn frames_of_streams(&self) -> Result<BTreeMap<u32, u32>> {
        let file = File::open(&self.file).with_context(|| format!("reading the capture of {}", self.port))?;
        let mut reader = Reader::new(file);
        let mut frames = BTreeMap::new();
        // The last block may be half written: it is counted the next time.
        while let Ok(Some(raw)) = reader.next_block() {
            if let Ok(Block::Packet(packet)) = Block::decode(&raw, 0) {
                if let Some(header) = stream_header(packet.data) {
                    *frames.entry(header.stream).or_default() += 1;
                }
            }
        }
        Ok(frames)
    }

    /// Waits for the end that was asked for. Frames that the kernel dropped make the capture useless.
    fn finish(mut self) -> Result<()> {
        let log = self.dumpcap.end(SOON)?;
        match dropped(&log) {
            Some(0) => Ok(()),
            Some(n) => bail!("dumpcap lost {n} frames on {}; use fewer or slower streams", self.port),
            None => bail!("dumpcap on {} did not say how many frames it lost: {}", self.port, log.trim()),
        }
    }
}

/// Ends all captures and makes one file of them, one interface per capture point; gives the frames of each.
pub fn stop_and_merge(captures: Vec<Capture>) -> Result<Vec<(String, u64)>> {
    let points: Vec<(String, PathBuf)> =
        captures.iter().map(|capture| (capture.port.clone(), capture.file.clone())).collect();
    // Each may take the time-out of a read to notice; they take it together.
    captures.iter().try_for_each(|capture| capture.dumpcap.signal(Signal::SIGINT))?;
    captures.into_iter().try_for_each(Capture::finish)?;
    let open = |(name, file): &(String, PathBuf)| {
        let source = File::open(file).with_context(|| format!("reading the capture of {name}"))?;
        Ok(Input { name: name.clone(), source })
    };
    let inputs = points.iter().map(open).collect::<Result<Vec<_>>>()?;
    let target: &Path = &work::set().join(CAPTURE);
    let out = File::create(target).with_context(|| format!("writing {CAPTURE}"))?;
    let frames = merge(inputs, std::io::BufWriter::new(out)).with_context(|| format!("making {CAPTURE}"))?;
    Ok(points.into_iter().map(|(name, _)| name).zip(frames).collect())
}

/// The header in a frame of a stream, with a VLAN tag or, on an access port, without.
fn stream_header(frame: &[u8]) -> Option<stream::Header> {
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let overhead = if kind == VLAN_TAG { stream::OVERHEAD } else { stream::OVERHEAD - stream::TAG };
    stream::header(frame.get(overhead..)?)
}

/// `Packets received/dropped on interface 'sw-p1': 812/0 (pcap:0/dumpcap:0/flushed:0/ps_ifdrop:0) (100.0%)`
fn dropped(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.starts_with("Packets received/dropped on interface"))?;
    let counts = line.rsplit_once("': ")?.1.split_whitespace().next()?;
    counts.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_from_the_last_word_of_dumpcap() {
        let log = "Capturing on 'sw-p1'\nFile: -\nPackets captured: 812\nPackets received/dropped on interface 'sw-p1': 812/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (99.6%)\n";
        assert_eq!(dropped(log), Some(3));
        assert_eq!(dropped("Capturing on 'sw-p1'\n"), None);
    }

    #[test]
    fn frames_of_streams_are_told_from_others() {
        let header = stream::Header { stream: 2, sequence: 9 };
        let mut frame = vec![0; 12];
        frame.extend([0x81, 0x00, 0xc0, 0x0a, 0x88, 0xb5]);
        frame.extend(stream::payload(header, 110));
        assert_eq!(stream_header(&frame), Some(header));
        assert_eq!(stream_header(&frame[..13]), None);
        assert_eq!(stream_header(&[&frame[..12], &frame[16..]].concat()), Some(header), "without its tag");
        frame[12] = 0x88;
        assert_eq!(stream_header(&frame), None);
    }
}
