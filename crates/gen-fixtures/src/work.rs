//! The folders of a run, in memory: the set as it grows, and what only this run needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::contract::RAW;

use crate::plan::WORK;

/// Makes the folders; what an earlier run of a unit left is removed.
pub fn create() -> Result<()> {
    let work = Path::new(WORK);
    if work.exists() {
        fs::remove_dir_all(work).with_context(|| format!("emptying {WORK}"))?;
    }
    for folder in [set(), scratch("lldpd"), scratch("ptp4l"), scratch("capture")] {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    }
    Ok(())
}

/// The set: what is handed over.
pub fn set() -> PathBuf {
    Path::new(WORK).join("out")
}

/// A file or folder that is not handed over.
pub fn scratch(name: &str) -> PathBuf {
    Path::new(WORK).join(name)
}

/// A file of the set's untouched evidence; its folder is made.
pub fn raw(name: &str) -> Result<PathBuf> {
    let path = set().join(RAW).join(name);
    let folder = path.parent().expect("a file below raw/ has a folder");
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(path)
}

/// Writes a file of the set's untouched evidence.
pub fn write_raw(name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf> {
    let path = raw(name)?;
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Every file below a folder, by its path relative to it, sorted.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(at) = folders.pop() {
        let list = fs::read_dir(folder.join(&at));
        for entry in list.with_context(|| format!("listing {}", folder.join(&at).display()))? {
            let entry = entry.context("listing a folder")?;
            let path = at.join(entry.file_name());
            let kind = entry.file_type().context("listing a folder")?;
            if kind.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}
