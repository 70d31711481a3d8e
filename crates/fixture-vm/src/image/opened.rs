//! An image that is ready to boot: checked, and kept from collection while it is in use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::cache::Cache;
use super::descriptor::{Descriptor, FILE_NAME, INITRAMFS, Part, ROOT, VMLINUX};
use super::download::write_whole;

/// How thoroughly an image's files are compared with its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Digests, unless no file changed since they last agreed.
    SinceLastTime,
    /// Digests, always.
    Digests,
}

/// A guest image. As long as it lives, `image gc` leaves its folder alone.
#[derive(Debug)]
pub struct Image {
    dir: PathBuf,
    descriptor: Descriptor,
    digest: String,
    _in_use: Flock<File>,
}

impl Image {
    /// Opens any folder that has an `image.json`, and checks its files.
    pub fn open(dir: &Path, cache: &Cache, check: Check) -> Result<Self> {
        let dir = fs::canonicalize(dir).with_context(|| format!("no guest image at {}", dir.display()))?;
        let in_use = lock(&dir, FlockArg::LockShared)
            .with_context(|| format!("{} is not a guest image: {FILE_NAME} cannot be read", dir.display()))?;
        let descriptor = Descriptor::read(&dir)?;
        verify(&dir, &descriptor, cache, check)?;
        let digest = descriptor.digest();
        Ok(Self { dir, descriptor, digest, _in_use: in_use })
    }

    /// The folder, absolute and without links.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kernel, an ELF file.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(VMLINUX)
    }

    /// The initramfs.
    pub fn initramfs(&self) -> PathBuf {
        self.dir.join(INITRAMFS)
    }

    /// The raw root file system: a disk, or the backing of an NVDIMM.
    pub fn root(&self) -> PathBuf {
        self.dir.join(ROOT)
    }

    /// Size of the root in bytes, which an NVDIMM is told.
    pub fn root_size(&self) -> u64 {
        self.descriptor.files[ROOT].size
    }

    /// What the image needs on the kernel command line.
    pub fn cmdline(&self) -> &str {
        &self.descriptor.cmdline
    }

    /// Identity of the image, as the manifest records it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// All that is known of the image.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// Locks an image folder through its descriptor; the lock goes with the process, however it ends.
pub fn lock(dir: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let path = dir.join(FILE_NAME);
    let file = File::open(&path)?;
    let locked = Flock::lock(file, how).map_err(|(_, errno): (File, Errno)| io::Error::from(errno))?;
    // Collected between open and lock, it would be a lock on a file that is no longer there.
    let same = fs::metadata(&path)?.ino() == locked.metadata()?.ino();
    if same { Ok(locked) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Compares the files with the descriptor. Reading 100 MB takes a good part of a short run, so
/// what agreed once is not read again while no file was written, moved or replaced.
fn verify(dir: &Path, descriptor: &Descriptor, cache: &Cache, check: Check) -> Result<()> {
    let stamp = Stamp::of(dir, descriptor)?;
    let agreed = cache.agreed_stamp(dir);
    if check == Check::SinceLastTime && fs::read_to_string(&agreed).is_ok_and(|before| before == stamp.text) {
        return Ok(());
    }
    for (name, part) in &descriptor.files {
        let path = dir.join(name);
        let found = Part::of(&path)?.sha256;
        ensure!(
            found == part.sha256,
            "{} is corrupt: its SHA-256 is {found}, its {FILE_NAME} says {}; {}",
            path.display(),
            part.sha256,
            mend(dir, cache)
        );
    }
    write_whole(&agreed, stamp.text.as_bytes())
}

/// What of a folder changes when any of its files does.
struct Stamp {
    text: String,
}

impl Stamp {
    fn of(dir: &Path, descriptor: &Descriptor) -> Result<Self> {
        let mut text = format!("{}\n", descriptor.digest());
        for (name, part) in &descriptor.files {
            let path = dir.join(name);
            let Ok(file) = fs::metadata(&path) else { bail!("{} is missing", path.display()) };
            ensure!(
                file.len() == part.size,
                "{} is corrupt: it has {} bytes, its {FILE_NAME} says {}; build the image again",
                path.display(),
                file.len(),
                part.size
            );
            text += &format!(
                "{name} {} {} {}.{:09} {}.{:09}\n",
                file.dev(),
                file.ino(),
                file.mtime(),
                file.mtime_nsec(),
                file.ctime(),
                file.ctime_nsec()
            );
        }
        Ok(Self { text })
    }
}

fn mend(dir: &Path, cache: &Cache) -> String {
    if dir.starts_with(cache.images()) {
        "`fixture-vm image build` replaces it".to_owned()
    } else {
        "make the image again".to_owned()
    }
}
