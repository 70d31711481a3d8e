//! What a microVM boots from: a small initramfs with this very program and the modules that reach the root, made
//! in the guest from what is in it. The root is the guest's own, read-only.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;

/// Directories to mount on before there is a root.
const DIRECTORIES: [&str; 7] = ["dev", "proc", "sys", "run", "tmp", "sysroot", "modules"];

/// Writes the initramfs: the program as /init and every module of a folder, with their order.
pub fn write(program: &Path, modules: &Path, to: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for name in DIRECTORIES {
        archive.entry(name, S_IFDIR | 0o755, (0, 0), &[]);
    }
    // The kernel opens it for PID 1 before anything is mounted.
    archive.entry("dev/console", S_IFCHR | 0o600, (5, 1), &[]);
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    archive.entry("init", S_IFREG | 0o755, (0, 0), &read(program)?);
    let order = read(&modules.join("order"))?;
    for name in String::from_utf8_lossy(&order).lines() {
        archive.entry(&format!("modules/{name}"), S_IFREG | 0o644, (0, 0), &read(&modules.join(name))?);
    }
    archive.entry("modules/order", S_IFREG | 0o644, (0, 0), &order);
    fs::write(to, archive.end()).with_context(|| format!("writing {}", to.display()))
}

/// A cpio archive in the kernel's `newc` form (initramfs buffer format of the kernel's documentation).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let length = (name.len() + 1) as u32;
        // inode, mode, uid, gid, links, mtime, size, device, special device, name's length, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, device.0, device.1, length, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_a_head_of_110_bytes_and_everything_is_aligned() {
        let mut archive = Archive::default();
        archive.entry("init", S_IFREG | 0o755, (0, 0), b"elf!!");
        let bytes = archive.end();
        let head = "070701000000010000 81ed".replace(' ', "");
        assert!(bytes.starts_with(head.as_bytes()), "{}", String::from_utf8_lossy(&bytes[..110]));
        assert_eq!(&bytes[110..116], b"init\0\0", "padded to a multiple of four");
        assert_eq!(&bytes[116..121], b"elf!!");
        assert!(bytes[124..].starts_with(b"070701"));
        assert!(bytes.len() % 4 == 0 && bytes.ends_with(b"TRAILER!!!\0\0\0\0"), "{bytes:?}");
    }
}
