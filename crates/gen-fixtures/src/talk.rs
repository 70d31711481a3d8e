//! The talkers: every frame of every stream, each at its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use anyhow::{Context, Result};
use fixture::scenario::{Port, Scenario, Stream};
use fixture::stream::{self, Header};
use fixture::value::{Mac, Nanos};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, setsockopt, socket, sockopt};

use crate::clock;
use crate::plan::vlan_interface;
use crate::scene::Scene;

/// A stream that is ready to talk.
#[derive(Debug)]
struct Talker<'a> {
    stream: &'a Stream,
    index: u32,
    /// When the first frame is sent, after traffic starts.
    offset: u64,
    socket: OwnedFd,
    addresses: [u8; 12],
}

/// All streams of a scene; those of microVMs are of others. One thread sends for all of them, so their order is the
/// same in every run.
#[derive(Debug)]
pub struct Talkers<'a>(Vec<Talker<'a>>);

/// How far the streams are, for others to see while they run; and whether any more of them may begin.
#[derive(Debug, Default)]
pub struct Progress {
    /// No frame is sent any more.
    pub stopped: AtomicBool,
    /// No stream begins; those that have go on.
    pub draining: AtomicBool,
    /// Streams that have begun and not ended.
    pub begun: AtomicU32,
    /// Streams that have neither begun nor passed.
    pub waiting: AtomicU32,
    /// Frames sent.
    pub sent: AtomicU64,
}

impl<'a> Talkers<'a> {
    /// Opens a socket for each stream, in its talker's namespace. `late` is how much later than its offset each
    /// begins.
    pub fn open(scenario: &'a Scenario, late: &[Nanos], scene: &Scene) -> Result<Self> {
        let open = |(index, (stream, late)): (usize, (&'a Stream, &Nanos))| {
            let (node, from) = scenario.port(&stream.from).context("a talker that no node has")?;
            let to = stream.to.as_ref().and_then(|to| scenario.port(to)).map(|(_, to)| to.mac);
            let to = stream.group.or(to).context("a stream without a destination")?;
            let interface = interface(from, stream);
            let socket = scene
                .node(&node.name)
                .enter(|| open_socket(&interface, stream.pcp.get()))
                .with_context(|| format!("opening stream {} on {interface}", stream.name))?;
            let offset = stream.offset.0 + late.0;
            Ok(Talker { stream, index: index as u32, offset, socket, addresses: addresses(to, from.mac) })
        };
        let is_here = |(_, (stream, _)): &(usize, (&Stream, &Nanos))| {
            scenario.port(&stream.from).is_some_and(|(node, _)| scene.has(&node.name))
        };
        scenario
            .streams
            .iter()
            .zip(late)
            .enumerate()
            .filter(is_here)
            .map(open)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Sends every frame whose time is still to come; `start` is on CLOCK_MONOTONIC, and negative if it was before the
    /// clock began. A frame that has become late since is sent at once.
    pub fn run(&self, start: i64, progress: &Progress) -> Result<u64> {
        let Progress { stopped, draining, begun, waiting, sent } = progress;
        let now = clock::monotonic() as i64;
        let first = |(at, talker): (usize, &Talker<'_>)| {
            let begin = start + talker.offset as i64;
            let sequence = talker.stream.first_from(now - begin)?;
            Some(Reverse((begin + talker.stream.period().0 as i64 * i64::from(sequence), at, sequence)))
        };
        let mut due: BinaryHeap<_> = self.0.iter().enumerate().filter_map(first).collect();
        let mut has_begun = vec![false; self.0.len()];
        waiting.store(due.len() as u32, SeqCst);
        while let Some(Reverse((time, at, sequence))) = due.pop() {
            let talker = &self.0[at];
            clock::sleep_until(time.max(0) as u64);
            if stopped.load(SeqCst) {
                break;
            }
            if !has_begun[at] && !draining.load(SeqCst) {
                has_begun[at] = true;
                begun.fetch_add(1, SeqCst);
                waiting.fetch_sub(1, SeqCst);
            }
            if has_begun[at] {
                talker
                    .send(sequence)
                    .with_context(|| format!("frame {sequence} of {}", talker.stream.name))?;
                sent.fetch_add(1, SeqCst);
            }
            if sequence + 1 < talker.stream.count {
                due.push(Reverse((time + talker.stream.period().0 as i64, at, sequence + 1)));
            } else {
                (if has_begun[at] { begun } else { waiting }).fetch_sub(1, SeqCst);
            }
        }
        Ok(sent.load(SeqCst))
    }
}

impl Talker<'_> {
    /// The kernel adds the tag, if there is to be one: its VLAN is the interface's, its priority the socket's.
    fn send(&self, sequence: u32) -> Result<()> {
        let len = usize::from(self.stream.size) - stream::OVERHEAD;
        let mut frame = self.addresses.to_vec();
        frame.extend(self.stream.ethertype.to_be_bytes());
        frame.extend(stream::payload(Header { stream: self.index, sequence }, len));
        let sent = send(self.socket.as_raw_fd(), &frame, MsgFlags::empty()).context("send(2)")?;
        anyhow::ensure!(sent == frame.len(), "only {sent} of {} bytes sent", frame.len());
        Ok(())
    }
}

/// Where a talker sends: in its VLAN interface, or, on an access port, without a tag on the port itself.
fn interface(from: &Port, stream: &Stream) -> String {
    match stream.leaves_tagged(from) {
        true => vlan_interface(from.name.as_str(), stream.vlan.get()),
        false => from.name.to_string(),
    }
}

fn addresses(to: Mac, from: Mac) -> [u8; 12] {
    let mut both = [0; 12];
    both[..6].copy_from_slice(&to.0);
    both[6..].copy_from_slice(&from.0);
    both
}

/// A packet(7) socket that sends on one interface and receives nothing.
fn open_socket(interface: &str, priority: u8) -> Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).context("socket(2)")?;
    setsockopt(&socket, sockopt::Priority, &i32::from(priority)).context("SO_PRIORITY")?;
    let index = if_nametoindex(interface).context("no such interface")?;
    bind_to(&socket, index).context("bind(2)")?;
    Ok(socket)
}

#[expect(unsafe_code, reason = "nix cannot build a sockaddr_ll")]
fn bind_to(socket: &OwnedFd, interface: u32) -> nix::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        // No protocol: nothing is received.
        sll_protocol: 0,
        sll_ifindex: interface as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a whole sockaddr_ll, alive during the call, and `len` is its size.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    nix::errno::Errno::result(result).map(drop)
}
