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
    modules::load_all(Path::new(EARLY_MODULES))?;
    if let Some((device, kind)) = &line.root {
        root::mount_root(device, kind)?;
        root::switch()?;
        events.note(format!("the root is {device} ({kind})"));
    }
    for at in ["/run", "/tmp", "/var"] {
        mount_at("tmpfs", at, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=0755")?;
    }
    std::os::unix::fs::symlink("/run", "/var/run").context("making /var/run")?;
    let modules = modules::load_all(Path::new(MODULES))?;
    events.note(format!("{modules} kernel modules"));
    Ok(())
}

fn mount_at(kind: &str, at: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), flags, Some(options))
        .with_context(|| format!("mounting {kind} on {at}: is the folder in the image?"))
}
