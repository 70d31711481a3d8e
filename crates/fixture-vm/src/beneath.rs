//! Opening what lies beneath a folder by the folder's descriptor: no link, no other file system, no way out.
//!
//! Whoever can write in a folder can put a link in the place of any part of a path between two looks at it. So
//! the kernel resolves the whole path with openat2(2), which refuses links; where it has no openat2, or a seccomp
//! filter forbids it, the parts are opened one by one.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use anyhow::{Result, bail};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

/// An open folder.
pub struct Folder {
    fd: OwnedFd,
    device: nix::libc::dev_t,
    way: Way,
}

/// How paths are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the kernel, openat2(2): Linux 5.6 and later.
    Whole,
    /// Part by part, openat(2) with O_NOFOLLOW; a mount shows by its device.
    Parts,
}

/// Only names the object: no permission is needed, and nothing is done to a device or a FIFO.
const NAMED: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Folder {
    /// Opens a folder by its path, of which the last part may be no link.
    pub fn open(path: &Path) -> nix::Result<Self> {
        let named = open(path, NAMED | OFlag::O_DIRECTORY, Mode::empty())?;
        let way = match openat2(&named, ".", how(NAMED | OFlag::O_DIRECTORY)) {
            Err(Errno::ENOSYS | Errno::EPERM) => Way::Parts,
            _ => Way::Whole,
        };
        Self::readable(named, way)
    }

    fn readable(named: OwnedFd, way: Way) -> nix::Result<Self> {
        let device = fstat(&named)?.st_dev;
        Ok(Self { fd: reopen(named, OFlag::O_DIRECTORY, 0o700)?, device, way })
    }

    /// Opens a folder beneath it. One of ours that nobody may read is made readable for us.
    pub fn folder(&self, path: &Path) -> nix::Result<Self> {
        Self::readable(self.find(path, NAMED | OFlag::O_DIRECTORY)?, self.way)
    }

    /// Opens a regular file beneath it for reading. One of ours that nobody may read is made readable for us.
    pub fn file(&self, path: &Path) -> Result<File> {
        let named = self.find(path, NAMED)?;
        let stat = fstat(&named)?;
        let kind = kind(&stat);
        if kind != SFlag::S_IFREG {
            bail!("it is {}, not a regular file", in_words(kind));
        }
        // The other name may be one elsewhere, of a file that is none of theirs.
        if stat.st_nlink != 1 {
            bail!("it has several names (hard links)");
        }
        Ok(File::from(reopen(named, OFlag::O_NONBLOCK, 0o600)?))
    }

    /// The names in it, in no order, but no more than so many.
    pub fn names(&self, most: usize) -> nix::Result<Vec<OsString>> {
        // A descriptor of its own, as reading moves its position.
        let mut dir =
            Dir::from_fd(openat(&self.fd, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            if is_entry(entry.file_name()) {
                if names.len() == most {
                    break;
                }
                names.push(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
            }
        }
        Ok(names)
    }

    /// What an entry of it is; a link is not followed.
    pub fn stat(&self, name: &OsStr) -> nix::Result<FileStat> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// The file system it is on.
    pub fn device(&self) -> nix::libc::dev_t {
        self.device
    }

    fn find(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(Errno::EXDEV);
        }
        if self.way == Way::Whole {
            return openat2(&self.fd, path, how(flags));
        }
        let mut at: Option<OwnedFd> = None;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_some() { NAMED | OFlag::O_DIRECTORY } else { flags };
            let from = at.as_ref().map_or(self.fd.as_fd(), OwnedFd::as_fd);
            let next = openat(from, part.as_os_str(), flags, Mode::empty())?;
            if fstat(&next)?.st_dev != self.device {
                return Err(Errno::EXDEV);
            }
            at = Some(next);
        }
        at.ok_or(Errno::ENOENT)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn how(flags: OFlag) -> OpenHow {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    OpenHow::new().flags(flags).resolve(resolve)
}

/// Opens for reading what is only named so far, by the kernel's link to the descriptor (proc_pid_fd(5)).
fn reopen(named: OwnedFd, flags: OFlag, mode: u32) -> nix::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", named.as_raw_fd());
    let again = || open(link.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC | flags, Mode::empty());
    match again() {
        Err(Errno::EACCES) if fs::set_permissions(&link, Permissions::from_mode(mode)).is_ok() => again(),
        opened => opened,
    }
}

/// What kind of object it is.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn in_words(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFDIR => "a folder",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFBLK | SFlag::S_IFCHR => "a device",
        _ => "something else",
    }
}

