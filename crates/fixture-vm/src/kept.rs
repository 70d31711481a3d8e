//! Kept guests: saved as they were at their end, for a shell; a folder on disk each, and no process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::events;
use crate::exit::Usage;
use crate::image::folders;
use crate::room::RoomAt;
use crate::run::recording::About;
use crate::xdg;

/// How many kept guests there are at most; of more, the oldest go.
const KEPT: usize = 8;

/// The saved guest.
const STATE: &str = "state.qcow2";
/// Its root's overlay; on the real clock only.
const ROOT: &str = "root.qcow2";
/// Written last.
const ABOUT: &str = "guest.json";

/// A kept guest.
#[derive(Debug)]
pub struct Kept {
    /// The name of its run.
    pub run: String,
    /// Bytes on the disk.
    pub size: u64,
    dir: PathBuf,
    since: SystemTime,
}

/// The kept guests of a user.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store of this user, made if it is not there.
    pub fn of_user() -> Result<Self> {
        Self::at(xdg::state()?.join("kept"))
    }

    fn at(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Keeps the guest of a run that was saved in `disk`, with the overlay of its root if it has one; QEMU has ended.
    /// The files are moved.
    pub fn keep(&self, run: &str, disk: &Path, root: Option<&Path>, about: &About) -> Result<()> {
        self.keep_whole(run, disk, root, about).room_at(&self.dir)
    }

    fn keep_whole(&self, run: &str, disk: &Path, root: Option<&Path>, about: &About) -> Result<()> {
        let draft = tempfile::Builder::new().prefix(".keeping-").tempdir_in(&self.dir);
        let draft = draft.context("making a folder for the kept guest")?;
        move_file(disk, &draft.path().join(STATE))?;
        if let Some(root) = root {
            move_file(root, &draft.path().join(ROOT))?;
        }
        let about = serde_json::to_vec_pretty(about).context("describing the kept guest")?;
        fs::write(draft.path().join(ABOUT), about).context("describing the kept guest")?;
        fs::rename(draft.keep(), self.dir.join(run)).context("putting the kept guest in place")?;
        for old in self.all()?.into_iter().skip(KEPT) {
            old.remove()?;
        }
        Ok(())
    }

    /// All kept guests, the last one first.
    pub fn all(&self) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for dir in folders(&self.dir)? {
            let Ok(since) = fs::metadata(dir.join(ABOUT)).and_then(|meta| meta.modified()) else { continue };
            let run = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let size = [STATE, ROOT].iter().filter_map(|name| fs::metadata(dir.join(name)).ok());
            kept.push(Kept { run, size: size.map(|meta| meta.len()).sum(), dir, since });
        }
        kept.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.run.cmp(&b.run)));
        Ok(kept)
    }

    /// The guest that was kept of a run: named by its id, the beginning of it, or as `last`, which the event database
    /// knows.
    pub fn find(&self, run: &str, events_db: Option<&Path>) -> Result<Kept> {
        if run == "last" {
            return self.of_last(&events::ids_of_last(&events::Place::find(events_db)?)?);
        }
        let mut all = self.all()?;
        all.retain(|kept| kept.run.starts_with(run));
        match (all.len(), all.pop()) {
            (1, Some(kept)) => Ok(kept),
            (0, _) => {
                let message = format!(
                    "no guest is kept of run {run}; `fixture-vm run --keep failed` keeps those of runs that fail, `fixture-vm runs` lists them"
                );
                Err(Usage(message).into())
            }
            (n, _) => Err(Usage(format!("{n} kept guests begin with {run}; give more digits")).into()),
        }
    }

    /// The guest that was kept of the last run, of which these are the ids: one of several where it ran tests.
    fn of_last(&self, ids: &[String]) -> Result<Kept> {
        let mut all = self.all()?;
        all.retain(|kept| ids.contains(&kept.run));
        let names: Vec<_> = all.iter().map(|kept| kept.run.as_str()).collect();
        let message = match (names.len(), ids.first()) {
            (1, _) => return all.pop().context("one guest is there"),
            (0, None) => "nothing was run yet, so no guest is kept".to_owned(),
            (0, Some(id)) => format!(
                "the last run, {id}, kept no guest; --keep failed keeps those of runs that fail, `fixture-vm runs` lists the runs whose guest is kept"
            ),
            (n, _) => format!("the last run kept {n} guests; name one: {}", names.join(", ")),
        };
        Err(Usage(message).into())
    }
}

