//! Where this user's caches and data lie (XDG Base Directory Specification).

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// What can be made again: `$XDG_CACHE_HOME/fixture-vm`, by default in `~/.cache`.
pub fn cache() -> Result<PathBuf> {
    folder("XDG_CACHE_HOME", ".cache")
}

/// What is kept: `$XDG_DATA_HOME/fixture-vm`, by default in `~/.local/share`.
pub fn data() -> Result<PathBuf> {
    folder("XDG_DATA_HOME", ".local/share")
}

/// What lasts from one run to the next, and is of no matter: `$XDG_STATE_HOME/fixture-vm`, by default in
/// `~/.local/state`.
pub fn state() -> Result<PathBuf> {
    folder("XDG_STATE_HOME", ".local/state")
}

fn folder(variable: &str, default: &str) -> Result<PathBuf> {
    // The specification has relative paths ignored.
    let base = match std::env::var_os(variable).filter(|path| Path::new(path).is_absolute()) {
        Some(path) => PathBuf::from(path),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(default),
            None => bail!("neither {variable} nor HOME says where fixture-vm may keep files"),
        },
    };
    Ok(base.join("fixture-vm"))
}
