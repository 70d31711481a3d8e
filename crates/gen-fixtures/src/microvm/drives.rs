//! The drives of a microVM: its configuration, its data, cloned from a seed, and secrets that are new at each start.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::pool::Paths;

use super::secrets;
use crate::agent::config::{Config, DATA, SECRETS, drive};

/// Writes the configuration's drive.
pub fn config(config: &Config, paths: &Paths) -> Result<()> {
    fs::write(&paths.config, config.to_drive()?)
        .with_context(|| format!("writing {}", paths.config.display()))
}

/// Clones the data drive from the pool's seed, which is made with the first of them.
pub fn data(seeds: &Path, seed: &str, mib: u32, paths: &Paths) -> Result<()> {
    if mib == 0 || paths.data.exists() {
        return Ok(());
    }
    fs::create_dir_all(seeds).with_context(|| format!("making {}", seeds.display()))?;
    let image: PathBuf = seeds.join(format!("{seed}.img"));
    if !image.exists() {
        fs::write(&image, format!("{DATA}{seed}\n"))
            .with_context(|| format!("writing {}", image.display()))?;
    }
    // Memory is taken for what is in the seed, not for what it is a drive of.
    let clone = || -> std::io::Result<()> {
        fs::copy(&image, &paths.data)?;
        OpenOptions::new().write(true).open(&paths.data)?.set_len(u64::from(mib) << 20)
    };
    clone().with_context(|| format!("cloning {}", image.display()))
}

/// Makes the secrets' drive anew, for nobody else to read; what is on it is remembered.
pub fn secrets(paths: &Paths) -> Result<()> {
    let make = || -> std::io::Result<()> {
        let mut secret = [0; secrets::LENGTH];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let _ = fs::remove_file(&paths.secrets);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&paths.secrets)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        secrets::keep(secret);
        file.write_all(&drive(SECRETS, &secret))
    };
    make().with_context(|| format!("writing {}", paths.secrets.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn secrets_are_new_each_time_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), "gm");
        fs::create_dir_all(&paths.folder).unwrap();
        let read = || {
            secrets(&paths).unwrap();
            assert_eq!(fs::metadata(&paths.secrets).unwrap().permissions().mode() & 0o777, 0o600);
            fs::read(&paths.secrets).unwrap()
        };
        assert_ne!(read(), read());
    }

    #[test]
    fn data_is_cloned_from_one_seed_and_takes_no_room_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["worker-0", "worker-1"] {
            let paths = Paths::new(dir.path(), name);
            fs::create_dir_all(&paths.folder).unwrap();
            data(&dir.path().join("seeds"), "worker", 8, &paths).unwrap();
            let cloned = fs::metadata(&paths.data).unwrap();
            assert_eq!(cloned.len(), 8 << 20);
            assert!(cloned.blocks() * 512 < 1 << 20, "{} blocks", cloned.blocks());
            assert!(fs::read(&paths.data).unwrap().starts_with(b"fixture-vm data seed worker\n"));
            data(&dir.path().join("seeds"), "worker", 8, &paths).unwrap();
        }
    }
}
