//! What a back end does for a microVM: everything between an idle folder and a VMM that runs, stands or is saved.

use std::path::PathBuf;

use anyhow::Result;
use fixture::pool::{Identity, Paths};

use super::line::Line;
use super::tap::Tap;
use crate::child::Daemon;
use crate::netns::Namespace;

/// The accelerator inside the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The guest's own KVM.
    Kvm,
    /// QEMU's translator, in a guest whose KVM runs no code.
    Tcg,
}

impl Accelerator {
    /// As QEMU's `accel=` and events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What every microVM boots.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Uncompressed kernel with a PVH entry.
    pub kernel: PathBuf,
    /// Initramfs with the node agent.
    pub initramfs: PathBuf,
    /// The guest's own root, shared read-only.
    pub root: PathBuf,
    /// Kernel command line.
    pub cmdline: String,
}

/// A microVM as its back end needs it.
#[derive(Debug)]
pub struct Spec<'a> {
    /// What it is.
    pub identity: &'a Identity,
    /// Where its files are.
    pub paths: &'a Paths,
    /// What it boots.
    pub boot: &'a Boot,
    /// Its TAP devices, in the order of its ports.
    pub taps: Vec<Tap<'a>>,
}

/// Runs microVMs. A VMM ends when its [`Daemon`] is dropped.
pub trait Backend: std::fmt::Debug + Send {
    /// Its name, as events give it.
    fn name(&self) -> &'static str;
    /// Words for the kernel command line of its guests: how they end, and what the agent speaks through.
    fn words(&self) -> String;
    /// How the agent is reached.
    fn line(&self, paths: &Paths) -> Line;
    /// Takes a TAP for a VMM: opened, or where the VMM opens it itself, seen to be there.
    fn tap<'a>(&self, node: &'a Namespace, port: &'a str) -> Result<Tap<'a>>;
    /// Starts a VMM whose guest boots at once.
    fn start(&self, spec: Spec<'_>) -> Result<Daemon>;
    /// Stops the processors.
    fn pause(&self, paths: &Paths) -> Result<()>;
    /// Lets them go on.
    fn resume(&self, paths: &Paths) -> Result<()>;
    /// Writes a paused microVM to [`Paths::snapshot`]. Its VMM is of no use afterwards.
    fn save(&self, paths: &Paths) -> Result<()>;
    /// Starts a VMM with what was saved; its processors stand.
    fn restore(&self, spec: Spec<'_>) -> Result<Daemon>;
    /// Whether the VMM answers on its control socket.
    fn answers(&self, paths: &Paths) -> bool;
}

/// Where the kernel of a microVM writes.
pub fn console(paths: &Paths) -> PathBuf {
    paths.folder.join("console.log")
}
