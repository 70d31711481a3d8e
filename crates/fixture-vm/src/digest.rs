//! SHA-256 of files and bytes; files are opened only if they are plain ones.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use fixture::contract::handover::FileDigest;
use fixture::file;
use sha2::{Digest, Sha256};

/// Digest and size of a file.
pub fn of_file(path: &Path) -> Result<FileDigest> {
    let file = open(path).with_context(|| format!("opening {}", path.display()))?;
    hash(file, io::sink()).with_context(|| format!("reading {}", path.display()))
}

/// Digest of bytes, in lower-case hexadecimal digits.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Copies an open file; the digest is that of the bytes that went over.
pub fn copy(source: File, to: &Path) -> Result<FileDigest> {
    let target = File::create(to).with_context(|| format!("making {}", to.display()))?;
    hash(source, target).with_context(|| format!("copying to {}", to.display()))
}

/// Opens a regular file of any size; no link, no device, no pipe that would make us wait.
pub fn open(path: &Path) -> Result<File> {
    Ok(file::open_entry(path, u64::MAX)?)
}

fn hash(mut source: impl Read, mut target: impl Write) -> io::Result<FileDigest> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(FileDigest { sha256: hex(&hash.finalize()), size }),
            n => {
                hash.update(&buffer[..n]);
                target.write_all(&buffer[..n])?;
                size += n as u64;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
