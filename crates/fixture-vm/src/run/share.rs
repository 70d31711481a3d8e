//! The 9p share: what the host puts there, and what it takes back without trusting it.
//!
//! The guest may write anything below the share: links, devices, names of any kind. So the host opens only
//! regular files, follows no link, takes only what the status lists, and believes a digest it computed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixture::contract::handover::{NONCE_FILE, OUT_DIR, STATUS_FILE, Status};
use fixture::contract::{self, FIXTURES, RAW};

use crate::digest;
use crate::exit::GuestFailed;

/// The most that a status may take, in bytes.
const LARGEST_STATUS: u64 = 4 << 20;

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
    pub fn collect(&self, to: &Path) -> Result<Status> {
        let status = self.status()?;
        for (name, promised) in &status.files {
            ensure!(
                is_ours(name),
                GuestFailed(format!("the guest handed over a file with the name {name:?}"))
            );
            let target = to.join(name);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            }
            let source = self.path.join(OUT_DIR).join(name);
            let source = digest::open(&source)
                .map_err(|error| GuestFailed(format!("{} on the share: {error:#}", source.display())))?;
            let got = digest::copy(source, &target)?;
            ensure!(
                got == *promised,
                GuestFailed(format!(
                    "{name} did not come over whole: {} bytes with digest {}, promised were {} with {}",
                    got.size, got.sha256, promised.size, promised.sha256
                ))
            );
        }
        for name in FIXTURES {
            ensure!(status.files.contains_key(name), GuestFailed(format!("the guest handed over no {name}")));
        }
        Ok(status)
    }

    /// Copies whatever a failed guest left, as far as it goes.
    pub fn salvage(&self, to: &Path) {
        salvage(&self.path.join(OUT_DIR), to);
    }

    fn status(&self) -> Result<Status> {
        let mut text = String::new();
        digest::open(&self.path.join(STATUS_FILE))
            .map_err(|_| {
                GuestFailed("the guest ended without handing over: no status is on the share".into())
            })?
            .take(LARGEST_STATUS)
            .read_to_string(&mut text)
            .context("reading the guest's status")?;
        let status: Status = serde_json::from_str(&text)
            .map_err(|error| GuestFailed(format!("the guest's status is not readable: {error}")))?;
        ensure!(
            status.nonce == self.nonce,
            GuestFailed(format!(
                "the status bears nonce {:?}, this run's is {:?}: it is not fresh",
                status.nonce, self.nonce
            ))
        );
        ensure!(
            status.contract == contract::VERSION,
            GuestFailed(format!("the status is of contract {}, not {}", status.contract, contract::VERSION))
        );
        Ok(status)
    }
}

/// A plain relative path that is one of the fixtures or lies below `raw/`.
fn is_ours(name: &str) -> bool {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain && (FIXTURES.contains(&name) || path.starts_with(RAW) && path.components().count() > 1)
}

fn salvage(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else { return };
    let mut kept = BTreeMap::new();
    for entry in entries.flatten() {
        kept.insert(entry.file_name(), entry.path());
    }
    for (name, path) in kept {
        let Ok(kind) = fs::symlink_metadata(&path) else { continue };
        if kind.is_dir() {
            salvage(&path, &to.join(name));
        } else if kind.is_file() && fs::create_dir_all(to).is_ok() {
            // What is left of a failure is shown as far as it can be; the failure itself is reported elsewhere.
            digest::open(&path).and_then(|file| digest::copy(file, &to.join(name))).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture::contract::handover::FileDigest;

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
        let error = share.collect(&home.path().join("set")).unwrap_err();
        assert!(error.is::<GuestFailed>(), "{error:#}");
        error.to_string()
    }

    #[test]
    fn a_whole_set_is_collected() {
        let home = tempfile::tempdir().unwrap();
        let share = share(home.path());
        hand_over(&share, &share.nonce, &[("raw/lldp/sw.json0", "{}")]);
        let set = home.path().join("set");
        share.collect(&set).unwrap();
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
        let seen: Vec<_> = seen.iter().map(|text| text.split("/share/").last().unwrap_or(text)).collect();
        insta::assert_snapshot!(seen.join("\n"));
    }
}
