//! Saved guests: paused as they were ready or as their network had converged, and continued by later runs.
//!
//! Booted, a guest serves every run of its image; with a converged network, every run that shares the network.
//! A state lies in a folder of the cache that is named by what decides its bytes. It is complete before a
//! rename puts it there, every byte of it is checked when it is first used and again whenever a file was touched,
//! and one that is not right is made again. One that this machine could not read or start just now stays. QEMU reads it where it lies, through an overlay of the run's own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::image::{Cache, folders};
use crate::output;
use crate::room::{NoRoom, RoomAt};

/// The state as QEMU saved it.
const DISK: &str = "state.qcow2";
/// What the guest had written to its serial ports.
const CONSOLE: &str = "console";
const EVENTS: &str = "events";
/// An empty overlay over the state: each run that only continues the guest has a copy of it to write to.
const OVERLAY: &str = "overlay.qcow2";
/// Written last: what the other files are.
const CONTENTS: &str = "contents.json";

/// What was seen of the files when they last agreed with the contents.
const AGREED: &str = "agreed";

/// Empty files, named as the states that runs would have continued from, had they been there.
const WANTED: &str = "wanted";

/// How many saved guests stay in the cache.
const KEPT: usize = 6;

/// The saved guests of a user.
pub struct Store {
    dir: PathBuf,
    scratch: PathBuf,
    wanted: PathBuf,
}

/// What a guest had written to its serial ports when it was saved.
pub struct Said {
    /// The first.
    pub console: Vec<u8>,
    /// The second.
    pub events: Vec<u8>,
}

/// What a run is going to do with a saved guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Continue it, and throw away what becomes of it: the state is read where it lies.
    ToContinue,
    /// Save it again, so that the disk must be one that is whole by itself.
    Whole,
}

/// A saved guest that QEMU can continue.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// The file that the disk is an overlay over; none if it is whole.
    pub over: Option<PathBuf>,
}

/// A saved guest that is not what was saved; the text says where.
#[derive(Debug)]
pub struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Wrong {}

/// What a state consists of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    /// Digest of the guest image.
    image: String,
    /// Name to size and XXH3 (64 bits, hexadecimal) of each file.
    files: BTreeMap<String, (u64, String)>,
}

impl Store {
    /// The store in a cache.
    pub fn of(cache: &Cache) -> Result<Self> {
        let dir = cache.dir().join("warm");
        let [scratch, wanted] = [".tmp", WANTED].map(|name| dir.join(name));
        for folder in [&scratch, &wanted] {
            let made = fs::create_dir_all(folder);
            made.with_context(|| format!("making {}", folder.display())).room_at(&dir)?;
        }
        Ok(Self { dir, scratch, wanted })
    }

