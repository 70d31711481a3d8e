//! Publishing: a set is complete and verified in a folder beside the target before one rename puts it there.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{AccessFlags, access};

use super::folder::RunFolder;
use super::ours::{self, Kind, There};
use super::place;
use super::set_files::{self, Contents};
use crate::exit::Usage;

/// The place a set will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Absolute path of the set.
    pub path: PathBuf,
    parent: PathBuf,
    name: OsString,
}

impl Target {
    /// Looks at the place before anything is started: its parent can be written and what is there may go.
    pub fn new(out: &Path) -> Result<Self> {
        let path = std::path::absolute(out).ok();
        let parts = path.as_deref().and_then(|path| Some((path.parent()?, path.file_name()?)));
        let (Some(path), Some((parent, name))) = (&path, parts) else {
            return Err(Usage(format!("--out {} names no folder that could be made", out.display())).into());
        };
        let target = Self { parent: parent.into(), name: name.to_owned(), path: path.clone() };
        place::check(&target.path)?;
        target.may_replace(Kind::Set)?;
        target.may_replace(Kind::Failed)?;
        fs::create_dir_all(&target.parent).with_context(|| format!("making {}", target.parent.display()))?;
        access(&target.parent, AccessFlags::W_OK | AccessFlags::X_OK)
            .with_context(|| format!("writing in {}, where the set goes", target.parent.display()))?;
        Ok(target)
    }

    /// Refuses to put something where something is that no run put there.
    pub fn may_replace(&self, kind: Kind) -> Result<()> {
        let place = self.place(kind);
        match ours::look(&place, kind)? {
            There::Nothing | There::Ours(_) => Ok(()),
            There::Foreign(what) => Err(Usage(format!(
                "{} would be replaced, and {what}; move that away, or name a new or empty folder with --out",
                place.display()
            ))
            .into()),
        }
    }

    /// Removes what a failed run of an earlier time left; what is no such thing stays.
    pub fn clear_failed(&self) -> Result<()> {
        match ours::look(&self.failed(), Kind::Failed)? {
            There::Ours(contents) => contents.remove(),
            There::Nothing | There::Foreign(_) => Ok(()),
        }
    }

    /// A folder beside the target, in which something is put together.
    pub fn stage(&self, kind: Kind, run: &RunFolder) -> Result<Staging> {
        let target = self.place(kind);
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or(OsStr::new("")));
        name.push(".");
        name.push(run.id());
        let path = self.parent.join(name);
        run.note_staging(&path)?;
        fs::create_dir(&path).with_context(|| {
            format!("making a folder in {}; the set needs one beside its place", self.parent.display())
        })?;
        Ok(Staging { path, target, kind, former: false })
    }

    fn place(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Set => self.path.clone(),
            Kind::Failed => self.failed(),
            // Where a recorded run leaves what runs it again.
            Kind::Recording => self.beside("replay"),
        }
    }

    /// Where a failed run leaves what it has, for diagnosis.
    pub fn failed(&self) -> PathBuf {
        self.beside("failed")
    }

    /// A place of this name beside the target.
    pub fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.name.clone();
        name.push(".");
        name.push(what);
        self.parent.join(name)
    }
}

/// A folder in the making, or what it has replaced. Dropping it removes it; of what was replaced, only what
/// runs put there.
pub struct Staging {
    path: PathBuf,
    target: PathBuf,
    kind: Kind,
    /// Whether this guards what was in the place before.
    former: bool,
}

impl Staging {
    /// The folder in the making.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place that it will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Has it on the disk, not only in memory, before it takes another's place.
    pub fn sync(&self) -> Result<()> {
        set_files::sync(&self.path)
    }

    /// Puts it in place by one rename. What this then guards is what was there before, if there was something.
    pub fn publish(&mut self) -> Result<()> {
        let context = || format!("putting the {} in place at {}", self.kind.name(), self.target.display());
        if self.target.symlink_metadata().is_ok() {
            // One exchange: at no moment is there no set. What was there is then ours to drop.
            renameat2(AT_FDCWD, &self.path, AT_FDCWD, &self.target, RenameFlags::RENAME_EXCHANGE)
                .with_context(context)?;
            self.former = true;
        } else {
            fs::rename(&self.path, &self.target).with_context(context)?;
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        if self.path.symlink_metadata().is_err() {
            return Ok(());
        }
        if !self.former {
            return Contents::of(&self.path)?.remove();
        }
        // Between the look before the run and the exchange somebody may have put something there.
        let what = match ours::look(&self.path, self.kind)? {
            There::Nothing => return Ok(()),
            There::Ours(contents) => match contents.remove() {
                Ok(()) => return Ok(()),
                Err(error) => format!("{error:#}"),
            },
            There::Foreign(what) => what,
        };
        let mut aside = self.target.clone().into_os_string();
        aside.push(".former");
        aside.push(
            self.path
                .extension()
                .map_or(OsString::new(), |run| [OsStr::new("-"), run].iter().copied().collect()),
        );
        fs::rename(&self.path, &aside).with_context(|| format!("moving {} aside", self.path.display()))?;
        bail!(
            "what was in {} before is kept in {}, since it changed while the run went on: {what}",
            self.target.display(),
            Path::new(&aside).display()
        )
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            crate::output::tell(format_args!("fixture-vm: warning: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests;
