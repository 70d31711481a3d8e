//! From PID 1 in the initramfs to a root file system with everything loaded: nothing here depends on the
//! scenario, so a guest saved after it can be continued with any.

pub mod modules;
pub mod power;
mod root;

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::cmdline::CommandLine;
use crate::events::Events;

/// Modules without which the root cannot be mounted, in the initramfs.
const EARLY_MODULES: &str = "/modules";
/// All others, in the root.
const MODULES: &str = "/usr/lib/fixture-vm/modules";

/// Mounts what a console and the kernel command line need. Only PID 1 has to.
pub fn mount_kernel_file_systems() -> Result<()> {
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount_at(kind, at, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "")?;
    }
    Ok(())
}

/// Goes from the initramfs to the root and loads every module.
pub fn enter_root(line: &CommandLine, events: &Events) -> Result<()> {
    load_early_modules()?;
    match &line.root {
        Some((device, kind)) => {
            switch_to(device, kind)?;
            events.note(format!("the root is {device} ({kind})"));
        }
        None => mount_scratch()?,
    }
    let modules = modules::load_all(Path::new(MODULES))?;
    events.note(format!("{modules} kernel modules"));
    Ok(())
}

/// Loads the modules of the initramfs.
pub fn load_early_modules() -> Result<()> {
    modules::load_all(Path::new(EARLY_MODULES)).map(drop)
}

/// Goes from the initramfs to the root on this device.
pub fn switch_to(device: &str, kind: &str) -> Result<()> {
    root::mount_root(device, kind)?;
    root::switch()?;
    mount_scratch()
}

/// Goes from the initramfs to a root in memory, with the Nix store that is on this device.
pub fn switch_to_store(device: &str, kind: &str) -> Result<()> {
    root::mount_store(device, kind)?;
    root::switch()?;
    mount_scratch()
}

/// What is written is in memory: the root is read-only.
fn mount_scratch() -> Result<()> {
    for at in ["/run", "/tmp", "/var"] {
        mount_at("tmpfs", at, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=0755")?;
    }
    std::os::unix::fs::symlink("/run", "/var/run").context("making /var/run")
}

fn mount_at(kind: &str, at: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), flags, Some(options))
        .with_context(|| format!("mounting {kind} on {at}: is the folder in the image?"))
}
