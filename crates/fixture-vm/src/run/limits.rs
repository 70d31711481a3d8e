//! How much a guest may write, and the look at what it has written while it runs.
//!
//! Each limit is far above what a run of any scenario writes, and low enough for the memory and the disk of a
//! small machine. `docs/security.md` has the same table.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::stat::SFlag;

use crate::beneath::{Folder, kind};
use crate::qemu::args::Files;

/// The console, in bytes. A boot with all of the kernel's messages takes about 0.1 MiB.
pub const CONSOLE_BYTES: u64 = 16 << 20;

/// One event, in bytes. The longest is a failed command's: its words and 2 KiB of what it printed.
pub const EVENT_BYTES: usize = 64 << 10;

/// How many events. The longest scenario, a day, has 43,200 heartbeats; a life of a microVM about 20 events.
pub const EVENTS: u64 = 50_000;

/// All events together, in bytes: above the 16 MiB that verification reads of microVMs' events alone.
pub const ALL_EVENTS_BYTES: u64 = 20 << 20;

/// QEMU's standard error, in bytes: some of its warnings are a guest's to provoke.
pub const STDERR_BYTES: u64 = 1 << 20;

/// What may lie on the share.
pub const SHARE: ShareLimits = ShareLimits { bytes: 4 << 30, entries: 20_000, depth: 16 };

/// What is kept of the share of a run that failed.
pub const SALVAGE: ShareLimits = ShareLimits { bytes: 256 << 20, entries: 10_000, depth: 16 };

/// How long salvage may take.
pub const SALVAGE_TIME: Duration = Duration::from_secs(20);

/// How often the share is looked at while the guest runs; less often where a look takes longer than a tenth of it.
const SHARE_EVERY: Duration = Duration::from_millis(200);

/// Size and shape of a tree of files.
#[derive(Debug, Clone, Copy)]
pub struct ShareLimits {
    /// Of each file its length or the room it takes, whichever is more; added up.
    pub bytes: u64,
    /// Files, folders and all else, with those in which QEMU notes the guest's owners and modes.
    pub entries: usize,
    /// Folders in folders.
    pub depth: usize,
}

/// What QEMU notes of the guest's owners and modes (`security_model=mapped-file`) is no file of the guest's.
pub fn is_qemus(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".virtfs_metadata")
}

/// The look at what a guest has written.
pub struct Bounds<'a> {
    files: [(&'a Path, &'static str, u64); 3],
    share: &'a Path,
    next: Instant,
}

impl<'a> Bounds<'a> {
    /// Of a run with these files.
    pub fn of(files: &'a Files, stderr: &'a Path) -> Self {
        Self {
            files: [
                (&files.console, "on its console", CONSOLE_BYTES),
                (&files.events, "of events", ALL_EVENTS_BYTES),
                (stderr, "on QEMU's standard error", STDERR_BYTES),
            ],
            share: &files.share,
            next: Instant::now(),
        }
    }

    /// Which limit the guest has passed, if it has. The share is looked at if it is time to, or it is the last look.
    pub fn passed(&mut self, last: bool) -> Result<Option<String>> {
        for (path, what, most) in self.files {
            let size = fs::metadata(path).map_or(0, |file| file.len());
            if size > most {
                return Ok(Some(format!("the guest wrote {size} bytes {what}; {most} are the limit")));
            }
        }
        let now = Instant::now();
        if !last && now < self.next {
            return Ok(None);
        }
        let share = Folder::open(self.share).context("opening the share")?;
        let passed = SHARE.passed_by(&share)?;
        self.next = Instant::now() + SHARE_EVERY.max(now.elapsed() * 10);
        Ok(passed)
    }
}

impl ShareLimits {
    /// Which of the limits the tree has passed, if it has.
    pub fn passed_by(&self, share: &Folder) -> Result<Option<String>> {
        let (mut bytes, mut entries) = (0, 0);
        Ok(self.add(share, 1, &mut bytes, &mut entries).context("looking at the share")?.map(|what| {
            format!(
                "the guest wrote more to its share than it may: {what}; {} bytes, {} files and folders, {} levels are the limits",
                self.bytes, self.entries, self.depth
            )
        }))
    }

    fn add(
        &self,
        folder: &Folder,
        depth: usize,
        bytes: &mut u64,
        entries: &mut usize,
    ) -> nix::Result<Option<String>> {
        let names = folder.names(self.entries - *entries + 1)?;
        *entries += names.len();
        if *entries > self.entries {
            return Ok(Some(format!("more than {} files and folders", self.entries)));
        }
        for name in names {
            // The guest goes on meanwhile: what is gone again counts nothing.
            let Ok(stat) = folder.stat(&name) else { continue };
            match kind(&stat) {
                SFlag::S_IFREG => *bytes = bytes.saturating_add(size(stat.st_size, stat.st_blocks)),
                SFlag::S_IFDIR if depth == self.depth => {
                    return Ok(Some(format!("more than {} levels of folders", self.depth)));
                }
                SFlag::S_IFDIR => {
                    let inner = match folder.folder(Path::new(&name)) {
                        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                        inner => inner?,
                    };
                    if let Some(what) = self.add(&inner, depth + 1, bytes, entries)? {
                        return Ok(Some(what));
                    }
                }
                _ => {}
            }
            if *bytes > self.bytes {
                return Ok(Some(format!("files of {bytes} bytes")));
            }
        }
        Ok(None)
    }
}

/// A file's length, or the room it takes if that is more: blocks are of 512 bytes (stat(3type)).
fn size(length: i64, blocks: i64) -> u64 {
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    positive(length).max(positive(blocks).saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: ShareLimits = ShareLimits { bytes: 1 << 20, entries: 10, depth: 3 };

    fn passed(write: impl FnOnce(&Path)) -> Option<String> {
        let home = tempfile::tempdir().unwrap();
        write(home.path());
        FEW.passed_by(&Folder::open(home.path()).unwrap()).unwrap()
    }

    #[test]
    fn each_limit_of_a_share_holds() {
        let sparse = |at: &Path, size| fs::File::create(at).unwrap().set_len(size).unwrap();
        assert_eq!(passed(|at| sparse(&at.join("most"), 1 << 20)), None);
        assert!(
            passed(|at| sparse(&at.join("sparse"), 1 << 40))
                .unwrap()
                .contains("files of 1099511627776 bytes")
        );
        let two = |at: &Path| ["a", "b"].iter().for_each(|name| sparse(&at.join(name), 600 << 10));
        assert!(passed(two).unwrap().contains("files of 1228800 bytes"));
        let many = |n: usize| passed(|at| (0..n).for_each(|i| sparse(&at.join(i.to_string()), 0)));
        assert_eq!(many(10), None);
        assert!(many(11).unwrap().contains("more than 10 files and folders"));
        assert_eq!(passed(|at| fs::create_dir_all(at.join("1/2")).unwrap()), None);
        assert!(
            passed(|at| fs::create_dir_all(at.join("1/2/3")).unwrap())
                .unwrap()
                .contains("more than 3 levels")
        );
        assert_eq!(size(10, 4), 2048, "room that was taken beyond a file's end counts");
    }
}
