//! TAP devices: made ahead as ports of the nodes that microVMs are linked to, and attached to a VMM when it starts.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::child;
use crate::netns::Namespace;
use crate::tools::{SOON, Tool, Tools};

/// Where a process gets its end of one.
pub const DEVICE: &str = "/dev/net/tun";

/// A TAP that a VMM is to have.
#[derive(Debug)]
pub struct Tap<'a> {
    /// The node whose port it is.
    pub node: &'a Namespace,
    /// Its name.
    pub port: &'a str,
    /// It itself, where the VMM is given it open.
    pub file: Option<OwnedFd>,
}

/// The part of `struct ifreq` that TUNSETIFF reads (netdevice(7)), as large as the kernel's.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

nix::ioctl_write_ptr_bad!(
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    Request
);

/// Attaches to a TAP that is there already, in the namespace of the node whose port it is. It has carrier as long
/// as the file is open.
pub fn attach<'a>(node: &'a Namespace, port: &'a str) -> Result<Tap<'a>> {
    Ok(Tap { node, port, file: Some(open(node, port)?) })
}

/// A TAP that is there, for a VMM that attaches to it by its name.
pub fn find<'a>(node: &'a Namespace, port: &'a str) -> Result<Tap<'a>> {
    node.enter(|| exists(port)).with_context(|| format!("looking for {port} of {}", node.name()))?;
    Ok(Tap { node, port, file: None })
}

/// A TAP is never made by attaching to it: one that is gone would come back as nobody's port.
fn exists(port: &str) -> Result<()> {
    let there = Path::new("/sys/class/net").join(port);
    if_nametoindex(port).with_context(|| format!("the TAP {} is gone", there.display()))?;
    Ok(())
}

fn open(node: &Namespace, port: &str) -> Result<OwnedFd> {
    let attach = || -> Result<OwnedFd> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .with_context(|| format!("opening {DEVICE}"))?;
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            flags: (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short,
            rest: [0; 22],
        };
        request.name[..port.len()].copy_from_slice(port.as_bytes());
        exists(port)?;
        #[expect(
            unsafe_code,
            reason = "ioctl(2); the pointer is to a live value of the shape the call reads"
        )]
        // SAFETY: the request is a whole `struct ifreq`, alive during the call.
        unsafe { set_interface(device.as_raw_fd(), &raw const request) }.context("TUNSETIFF")?;
        Ok(device.into())
    };
    node.enter(attach).with_context(|| format!("attaching to {port} of {}", node.name()))
}

/// Whether the TAP is there.
pub fn is_there(node: &Namespace, port: &str) -> bool {
    node.enter(|| if_nametoindex(port).context("no such interface")).is_ok()
}

/// Deletes a TAP, whoever is attached to it.
pub fn delete(node: &Namespace, port: &str) -> Result<()> {
    let argv = Tools::find()?.command(Tool::Ip, ["link", "delete", "dev", port]);
    node.enter(|| Ok(child::run(&argv, SOON)?)).map(drop)
}
