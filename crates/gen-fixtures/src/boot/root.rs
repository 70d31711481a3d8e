//! The step from the initramfs to the real root, as switch_root(8) takes it.

use std::fs;
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

/// Where a Nix store is, whose programs name each other by their whole paths.
const STORE: &str = "nix/store";

/// Folders of a root that has only a store: what is mounted on, and what daemons look into.
const FOLDERS: [&str; 8] = ["dev", "proc", "sys", "run", "tmp", "var", "etc/lldpd.d", STORE];

/// Accounts of such a root: lldpd gives up its privileges to the second one.
const ACCOUNTS: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0::/root:/bin/sh\n_lldpd:x:101:101::/run/lldpd:/bin/false\n"),
    ("etc/group", "root:x:0:\n_lldpd:x:101:\n"),
];

/// Makes a root in memory and mounts the device with the store in it, read-only.
pub fn mount_store(device: &str, kind: &str) -> Result<()> {
    mount(Some("tmpfs"), SYSROOT, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .context("mounting a root in memory")?;
    let root = Path::new(SYSROOT);
    for folder in FOLDERS {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    }
    for (file, text) in ACCOUNTS {
        fs::write(root.join(file), text).with_context(|| format!("writing {file} of the root"))?;
    }
    mount_device(device, kind, &root.join(STORE))
}

/// Mounts the root device read-only.
pub fn mount_root(device: &str, kind: &str) -> Result<()> {
    mount_device(device, kind, Path::new(SYSROOT))
}

fn mount_device(device: &str, kind: &str, at: &Path) -> Result<()> {
    clock::wait_until(DISK, Duration::from_millis(1), || {
        let missing = || {
            let present = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
            let names: Vec<_> =
                present.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            format!("no root device {device}; block devices: {}", names.join(" "))
        };
        Ok(if Path::new(device).exists() { Ok(()) } else { Err(missing()) })
    })?;
    mount(Some(device), at, Some(kind), MsFlags::MS_RDONLY, None::<&str>)
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
