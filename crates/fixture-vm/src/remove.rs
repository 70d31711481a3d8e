//! Removing a folder that somebody else has filled: modes that forbid it, any depth, links that lead elsewhere.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{Mode, SFlag, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::beneath::{Folder, kind};

/// How many names are held at once.
const BATCH: usize = 1024;

/// Removes a folder with all that is in it. What is ours is made accessible first; no link is followed, no other file
/// system entered.
pub fn folder(path: &Path) -> Result<()> {
    folder_and_last(path, "")
}

/// The same; the file `last` in it goes after everything else.
pub fn folder_and_last(path: &Path, last: &str) -> Result<()> {
    let context = || format!("removing {}", path.display());
    let top = Folder::open(path).with_context(context)?;
    empty(&top, OsStr::new(last)).with_context(context)?;
    match unlinkat(&top, last, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno).with_context(|| format!("removing {last} in {}", path.display())),
    }
    std::fs::remove_dir(path).with_context(context)
}

/// Folders in folders are moved up to the top before they are emptied: one that is nested deeper than there are
/// descriptors is no deeper then.
fn empty(top: &Folder, spared: &OsStr) -> Result<()> {
    fchmod(top, Mode::S_IRWXU)?;
    let mut moved = 0;
    loop {
        let mut names = top.names(BATCH)?;
        names.retain(|name| name != spared);
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            remove(top, name, &mut moved).with_context(|| format!("removing {name:?}"))?;
        }
    }
}

fn remove(top: &Folder, name: &OsStr, moved: &mut u64) -> Result<()> {
    let stat = top.stat(name)?;
    if kind(&stat) != SFlag::S_IFDIR {
        return Ok(unlinkat(top, name, UnlinkatFlags::NoRemoveDir)?);
    }
    if stat.st_dev != top.device() {
        bail!("another file system is mounted there");
    }
    let folder = top.folder(Path::new(name))?;
    fchmod(&folder, Mode::S_IRWXU)?;
    loop {
        let names = folder.names(BATCH)?;
        if names.is_empty() {
            return Ok(unlinkat(top, name, UnlinkatFlags::RemoveDir)?);
        }
        for inner in names {
            match kind(&folder.stat(&inner)?) {
                SFlag::S_IFDIR => move_up(&folder, &inner, top, moved)?,
                _ => unlinkat(&folder, inner.as_os_str(), UnlinkatFlags::NoRemoveDir)?,
            }
        }
    }
}

fn move_up(from: &Folder, name: &OsStr, top: &Folder, moved: &mut u64) -> Result<()> {
    // A folder that moves gets another parent, which takes the right to write in it.
    fchmod(from.folder(Path::new(name))?.as_fd(), Mode::S_IRWXU)?;
    loop {
        *moved += 1;
        match renameat(from, name, top, OsString::from(format!(".removing-{moved}")).as_os_str()) {
            // Somebody chose the same name.
            Err(Errno::ENOTDIR | Errno::ENOTEMPTY | Errno::EEXIST) => {}
            renamed => return Ok(renamed?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn modes_links_and_names_do_not_hold_it_up() {
        let home = tempfile::tempdir().unwrap();
        let (dead, other) = (home.path().join("dead"), home.path().join("other"));
        fs::create_dir_all(dead.join("a/b/c")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "another's").unwrap();
        symlink(&other, dead.join("a/link")).unwrap();
        symlink(&other, dead.join("link")).unwrap();
        fs::write(dead.join("owner"), "").unwrap();
        fs::write(dead.join(".removing-1"), "in the way").unwrap();
        nix::unistd::mkfifo(&dead.join("a/fifo"), Mode::S_IRWXU).unwrap();
        for (path, mode) in [("a/b/c", 0), ("a/b", 0o500), ("a", 0)] {
            fs::set_permissions(dead.join(path), Permissions::from_mode(mode)).unwrap();
        }
        folder_and_last(&dead, "owner").unwrap();
        assert!(!dead.exists());
        assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "another's");
        symlink(&other, &dead).unwrap();
        assert!(folder(&dead).is_err(), "a link is no folder");
        assert!(other.join("file").exists());
    }

    #[test]
    fn no_depth_takes_more_descriptors_than_there_are() {
        let home = tempfile::tempdir().unwrap();
        let dead = home.path().join("dead");
        fs::create_dir(&dead).unwrap();
        let mut at = Folder::open(&dead).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = at.folder(Path::new("d")).unwrap();
        }
        folder(&dead).unwrap();
        assert!(!dead.exists());
    }
}
