//! Hands what tools said over to the guest, file by file, and takes it there: the evidence has the same names and
//! bytes as that of a node that is a namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};

use super::bytes::Bytes;
use super::frame::PIECE;
use super::protocol::Tell;
use crate::work;

/// How much a node may hand over.
const MOST: u64 = 64 << 20;

/// Tells every file below a folder.
pub fn tell(folder: &Path, mut tell: impl FnMut(Tell)) -> Result<()> {
    for path in work::files_below(folder)? {
        let whole = folder.join(&path);
        let mut file = File::open(&whole).with_context(|| format!("opening {}", whole.display()))?;
        let mut first = true;
        loop {
            let mut piece = Vec::new();
            let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece);
            read.with_context(|| format!("reading {}", whole.display()))?;
            if piece.is_empty() && !first {
                break;
            }
            tell(Tell::File { path: path.to_string_lossy().into_owned(), bytes: Bytes(piece), first });
            first = false;
        }
    }
    Ok(())
}

/// Takes what a node hands over.
#[derive(Debug)]
pub struct Taken<'a> {
    folder: &'a Path,
    bytes: u64,
}

impl<'a> Taken<'a> {
    /// Into this folder.
    pub fn into(folder: &'a Path) -> Self {
        Self { folder, bytes: 0 }
    }

    /// Takes a piece of a file, which must stay below the folder.
    pub fn take(&mut self, path: &str, Bytes(bytes): &Bytes, first: bool) -> Result<()> {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(plain && !path.is_empty(), "the node hands over a file named {path:?}");
        self.bytes += bytes.len() as u64;
        ensure!(self.bytes <= MOST, "the node hands over more than {MOST} bytes");
        let to = self.folder.join(path);
        let parent = to.parent().expect("a path below a folder has one");
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).append(!first).truncate(first);
        let written = options.open(&to).and_then(|mut file| file.write_all(bytes));
        written.with_context(|| format!("writing {}", to.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_taken_the_same() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let large: Vec<u8> = (0..3 * PIECE + 5).map(|at| (at * 7) as u8).collect();
        fs::create_dir(from.path().join("gptp")).unwrap();
        fs::write(from.path().join("gptp/a.pmc"), &large).unwrap();
        fs::write(from.path().join("empty"), "").unwrap();
        // Twice: the second time replaces the first.
        for _ in 0..2 {
            let mut taken = Taken::into(to.path());
            tell(from.path(), |tell| {
                let Tell::File { path, bytes, first } = tell else { panic!("{tell:?}") };
                taken.take(&path, &bytes, first).unwrap();
            })
            .unwrap();
        }
        assert_eq!(fs::read(to.path().join("gptp/a.pmc")).unwrap(), large);
        assert_eq!(fs::read(to.path().join("empty")).unwrap(), b"");
    }

    #[test]
    fn nothing_is_written_beside_the_folder() {
        let to = tempfile::tempdir().unwrap();
        for path in ["../up", "/etc/passwd", "a/../../b", ""] {
            let error = Taken::into(to.path()).take(path, &Bytes(vec![1]), true).unwrap_err();
            assert!(error.to_string().starts_with("the node hands over a file named"), "{error}");
        }
    }
}
