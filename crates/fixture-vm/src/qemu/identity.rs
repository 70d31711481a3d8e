//! What tells one QEMU from another: its version, and digests of the binary and of the ROMs a guest runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{child, digest, xdg};

/// The ROMs beside the firmware that QEMU puts into our guests: the loader of a PVH kernel, and the one that
/// every PC with a local APIC gets.
const OPTION_ROMS: [&str; 2] = ["pvh.bin", "kvmvapic.bin"];

/// A QEMU's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The first line of `--version`.
    pub version: String,
    /// SHA-256 of the binary.
    pub sha256: String,
    /// SHA-256 of the firmware and of each option ROM, by file name.
    pub firmware: BTreeMap<String, String>,
}

/// An identity, and the stamps of the files that it was taken from.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    stamps: BTreeMap<PathBuf, String>,
    identity: Identity,
}

impl Identity {
    /// Takes the identity of a binary and its firmware. Starting QEMU and hashing it takes half a second, so
    /// what was taken is noted in the user's cache and holds until one of the files changes.
    pub fn of(binary: &Path, firmware: &Path) -> Result<Self> {
        let roms = OPTION_ROMS.iter().map(|rom| firmware.with_file_name(rom));
        let roms: Vec<PathBuf> =
            [firmware.to_owned()].into_iter().chain(roms).filter(|rom| rom.is_file()).collect();
        let files = || [binary].into_iter().chain(roms.iter().map(PathBuf::as_path));
        let stamps = files().map(|file| Ok((file.to_owned(), stamp(file)?))).collect::<Result<_>>()?;
        // Without a home everything is taken anew.
        let note = xdg::cache().ok().map(|cache| note_path(&cache, binary));
        if let Some(noted) = note.as_deref().and_then(read).filter(|noted| noted.stamps == stamps) {
            return Ok(noted.identity);
        }
        let digest = |file: &Path| digest::of_file(&file.canonicalize()?).map(|digest| digest.sha256);
        let name = |rom: &Path| rom.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let identity = Self {
            version: version_line(binary)?,
            sha256: digest(binary)?,
            firmware: roms.iter().map(|rom| Ok((name(rom), digest(rom)?))).collect::<Result<_>>()?,
        };
        if let Some(note) = note {
            write(&note, &Noted { stamps, identity: identity.clone() })?;
        }
        Ok(identity)
    }
}

/// What of a file changes when its bytes do; links are followed.
fn stamp(file: &Path) -> Result<String> {
    let of = fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?;
    let (written, changed) = ((of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec()));
    Ok(format!("{} {} {} {written:?} {changed:?}", of.dev(), of.ino(), of.len()))
}

fn note_path(cache: &Path, binary: &Path) -> PathBuf {
    let name = digest::of_bytes(binary.as_os_str().as_encoded_bytes());
    cache.join("qemu").join(format!("{name}.json"))
}

fn read(note: &Path) -> Option<Noted> {
    serde_json::from_slice(&fs::read(note).ok()?).ok()
}

fn write(note: &Path, noted: &Noted) -> Result<()> {
    let context = || format!("noting QEMU's digests in {}", note.display());
    let folder = note.parent().with_context(context)?;
    fs::create_dir_all(folder).with_context(context)?;
    let file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    serde_json::to_writer(&file, noted).with_context(context)?;
    file.persist(note).with_context(context)?;
    Ok(())
}

fn version_line(qemu: &Path) -> Result<String> {
    let mut command = child::command(qemu);
    command.arg("--version");
    let output = child::output(command, Duration::from_secs(30))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{} --version: {}", qemu.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
