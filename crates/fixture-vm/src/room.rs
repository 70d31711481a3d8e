//! A full disk is called one: which disk it is, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::getuid;

use crate::exit::{GuestFailed, Interrupted, TimedOut};

/// strerror(ENOSPC), as programs of the host print it.
const WORDS: &str = "No space left on device";

/// Free bytes below which a disk is full for a run: no file of a guest is written whole into less.
const FULL: u64 = 64 << 10;

/// No room for what had to be written. It has no exit code of its own, so that is [`crate::exit::Code::Environment`].
#[derive(Debug)]
pub struct NoRoom {
    place: PathBuf,
    cause: String,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no room left on the disk that holds {}: {}; make room there (`fixture-vm store gc`, `fixture-vm image gc`), \
             or use another disk (--work-dir, --out, --store, --events-db, XDG_CACHE_HOME)",
            self.place.display(),
            self.cause
        )
    }
}
impl std::error::Error for NoRoom {}

/// Names the disk where an error is that it is full.
pub trait RoomAt<T> {
    /// What was written lies at this place.
    fn room_at(self, place: &Path) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> RoomAt<T> for Result<T, E> {
    fn room_at(self, place: &Path) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            if tells_of_no_room(&error) { no_room(&error, place) } else { error }
        })
    }
}

/// The error of a run whose folder is there: a guest, or QEMU, does not always say that it could not write.
pub fn of_run(error: anyhow::Error, folder: &Path) -> anyhow::Error {
    let is_of_guest = error.is::<GuestFailed>() || error.is::<TimedOut>();
    if tells_of_no_room(&error) || is_of_guest && is_full(folder) { no_room(&error, folder) } else { error }
}

fn no_room(error: &anyhow::Error, place: &Path) -> anyhow::Error {
    NoRoom { place: place.to_owned(), cause: format!("{error:#}") }.into()
}

fn tells_of_no_room(error: &anyhow::Error) -> bool {
    // The words of a guest are no word of this machine.
    if error.is::<NoRoom>() || error.is::<GuestFailed>() || error.is::<Interrupted>() {
        return false;
    }
    error.chain().any(|cause| {
        let of_kernel = |errno: &Errno| matches!(errno, Errno::ENOSPC | Errno::EDQUOT);
        let of_file = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        let of_database =
            |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        cause.downcast_ref().is_some_and(of_kernel)
            || cause.downcast_ref().is_some_and(of_file)
            || cause.downcast_ref().is_some_and(of_database)
            || cause.to_string().contains(WORDS)
    })
}

/// Whether the disk of a folder has room for no file more.
fn is_full(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|disk| {
        // The blocks that are kept for root are room for root.
        let free = if getuid().is_root() { disk.blocks_free() } else { disk.blocks_available() };
        let no_names = disk.files() > 0 && disk.files_available() == 0;
        no_names || free.saturating_mul(disk.fragment_size()) < FULL
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;
    use crate::exit::{Code, code_of};

    #[test]
    fn every_way_to_tell_of_a_full_disk_names_the_place() {
        let database = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(13), None);
        let cases: [(anyhow::Error, bool); 8] = [
            (io::Error::from_raw_os_error(28).into(), true),
            (io::Error::from_raw_os_error(122).into(), true),
            (Errno::ENOSPC.into(), true),
            (database.into(), true),
            (anyhow!("qemu-img: writing: No space left on device"), true),
            (io::Error::from_raw_os_error(24).into(), false),
            (Interrupted.into(), false),
            (GuestFailed("in step collect: No space left on device".into()).into(), false),
        ];
        for (error, is_no_room) in cases {
            let told = format!("{error:#}");
            let error =
                Err::<(), _>(error).context("writing a").room_at(Path::new("/d")).context("running x");
            let text = format!("{:#}", error.as_ref().unwrap_err());
            assert_eq!(
                text.contains("no room left on the disk that holds /d: writing a: "),
                is_no_room,
                "{text}"
            );
            assert!(text.contains(&told), "{text}");
            assert!(!is_no_room || code_of(&error.unwrap_err()) == Code::Environment, "{text}");
        }
    }

    #[test]
    fn the_innermost_place_is_the_one_that_is_named() {
        let full = Err::<(), _>(io::Error::from_raw_os_error(28));
        let text = full.room_at(Path::new("/inner")).room_at(Path::new("/outer")).unwrap_err().to_string();
        assert!(text.contains("/inner") && !text.contains("/outer"), "{text}");
    }

    #[test]
    fn a_guest_that_fails_on_a_disk_with_room_has_failed_itself() {
        let home = tempfile::tempdir().unwrap();
        let error = of_run(GuestFailed("No space left on device".into()).into(), home.path());
        assert_eq!(code_of(&error), Code::Guest);
        // /proc has no blocks at all.
        let error = of_run(GuestFailed("it fell".into()).into(), Path::new("/proc"));
        assert_eq!(code_of(&error), Code::Environment, "{error:#}");
    }
}
