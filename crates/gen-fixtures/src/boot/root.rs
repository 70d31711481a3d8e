//! The step from the initramfs to the real root, as switch_root(8) takes it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use crate::clock;

/// Where the root is mounted before it becomes `/`.
const SYSROOT: &str = "/sysroot";

/// A disk's driver may look for its disk after the module is loaded.
const DISK: Duration = Duration::from_secs(10);

/// Mounts the root device read-only.
pub fn mount_root(device: &str, kind: &str) -> Result<()> {
    clock::wait_until(DISK, Duration::from_millis(1), || {
        let missing = || {
            let present = std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
            let names: Vec<_> =
                present.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            format!("no root device {device}; block devices: {}", names.join(" "))
        };
        Ok(if Path::new(device).exists() { Ok(()) } else { Err(missing()) })
    })?;
    mount(Some(device), SYSROOT, Some(kind), MsFlags::MS_RDONLY, None::<&str>)
        .with_context(|| format!("mounting {device} as {kind}: is the root image whole?"))
}

/// Makes the mounted root the root of this process and of all that it starts.
pub fn switch() -> Result<()> {
    for at in ["/dev", "/proc", "/sys"] {
        let to = format!("{SYSROOT}{at}");
        move_mount(at, &to).with_context(|| format!("moving {at}: is the folder in the root image?"))?;
    }
    chdir(SYSROOT).context("entering the root")?;
    move_mount(".", "/").context("moving the root")?;
    chroot(".").context("changing the root")?;
    chdir("/").context("entering the root")
}

fn move_mount(from: &str, to: &str) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
}