fn is_entry(name: &CStr) -> bool {
    !matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn both_ways(path: &Path) -> [Folder; 2] {
        let way = |way| Folder { way, ..Folder::open(path).unwrap() };
        [way(Way::Whole), way(Way::Parts)]
    }

    /// A folder with everything that could lead out of it, beside a secret.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let (inside, secret) = (home.path().join("in"), home.path().join("secret"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::write(inside.join("a/b/file"), "ours").unwrap();
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("file"), "secret").unwrap();
        symlink(&secret, inside.join("absolute")).unwrap();
        symlink("../secret", inside.join("relative")).unwrap();
        symlink("a", inside.join("within")).unwrap();
        symlink("b/file", inside.join("a/last")).unwrap();
        fs::hard_link(secret.join("file"), inside.join("second")).unwrap();
        nix::unistd::mkfifo(&inside.join("fifo"), Mode::S_IRWXU).unwrap();
        home
    }

    #[test]
    fn regular_files_are_opened_and_nothing_else() {
        let home = home();
        for folder in both_ways(&home.path().join("in")) {
            let opened = folder.file(Path::new("a/b/file")).unwrap();
            assert_eq!(std::io::read_to_string(opened).unwrap(), "ours");
            let refused = [
                "absolute",
                "absolute/file",
                "relative/file",
                "within/b/file",
                "a/last",
                "fifo",
                "second",
                "a",
                "a/b/file/x",
                "../secret/file",
                "a/../../secret/file",
                "/etc/hostname",
                "",
                ".",
                "none",
            ];
            for path in refused {
                assert!(folder.file(Path::new(path)).is_err(), "{path} is opened {:?}", folder.way);
            }
            for path in ["absolute", "relative", "within", "fifo", "a/b/file", ".."] {
                assert!(folder.folder(Path::new(path)).is_err(), "{path} is opened {:?}", folder.way);
            }
            let mut names = folder.folder(Path::new("a")).unwrap().names(9).unwrap();
            names.sort();
            assert_eq!(names, ["b", "last"]);
            assert_eq!(folder.names(2).unwrap().len(), 2);
        }
    }

    #[test]
    fn another_file_system_is_not_entered() {
        for folder in both_ways(Path::new("/")) {
            assert!(folder.file(Path::new("proc/version")).is_err(), "{:?}", folder.way);
        }
    }

    #[test]
    fn what_nobody_may_read_is_made_readable_where_it_is_ours() {
        let home = home();
        let inside = home.path().join("in");
        for (path, mode) in [("a/b/file", 0), ("a/b", 0), ("a", 0)] {
            fs::set_permissions(inside.join(path), Permissions::from_mode(mode)).unwrap();
        }
        let folder = Folder::open(&inside).unwrap();
        let a = folder.folder(Path::new("a")).unwrap();
        let b = a.folder(Path::new("b")).unwrap();
        assert_eq!(std::io::read_to_string(b.file(Path::new("file")).unwrap()).unwrap(), "ours");
    }

    #[test]
    fn a_folder_that_becomes_a_link_leads_nowhere() {
        let home = home();
        let inside = home.path().join("in");
        fs::create_dir(inside.join("real")).unwrap();
        fs::write(inside.join("real/file"), "ours").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(inside.join("real"), inside.join("x")).unwrap();
                    symlink("../secret", inside.join("real")).unwrap();
                    fs::remove_file(inside.join("real")).unwrap();
                    fs::rename(inside.join("x"), inside.join("real")).unwrap();
                }
            });
            for folder in both_ways(&inside) {
                for _ in 0..5000 {
                    if let Ok(file) = folder.file(Path::new("real/file")) {
                        assert_eq!(
                            std::io::read_to_string(file).unwrap_or_default(),
                            "ours",
                            "{:?}",
                            folder.way
                        );
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