    /// Notes that a run would have continued from this state, and tells whether one before would have, too.
    pub fn was_wanted(&self, key: &str) -> Result<bool> {
        let note = self.wanted.join(key);
        match File::create_new(&note) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(true),
            made => {
                made.map(|_| false).with_context(|| format!("making {}", note.display())).room_at(&self.dir)
            }
        }
    }

    /// Puts a saved guest where QEMU finds it: its disk at `disk`, and what it had written at `console` and
    /// `events`. Nothing if there is none that is right.
    pub fn take(
        &self,
        key: &str,
        need: Need,
        disk: &Path,
        console: &Path,
        events: &Path,
    ) -> Result<Option<Taken>> {
        let from = self.dir.join(key);
        let taken = || -> Result<Option<Taken>> {
            let Some(text) = read(&from.join(CONTENTS))? else { return Ok(None) };
            agree(&from, &text, Look::WhereItChanged)?;
            let copy = |name: &str, to: &Path| {
                let copied = fs::copy(from.join(name), to);
                copied.with_context(|| format!("copying {name} to {}", to.display())).room_at(to)
            };
            copy(CONSOLE, console)?;
            copy(EVENTS, events)?;
            let over = match need {
                Need::Whole => copy(DISK, disk).map(|_| None)?,
                Need::ToContinue => copy(OVERLAY, disk).map(|_| Some(from.join(DISK)))?,
            };
            Ok(Some(Taken { over }))
        };
        match taken() {
            Ok(Some(taken)) => {
                // For the order of use only.
                File::open(from.join(CONTENTS)).and_then(|file| file.set_modified(SystemTime::now())).ok();
                Ok(Some(taken))
            }
            Ok(None) => Ok(None),
            Err(error) if error.is::<Wrong>() => {
                output::tell(format_args!(
                    "fixture-vm: the saved guest in {} cannot be used: {error:#}",
                    from.display()
                ));
                self.discard(key).map(|()| None)
            }
            // Without room a cold boot goes no further.
            Err(error) if error.is::<NoRoom>() => Err(error),
            Err(error) => {
                output::tell(format_args!(
                    "fixture-vm: the saved guest in {} is left alone: {error:#}",
                    from.display()
                ));
                Ok(None)
            }
        }
    }

    /// Reads every byte of a saved guest again, whatever was seen of it before; tells what is wrong with it.
    pub fn wrong(&self, key: &str) -> Result<Option<Wrong>> {
        let state = self.dir.join(key);
        let Some(text) = read(&state.join(CONTENTS))? else { return Ok(None) };
        match agree(&state, &text, Look::Everywhere) {
            Ok(()) => Ok(None),
            Err(error) => error.downcast().map(Some),
        }
    }

    /// Adds a guest of an image that QEMU saved in `disk` and closed, with an empty overlay over that, and what the
    /// guest had written by then; removes those that were not used for longest.
    pub fn add(&self, key: &str, image: &str, disk: &Path, overlay: &Path, said: &Said) -> Result<()> {
        self.add_whole(key, image, disk, overlay, said).room_at(&self.dir)
    }

    fn add_whole(&self, key: &str, image: &str, disk: &Path, overlay: &Path, said: &Said) -> Result<()> {
        let draft = tempfile::tempdir_in(&self.scratch).context("making a folder for a saved guest")?;
        let mut files = BTreeMap::new();
        let mut keep = |name: &str, from: &mut dyn Read| -> Result<()> {
            files.insert(name.to_owned(), copy(from, &draft.path().join(name))?);
            Ok(())
        };
        for (name, from) in [(DISK, disk), (OVERLAY, overlay)] {
            keep(name, &mut File::open(from).with_context(|| format!("opening {}", from.display()))?)?;
        }
        keep(CONSOLE, &mut &said.console[..])?;
        keep(EVENTS, &mut &said.events[..])?;
        let text = serde_json::to_vec(&Contents { image: image.to_owned(), files })
            .context("writing the contents")?;
        fs::write(draft.path().join(CONTENTS), text).context("writing the contents")?;
        for name in [DISK, OVERLAY, CONSOLE, EVENTS, CONTENTS] {
            File::open(draft.path().join(name))?.sync_all().with_context(|| format!("syncing {name}"))?;
        }
        // Another run may have been faster: then this very state is there already.
        match fs::rename(draft.path(), self.dir.join(key)) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
            renamed => renamed.context("putting the saved guest in place"),
        }?;
        self.collect()
    }

    /// Removes a saved guest.
    pub fn discard(&self, key: &str) -> Result<()> {
        let grave = tempfile::tempdir_in(&self.scratch).context("making a folder to remove from")?;
        match fs::rename(self.dir.join(key), grave.path().join("state")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing the saved guest {key}"))
            }
            _ => Ok(()),
        }
    }

    /// Removes the saved guests of all images but those that live, and forgets what was wanted; gives the bytes of
    /// the removed.
    pub fn remove_except(&self, lives: impl Fn(&str) -> bool, dry_run: bool) -> Result<u64> {
        let mut freed = 0;
        for (_, key) in self.states()? {
            let contents = read(&self.dir.join(&key).join(CONTENTS))?;
            let contents = contents.and_then(|text| serde_json::from_slice::<Contents>(&text).ok());
            // What has no contents cannot be continued either.
            if contents.as_ref().is_some_and(|contents| lives(&contents.image)) {
                continue;
            }
            freed += contents.map_or(0, |contents| contents.files.values().map(|(size, _)| size).sum());
            if !dry_run {
                self.discard(&key)?;
            }
        }
        if !dry_run {
            for note in fs::read_dir(&self.wanted).context("listing what was wanted")? {
                fs::remove_file(note?.path()).context("forgetting what was wanted")?;
            }
        }
        Ok(freed)
    }

    fn collect(&self) -> Result<()> {
        let mut states = self.states()?;
        states.sort_by(|a, b| b.cmp(a));
        states.iter().skip(KEPT).try_for_each(|(_, key)| self.discard(key))
    }

    /// When each state was last used, and its key.
    fn states(&self) -> Result<Vec<(SystemTime, String)>> {
        let mut dirs = folders(&self.dir)?;
        dirs.retain(|dir| ![&self.scratch, &self.wanted].contains(&dir));
        let state = |dir: PathBuf| {
            let used = dir.join(CONTENTS).metadata().and_then(|meta| meta.modified());
            let key = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (used.unwrap_or(SystemTime::UNIX_EPOCH), key)
        };
        Ok(dirs.into_iter().map(state).collect())
    }
}

