//! The store of finished sets: content-addressed by the digest of what decides their bytes.
//!
//! ```text
//! sets/<closure digest>/entry.json   every file of the set with its digest and size
//! sets/<closure digest>/set/...      the set as it was published
//! tmp/                               sets being written
//! lock                               shared by who takes and puts, held alone by who collects
//! ```
//!
//! A set is written beside and gets its name by one rename, so that writers never meet half a set. Nothing is
//! synced: what a crash tore, like what anyone altered, shows by its digest when it is taken. Who may only read a
//! store takes from it as its owner does.

pub mod cli;
mod entry;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use fixture::contract::manifest::Manifest;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::unistd::getuid;

pub use self::entry::{Damaged, Entry};
use crate::room::RoomAt;
use crate::xdg;

/// Names another store than the user's.
pub const STORE_ENV: &str = "FIXTURE_VM_STORE";

const SETS: &str = "sets";
const SCRATCH: &str = "tmp";
const LOCK: &str = "lock";

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// What a store has of a closure.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Something that is not whole any more.
    Damaged(Damaged),
    /// A whole set, now in the folder asked for.
    Set(Box<Manifest>),
}

/// What became of a set that was to be stored.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored.
    Stored,
    /// The same bytes were there.
    Known,
    /// Other bytes of the same closure are there, in this folder; they stay.
    Differs(PathBuf),
}

