//! SHA-256 of files and bytes; files are opened only if they are plain ones.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use fixture::contract::handover::FileDigest;
use fixture::file;
use sha2::{Digest, Sha256};

/// Digest and size of a file.
pub fn of_file(path: &Path) -> Result<FileDigest> {
    let file = open(path).with_context(|| format!("opening {}", path.display()))?;
    hash(file, io::sink(), || Ok(())).with_context(|| format!("reading {}", path.display()))
}

/// Digest of bytes, in lower-case hexadecimal digits.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Copies an open file; the digest is that of the bytes that went over.
pub fn copy(source: impl Read, to: &Path) -> Result<FileDigest> {
    copy_while(source, to, || Ok(()))
}

/// The same, for as long as `go_on` says so; it is asked before each 256 KiB.
pub fn copy_while(source: impl Read, to: &Path, go_on: impl Fn() -> Result<()>) -> Result<FileDigest> {
    let target = File::create(to).with_context(|| format!("making {}", to.display()))?;
    let copied =
        hash(source, Sparse(&target), go_on).with_context(|| format!("copying to {}", to.display()))?;
    target.set_len(copied.size).with_context(|| format!("copying to {}", to.display()))?;
    Ok(copied)
}

/// Leaves a hole where a whole chunk is of zeros, so that a sparse file stays one.
struct Sparse<'a>(&'a File);

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.iter().any(|byte| *byte != 0) {
            return self.0.write(bytes);
        }
        self.0.seek(SeekFrom::Current(bytes.len() as i64)).map(|_| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Opens a regular file of any size; no link, no device, no pipe that would make us wait.
pub fn open(path: &Path) -> Result<File> {
    Ok(file::open_entry(path, u64::MAX)?)
}

fn hash(mut source: impl Read, mut target: impl Write, go_on: impl Fn() -> Result<()>) -> Result<FileDigest> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        go_on()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_sparse_file_stays_sparse_with_the_same_bytes() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        let source = File::create(&from).unwrap();
        source.set_len((64 << 20) + 5).unwrap();
        source.write_all_at(b"begin", 0).unwrap();
        source.write_all_at(b"middle", 33 << 20).unwrap();
        let copied = copy(open(&from).unwrap(), &to).unwrap();
        assert_eq!(copied, of_file(&from).unwrap());
        assert_eq!(copied, of_file(&to).unwrap());
        assert_eq!(copied.size, (64 << 20) + 5);
        let room = std::fs::metadata(&to).unwrap().blocks() * 512;
        assert!(room <= 2 << 20, "{room} bytes were allocated");
    }
}
