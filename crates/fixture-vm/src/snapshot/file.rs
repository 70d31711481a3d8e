//! Snapshots on the disk: `NAME.snap` beside `NAME.yaml`, and `NAME.snap.new` while it waits for review.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixture::snapshot::{Snapshot, VERSION};

use crate::exit::Usage;

const EXTENSION: &str = "snap";
const PENDING: &str = "snap.new";

/// The snapshot of a scenario file lies beside it.
pub fn beside(scenario: &Path) -> PathBuf {
    scenario.with_extension(EXTENSION)
}

/// Where a snapshot waits for review.
pub fn pending(snapshot: &Path) -> PathBuf {
    snapshot.with_extension(PENDING)
}

/// The snapshot that a pending one would replace; nothing if the path is none of a pending snapshot.
pub fn reviewed(pending: &Path) -> Option<PathBuf> {
    let name = pending.file_name()?.to_str()?.strip_suffix(PENDING)?;
    Some(pending.with_file_name(format!("{name}{EXTENSION}")))
}

/// Reads a snapshot; nothing if it is not there.
///
/// # Errors
/// [`Usage`] for what is there and is no snapshot of this version.
pub fn read(path: &Path) -> Result<Option<Snapshot>, Usage> {
    of_file(path).map_err(|error| Usage(format!("{error:#}")))
}

fn of_file(path: &Path) -> Result<Option<Snapshot>> {
    let text = match fixture::file::read_text(path, fixture::file::DOCUMENT) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let snapshot: Snapshot =
        serde_yaml::from_str(&text).with_context(|| format!("{} is no snapshot", path.display()))?;
    let version = snapshot.version;
    ensure!(version == VERSION, "{} has version {version}; this fixture-vm reads {VERSION}", path.display());
    Ok(Some(snapshot))
}

/// Writes a snapshot beside its place first.
pub fn write(path: &Path, snapshot: &Snapshot) -> Result<()> {
    let context = || format!("writing {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = "# What the scenario's fixtures mean. Accepted by `fixture-vm review`; do not edit.\n"
        .to_owned()
        + &serde_yaml::to_string(snapshot).with_context(context)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// Removes a file that may not be there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_and_its_pending_one_find_each_other() {
        let snapshot = beside(Path::new("scenarios/a.b.yaml"));
        assert_eq!(snapshot, Path::new("scenarios/a.b.snap"));
        assert_eq!(pending(&snapshot), Path::new("scenarios/a.b.snap.new"));
        assert_eq!(reviewed(&pending(&snapshot)), Some(snapshot));
        assert_eq!(reviewed(Path::new("scenarios/a.yaml")), None);
    }
}
