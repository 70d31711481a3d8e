//! The 9p share: what the host puts there, and what it takes back without trusting it.
//!
//! The guest may write anything below the share: links, devices, names of any kind. So the host opens only
//! regular files, follows no link, takes only what the status lists, and believes a digest it computed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixture::contract::handover::{NONCE_FILE, OUT_DIR, STATUS_FILE, Status};
use fixture::contract::{self, FIXTURES, RAW};

use super::limits::{SHARE, is_qemus};
use super::salvage;
use crate::beneath::Folder;
use crate::digest;
use crate::exit::GuestFailed;
use crate::interrupt::Interrupt;

/// The most that a status may take, in bytes: about 100 for each file that is handed over.
const LARGEST_STATUS: u64 = 4 << 20;

/// How much of what the guest says of itself is shown, in characters.
const SHOWN: usize = 100;

/// The folder that is shared with the guest.
pub struct Share {
    path: PathBuf,
    nonce: String,
}

impl Share {
    /// Makes the share with its nonce.
    pub fn create(path: PathBuf, nonce: String) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        fs::write(path.join(NONCE_FILE), &nonce).context("writing the nonce to the share")?;
        Ok(Self { path, nonce })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the set into `to`, as the guest's status lists it.
    pub fn collect(&self, to: &Path, interrupt: &Interrupt) -> Result<Status> {
        let share = Folder::open(&self.path).context("opening the share")?;
        if let Some(passed) = SHARE.passed_by(&share)? {
            return Err(GuestFailed(passed).into());
        }
        let status = self.status(&share)?;
        for (name, promised) in &status.files {
            ensure!(
                is_ours(name),
                GuestFailed(format!("the guest handed over a file with the name {:?}", shown(name)))
            );
            let source = share
                .file(&Path::new(OUT_DIR).join(name))
                .map_err(|error| GuestFailed(format!("{OUT_DIR}/{name} on the share: {error:#}")))?;
            let target = to.join(name);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            }
            // One byte more than promised tells that there is more.
            let source = source.take(promised.size.saturating_add(1));
            let got = digest::copy_while(source, &target, || Ok(interrupt.check()?))?;
            ensure!(
                got.size <= promised.size,
                GuestFailed(format!(
                    "{name} did not come over whole: it has more than the {} bytes that were promised",
                    promised.size
                ))
            );
            ensure!(
                got == *promised,
                GuestFailed(format!(
                    "{name} did not come over whole: {} bytes with digest {}, promised were {} with {:?}",
                    got.size,
                    got.sha256,
                    promised.size,
                    shown(&promised.sha256)
                ))
            );
        }
        for name in FIXTURES {
            ensure!(status.files.contains_key(name), GuestFailed(format!("the guest handed over no {name}")));
        }
        Ok(status)
    }

    /// Copies whatever a failed guest left to `share` in that folder, as far as it goes.
    pub fn salvage(&self, to: &Path, interrupt: &Interrupt) -> Result<()> {
        let out = Folder::open(&self.path).and_then(|share| share.folder(Path::new(OUT_DIR)));
        // A guest that failed early left nothing; what is no folder is nothing to look into.
        out.map_or(Ok(()), |out| salvage::salvage(&out, to, interrupt))
    }

    fn status(&self, share: &Folder) -> Result<Status> {
        let file = share.file(Path::new(STATUS_FILE)).map_err(|error| {
            GuestFailed(format!(
                "the guest ended without handing over: no status is on the share ({STATUS_FILE}: {error:#})"
            ))
        })?;
        let mut text = Vec::new();
        file.take(LARGEST_STATUS + 1).read_to_end(&mut text).context("reading the guest's status")?;
        ensure!(
            text.len() as u64 <= LARGEST_STATUS,
            GuestFailed(format!(
                "the guest's status has more than {LARGEST_STATUS} bytes, which is the limit"
            ))
        );
        let status: Status = serde_json::from_slice(&text)
            .map_err(|error| GuestFailed(format!("the guest's status is not readable: {error}")))?;
        ensure!(
            status.nonce == self.nonce,
            GuestFailed(format!(
                "the status bears nonce {:?}, this run's is {:?}: it is not fresh",
                shown(&status.nonce),
                self.nonce
            ))
        );
        ensure!(
            status.contract == contract::VERSION,
            GuestFailed(format!("the status is of contract {}, not {}", status.contract, contract::VERSION))
        );
        Ok(status)
    }
}

