//! The image cache of a user: downloads, parts shared by images, images, and their collection.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use super::descriptor::Descriptor;
use super::download::Downloads;
use super::opened;
use crate::interrupt::Interrupt;
use crate::xdg;

/// The folders under `$XDG_CACHE_HOME/fixture-vm`.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache of this user, made if it is not there.
    pub fn of_user() -> Result<Self> {
        Self::at(xdg::cache()?)
    }

    /// A cache in a folder of its own.
    pub fn at(dir: PathBuf) -> Result<Self> {
        for sub in ["images", "bases", "agreed", "tmp"] {
            fs::create_dir_all(dir.join(sub))
                .with_context(|| format!("making the cache {}", dir.display()))?;
        }
        // Images are told apart by path too, and QEMU gets absolute ones.
        let dir = fs::canonicalize(&dir).with_context(|| format!("finding the cache {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Finished images, each in a folder named by its digest.
    pub fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    /// Kernel, root and modules that images with different guest programs share, by inputs.
    pub fn bases(&self) -> PathBuf {
        self.dir.join("bases")
    }

    /// Packages by digest.
    pub fn downloads(&self) -> Result<Downloads> {
        Downloads::at(self.dir.join("downloads"))
    }

    /// Where it is noted that the files of the image in `dir` agreed with its descriptor.
    pub fn agreed_stamp(&self, dir: &Path) -> PathBuf {
        let name = format!("{:x}", Sha256::digest(dir.as_os_str().as_encoded_bytes()));
        self.dir.join("agreed").join(name)
    }

    /// Lets one build at a time go on, and removes what a killed one left.
    pub fn lock_for_building(&self, waiting: impl FnOnce()) -> Result<Flock<File>> {
        let path = self.dir.join("build.lock");
        let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, _)) => {
                waiting();
                Interrupt::of_process().lock(file).with_context(|| format!("locking {}", path.display()))?
            }
        };
        for entry in fs::read_dir(self.scratch())? {
            let left = entry?.path();
            fs::remove_dir_all(&left).with_context(|| format!("removing {}", left.display()))?;
        }
        Ok(lock)
    }

    /// A folder for work in progress, from which a rename reaches the others.
    pub fn scratch_dir(&self) -> Result<tempfile::TempDir> {
        tempfile::tempdir_in(self.scratch()).context("making a folder to build in")
    }

    fn scratch(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The images that can be read, last used first.
    pub fn list(&self) -> Result<Vec<Cached>> {
        let mut images = Vec::new();
        for dir in folders(&self.images())? {
            let descriptor = Descriptor::read(&dir);
            let used = self.agreed_stamp(&dir).metadata().and_then(|stamp| stamp.modified());
            let used = used.or_else(|_| dir.metadata()?.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            images.push(Cached { dir, descriptor, used });
        }
        images.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.dir.cmp(&b.dir)));
        Ok(images)
    }

    /// Notes that an image was used now.
    pub fn touch(&self, dir: &Path) -> Result<()> {
        let stamp = self.agreed_stamp(dir);
        let now = File::open(&stamp).and_then(|file| file.set_modified(SystemTime::now()));
        now.with_context(|| format!("noting the use of an image in {}", stamp.display()))
    }

    /// Removes an image, unless a run has it open; tells whether it went.
    pub fn remove(&self, image: &Cached) -> Result<bool> {
        match opened::lock(&image.dir, FlockArg::LockExclusiveNonblock) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            // Without a descriptor it is no image, and nobody can have it open.
            Err(_) | Ok(_) => {}
        }
        let grave = self.scratch_dir()?;
        let to = grave.path().join("image");
        fs::rename(&image.dir, &to).with_context(|| format!("removing {}", image.dir.display()))?;
        let _ = fs::remove_file(self.agreed_stamp(&image.dir));
        grave.close().with_context(|| format!("removing {}", to.display()))?;
        Ok(true)
    }
}

/// An image in the cache.
#[derive(Debug)]
pub struct Cached {
    /// Its folder.
    pub dir: PathBuf,
    /// Its descriptor, or why it cannot be used.
    pub descriptor: Result<Descriptor>,
    /// When it was last opened.
    pub used: SystemTime,
}

impl Cached {
    /// Bytes of its three files.
    pub fn size(&self) -> u64 {
        let sizes = |d: &Descriptor| d.files.values().map(|part| part.size).sum();
        self.descriptor.as_ref().map_or(0, sizes)
    }
}

/// The folders in a folder, sorted.
pub fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}
