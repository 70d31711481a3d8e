//! Publishing: a set is complete and verified in a folder beside the target before one rename puts it there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::contract;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::folder::RunFolder;
use super::set_files;
use crate::exit::Usage;

/// The place a set will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Absolute path of the set.
    pub path: PathBuf,
    parent: PathBuf,
    name: String,
}

impl Target {
    /// Looks at the place before anything is started: its parent can be written and what is there may go.
    pub fn new(out: &Path) -> Result<Self> {
        let path = std::path::absolute(out).with_context(|| format!("resolving {}", out.display()))?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Usage(format!("--out {} names no folder that could be made", out.display())).into());
        };
        if path.is_symlink() || path.exists() && !is_replaceable(&path)? {
            let message = format!(
                "{} holds something that is no fixture set; name a new or empty folder with --out",
                path.display()
            );
            return Err(Usage(message).into());
        }
        let target = Self { parent: parent.into(), name: name.to_string_lossy().into_owned(), path };
        fs::create_dir_all(&target.parent).with_context(|| format!("making {}", target.parent.display()))?;
        Ok(target)
    }

    /// A folder beside the target, in which the set is put together.
    pub fn stage(&self, run: &RunFolder) -> Result<Staging> {
        let path = self.parent.join(format!(".{}.{}", self.name, run.id()));
        run.note_staging(&path)?;
        fs::create_dir(&path).with_context(|| {
            format!("making a folder in {}; the set needs one beside its place", self.parent.display())
        })?;
        Ok(Staging { path, target: self.path.clone() })
    }

    /// Where a recorded run leaves what runs it again.
    pub fn recording(&self) -> PathBuf {
        self.parent.join(format!("{}.replay", self.name))
    }

    /// Where a failed run leaves what it has, for diagnosis.
    pub fn failed(&self) -> PathBuf {
        self.beside("failed")
    }

    /// A place of this name beside the target.
    pub fn beside(&self, what: &str) -> PathBuf {
        self.parent.join(format!("{}.{what}", self.name))
    }
}

/// Whether a folder is empty or a set: what publishing may replace.
fn is_replaceable(path: &Path) -> Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    let empty = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?.next().is_none();
    Ok(empty || path.join(contract::MANIFEST).is_file())
}

/// A set in the making, or the former set that it has replaced. Dropping it removes it.
pub struct Staging {
    path: PathBuf,
    target: PathBuf,
}

impl Staging {
    /// The folder of the set in the making.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place that the set will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Has the set on the disk, not only in memory, before it takes another's place.
    pub fn sync(&self) -> Result<()> {
        set_files::sync(&self.path)
    }

    /// Puts the set in place by one rename. What this then guards is the former set, if there was one.
    pub fn publish(&self) -> Result<()> {
        let context = || format!("putting the set in place at {}", self.target.display());
        if self.target.exists() {
            // One exchange: at no moment is there no set. What was there is then ours to drop.
            renameat2(AT_FDCWD, &self.path, AT_FDCWD, &self.target, RenameFlags::RENAME_EXCHANGE)
                .with_context(context)?;
        } else {
            fs::rename(&self.path, &self.target).with_context(context)?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.path.exists() {
            if let Err(error) = set_files::remove(&self.path) {
                crate::output::error(&error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_set_is_replaced_whole_and_nothing_stays_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&home.path().join("runs")).unwrap();
        let out = home.path().join("a set, with a comma");
        fs::create_dir(&out).unwrap();
        fs::write(out.join(contract::MANIFEST), "old").unwrap();
        fs::write(out.join("stale"), "old").unwrap();
        let staging = Target::new(&out).unwrap().stage(&run).unwrap();
        fs::write(staging.path().join(contract::MANIFEST), "new").unwrap();
        staging.sync().unwrap();
        staging.publish().unwrap();
        assert_eq!(fs::read_to_string(staging.path().join("stale")).unwrap(), "old", "until it is dropped");
        drop(staging);
        assert_eq!(fs::read_to_string(out.join(contract::MANIFEST)).unwrap(), "new");
        assert!(!out.join("stale").exists());
        let beside = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(beside, 2, "the set and the runs");
    }

    #[test]
    fn what_is_no_set_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("thesis.tex"), "years").unwrap();
        let error = Target::new(home.path()).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
    }
}
