//! Where a set can go: not on the way of what runs need, not around the current folder, not in another set.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::ours;
use crate::exit::Usage;

/// Most bytes of a name (NAME_MAX, limits.h(0p)), without what the names beside it have more.
const LONGEST_NAME: usize = 255 - ".".len() - ".replay".len() - ".run-xxxxxx".len();

/// Checks what does not depend on what lies in the place.
pub fn check(path: &Path) -> Result<()> {
    let shown = path.display();
    let refused = |why: String| Err(Usage(format!("--out {shown}: {why}")).into());
    let name = path.file_name().unwrap_or_default();
    if name.as_bytes().len() > LONGEST_NAME {
        return refused(format!("the name has {} bytes, more than {LONGEST_NAME}", name.len()));
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let there = parent.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(parent);
    if !there.is_dir() {
        return refused(format!("{} is no folder; name a place in one", there.display()));
    }
    if is_around_here(path) {
        return refused(
            "it is the current folder, or the current folder is in it; a set replaces its folder, \
             so name another, such as one below"
                .into(),
        );
    }
    let there = there.canonicalize().with_context(|| format!("resolving {}", there.display()))?;
    if let Some(set) = there.ancestors().find(|folder| ours::is_set(folder)) {
        return refused(format!("it is in the fixture set {}, which holds nothing else", set.display()));
    }
    Ok(())
}

/// Refuses a place around something that the run needs.
pub fn must_not_hold(path: &Path, what: &str, other: &Path) -> Result<(), Usage> {
    if !resolved(other).starts_with(resolved(path)) {
        return Ok(());
    }
    Err(Usage(format!(
        "--out {}: {what}, {}, is in it, and a set replaces its folder; name another place",
        path.display(),
        other.display()
    )))
}

/// Whether the current folder is this one or below it, whatever either is called.
fn is_around_here(path: &Path) -> bool {
    let Ok(status) = fs::metadata(path) else { return false };
    let same = |folder: &Path| fs::metadata(folder).is_ok_and(|other| identity(&other) == identity(&status));
    std::env::current_dir().is_ok_and(|here| here.ancestors().any(same))
}

/// What tells a folder from every other (stat(2)).
fn identity(status: &fs::Metadata) -> (u64, u64) {
    (status.dev(), status.ino())
}

/// A path without links, as far as there is something.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in path.ancestors() {
        let (Ok(mut real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) else { continue };
        // There are no links in what is not there.
        for part in rest.components() {
            match part {
                Component::ParentDir => drop(real.pop()),
                part => real.push(part),
            }
        }
        return real;
    }
    path
}
