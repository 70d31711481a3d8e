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

/// Syncs all that is in a folder, and the folder.
pub fn sync(folder: &Path) -> Result<()> {
    let (mut paths, mut folders) = (Vec::new(), Vec::new());
    list(folder, &mut paths, &mut folders)?;
    paths.append(&mut folders);
    side_by_side(&paths, "syncing", |path| File::open(path)?.sync_all())
}

/// Removes a folder with all that is in it.
pub fn remove(folder: &Path) -> Result<()> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    list(folder, &mut files, &mut folders)?;
    side_by_side(&files, "removing", |file| fs::remove_file(file))?;
    for folder in folders {
        fs::remove_dir(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
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

/// Lists what is in a folder; of the folders each after those in it, itself last.
fn list(folder: &Path, files: &mut Vec<PathBuf>, folders: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_type().with_context(context)?.is_dir() {
            list(&entry.path(), files, folders)?;
        } else {
            files.push(entry.path());
        }
    }
    folders.push(folder.to_owned());
    Ok(())
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
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        list(&set, &mut files, &mut folders).unwrap();
        assert_eq!(files.len(), 4);
        assert_eq!(folders, [set.join("raw/tc"), set.join("raw"), set.clone()]);
        sync(&set).unwrap();
        remove(&set).unwrap();
        assert!(!set.exists());
        assert!(home.path().exists(), "a link is removed, not what it leads to");
    }

    #[test]
    fn what_cannot_be_synced_is_named() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", home.path().join("lost")).unwrap();
        let error = format!("{:#}", sync(home.path()).unwrap_err());
        assert!(error.starts_with("syncing ") && error.contains("lost"), "{error}");
    }
}
