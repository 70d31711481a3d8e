//! All files of a set at once: having them on the disk before the set gets its name, and removing a former set.
//!
//! A rename is atomic for names only. A journal may hold the new name before the bytes of new files are on the
//! disk (delayed allocation: ext4, XFS, btrfs), and a crash in between leaves files of no bytes where a former
//! set was. So every file is synced (fsync(2)) before the rename. One after the other, each waits for a commit of
//! the journal of its own; asked for together, they share a few. syncfs(2) would be one call, but it waits for
//! what every other program of the machine has written too.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// How many files are asked for at once. They wait for the disk, not for a processor.
const AT_ONCE: usize = 16;

/// What is in a folder.
#[derive(Debug, Default)]
pub struct Contents {
    /// Everything that is no folder.
    pub files: Vec<PathBuf>,
    /// The folders, each after those in it, itself last.
    pub folders: Vec<PathBuf>,
}

impl Contents {
    /// Lists what is in a folder; a link is listed, and not followed.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut contents = Self::default();
        contents.list(folder)?;
        Ok(contents)
    }

    /// Removes all that was listed, and nothing else: a folder that has got more since stays.
    pub fn remove(&self) -> Result<()> {
        side_by_side(&self.files, "removing", |file| fs::remove_file(file))?;
        for folder in &self.folders {
            fs::remove_dir(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        Ok(())
    }

    fn list(&mut self, folder: &Path) -> Result<()> {
        let context = || format!("reading {}", folder.display());
        for entry in fs::read_dir(folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            if entry.file_type().with_context(context)?.is_dir() {
                self.list(&entry.path())?;
            } else {
                self.files.push(entry.path());
            }
        }
        self.folders.push(folder.to_owned());
        Ok(())
    }
}

/// Syncs all that is in a folder, and the folder.
pub fn sync(folder: &Path) -> Result<()> {
    let Contents { files: mut paths, mut folders } = Contents::of(folder)?;
    paths.append(&mut folders);
    side_by_side(&paths, "syncing", |path| File::open(path)?.sync_all())
}

fn side_by_side(paths: &[PathBuf], doing: &str, act: impl Fn(&Path) -> io::Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(path).with_context(|| format!("{doing} {}", path.display()))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..paths.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("nothing here panics"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_folder_is_synced_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let set = home.path().join("set");
        fs::create_dir_all(set.join("raw/tc")).unwrap();
        for file in ["a", "raw/b", "raw/tc/c"] {
            fs::write(set.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink(home.path(), set.join("raw/tc/../link")).unwrap();
        let contents = Contents::of(&set).unwrap();
        assert_eq!(contents.files.len(), 4);
        assert_eq!(contents.folders, [set.join("raw/tc"), set.join("raw"), set.clone()]);
        sync(&set).unwrap();
        contents.remove().unwrap();
        assert!(!set.exists());
        assert!(home.path().exists(), "a link is removed, not what it leads to");
    }

    #[test]
    fn what_came_after_the_list_was_made_stays() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("listed"), "").unwrap();
        let contents = Contents::of(home.path()).unwrap();
        fs::write(home.path().join("later"), "").unwrap();
        assert!(contents.remove().is_err());
        assert!(home.path().join("later").exists());
    }

    #[test]
    fn what_cannot_be_synced_is_named() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", home.path().join("lost")).unwrap();
        let error = format!("{:#}", sync(home.path()).unwrap_err());
        assert!(error.starts_with("syncing ") && error.contains("lost"), "{error}");
    }
}
