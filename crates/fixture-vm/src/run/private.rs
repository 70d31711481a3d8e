//! The folder in which run folders are made: ours, closed to others, and not one that somebody else leads us to.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::getuid;

/// Bits of a mode by which others than the owner can do anything.
const OTHERS: u32 = 0o077;

/// Bits of a mode by which others than the owner can write.
const OTHERS_WRITE: u32 = 0o022;

/// Only the owner of a file in such a folder can remove it: the folder is meant to be shared (chmod(1)).
const STICKY: u32 = 0o1000;

/// Makes the folder if it is absent. One that is ours is closed to others.
pub fn base(path: &Path) -> Result<PathBuf> {
    refuse_shared_links(path)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
        format!("making the work folder {}; name another with --work-dir", path.display())
    })?;
    let path = path.canonicalize().with_context(|| format!("resolving {}", path.display()))?;
    let open = open(&path, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .or_else(|_| open_closed(&path))
        .with_context(|| format!("opening the work folder {}", path.display()))?;
    let stat = fstat(&open)?;
    if stat.st_uid != getuid().as_raw() {
        bail!(
            "{} belongs to user {}; name a folder of your own with --work-dir",
            path.display(),
            stat.st_uid
        );
    }
    let mode = stat.st_mode & 0o7777;
    if mode & STICKY != 0 && mode & OTHERS_WRITE != 0 {
        bail!("{} is shared by several users; name a folder of your own with --work-dir", path.display());
    }
    if mode & OTHERS != 0 || mode & 0o700 != 0o700 {
        fchmod(&open, Mode::S_IRWXU).with_context(|| format!("closing {} to others", path.display()))?;
    }
    Ok(path)
}

/// A folder of ours that not even we may read.
fn open_closed(path: &Path) -> nix::Result<std::os::fd::OwnedFd> {
    let link =
        open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&link));
    fs::set_permissions(&link, Permissions::from_mode(0o700)).ok();
    open(link.as_str(), OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// In a folder where others can write, a link may be theirs, and lead to anything of ours.
pub fn refuse_shared_links(path: &Path) -> Result<()> {
    let path = std::path::absolute(path).with_context(|| format!("resolving {}", path.display()))?;
    for part in path.ancestors() {
        let Some(parent) = part.parent() else { break };
        let is_link = fs::symlink_metadata(part).is_ok_and(|meta| meta.is_symlink());
        if is_link && fs::metadata(parent).is_ok_and(|meta| meta.mode() & OTHERS_WRITE != 0) {
            bail!(
                "{} is a symbolic link in a folder that others can write to; remove it, or name another work folder \
                 with --work-dir",
                part.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn with_mode(path: &Path, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_ours_is_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        for mode in [0o755, 0o777, 0o750, 0o700, 0o000, 0o2775] {
            let path = home.path().join(format!("{mode:o}"));
            with_mode(&path, mode);
            let base = base(&path).unwrap();
            assert_eq!(fs::metadata(base).unwrap().mode() & 0o777, 0o700, "{mode:o}");
        }
        let made = base(&home.path().join("new/deep")).unwrap();
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_is_shared_and_links_in_one_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let (shared, ours) = (home.path().join("shared"), home.path().join("ours"));
        with_mode(&shared, 0o1777);
        with_mode(&ours, 0o755);
        symlink(&ours, shared.join("link")).unwrap();
        symlink("nowhere", shared.join("dangling")).unwrap();
        for path in [shared.join("link"), shared.join("link/deep"), shared.join("dangling")] {
            let error = base(&path).unwrap_err().to_string();
            assert!(error.contains("is a symbolic link in a folder that others can write to"), "{error}");
        }
        assert_eq!(fs::metadata(&ours).unwrap().mode() & 0o777, 0o755, "what a link leads to is left alone");
        assert!(base(&shared).unwrap_err().to_string().contains("shared by several users"));
        assert_eq!(fs::metadata(&shared).unwrap().mode() & 0o7777, 0o1777);
        symlink(&ours, home.path().join("own link")).unwrap();
        assert!(base(&home.path().join("own link")).is_ok(), "a link where only we can make one is ours");
    }
}