/// A plain relative path, in its one way to write it, that is one of the fixtures or lies below `raw/`.
fn is_ours(name: &str) -> bool {
    let plain =
        |part: &str| !matches!(part, "" | "." | "..") && is_printable(part) && !is_qemus(part.as_ref());
    let below_raw = || name.strip_prefix(RAW).and_then(|rest| rest.strip_prefix('/'));
    FIXTURES.contains(&name) || below_raw().is_some_and(|rest| rest.split('/').all(plain))
}

/// Whether a name is of printable ASCII: nodes, ports and tools, of which the guest makes names, are.
pub fn is_printable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture::contract::handover::FileDigest;
    use std::collections::BTreeMap;

    fn share(home: &Path) -> Share {
        let share = Share::create(home.join("share"), "0123456789abcdef0123456789abcdef".into()).unwrap();
        fs::create_dir(share.path().join(OUT_DIR)).unwrap();
        share
    }

    fn hand_over(share: &Share, nonce: &str, extra: &[(&str, &str)]) {
        let out = share.path().join(OUT_DIR);
        let mut files = BTreeMap::new();
        for (name, text) in FIXTURES.iter().map(|name| (*name, "x")).chain(extra.iter().copied()) {
            let path = out.join(name);
            if !path.exists() && !name.contains("..") {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, text).unwrap();
            }
            let digest = FileDigest { sha256: digest::of_bytes(text.as_bytes()), size: text.len() as u64 };
            files.insert(name.to_owned(), digest);
        }
        let status = Status {
            contract: contract::VERSION,
            nonce: nonce.into(),
            kernel: "6.12".into(),
            tools: BTreeMap::new(),
            window_ns: (1, 2),
            files,
        };
        fs::write(share.path().join(STATUS_FILE), serde_json::to_vec(&status).unwrap()).unwrap();
    }

    fn refusal(prepare: impl FnOnce(&Share)) -> String {
        let home = tempfile::tempdir().unwrap();
        let share = share(home.path());
        prepare(&share);
        let error = share.collect(&home.path().join("set"), &Interrupt::never()).unwrap_err();
        assert!(error.is::<GuestFailed>(), "{error:#}");
        error.to_string()
    }

    #[test]
    fn a_whole_set_is_collected() {
        let home = tempfile::tempdir().unwrap();
        let share = share(home.path());
        hand_over(&share, &share.nonce, &[("raw/lldp/sw.json0", "{}")]);
        let set = home.path().join("set");
        share.collect(&set, &Interrupt::never()).unwrap();
        assert_eq!(fs::read_to_string(set.join("raw/lldp/sw.json0")).unwrap(), "{}");
    }

    #[test]
    fn what_a_guest_may_not_do_is_refused() {
        let mut seen = vec![refusal(|_| ())];
        seen.push(refusal(|share| hand_over(share, "an older run", &[])));
        seen.push(refusal(|share| hand_over(share, &share.nonce.clone(), &[("raw/../../etc", "x")])));
        seen.push(refusal(|share| hand_over(share, &share.nonce.clone(), &[("manifest.json", "x")])));
        seen.push(refusal(|share| {
            hand_over(share, &share.nonce.clone(), &[]);
            fs::write(share.path().join(OUT_DIR).join("lldp.json"), "torn").unwrap();
        }));
        seen.push(refusal(|share| {
            std::os::unix::fs::symlink("/etc/hostname", share.path().join(OUT_DIR).join("lldp.json"))
                .unwrap();
            hand_over(share, &share.nonce.clone(), &[]);
        }));
        insta::assert_snapshot!(seen.join("\n"));
    }

    #[test]
    fn names_have_one_way_to_be_written() {
        for name in ["capture.pcapng", "raw/a", "raw/lldp/sw.json0", "raw/plan/-x", "raw/.hidden"] {
            assert!(is_ours(name), "{name:?}");
        }
        let wrong = [
            "",
            "raw",
            "raw/",
            "raw//a",
            "raw/./a",
            "raw/../a",
            "raw/a/",
            "/raw/a",
            "./raw/a",
            "rawer/a",
            "manifest.json",
            "raw/a\nb",
            "raw/\x1b[31m",
            "raw/\u{202e}",
            "raw/\0",
            "raw/a b",
            "raw/.virtfs_metadata/a",
            "raw/.virtfs_metadata_root",
        ];
        for name in wrong {
            assert!(!is_ours(name), "{name:?}");
        }
    }

    #[test]
    fn a_signal_ends_the_collection() {
        let home = tempfile::tempdir().unwrap();
        let share = share(home.path());
        hand_over(&share, &share.nonce, &[]);
        let arrived = Interrupt::arrived();
        let error = share.collect(&home.path().join("set"), &arrived).unwrap_err();
        assert!(error.is::<crate::exit::Interrupted>(), "{error:#}");
        assert!(share.salvage(home.path(), &arrived).is_err());
    }
}
