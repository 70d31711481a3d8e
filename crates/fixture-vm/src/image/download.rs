//! The download cache: packages by their SHA-256, fetched once, checked, kept across interrupts.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::apt::{APT_HELPER, Mirrors};
use super::lock::Package;
use super::progress::Progress;
use super::tool;

/// How many packages one call of apt's downloader gets: enough to keep the connection busy.
const BATCH: usize = 40;

/// Packages by digest in a folder; what is in it under its digest is whole and right.
pub struct Downloads {
    dir: PathBuf,
}

impl Downloads {
    /// Uses a folder, making it if it is not there.
    pub fn at(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(dir.join("partial")).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Where a package is once it is fetched.
    pub fn path(&self, package: &Package) -> PathBuf {
        self.dir.join(&package.sha256)
    }

    /// Fetches what is not here yet, or not whole. What was fetched before an interrupt is not
    /// fetched again.
    pub fn fetch(
        &self,
        packages: &[Package],
        mirrors: impl FnOnce() -> Result<Mirrors>,
        progress: &Progress,
    ) -> Result<()> {
        let missing: Vec<&Package> =
            packages.iter().filter(|p| !self.is_here(p) && !self.came_whole(p)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mirrors = mirrors()?;
        let bytes = missing.iter().map(|p| p.size).sum();
        let meter = progress.bytes(&format!("fetching {} packages", missing.len()), bytes);
        let mut failures = Vec::new();
        let mut done = 0;
        for batch in missing.chunks(BATCH) {
            let watched: Vec<PathBuf> = batch.iter().map(|p| self.partial(p)).collect();
            let complaint =
                meter.while_growing(&watched, done, || self.fetch_batch(batch, &mirrors, progress)).err();
            done += batch.iter().map(|p| p.size).sum::<u64>();
            progress.go_on()?;
            for package in batch {
                if let Err(error) = self.admit(package) {
                    failures.push(format!("  {} {}: {error:#}", package.name, package.version));
                }
            }
            if let Some(complaint) = complaint.filter(|_| !failures.is_empty()) {
                bail!(
                    "these packages of the image lock could not be fetched:\n{}\n{complaint:#}\n\
                     If the mirror has replaced them by newer versions, `fixture-vm image lock --update` \
                     locks those; what was fetched is kept.",
                    failures.join("\n")
                );
            }
        }
        ensure!(failures.is_empty(), "these packages could not be fetched:\n{}", failures.join("\n"));
        meter.finish();
        Ok(())
    }

    /// Removes packages that `keep` does not want; returns the bytes freed.
    pub fn remove_except(&self, keep: impl Fn(&str) -> bool, dry_run: bool) -> Result<u64> {
        let mut freed = 0;
        for entry in fs::read_dir(&self.dir).with_context(|| format!("reading {}", self.dir.display()))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() && !keep(&entry.file_name().to_string_lossy()) {
                freed += metadata.len();
                if !dry_run {
                    fs::remove_file(entry.path())
                        .with_context(|| format!("removing {}", entry.path().display()))?;
                }
            }
        }
        Ok(freed)
    }

    fn is_here(&self, package: &Package) -> bool {
        File::open(self.path(package)).and_then(sha256).is_ok_and(|found| found == package.sha256)
    }

    /// Whether a fetch that was interrupted had got this one to its end.
    fn came_whole(&self, package: &Package) -> bool {
        let whole = fs::metadata(self.partial(package)).is_ok_and(|file| file.len() == package.size);
        whole && self.admit(package).is_ok()
    }

    fn partial(&self, package: &Package) -> PathBuf {
        self.dir.join("partial").join(&package.sha256)
    }

    fn fetch_batch(&self, batch: &[&Package], mirrors: &Mirrors, progress: &Progress) -> Result<()> {
        // apt says "unsandboxed" when root downloads into a folder that _apt cannot enter.
        tool::output(APT_HELPER, progress, |helper| {
            helper.args(["-o", "APT::Sandbox::User=root", "download-file"]);
            for package in batch {
                helper.arg(mirrors.uri(package)).arg(self.partial(package));
                helper.arg(format!("SHA256:{}", package.sha256));
            }
            helper
        })
        .map(drop)
    }

    /// Gives a fetched file its name in the cache, if it is the package.
    fn admit(&self, package: &Package) -> Result<()> {
        let partial = self.partial(package);
        let file = match File::open(&partial) {
            Ok(file) => file,
            Err(_) => bail!("the mirror does not have {}", package.path),
        };
        let found = sha256(&file).with_context(|| format!("reading {}", partial.display()))?;
        if found != package.sha256 {
            fs::remove_file(&partial)?;
            bail!("what came has SHA-256 {found}, the lock says {}", package.sha256);
        }
        file.sync_all()?;
        fs::rename(&partial, self.path(package)).with_context(|| format!("keeping {}", partial.display()))
    }
}

/// SHA-256 in hexadecimal of what a reader gives.
pub fn sha256(mut from: impl Read) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut from, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// Writes a whole file, read-only, so that it is either there with these bytes or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file lies in a folder")?;
    let mut file =
        tempfile::NamedTempFile::new_in(dir).with_context(|| format!("writing in {}", dir.display()))?;
    file.write_all(bytes).with_context(|| format!("writing {}", path.display()))?;
    file.as_file().set_permissions(Permissions::from_mode(0o444))?;
    file.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::lock::Archive;

