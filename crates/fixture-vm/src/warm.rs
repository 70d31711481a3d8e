//! Saved guests: booted, paused before the scenario is read, and continued by every later run of their image.
//!
//! A state lies in a folder of the cache that is named by what decides its bytes. It is complete before a
//! rename puts it there, every byte of it is checked when it is used, and one that is not right is made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::image::{Cache, folders};

/// The state as QEMU saved it.
const DISK: &str = "state.qcow2";
/// What the guest had written to its serial ports.
const CONSOLE: &str = "console";
const EVENTS: &str = "events";
/// Written last: what the other files are.
const CONTENTS: &str = "contents.json";

/// How many saved guests stay in the cache.
const KEPT: usize = 4;

/// The saved guests of a user.
pub struct Store {
    dir: PathBuf,
    scratch: PathBuf,
}

/// What a guest had written to its serial ports when it was saved.
pub struct Said {
    /// The first.
    pub console: Vec<u8>,
    /// The second.
    pub events: Vec<u8>,
}

/// Name to size and XXH3 (64 bits, hexadecimal) of each file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contents(BTreeMap<String, (u64, String)>);

impl Store {
    /// The store in a cache.
    pub fn of(cache: &Cache) -> Result<Self> {
        let (dir, scratch) = (cache.dir().join("warm"), cache.dir().join("warm/.tmp"));
        fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
        Ok(Self { dir, scratch })
    }

    /// Puts a saved guest where QEMU finds it: its disk at `disk`, and what it had written at `console` and
    /// `events`. False if there is none that is right.
    pub fn take(&self, key: &str, disk: &Path, console: &Path, events: &Path) -> Result<bool> {
        let from = self.dir.join(key);
        let Ok(text) = fs::read(from.join(CONTENTS)) else { return Ok(false) };
        // QEMU writes to the disk that it reads a guest from, so every run has a copy of its own.
        let copied = || -> Result<()> {
            let Contents(files) = serde_json::from_slice(&text).context("reading the contents")?;
            for (name, to) in [(DISK, disk), (CONSOLE, console), (EVENTS, events)] {
                let promised = files.get(name).with_context(|| format!("{name} is not listed"))?;
                let mut file = File::open(from.join(name)).with_context(|| format!("opening {name}"))?;
                let got = copy(&mut file, to)?;
                ensure!(got == *promised, "{name} is {got:?}, its entry says {promised:?}");
            }
            Ok(())
        };
        if let Err(error) = copied() {
            eprintln!("fixture-vm: the saved guest in {} cannot be used: {error:#}", from.display());
            self.discard(key)?;
            return Ok(false);
        }
        // For the order of use only.
        File::open(from.join(CONTENTS)).and_then(|file| file.set_modified(SystemTime::now())).ok();
        Ok(true)
    }

