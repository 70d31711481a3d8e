//! Finding QEMU, its firmware and qemu-img on this machine, and saying what to install where they are not.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::identity::Identity;
use crate::xdg;

/// Names another QEMU than the one on the PATH.
pub const QEMU_ENV: &str = "FIXTURE_VM_QEMU";

/// The oldest QEMU with everything that is asked of it: `rom=off` came with 8.2.
pub const OLDEST: (u32, u32) = (8, 2);

const QEMU: &str = "qemu-system-x86_64";
const FIRMWARE: &str = "qboot.rom";

/// QEMU as found here.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The binary.
    pub path: PathBuf,
    /// The firmware.
    pub firmware: PathBuf,
    /// What tells it from another.
    pub identity: Identity,
}

impl Qemu {
    /// Finds QEMU and its firmware.
    pub fn find() -> Result<Self> {
        let path = match xdg::named(QEMU_ENV) {
            Some(path) => path,
            None => on_path(QEMU).with_context(|| {
                format!(
                    "{QEMU} is not on the PATH; install it (Debian: qemu-system-x86) or name it in {QEMU_ENV}"
                )
            })?,
        };
        let firmware = firmware(&path)?;
        let identity = Identity::of(&path, &firmware)?;
        let version = &identity.version;
        let number = version_number(version)
            .with_context(|| format!("{} does not tell its version: `{version}`", path.display()))?;
        if number < OLDEST {
            bail!(
                "{version} is too old: {}.{} or later is needed (Debian 12: from bookworm-backports)",
                OLDEST.0,
                OLDEST.1
            );
        }
        Ok(Self { path, firmware, identity })
    }
}

/// Finds qemu-img.
pub fn qemu_img() -> Result<PathBuf> {
    on_path("qemu-img").context("qemu-img is not on the PATH; install it (Debian: qemu-utils)")
}

/// `QEMU emulator version 10.0.2 (Debian ...)` to (10, 0).
fn version_number(line: &str) -> Option<(u32, u32)> {
    let mut parts = line.split("version ").nth(1)?.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn firmware(qemu: &Path) -> Result<PathBuf> {
    let beside = qemu.canonicalize().ok().and_then(|path| Some(path.parent()?.parent()?.join("share/qemu")));
    let places = beside.into_iter().chain(["/usr/share/qemu".into(), "/usr/local/share/qemu".into()]);
    let found = places.map(|folder| folder.join(FIRMWARE)).find(|path| path.is_file());
    found.with_context(|| {
        format!("QEMU's firmware {FIRMWARE} is nowhere here; install it (Debian: qemu-system-data)")
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_lines_of_distributions_read() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)";
        assert_eq!(version_number(debian), Some((10, 0)));
        assert_eq!(version_number("QEMU emulator version 8.2.2"), Some((8, 2)));
        assert_eq!(version_number("busybox"), None);
    }
}
