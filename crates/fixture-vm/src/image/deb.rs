//! Debian packages: their files read from the archive itself, without dpkg, scripts or root.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What a package has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// A symbolic link.
    Link {
        /// As it stands in the link, relative or absolute.
        target: String,
    },
}

/// Calls `visit` with each file and link of the .deb whose absolute path `wanted` accepts.
///
/// Paths are given with `/bin`, `/sbin`, `/lib` and `/lib64` already under `/usr`.
pub fn read(deb: &Path, wanted: impl Fn(&str) -> bool, mut visit: impl FnMut(String, Content)) -> Result<()> {
    let file = File::open(deb).with_context(|| format!("opening {}", deb.display()))?;
    let mut members = ar::Archive::new(BufReader::new(file));
    while let Some(member) = members.next_entry() {
        let member = member.with_context(|| format!("{} is not a Debian package", deb.display()))?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        let Some(compression) = name.strip_prefix("data.tar") else { continue };
        let data: Box<dyn Read> = match compression {
            "" => Box::new(member),
            ".xz" => Box::new(liblzma::read::XzDecoder::new(member)),
            ".zst" => {
                Box::new(ruzstd::decoding::StreamingDecoder::new(member).context("zstd frame of data.tar")?)
            }
            other => bail!("{} has its files in data.tar{other}; xz and zst are understood", deb.display()),
        };
        return read_tar(data, wanted, &mut visit).with_context(|| format!("unpacking {}", deb.display()));
    }
    bail!("{} has no data.tar member", deb.display())
}

fn read_tar(
    data: impl Read,
    wanted: impl Fn(&str) -> bool,
    visit: &mut impl FnMut(String, Content),
) -> Result<()> {
    let mut archive = tar::Archive::new(data);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = merged(&String::from_utf8_lossy(&entry.path_bytes()));
        if !wanted(&path) {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let mut data = Vec::with_capacity(entry.size() as usize);
            entry.read_to_end(&mut data).with_context(|| format!("reading {path}"))?;
            visit(path, Content::File { mode: entry.header().mode()? & 0o7777, data });
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().with_context(|| format!("{path} links to nothing"))?;
            let target = String::from_utf8_lossy(&target).into_owned();
            visit(path, Content::Link { target });
        } else if kind.is_hard_link() {
            bail!("{path} is a hard link; no wanted file was one when this was written");
        }
    }
    Ok(())
}

/// The absolute path in a merged-/usr system of a path as a package writes it (`./lib/x`).
fn merged(raw: &str) -> String {
    let path = raw.trim_start_matches('.').trim_start_matches('/').trim_end_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    let prefix = if matches!(first, "bin" | "sbin" | "lib" | "lib64") { "/usr/" } else { "/" };
    format!("{prefix}{path}")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;

    /// Writes a package with these files (path, bytes) and an xz-compressed data member.
    pub fn write_deb(path: &Path, files: &[(&str, &[u8])]) {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o755);
            tar.append_data(&mut header, format!("./{name}"), *data).expect("a tar entry");
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "./usr/lib/link.so", "real.so").expect("a link entry");
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&tar.into_inner().expect("a tar")).expect("xz takes it");
        let data = xz.finish().expect("xz ends");
        let mut ar = ar::Builder::new(File::create(path).expect("the package file"));
        for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), ("data.tar.xz", &data)] {
            ar.append(&ar::Header::new(name.into(), bytes.len() as u64), bytes).expect("an ar member");
        }
    }

    #[test]
    fn wanted_files_and_links_are_read_under_usr() {
        let dir = tempfile::tempdir().expect("a folder");
        let deb = dir.path().join("x.deb");
        write_deb(&deb, &[("lib/real.so", b"elf"), ("usr/share/doc/x", b"text")]);
        let mut seen = Vec::new();
        read(&deb, |path| path.starts_with("/usr/lib/"), |path, content| seen.push((path, content)))
            .expect("reads");
        let file = Content::File { mode: 0o755, data: b"elf".to_vec() };
        let link = Content::Link { target: "real.so".into() };
        assert_eq!(seen, [("/usr/lib/real.so".to_owned(), file), ("/usr/lib/link.so".to_owned(), link)]);
    }

    #[test]
    fn what_is_no_package_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("y.deb");
        std::fs::write(&path, "not an archive").expect("a file");
        let message = format!("{:#}", read(&path, |_| true, |_, _| ()).expect_err("no package"));
        assert!(message.contains("y.deb"), "{message}");
    }
}
