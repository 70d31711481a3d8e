//! `image.json`: what a guest image folder holds, whoever made it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixture::contract;
use fixture::file;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::download::sha256;

/// Name of the descriptor in an image folder.
pub const FILE_NAME: &str = "image.json";
/// Name of the kernel: an uncompressed ELF with a PVH entry point.
pub const VMLINUX: &str = "vmlinux";
/// Name of the initramfs, in a form the kernel reads.
pub const INITRAMFS: &str = "initramfs";
/// Name of the raw root file system, a multiple of 2 MiB, given read-only.
pub const ROOT: &str = "root.img";

/// The descriptor of an image; docs/guest-image.md explains each field to makers of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// Version of the contract that the guest program in the image speaks.
    pub contract: u32,
    /// `debian`, `nixos` or another word for people.
    pub kind: String,
    /// What the image needs on the kernel command line; the harness adds console, root and accelerator.
    pub cmdline: String,
    /// Digest and size of each of the three files.
    pub files: BTreeMap<String, Part>,
    /// What the image was made of, where its maker tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

impl Part {
    /// The digest and size that a file has now.
    pub fn of(path: &Path) -> Result<Self> {
        let read = || -> std::io::Result<Self> {
            let file = file::open(path, file::STREAM)?;
            Ok(Self { size: file.metadata()?.len(), sha256: sha256(file)? })
        };
        read().with_context(|| format!("reading {}", path.display()))
    }
}

/// What the Debian image was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Digest of all inputs; an image with the same inputs answers a build.
    pub inputs: String,
    /// What `uname -r` prints in the guest.
    pub kernel_release: String,
    /// SHA-256 of the guest program.
    pub program: String,
    /// SHA-256 of the lock.
    pub lock: String,
    /// Version of each package.
    pub packages: BTreeMap<String, String>,
}

impl Descriptor {
    /// Reads the descriptor of an image folder and checks that this harness can boot it.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let text = file::read(&path, file::DOCUMENT)
            .with_context(|| format!("{} is not a guest image: {FILE_NAME} cannot be read", dir.display()))?;
        let descriptor: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} does not describe a guest image", path.display()))?;
        descriptor.check().with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(descriptor)
    }

    /// The text that [`Descriptor::read`] reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a descriptor has only string keys") + "\n"
    }

    /// The image's identity: a digest of everything a guest booted from it can see.
    pub fn digest(&self) -> String {
        let mut text = format!("contract {}\ncmdline {}\n", self.contract, self.cmdline);
        for (name, part) in &self.files {
            writeln!(text, "{name} {}", part.sha256).expect("a String takes every write");
        }
        format!("{:x}", Sha256::digest(text))
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.contract == contract::VERSION,
            "its guest program speaks contract {}, this fixture-vm speaks {}; build the image again",
            self.contract,
            contract::VERSION
        );
        let named: Vec<&str> = self.files.keys().map(String::as_str).collect();
        ensure!(named == [INITRAMFS, ROOT, VMLINUX], "it names the files {named:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Descriptor {
        let part = |size| Part { sha256: format!("{size:064x}"), size };
        Descriptor {
            contract: contract::VERSION,
            kind: "nixos".into(),
            cmdline: "quiet".into(),
            files: [(VMLINUX, 1), (INITRAMFS, 2), (ROOT, 3)]
                .map(|(name, n)| (name.to_owned(), part(n)))
                .into(),
            origin: None,
        }
    }

    #[test]
    fn it_reads_back_what_it_wrote() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(FILE_NAME), sample().to_json()).expect("written");
        assert_eq!(Descriptor::read(dir.path()).expect("read"), sample());
    }

    #[test]
    fn the_digest_sees_what_the_guest_sees() {
        let with = |change: fn(&mut Descriptor)| {
            let mut changed = sample();
            change(&mut changed);
            changed.digest()
        };
        assert_eq!(sample().digest(), with(|d| d.kind = "other".into()));
        assert_ne!(sample().digest(), with(|d| d.cmdline.push('x')));
        assert_ne!(sample().digest(), with(|d| d.files.get_mut(ROOT).expect("a root").sha256.push('0')));
    }

    #[test]
    fn what_cannot_be_booted_is_refused() {
        let cases = [
            (sample().to_json().replace("\"contract\": 1", "\"contract\": 999"), "speaks contract 999"),
            (sample().to_json().replace("root.img", "disk.img"), "names the files"),
            (sample().to_json().replace("cmdline", "command"), "unknown field `command`"),
            (String::new(), "does not describe a guest image"),
        ];
        for (text, expected) in cases {
            let dir = tempfile::tempdir().expect("a folder");
            std::fs::write(dir.path().join(FILE_NAME), text).expect("written");
            let message = format!("{:#}", Descriptor::read(dir.path()).expect_err(expected));
            assert!(message.contains(expected), "{message}");
        }
    }
}