/// Which files of a state are read to compare them with its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// None, while no file was written, moved or replaced since they agreed: reading 200 MB takes longer than all
    /// else that is done for a short run.
    WhereItChanged,
    /// All.
    Everywhere,
}

/// Compares the files of a state with its contents. The error is a [`Wrong`] if the state is to blame, and another
/// one if this machine could not look.
fn agree(state: &Path, contents: &[u8], look: Look) -> Result<()> {
    let Contents { files, .. } =
        serde_json::from_slice(contents).map_err(|error| Wrong(format!("{CONTENTS}: {error}")))?;
    let mut stamp = contents.to_vec();
    for name in [DISK, OVERLAY, CONSOLE, EVENTS] {
        ensure!(files.contains_key(name), Wrong(format!("{name} is not listed")));
        let file = fs::metadata(state.join(name)).map_err(|error| of_file(name, error))?;
        let (mtime, ctime) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        stamp.extend(format!("\n{name} {} {} {mtime:?} {ctime:?}", file.dev(), file.ino()).bytes());
    }
    if look == Look::WhereItChanged && fs::read(state.join(AGREED)).is_ok_and(|before| before == stamp) {
        return Ok(());
    }
    for (name, promised) in &files {
        let mut file = File::open(state.join(name)).map_err(|error| of_file(name, error))?;
        let got = pass(&mut file, &mut io::sink()).with_context(|| format!("reading {name}"))?;
        ensure!(got == *promised, Wrong(format!("{name} is {got:?}, its entry says {promised:?}")));
    }
    // Without it the next run reads them again.
    fs::write(state.join(AGREED), stamp).ok();
    Ok(())
}

/// The bytes of a file; none if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| format!("reading {}", path.display())),
    }
}

/// A file that is not there is wrong; that one cannot be looked at says nothing of it.
fn of_file(name: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => Wrong(format!("{name} is not there")).into(),
        _ => anyhow::Error::new(error).context(format!("looking at {name}")),
    }
}

/// Copies to a file and tells size and XXH3 of what was read.
fn copy(from: &mut dyn Read, to: &Path) -> Result<(u64, String)> {
    let context = || format!("copying to {}", to.display());
    let mut target = File::create(to).with_context(context)?;
    pass(from, &mut target).with_context(context)
}

/// Passes on what is read, and tells size and XXH3 of it.
fn pass(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<(u64, String)> {
    let mut hash = XxHash3_64::new();
    // Little enough to stay in the processor's cache between its reading and its hashing.
    let mut chunk = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let n = from.read(&mut chunk)?;
        if n == 0 {
            return Ok((size, format!("{:016x}", hash.finish())));
        }
        hash.write(&chunk[..n]);
        to.write_all(&chunk[..n])?;
        size += n as u64;
    }
}

#[cfg(test)]
mod tests;
