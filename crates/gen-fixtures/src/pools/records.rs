//! The durable half of microVMs: a record each, replaced whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::pool::{Paths, Record};

/// The folder of all microVMs, with a folder for each.
#[derive(Debug)]
pub struct Records(PathBuf);

impl Records {
    /// The records below a folder; it need not be there yet.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Every record, by name. One that cannot be read is an error: what it stood for may be running.
    pub fn read_all(&self) -> Result<Vec<Record>> {
        let list = match fs::read_dir(&self.0) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("listing {}", self.0.display())),
        };
        let mut names = list.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        names.sort();
        let mut records = Vec::new();
        for name in names {
            let path = Paths::new(&self.0, &name.to_string_lossy()).record;
            match fs::read(&path) {
                Ok(bytes) => {
                    let record = serde_json::from_slice(&bytes);
                    records.push(record.with_context(|| format!("reading {}", path.display()))?);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            }
        }
        Ok(records)
    }

    /// Writes a record beside the former one and puts it in its place.
    pub fn write(&self, record: &Record) -> Result<()> {
        let Paths { folder, record: path, .. } = Paths::new(&self.0, &record.identity.name);
        let new = path.with_extension("new");
        let write = || -> Result<()> {
            fs::create_dir_all(&folder)?;
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            Ok(fs::rename(&new, &path)?)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Removes everything of a microVM.
    pub fn remove(&self, name: &str) -> Result<()> {
        let folder = Paths::new(&self.0, name).folder;
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", folder.display()))
            }
            _ => Ok(()),
        }
    }
}