impl Store {
    /// The store that was named, or the one of the environment, or the user's.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        let dir = match named.map(Path::to_owned).or_else(|| xdg::named(STORE_ENV)) {
            Some(dir) => dir,
            None => xdg::data()?.join("store"),
        };
        let store = Self { dir };
        for sub in [SETS, SCRATCH] {
            let sub = store.dir.join(sub);
            match fs::create_dir_all(&sub) {
                // Another user's store is read; only what is put there needs the rest.
                Err(error) if is_closed(&error) && store.dir.join(SETS).is_dir() => {}
                made => made.map_err(|error| store.hinted(error.into())).with_context(|| {
                    format!("making the store's folder {}; name another with --store", sub.display())
                })?,
            }
        }
        Ok(store)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Copies the set of a closure into a folder, if all its digests agree.
    pub fn take(&self, closure: &str, to: &Path) -> Result<Found> {
        self.copy_out(closure, to).map_err(|error| self.hinted(error))
    }

    fn copy_out(&self, closure: &str, to: &Path) -> Result<Found> {
        let _lock = self.lock(FlockArg::LockShared)?;
        let dir = self.entry_dir(closure);
        if !Self::is_there(&dir)? {
            return Ok(Found::Nothing);
        }
        let taken = Entry::read(&dir, closure).and_then(|entry| entry.copy(&dir, to));
        match damage(taken)? {
            Ok(manifest) => {
                entry::touch(&dir);
                Ok(Found::Set(Box::new(manifest)))
            }
            Err(damaged) => Ok(Found::Damaged(damaged)),
        }
    }

    /// Stores a set, unless the same closure has a whole one.
    pub fn put(&self, set: &Path, manifest: &Manifest) -> Result<Put> {
        self.put_whole(set, manifest).map_err(|error| self.hinted(error)).room_at(&self.dir)
    }

    fn put_whole(&self, set: &Path, manifest: &Manifest) -> Result<Put> {
        let _lock = self.lock(FlockArg::LockShared)?;
        let closure = &manifest.closure.digest;
        let scratch = tempfile::tempdir_in(self.dir.join(SCRATCH)).context("making room in the store")?;
        let made = scratch.path().join("entry");
        Entry::make(set, closure, &made)?;
        let place = self.entry_dir(closure);
        loop {
            // A folder takes no other's place unless that is empty: two writers never mix.
            match fs::rename(&made, &place) {
                Ok(()) => return Ok(Put::Stored),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error).with_context(|| format!("storing {}", place.display())),
            }
            let known = Entry::read(&place, closure).and_then(|entry| entry.check(&place));
            match damage(known)? {
                Ok(known) if known.files == manifest.files => return Ok(Put::Known),
                Ok(_) => return Ok(Put::Differs(entry::set_dir(&place))),
                // Moved aside into the scratch folder, and gone with it; what is left in its place is empty.
                Err(_) => {
                    let aside = tempfile::tempdir_in(scratch.path()).context("making room in the store")?;
                    exchange(&place, aside.path()).context("moving a damaged set aside")?;
                }
            }
        }
    }

    /// The folder and the manifest of a closure's set, if there is a whole one.
    pub fn open(&self, closure: &str) -> Result<Option<(PathBuf, Manifest)>> {
        self.look_up(closure).map_err(|error| self.hinted(error))
    }

    fn look_up(&self, closure: &str) -> Result<Option<(PathBuf, Manifest)>> {
        let _lock = self.lock(FlockArg::LockShared)?;
        let dir = self.entry_dir(closure);
        if !Self::is_there(&dir)? {
            return Ok(None);
        }
        let whole = Entry::read(&dir, closure).and_then(|entry| entry.check(&dir));
        Ok(damage(whole)?.ok().map(|manifest| (entry::set_dir(&dir), manifest)))
    }

    /// Everything that is stored, last used first.
    pub fn list(&self) -> Result<Vec<Stored>> {
        let sets = self.dir.join(SETS);
        let mut all = Vec::new();
        for found in fs::read_dir(&sets).with_context(|| format!("reading {}", sets.display()))? {
            let dir = found?.path();
            let closure = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all.push(Stored { used: entry::used(&dir), closure, dir });
        }
        all.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.closure.cmp(&b.closure)));
        Ok(all)
    }

    /// Removes stored sets, and what writers left that were killed.
    pub fn remove(&self, sets: &[Stored]) -> Result<()> {
        let _lock = self.lock(FlockArg::LockExclusive)?;
        let scratch = self.dir.join(SCRATCH);
        for left in fs::read_dir(&scratch).with_context(|| format!("reading {}", scratch.display()))? {
            let left = left?.path();
            fs::remove_dir_all(&left).with_context(|| format!("removing {}", left.display()))?;
        }
        let grave = tempfile::tempdir_in(&scratch).context("making a folder for what goes")?;
        for set in sets {
            // Out of the way by one rename: what is half removed is no set.
            let to = grave.path().join(&set.closure);
            match fs::rename(&set.dir, &to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved.with_context(|| format!("removing {}", set.dir.display()))?,
            }
        }
        grave.close().context("removing stored sets")
    }

    fn entry_dir(&self, closure: &str) -> PathBuf {
        self.dir.join(SETS).join(closure)
    }

    fn is_there(dir: &Path) -> Result<bool> {
        match fs::metadata(dir) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("looking at {}", dir.display())),
        }
    }

    /// None: the store is another user's who has never locked it, so that nobody collects there.
    fn lock(&self, how: FlockArg) -> Result<Option<Flock<File>>> {
        let path = self.dir.join(LOCK);
        let context = || format!("locking the store by {}", path.display());
        let mut options = OpenOptions::new();
        let file = match options.write(true).create(true).truncate(false).open(&path) {
            // flock(2) asks for an open file, whatever it was opened for.
            Err(error) if is_closed(&error) && how == FlockArg::LockShared => match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened,
            },
            opened => opened,
        };
        let file = file.with_context(context)?;
        Flock::lock(file, how).map(Some).map_err(|(_, errno)| errno).with_context(context)
    }

    /// An error that says how a store of another user's can be used, if that is what is wrong.
    fn hinted(&self, error: anyhow::Error) -> anyhow::Error {
        let closed = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().is_some_and(is_closed);
        let owner = fs::metadata(&self.dir).map(|dir| dir.uid()).unwrap_or_else(|_| getuid().as_raw());
        if !error.chain().any(closed) || owner == getuid().as_raw() {
            return error;
        }
        let dir = self.dir.display();
        error.context(format!(
            "the store {dir} belongs to user {owner} and is not open to this one; have it opened \
             (chmod -R go+rX {dir} to take sets), or name another with --store"
        ))
    }
}

/// Something in the store, whole or not.
#[derive(Debug)]
pub struct Stored {
    /// The digest it is stored under.
    pub closure: String,
    /// When it was last taken or stored.
    pub used: SystemTime,
    dir: PathBuf,
}

impl Stored {
    /// Checks all digests and reads the manifest.
    pub fn check(&self) -> Result<Result<Manifest, Damaged>> {
        damage(Entry::read(&self.dir, &self.closure).and_then(|entry| entry.check(&self.dir)))
    }

    /// The set's folder.
    pub fn set(&self) -> PathBuf {
        entry::set_dir(&self.dir)
    }

    /// Bytes of the set, as far as its entry tells.
    pub fn size(&self) -> u64 {
        let size = |entry: Entry| entry.files.values().map(|file| file.size).sum();
        Entry::read(&self.dir, &self.closure).map_or(0, size)
    }
}

/// Tells damage, which the store can mend, from errors that it cannot.
fn damage<T>(result: Result<T>) -> Result<Result<T, Damaged>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.downcast::<Damaged>().map(Err),
    }
}

/// Whether it is another user, or a disk that is read-only, that refuses.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
