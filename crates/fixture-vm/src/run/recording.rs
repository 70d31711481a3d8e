//! A recorded run: QEMU's log with everything that is needed to run it again, in a folder beside the set.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixture::contract::CONSOLE;
use fixture::file;
use serde::{Deserialize, Serialize};

use super::Prepared;
use super::publish::Staging;
use crate::image::{Cache, Check, Image};
use crate::qemu::args::Machine;
use crate::qemu::binary::Qemu;

/// QEMU's log.
const LOG: &str = "log";
/// The machine at its first instruction and when it was ready: where going backwards starts from.
const SNAPSHOTS: &str = "snapshots.qcow2";
/// What the guest wrote to its second serial port.
const EVENTS: &str = "guest-events.jsonl";
const NETWORK: &str = "network.json";
const COURSE: &str = "course.json";
const NONCE: &str = "nonce";
/// Written last; what is of a recording has one.
pub(super) const ABOUT: &str = "replay.json";
/// All that a recording holds.
pub(super) const FILES: [&str; 8] = [LOG, SNAPSHOTS, EVENTS, NETWORK, COURSE, NONCE, CONSOLE, ABOUT];

/// The folder of a recorded run.
pub struct Recording {
    dir: PathBuf,
}

/// What is needed to run a run's machine again, besides its files.
#[derive(Debug, Serialize, Deserialize)]
pub struct About {
    /// The machine.
    pub machine: Machine,
    /// The folder of the guest image.
    pub image: PathBuf,
    /// The image's digest.
    pub image_digest: String,
    /// QEMU's version line.
    pub qemu: String,
    /// SHA-256 of the QEMU binary: no other reads its log.
    pub qemu_sha256: String,
    /// SHA-256 of each firmware file.
    pub firmware: BTreeMap<String, String>,
}

impl About {
    /// What the machine of this run was.
    pub(super) fn of(prepared: &Prepared) -> Self {
        let closure = &prepared.closure;
        Self {
            machine: prepared.machine.clone(),
            image: prepared.image.dir().to_owned(),
            image_digest: closure.image.clone(),
            qemu: closure.qemu.clone(),
            qemu_sha256: closure.qemu_sha256.clone(),
            firmware: closure.firmware.clone(),
        }
    }

    /// The image, if it and QEMU are those of the run.
    pub fn parts(&self, qemu: &Qemu) -> Result<Image> {
        ensure!(
            qemu.identity.sha256 == self.qemu_sha256 && qemu.identity.firmware == self.firmware,
            "the run was made with {}; no other binary or firmware can go on with it, and here is {}",
            self.qemu,
            qemu.identity.version
        );
        let image = Image::open(&self.image, &Cache::of_user()?, Check::SinceLastTime)
            .context("opening the image of the run")?;
        ensure!(
            image.digest() == self.image_digest,
            "the image in {} is another than when the run was made",
            self.image.display()
        );
        Ok(image)
    }
}

impl Recording {
    /// Makes room for a recording in a run's folder.
    pub fn begin(run: &Path) -> Result<Self> {
        let dir = run.join("replay");
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Opens the recording of a run, which is named by its set or by the recording's own folder.
    pub fn open(run: &Path) -> Result<(Self, About)> {
        let mut beside = run.as_os_str().to_owned();
        beside.push(".replay");
        let dirs = [run.to_owned(), PathBuf::from(beside)];
        let found = dirs.into_iter().find(|dir| dir.join(ABOUT).is_file());
        let dir = found.with_context(|| {
            format!("there is no recording of {}; `fixture-vm run --record` makes one", run.display())
        })?;
        let text = file::read(&dir.join(ABOUT), file::DOCUMENT)
            .with_context(|| format!("reading {}", dir.join(ABOUT).display()))?;
        let about = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not of this fixture-vm", dir.join(ABOUT).display()))?;
        // QEMU would wait for the writer of a pipe.
        for path in FILES.iter().map(|name| dir.join(name)) {
            match file::open(&path, file::STREAM) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("reading {}", path.display()));
                }
                _ => {}
            }
        }
        Ok((Self { dir }, about))
    }

    /// Adds what the run was given and what it wrote, and puts the recording in its place.
    pub(super) fn keep(&self, prepared: &Prepared, mut place: Staging) -> Result<()> {
        let files = &prepared.files;
        let pairs = [
            (&files.network, NETWORK),
            (&files.course, COURSE),
            (&files.nonce, NONCE),
            (&files.console, CONSOLE),
            (&files.events, EVENTS),
        ];
        for (from, name) in pairs {
            copy(from, &place.path().join(name))?;
        }
        // The run's folder may be on another file system than the set.
        for name in [LOG, SNAPSHOTS].into_iter().filter(|name| self.dir.join(name).exists()) {
            copy(&self.dir.join(name), &place.path().join(name))?;
        }
        let about = About::of(prepared);
        let text = serde_json::to_vec_pretty(&about).context("writing the recording's description")?;
        fs::write(place.path().join(ABOUT), text).context("writing the recording's description")?;
        place.publish()
    }

    /// QEMU's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// The snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.dir.join(SNAPSHOTS)
    }

    /// What the guest was given first.
    pub fn network(&self) -> PathBuf {
        self.dir.join(NETWORK)
    }

    /// What the guest was given when its network had converged.
    pub fn course(&self) -> PathBuf {
        self.dir.join(COURSE)
    }

    /// The run's nonce.
    pub fn nonce(&self) -> PathBuf {
        self.dir.join(NONCE)
    }

    /// What the guest wrote to its serial ports: the console and the events.
    pub fn said(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let read = |name: &str| {
            file::read(&self.dir.join(name), file::LOG)
                .with_context(|| format!("reading {}", self.dir.join(name).display()))
        };
        Ok((read(CONSOLE)?, read(EVENTS)?))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}
