//! Which folders a run may replace: those that fixture-vm wrote, that say what they hold, and that hold nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use fixture::contract::manifest::Manifest;
use fixture::contract::{self, CONSOLE, EVENTS, MANIFEST, SCENARIO, TIMELINE};
use fixture::file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::recording;
use super::set_files::Contents;

/// What says that a folder is what a failed run left. Written last.
const REMAINS: &str = "failed.json";
/// How many entries of others are named.
const NAMED: usize = 5;

/// What a folder is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A fixture set.
    Set,
    /// What a failed run left.
    Failed,
    /// What a replay needs.
    Recording,
}

/// What is in a place.
#[derive(Debug)]
pub enum There {
    /// Nothing at all.
    Nothing,
    /// An empty folder, or one that we wrote: all that is in it.
    Ours(Contents),
    /// Something that no run put there; the text says what.
    Foreign(String),
}

/// What a failed run left, by name.
#[derive(Debug, Serialize, Deserialize)]
struct Remains {
    fixture_vm: String,
    /// Paths in the folder, escaped as [`escaped`] does: a guest can choose names that are not UTF-8.
    files: BTreeSet<String>,
}

/// Looks at a place. Nothing is changed.
pub fn look(path: &Path, kind: Kind) -> Result<There> {
    let status = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(There::Nothing),
        status => status.with_context(|| format!("looking at {}", path.display()))?,
    };
    if status.is_symlink() {
        return Ok(There::Foreign("it is a symbolic link".into()));
    }
    if !status.is_dir() {
        return Ok(There::Foreign("it is no folder".into()));
    }
    if is_mounted(path) {
        return Ok(There::Foreign("a file system is mounted there, which no rename can replace".into()));
    }
    let mut found = Found { expected: BTreeSet::new(), contents: Contents::default(), foreign: Vec::new() };
    let why = match listed(path, kind) {
        Ok(expected) => {
            found.expected = expected;
            "it holds what no run put there"
        }
        Err(why) => &format!("it holds something that is no {}; {why}", kind.name()),
    };
    found.walk(path, Path::new(""))?;
    Ok(match found.foreign.is_empty() {
        true => There::Ours(found.contents),
        false => There::Foreign(format!("{why}: {}", enumerated(&found.foreign))),
    })
}

/// Says of a folder that it is what a failed run left, and what that is.
pub fn mark_failed(folder: &Path) -> Result<()> {
    let contents = Contents::of(folder)?;
    let files = contents.files.iter().filter_map(|file| Some(escaped(file.strip_prefix(folder).ok()?)));
    let remains = Remains { fixture_vm: env!("CARGO_PKG_VERSION").into(), files: files.collect() };
    let mut text = serde_json::to_vec_pretty(&remains).context("listing what the failed run left")?;
    text.push(b'\n');
    fs::write(folder.join(REMAINS), text).context("listing what the failed run left")
}

/// Whether a folder has the manifest of a set of ours.
pub fn is_set(folder: &Path) -> bool {
    listed(folder, Kind::Set).is_ok()
}

impl Kind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "fixture set",
            Self::Failed => "folder of a failed run",
            Self::Recording => "recording",
        }
    }
}

/// The files that a folder of ours says it holds, escaped; an error if it is none of ours.
fn listed(folder: &Path, kind: Kind) -> Result<BTreeSet<String>, String> {
    let own = |names: &[&str]| names.iter().map(|name| escaped(Path::new(name))).collect::<BTreeSet<_>>();
    match kind {
        Kind::Set => {
            let manifest: Manifest = document(folder, MANIFEST, file::DOCUMENT)?;
            if manifest.contract > contract::VERSION {
                return Err(format!("its {MANIFEST} is of contract {}", manifest.contract));
            }
            let files = manifest.files.keys().map(Path::new).filter(|path| is_inside(path)).map(escaped);
            let mut files: BTreeSet<_> = files.collect();
            files.append(&mut own(&[MANIFEST, SCENARIO, CONSOLE, EVENTS, TIMELINE]));
            Ok(files)
        }
        Kind::Failed => {
            let Remains { mut files, .. } = document(folder, REMAINS, file::LOG)?;
            files.append(&mut own(&[REMAINS]));
            Ok(files)
        }
        Kind::Recording => {
            document::<recording::About>(folder, recording::ABOUT, file::DOCUMENT)?;
            Ok(own(&recording::FILES))
        }
    }
}

fn document<T: DeserializeOwned>(folder: &Path, name: &str, most: u64) -> Result<T, String> {
    let bytes = file::open_entry(&folder.join(name), most).and_then(|file| file::read_from(file, most));
    let bytes = bytes.map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("it has no {name}"),
        _ => format!("its {name} cannot be read ({error})"),
    })?;
    serde_json::from_slice(&bytes).map_err(|error| format!("its {name} is not fixture-vm's ({error})"))
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// A path as printable text, each for one path only.
fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn enumerated(names: &[String]) -> String {
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What was found in a folder on the way through it.
struct Found {
    expected: BTreeSet<String>,
    contents: Contents,
    foreign: Vec<String>,
}

impl Found {
    /// Looks at what is in a folder, and in those below it that hold something expected.
    fn walk(&mut self, folder: &Path, below: &Path) -> Result<()> {
        let context = || format!("reading {}", folder.display());
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            entries.push((entry.file_name(), entry.file_type().with_context(context)?));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in entries {
            let (path, inside) = (folder.join(&name), below.join(&name));
            let shown = escaped(&inside);
            if kind.is_dir() && self.expects_below(&shown) {
                self.walk(&path, &inside)?;
            } else if kind.is_file() && self.expected.contains(&shown) {
                self.contents.files.push(path);
            } else {
                self.foreign.push(if kind.is_dir() { shown + "/" } else { shown });
            }
        }
        self.contents.folders.push(folder.to_owned());
        Ok(())
    }

    fn expects_below(&self, folder: &str) -> bool {
        let folder = format!("{folder}/");
        self.expected.range(folder.clone()..).next().is_some_and(|file| file.starts_with(&folder))
    }
}

/// Whether a file system is mounted on a folder or in it (proc_pid_mountinfo(5)).
fn is_mounted(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let Ok(table) = fs::read("/proc/self/mountinfo") else { return false };
    let mut places = table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4));
    places.any(|place| unescaped(place).starts_with(&folder))
}

/// A path of that table: white space and backslashes are three octal digits behind a backslash.
fn unescaped(text: &[u8]) -> PathBuf {
    let (mut path, mut rest) = (Vec::new(), text);
    while let [byte, after @ ..] = rest {
        let digits = after.get(..3).filter(|digits| *byte == b'\\' && digits.is_ascii());
        let octal = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(octal.unwrap_or(*byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&path))
}

#[cfg(test)]
pub mod tests;
