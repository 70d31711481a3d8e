//! The hand-over: the share is mounted, proved to be the share, and written; the status file comes last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixture::contract::handover::{FileDigest, NONCE_FILE, OUT_DIR, SHARE_TAG, STATUS_FILE, Status};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sha2::{Digest, Sha256};

use crate::input;
use crate::microvm::secrets;
use crate::work;

/// 9P2000.L over virtio, with messages large enough that a file is a few of them.
const OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=512000";

/// Bytes copied at once.
const CHUNK: usize = 256 * 1024;

/// The mounted share. Dropped, it is unmounted.
#[derive(Debug)]
pub struct Share {
    at: PathBuf,
    nonce: String,
}

impl Share {
    /// Mounts the share; nothing is written unless it holds the host's nonce.
    pub fn mount() -> Result<Self> {
        let at = work::scratch("share");
        fs::create_dir_all(&at).context("making the mount point")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(SHARE_TAG), &at, Some("9p"), flags, Some(OPTIONS)).with_context(|| {
            format!("mounting the 9p share `{SHARE_TAG}`: was QEMU given -device virtio-9p-pci,mount_tag={SHARE_TAG}?")
        })?;
        let share = Self { at, nonce: input::farewell()?.nonce };
        let file = share.at.join(NONCE_FILE);
        let found =
            fs::read_to_string(&file).with_context(|| format!("reading `{NONCE_FILE}` on the share"))?;
        ensure!(
            found == share.nonce,
            "the share is not this run's: it holds nonce {found:?}, the host gave {:?}",
            share.nonce
        );
        Ok(share)
    }

    /// Copies the set and, last, writes the status file; gives the number of files and their bytes.
    pub fn hand_over(
        &self,
        kernel: String,
        tools: BTreeMap<String, String>,
        window_ns: (u64, u64),
    ) -> Result<(usize, u64)> {
        let files = self.copy_set()?;
        let total = (files.len(), files.values().map(|file| file.size).sum());
        let contract = fixture::contract::VERSION;
        let status = Status { contract, nonce: self.nonce.clone(), kernel, tools, window_ns, files };
        let bytes = fixture::json::to_vec(&status);
        // Under its own name only when it is whole.
        let partial = self.at.join(format!("{STATUS_FILE}.partial"));
        write_synced(&partial, &bytes)?;
        fs::rename(&partial, self.at.join(STATUS_FILE)).with_context(|| format!("writing {STATUS_FILE}"))?;
        File::open(&self.at).and_then(|folder| folder.sync_all()).context("syncing the share")?;
        Ok(total)
    }

    /// Copies everything that is there, whole or not: for the diagnosis of a failed run. No status file.
    pub fn hand_over_evidence(&self) -> Result<()> {
        self.copy_set().map(drop)
    }

    /// Copies all files but those that have a secret of a microVM; that there are such is an error.
    fn copy_set(&self) -> Result<BTreeMap<String, FileDigest>> {
        let (from, to) = (work::set(), self.at.join(OUT_DIR));
        let (mut files, mut told) = (BTreeMap::new(), Vec::new());
        for path in work::files_below(&from)? {
            let name = path.to_string_lossy().into_owned();
            if secrets::are_told_in(&from.join(&path)).with_context(|| format!("reading {name}"))? {
                told.push(name);
                continue;
            }
            let target = to.join(&path);
            fs::create_dir_all(target.parent().unwrap_or(&to))
                .with_context(|| format!("making the folder of {name}"))?;
            let digest =
                copy(&from.join(&path), &target).with_context(|| format!("copying {name} to the share"))?;
            files.insert(name, digest);
        }
        ensure!(told.is_empty(), "a secret of a microVM is in {}, which is not handed over", told.join(", "));
        Ok(files)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// Copies, syncs, and asks the share for the size that it has now.
fn copy(from: &Path, to: &Path) -> Result<FileDigest> {
    let mut source = File::open(from)?;
    let mut target = File::create(to)?;
    let mut digest = Sha256::new();
    let mut size = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = source.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        digest.update(&chunk[..n]);
        target.write_all(&chunk[..n])?;
        size += n as u64;
    }
    target.sync_all()?;
    let there = fs::metadata(to)?.len();
    ensure!(there == size, "{there} of {size} bytes arrived");
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FileDigest { sha256, size })
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_digest_of_what_was_copied() {
        let dir = std::env::temp_dir().join(format!("gen-fixtures-copy-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("a"), b"abc").unwrap();
        let digest = copy(&dir.join("a"), &dir.join("b")).unwrap();
        // The example of FIPS 180-2, appendix B.1.
        assert_eq!(digest.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((digest.size, fs::read(dir.join("b")).unwrap()), (3, b"abc".to_vec()));
        fs::remove_dir_all(dir).unwrap();
    }
}
