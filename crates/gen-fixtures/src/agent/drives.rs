//! The drives of a microVM, told apart by what is in them: the root, the configuration, secrets, data.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::config::{CONFIG, Config, DATA, HEADER, SECRETS, SECTOR, length};
use super::protocol::Data;
use crate::clock;

/// Where the kernel lists block devices.
const BLOCK: &str = "/sys/class/block";

/// How long a driver may look for its drives after it was loaded.
const SOON: Duration = Duration::from_secs(10);

/// The secrets, as they were given.
const SECRETS_FILE: &str = "/run/secrets";

/// What is on a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// erofs: the root.
    Root,
    /// A configuration.
    Config,
    /// Secrets.
    Secrets,
    /// Data, cloned from a seed: the drive itself, without a file system.
    Data,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Root, Self::Config, Self::Secrets, Self::Data];

    /// Where which bytes are: of the file system its super block's magic number.
    fn sign(self) -> (u64, &'static [u8]) {
        match self {
            Self::Root => (1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
            Self::Config => (0, &CONFIG),
            Self::Secrets => (0, &SECRETS),
            Self::Data => (0, DATA.as_bytes()),
        }
    }

    fn is_of(self, device: &mut File) -> bool {
        let (at, sign) = self.sign();
        let mut there = vec![0; sign.len()];
        let read = device.seek(SeekFrom::Start(at)).and_then(|_| device.read_exact(&mut there));
        read.is_ok() && there == sign
    }
}

/// Waits for the drive of this kind.
pub fn wait_for(kind: Kind) -> Result<PathBuf> {
    clock::wait_until(SOON, Duration::from_millis(1), || {
        Ok(find(kind)?.ok_or_else(|| format!("no drive with {kind:?} among {}", names().join(" "))))
    })
}

/// The drive of this kind, if there is one now.
fn find(kind: Kind) -> Result<Option<PathBuf>> {
    for name in names() {
        let path = Path::new("/dev").join(&name);
        // A drive without a medium cannot be opened.
        let Ok(mut device) = File::open(&path) else { continue };
        if Kind::ALL.into_iter().find(|kind| kind.is_of(&mut device)) == Some(kind) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn names() -> Vec<String> {
    let listed = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let mut names: Vec<_> = listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Reads the configuration.
pub fn config() -> Result<Config> {
    let path = wait_for(Kind::Config)?;
    let content = content(&mut open(&path)?).with_context(|| format!("reading {}", path.display()))?;
    Config::from_content(&content).with_context(|| format!("reading the configuration on {}", path.display()))
}

/// Reads the secrets once, into a file in memory that only root may read; says whether there are any.
pub fn keep_secrets() -> Result<bool> {
    let Some(path) = find(Kind::Secrets)? else { return Ok(false) };
    // No context of these errors has a byte of the content.
    let content = content(&mut open(&path)?).with_context(|| format!("reading {}", path.display()))?;
    keep(Path::new(SECRETS_FILE), &content)?;
    Ok(true)
}

fn keep(path: &Path, content: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content)).with_context(|| format!("writing {}", path.display()))
}

/// The data drive.
pub fn data() -> Result<Option<Data>> {
    let Some(path) = find(Kind::Data)? else { return Ok(None) };
    let seed = seed(&mut open(&path)?).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(Data { device: path.to_string_lossy().into_owned(), seed }))
}

/// The name of the seed that a data drive was cloned from: the rest of its first line.
fn seed(device: &mut File) -> Result<String> {
    let mut first = [0; SECTOR];
    device.rewind().and_then(|()| device.read_exact(&mut first)).context("reading its first sector")?;
    let line = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = line.strip_prefix(DATA.as_bytes()).context("it does not say of which seed it is")?;
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// What a drive's header tells of.
fn content(device: &mut File) -> Result<Vec<u8>> {
    let size = device.seek(SeekFrom::End(0)).context("asking for its size")?;
    device.rewind().context("going back")?;
    let mut header = [0; HEADER];
    device.read_exact(&mut header).context("reading its header")?;
    let mut content = vec![0; length(&header, size)?];
    device.read_exact(&mut content).context("reading its content")?;
    if content.is_empty() {
        bail!("it holds nothing");
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::super::config::drive;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> File {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        open(&path).unwrap()
    }

    fn kind(device: &mut File) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.is_of(device))
    }

    #[test]
    fn drives_are_known_by_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut secrets = file(&folder, "secrets", &drive(SECRETS, b"s3cret"));
        assert_eq!(kind(&mut secrets), Some(Kind::Secrets));
        assert_eq!(content(&mut secrets).unwrap(), b"s3cret");

        let mut erofs = vec![0; 4096];
        erofs[1024..1028].copy_from_slice(&[0xe2, 0xe1, 0xf5, 0xe0]);
        assert_eq!(kind(&mut file(&folder, "root", &erofs)), Some(Kind::Root));
        let sector = [format!("{DATA}worker\n").as_bytes(), &[0; SECTOR]].concat();
        let mut data = file(&folder, "data", &sector);
        assert_eq!(kind(&mut data), Some(Kind::Data));
        assert_eq!(seed(&mut data).unwrap(), "worker");
        assert_eq!(kind(&mut file(&folder, "other", &[0; 4096])), None);
        assert_eq!(kind(&mut file(&folder, "short", b"FX")), None);
    }

    #[test]
    fn a_torn_drive_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let whole = drive(SECRETS, &[b'x'; 600]);
        let error = content(&mut file(&folder, "torn", &whole[..512])).unwrap_err();
        assert_eq!(error.to_string(), "a drive of 512 bytes says that it holds 600");
    }

    #[test]
    fn secrets_are_for_root_alone_and_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        keep(&path, b"s3cret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(keep(&path, b"other").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"s3cret");
    }
}