    /// Adds a guest that QEMU saved in `disk` and closed, with what the guest had written by then; removes
    /// those that were not used for longest.
    pub fn add(&self, key: &str, disk: &Path, said: &Said) -> Result<()> {
        let draft = tempfile::tempdir_in(&self.scratch).context("making a folder for a saved guest")?;
        let mut contents = BTreeMap::new();
        let mut keep = |name: &str, from: &mut dyn Read| -> Result<()> {
            contents.insert(name.to_owned(), copy(from, &draft.path().join(name))?);
            Ok(())
        };
        keep(DISK, &mut File::open(disk).with_context(|| format!("opening {}", disk.display()))?)?;
        keep(CONSOLE, &mut &said.console[..])?;
        keep(EVENTS, &mut &said.events[..])?;
        let text = serde_json::to_vec(&Contents(contents)).context("writing the contents")?;
        fs::write(draft.path().join(CONTENTS), text).context("writing the contents")?;
        for name in [DISK, CONSOLE, EVENTS, CONTENTS] {
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

    fn collect(&self) -> Result<()> {
        let mut states: Vec<_> = folders(&self.dir)?
            .into_iter()
            .filter(|dir| *dir != self.scratch)
            .map(|dir| {
                let used = dir.join(CONTENTS).metadata().and_then(|meta| meta.modified());
                (used.unwrap_or(SystemTime::UNIX_EPOCH), dir)
            })
            .collect();
        states.sort_by(|a, b| b.cmp(a));
        for (_, dir) in states.into_iter().skip(KEPT) {
            if let Some(key) = dir.file_name() {
                self.discard(&key.to_string_lossy())?;
            }
        }
        Ok(())
    }
}

/// Copies to a file and tells size and XXH3 of what was read.
fn copy(from: &mut dyn Read, to: &Path) -> Result<(u64, String)> {
    let context = || format!("copying to {}", to.display());
    let mut target = File::create(to).with_context(context)?;
    let mut hash = XxHash3_64::new();
    let mut chunk = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = from.read(&mut chunk).with_context(context)?;
        if n == 0 {
            return Ok((size, format!("{:016x}", hash.finish())));
        }
        hash.write(&chunk[..n]);
        target.write_all(&chunk[..n]).with_context(context)?;
        size += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Home {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::of(&Cache::at(dir.path().join("cache")).unwrap()).unwrap();
            fs::write(dir.path().join("saved"), vec![7; 3 << 20]).unwrap();
            Self { dir, store }
        }

        fn add(&self, key: &str) {
            let said = Said { console: b"booting\n".into(), events: b"{}\n".into() };
            self.store.add(key, &self.dir.path().join("saved"), &said).unwrap();
        }

        fn take(&self, key: &str) -> bool {
            let [disk, console, events] =
                ["disk", "console", "events"].map(|name| self.dir.path().join(name));
            self.store.take(key, &disk, &console, &events).unwrap()
        }
    }

    #[test]
    fn what_was_added_is_taken_whole() {
        let home = Home::new();
        assert!(!home.take("k"));
        home.add("k");
        // A second run that saved the same guest meanwhile.
        home.add("k");
        assert!(home.take("k"));
        assert_eq!(fs::read(home.dir.path().join("disk")).unwrap(), vec![7; 3 << 20]);
        assert_eq!(fs::read(home.dir.path().join("console")).unwrap(), b"booting\n");
        assert!(!home.take("another"));
        assert_eq!(fs::read_dir(&home.store.scratch).unwrap().count(), 0, "nothing is left over");
    }

    #[test]
    fn what_is_torn_or_altered_is_discarded_and_can_be_made_again() {
        let torn: [fn(&Path); 4] = [
            |state| File::options().write(true).open(state.join(DISK)).unwrap().set_len(1 << 20).unwrap(),
            |state| fs::write(state.join(DISK), [vec![7; (3 << 20) - 1], vec![8]].concat()).unwrap(),
            |state| fs::remove_file(state.join(EVENTS)).unwrap(),
            |state| fs::write(state.join(CONTENTS), "{").unwrap(),
        ];
        for tear in torn {
            let home = Home::new();
            home.add("k");
            tear(&home.store.dir.join("k"));
            assert!(!home.take("k"));
            assert!(!home.store.dir.join("k").exists());
            home.add("k");
            assert!(home.take("k"));
        }
    }

    #[test]
    fn those_that_were_not_used_for_longest_go() {
        let home = Home::new();
        let keys: Vec<_> = (0..=KEPT).map(|n| n.to_string()).collect();
        for (at, key) in (1..).zip(&keys) {
            home.add(key);
            let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at);
            if let Ok(file) = File::open(home.store.dir.join(key).join(CONTENTS)) {
                file.set_modified(used).unwrap();
            }
        }
        assert!(home.take(&keys[1]));
        home.add("new");
        let there: Vec<_> = keys.iter().filter(|key| home.store.dir.join(key).exists()).collect();
        assert_eq!(there, [&keys[1], &keys[3], &keys[4]]);
    }
}
