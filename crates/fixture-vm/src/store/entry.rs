//! One stored set: its files, what their digests should be, and whether they are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use fixture::contract::MANIFEST;
use fixture::contract::handover::FileDigest;
use fixture::contract::manifest::Manifest;
use fixture::file;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::digest;

const ENTRY: &str = "entry.json";
const SET: &str = "set";

/// What a stored set consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The digest it is stored under.
    pub closure: String,
    /// Path in the set to digest and size, of every file, the manifest too.
    pub files: BTreeMap<String, FileDigest>,
}

/// A stored set that is not what was stored; the text says where.
#[derive(Debug)]
pub struct Damaged(String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Damaged {}

impl Entry {
    /// Copies a set into a folder that is made for it, with its entry.
    pub fn make(set: &Path, closure: &str, at: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let target = set_dir(at);
        fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
        copy_folder(set, &target, "", &mut files)?;
        let entry = Self { closure: closure.to_owned(), files };
        let text = serde_json::to_vec_pretty(&entry).context("writing the entry as JSON")?;
        fs::write(at.join(ENTRY), text).with_context(|| format!("writing {ENTRY} in {}", at.display()))?;
        Ok(entry)
    }

    /// Reads the entry in a folder.
    pub fn read(dir: &Path, closure: &str) -> Result<Self> {
        let bytes = document(&dir.join(ENTRY)).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Err(Damaged(format!("it has no {ENTRY}")).into()),
            io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => {
                Err(Damaged(format!("{ENTRY}: {error}")).into())
            }
            _ => Err(error).with_context(|| format!("reading {ENTRY} in {}", dir.display())),
        })?;
        let entry: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Damaged(format!("its {ENTRY} is not readable: {error}")))?;
        if entry.closure != closure {
            return Err(Damaged(format!("its {ENTRY} is of closure {}", entry.closure)).into());
        }
        match entry.files.keys().find(|name| !is_plain(name)) {
            Some(name) => Err(Damaged(format!("its {ENTRY} names {name:?}")).into()),
            None => Ok(entry),
        }
    }

    /// Compares every file with its digest, and reads the manifest.
    pub fn check(&self, dir: &Path) -> Result<Manifest> {
        for (name, promised) in &self.files {
            let found = digest::of_file(&set_dir(dir).join(name)).map_err(|error| unusable(name, error))?;
            agree(name, promised, &found)?;
        }
        self.manifest(&set_dir(dir))
    }

    /// Copies every file; each digest is that of the bytes that went over. Reads the manifest.
    pub fn copy(&self, dir: &Path, to: &Path) -> Result<Manifest> {
        for (name, promised) in &self.files {
            let target = to.join(name);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            }
            let source = digest::open(&set_dir(dir).join(name)).map_err(|error| unusable(name, error))?;
            agree(name, promised, &digest::copy(source, &target)?)?;
        }
        self.manifest(to)
    }

    fn manifest(&self, set: &Path) -> Result<Manifest> {
        let unreadable = |why: String| Damaged(format!("{MANIFEST}: {why}"));
        let bytes = document(&set.join(MANIFEST)).map_err(|error| unusable(MANIFEST, error.into()))?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if manifest.closure.digest != self.closure {
            return Err(unreadable(format!("it is of closure {}", manifest.closure.digest)).into());
        }
        match manifest.files.iter().find(|(name, digest)| self.files.get(*name) != Some(digest)) {
            Some((name, _)) => Err(unreadable(format!("it tells of another {name}")).into()),
            None => Ok(manifest),
        }
    }
}

fn document(path: &Path) -> io::Result<Vec<u8>> {
    file::read_from(file::open_entry(path, file::DOCUMENT)?, file::DOCUMENT)
}

/// The set's folder in an entry's.
pub fn set_dir(dir: &Path) -> PathBuf {
    dir.join(SET)
}

/// When an entry was last used.
pub fn used(dir: &Path) -> SystemTime {
    let modified = fs::metadata(dir.join(ENTRY)).and_then(|file| file.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Notes that an entry was used now, for the order of use only: who may only read a store notes nothing.
pub fn touch(dir: &Path) {
    File::open(dir.join(ENTRY)).and_then(|file| file.set_modified(SystemTime::now())).ok();
}

/// A file that is gone, is no file any more, or cannot be read, is damage. That this user may not read it, or that
/// this process has too many files open, says nothing of the file.
fn unusable(name: &str, error: anyhow::Error) -> anyhow::Error {
    const NOT_OF_THE_FILE: [Errno; 5] =
        [Errno::EACCES, Errno::EPERM, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(Errno::from_raw);
    match errno {
        Some(errno) if NOT_OF_THE_FILE.contains(&errno) => {
            error.context(format!("reading {name} of a stored set"))
        }
        _ => Damaged(format!("{name}: {error:#}")).into(),
    }
}

fn agree(name: &str, promised: &FileDigest, found: &FileDigest) -> Result<(), Damaged> {
    if promised == found {
        return Ok(());
    }
    Err(Damaged(format!(
        "{name}: {} bytes with SHA-256 {}, stored were {} with {}",
        found.size, found.sha256, promised.size, promised.sha256
    )))
}

fn copy_folder(from: &Path, to: &Path, below: &str, files: &mut BTreeMap<String, FileDigest>) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry.with_context(|| format!("reading {}", from.display()))?;
        let part = entry.file_name();
        let part = part.to_str().with_context(|| format!("{part:?} is no name for a file of a set"))?;
        let (name, target) = (format!("{below}{part}"), to.join(part));
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target).with_context(|| format!("making {}", target.display()))?;
            copy_folder(&entry.path(), &target, &format!("{name}/"), files)?;
        } else {
            let source =
                digest::open(&entry.path()).with_context(|| format!("opening {}", entry.path().display()))?;
            files.insert(name, digest::copy(source, &target)?);
        }
    }
    Ok(())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}
