//! The initramfs: the guest program as /init, and the modules that reach the root.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::deb::Content;

/// Directories that the guest program mounts on before there is a root.
const DIRECTORIES: [&str; 7] = ["dev", "proc", "sys", "run", "tmp", "sysroot", "modules"];

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;

/// The part that is the same for every guest program: directories, the console and modules.
///
/// A cpio archive in the kernel's `newc` form, ended; the kernel reads several one after another.
pub fn base(modules: &[(String, Content)]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for name in DIRECTORIES {
        archive.add(name, S_IFDIR | 0o755, &[])?;
    }
    archive.console()?;
    for (name, content) in modules {
        if let Content::File { mode, data } = content {
            archive.add(&format!("modules/{name}"), S_IFREG | mode, data)?;
        }
    }
    archive.end()
}

/// The part that holds the guest program.
pub fn program(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add("init", S_IFREG | 0o755, bytes)?;
    archive.end()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.entry(cpio::newc::Builder::new(name).mode(mode), name, data)
    }

    /// The kernel opens /dev/console for PID 1 before anything is mounted.
    fn console(&mut self) -> Result<()> {
        let console =
            cpio::newc::Builder::new("dev/console").mode(S_IFCHR | 0o600).rdev_major(5).rdev_minor(1);
        self.entry(console, "dev/console", &[])
    }

    fn entry(&mut self, builder: cpio::newc::Builder, name: &str, data: &[u8]) -> Result<()> {
        // An inode number of its own keeps the kernel from taking two entries for one hard link.
        self.names.insert(name.to_owned());
        let builder = builder.ino(self.names.len() as u32).nlink(1).mtime(0).uid(0).gid(0);
        let length =
            u32::try_from(data.len()).with_context(|| format!("{name} is too large for an initramfs"))?;
        let mut writer = builder.write(&mut self.bytes, length);
        std::io::Write::write_all(&mut writer, data)?;
        writer.finish()?;
        Ok(())
    }

    fn end(mut self) -> Result<Vec<u8>> {
        cpio::newc::trailer(&mut self.bytes)?;
        // The next archive must begin at a multiple of four.
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mut archive: &[u8]) -> Vec<(String, u32, u32)> {
        let mut seen = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(archive).expect("a cpio entry");
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                return seen;
            }
            seen.push((entry.name().to_owned(), entry.mode(), entry.file_size()));
            archive = reader.finish().expect("the next entry");
        }
    }

    #[test]
    fn it_holds_the_console_the_modules_and_the_program() {
        let order = Content::File { mode: 0o644, data: b"erofs.ko\n".to_vec() };
        let base = base(&[("order".to_owned(), order)]).expect("writes");
        let entries = names(&base);
        assert!(entries.contains(&("dev/console".to_owned(), S_IFCHR | 0o600, 0)));
        assert!(entries.contains(&("modules/order".to_owned(), S_IFREG | 0o644, 9)));
        assert_eq!(base.len() % 4, 0);
        assert_eq!(names(&program(b"elf!").expect("writes")), [("init".to_owned(), S_IFREG | 0o755, 4)]);
    }
}