    /// A mirror in a folder with one package of these bytes, and the folder's mirrors.
    fn mirror(dir: &Path, served: &[u8], promised: &[u8]) -> (Package, Mirrors) {
        let path = "pool/main/x/x_1+b1_amd64.deb";
        let file = dir.join("debian").join(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("folders");
        fs::write(file, served).expect("the package");
        let package = Package {
            name: "x".into(),
            version: "1+b1".into(),
            architecture: "amd64".into(),
            archive: Archive::Debian,
            size: promised.len() as u64,
            sha256: sha256(promised).expect("bytes are readable"),
            path: path.into(),
        };
        (package, Mirrors::under(&format!("copy:{}", dir.display())))
    }

    #[test]
    fn a_package_is_fetched_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (package, mirrors) = mirror(dir.path(), b"the package", b"the package");
        let downloads = Downloads::at(dir.path().join("cache")).expect("a cache");
        let packages = [package];
        downloads.fetch(&packages, || Ok(mirrors), &Progress::silent()).expect("fetched");
        assert_eq!(fs::read(downloads.path(&packages[0])).expect("it is here"), b"the package");
        let no_mirror = || panic!("nothing is missing, so no mirror is asked");
        downloads.fetch(&packages, no_mirror, &Progress::silent()).expect("from the cache");
    }

    #[test]
    fn other_bytes_than_locked_are_refused_and_not_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let (package, mirrors) = mirror(dir.path(), b"tampered!!!", b"the package");
        let downloads = Downloads::at(dir.path().join("cache")).expect("a cache");
        let error = downloads
            .fetch(std::slice::from_ref(&package), || Ok(mirrors), &Progress::silent())
            .expect_err("refused");
        let message = format!("{error:#}");
        assert!(message.contains("x 1+b1") && message.contains("Hash Sum mismatch"), "{message}");
        assert!(!downloads.path(&package).exists());
    }

    #[test]
    fn a_package_the_mirror_no_longer_has_is_named_with_the_mend() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut package, mirrors) = mirror(dir.path(), b"x", b"x");
        package.path = "pool/main/x/x_0_amd64.deb".into();
        package.version = "0".into();
        let downloads = Downloads::at(dir.path().join("cache")).expect("a cache");
        let error = downloads.fetch(&[package], || Ok(mirrors), &Progress::silent()).expect_err("it is gone");
        let message = format!("{error:#}");
        assert!(message.contains("x 0: the mirror does not have pool/main/x/x_0_amd64.deb"), "{message}");
        assert!(message.contains("fixture-vm image lock --update"), "{message}");
    }
}
