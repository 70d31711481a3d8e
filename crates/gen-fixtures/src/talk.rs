//! The talkers: every frame of every stream, each at its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use fixture::scenario::{Scenario, Stream};
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

/// All streams. One thread sends for all of them, so their order is the same in every run.
#[derive(Debug)]
pub struct Talkers<'a>(Vec<Talker<'a>>);

impl<'a> Talkers<'a> {
    /// Opens a socket for each stream, in its talker's namespace. `late` is how much later than its offset each
    /// begins.
    pub fn open(scenario: &'a Scenario, late: &[Nanos], scene: &Scene) -> Result<Self> {
        let open = |(index, (stream, late)): (usize, (&'a Stream, &Nanos))| {
            let (node, from) = scenario.port(&stream.from).context("a talker that no node has")?;
            let to = stream.to.as_ref().and_then(|to| scenario.port(to)).map(|(_, to)| to.mac);
            let to = stream.group.or(to).context("a stream without a destination")?;
            let interface = vlan_interface(stream.from.as_str(), stream.vlan.get());
            let socket = scene
                .node(&node.name)
                .enter(|| open_socket(&interface, stream.pcp.get()))
                .with_context(|| format!("opening stream {} on {interface}", stream.name))?;
            let offset = stream.offset.0 + late.0;
            Ok(Talker { stream, index: index as u32, offset, socket, addresses: addresses(to, from.mac) })
        };
        scenario.streams.iter().zip(late).enumerate().map(open).collect::<Result<_>>().map(Self)
    }

    /// Sends every frame; `start` is on CLOCK_MONOTONIC. A frame that is late is sent at once.
    pub fn run(&self, start: u64) -> Result<u64> {
        let mut due: BinaryHeap<_> =
            (self.0.iter().enumerate()).map(|(at, talker)| Reverse((start + talker.offset, at, 0))).collect();
        let mut sent = 0;
        while let Some(Reverse((time, at, sequence))) = due.pop() {
            let talker = &self.0[at];
            clock::sleep_until(time);
            talker.send(sequence).with_context(|| format!("frame {sequence} of {}", talker.stream.name))?;
            sent += 1;
            if sequence + 1 < talker.stream.count {
                due.push(Reverse((time + talker.stream.period().0, at, sequence + 1)));
            }
        }
        Ok(sent)
    }
}

impl Talker<'_> {
    /// The kernel adds the tag: its VLAN is the interface's, its priority the socket's.
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