impl Kept {
    /// What its machine was.
    pub fn about(&self) -> Result<About> {
        let path = self.dir.join(ABOUT);
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not of this fixture-vm", path.display()))
    }

    /// Copies the saved guest, which QEMU writes to, into a folder; gives its state, and its root's overlay if it
    /// has one.
    pub fn copy(&self, to: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
        let copy = |name: &str| -> Result<PathBuf> {
            let (from, to) = (self.dir.join(name), to.join(name));
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
            Ok(to)
        };
        let root = self.dir.join(ROOT).exists().then(|| copy(ROOT)).transpose()?;
        Ok((copy(STATE)?, root))
    }

    /// Removes it.
    pub fn remove(self) -> Result<()> {
        // Out of the way by one rename: what is half removed is no kept guest.
        let grave =
            tempfile::Builder::new().prefix(".removing-").tempdir_in(self.dir.parent().unwrap_or(&self.dir));
        let grave = grave.context("making a folder for what goes")?;
        fs::rename(&self.dir, grave.path().join("guest"))
            .with_context(|| format!("removing {}", self.dir.display()))
    }
}

/// The run's folder may be on another file system.
fn move_file(from: &Path, to: &Path) -> Result<()> {
    if fs::rename(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        let machine = serde_json::json!({
            "clock": "virtual", "accelerator": "Tcg", "memory_mib": 512, "cpus": 1, "cmdline": "quiet",
            "root_size": 1, "fault": null, "microvms": false,
        });
        serde_json::from_value(serde_json::json!({
            "machine": machine, "image": "/image", "image_digest": "i", "qemu": "QEMU", "qemu_sha256": "q",
            "firmware": {},
        }))
        .unwrap()
    }

    #[test]
    fn the_last_ones_stay_and_are_found_whole_by_their_names() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().join("kept")).unwrap();
        for n in 0..=KEPT {
            let (disk, root) = (home.path().join("disk"), home.path().join("overlay"));
            fs::write(&disk, format!("state {n}")).unwrap();
            fs::write(&root, "overlay").unwrap();
            store.keep(&format!("{n}a"), &disk, (n == KEPT).then_some(root.as_path()), &about()).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
            fs::File::open(store.dir.join(format!("{n}a")).join(ABOUT)).unwrap().set_modified(at).unwrap();
            assert!(!disk.exists(), "it was moved");
        }
        assert_eq!(store.all().unwrap().len(), KEPT);
        let found = |run: &str| store.find(run, None);
        assert!(found("0a").is_err() && found("").is_err());
        let last = found("8").unwrap();
        assert_eq!((last.run.as_str(), last.size), ("8a", "state 8overlay".len() as u64));
        assert_eq!(last.about().unwrap().qemu, "QEMU");
        let (disk, root) = last.copy(home.path()).unwrap();
        assert_eq!(fs::read_to_string(disk).unwrap(), "state 8");
        assert_eq!(fs::read_to_string(root.unwrap()).unwrap(), "overlay");
        assert_eq!(found("3").unwrap().copy(home.path()).unwrap().1, None);
        last.remove().unwrap();
        assert!(found("8a").is_err());
        let of_last = |ids: &[&str]| {
            let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
            store.of_last(&ids).map(|kept| kept.run).map_err(|error| error.to_string())
        };
        assert_eq!(of_last(&["runner", "3a", "none"]).unwrap(), "3a");
        assert!(of_last(&["8a"]).unwrap_err().contains("the last run, 8a, kept no guest"));
        assert!(of_last(&["runner", "3a", "4a"]).unwrap_err().contains("name one: 4a, 3a"));
        assert!(of_last(&[]).unwrap_err().contains("nothing was run"));
        let left: Vec<_> = folders(&store.dir).unwrap();
        assert_eq!(left.len(), KEPT - 1, "{left:?}");
    }
}
