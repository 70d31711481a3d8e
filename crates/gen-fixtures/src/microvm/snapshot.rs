//! What a microVM was saved to: packed as its pool wants it, and unpacked before it is woken.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use fixture::pool::{Paths, SnapshotCompression};

use crate::child;
use crate::tools;

/// How long packing may take, in a guest that is translated.
const PACKED: Duration = Duration::from_secs(300);

/// Programs that pack, and how their files end.
const PACKERS: [(SnapshotCompression, &str, &str); 2] =
    [(SnapshotCompression::Lz4, "lz4", "lz4"), (SnapshotCompression::Zstd, "zstd", "zst")];

/// What a VMM that keeps the devices apart from the memory writes of them: a few pages, which are not packed.
pub fn devices(paths: &Paths) -> PathBuf {
    paths.snapshot.with_extension("devices")
}

/// Packs what was just saved. The file as it was is gone then; one that cannot be packed stays as it is, and is
/// as good.
pub fn pack(paths: &Paths, how: SnapshotCompression) -> Result<()> {
    let Some((_, program, ending)) = PACKERS.iter().find(|(packer, ..)| *packer == how) else {
        return Ok(());
    };
    let packed = packed(paths, ending);
    run(program, &["-q", "-f", "--rm"], &paths.snapshot, &packed).inspect_err(|_| _ = fs::remove_file(packed))
}

/// The file that it is in, in whichever form.
pub fn file(paths: &Paths) -> PathBuf {
    let packed = PACKERS.iter().map(|(_, _, ending)| packed(paths, ending)).find(|packed| packed.exists());
    packed.unwrap_or_else(|| paths.snapshot.clone())
}

/// Makes the file that the VMM reads, whichever way it was packed. Both programs check what they unpack.
pub fn unpack(paths: &Paths) -> Result<()> {
    for (_, program, ending) in PACKERS {
        let packed = packed(paths, ending);
        if packed.exists() {
            run(program, &["-q", "-d", "-f", "--rm"], &packed, &paths.snapshot)?;
        }
    }
    Ok(())
}

/// Removes it in every form.
pub fn remove(paths: &Paths) -> Result<()> {
    let forms = PACKERS.iter().map(|(_, _, ending)| packed(paths, ending));
    for file in forms.chain([paths.snapshot.clone(), devices(paths)]) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn packed(paths: &Paths, ending: &str) -> PathBuf {
    paths.snapshot.with_extension(ending)
}

fn run(program: &str, options: &[&str], from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let place = tools::find_program(program).with_context(|| format!("this guest has no {program}"))?;
    let mut argv = vec![place];
    argv.extend(options.iter().copied().map(str::to_owned));
    argv.push(from.to_string_lossy().into_owned());
    if program == "zstd" {
        argv.push("-o".into());
    }
    argv.push(to.to_string_lossy().into_owned());
    child::run(&argv, PACKED)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_in_every_form_and_what_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), "gm");
        fs::create_dir_all(&paths.folder).unwrap();
        for name in ["snapshot", "snapshot.devices", "snapshot.lz4", "snapshot.zst", "record.json"] {
            fs::write(paths.folder.join(name), "").unwrap();
        }
        pack(&paths, SnapshotCompression::None).unwrap();
        assert!(paths.snapshot.exists() && devices(&paths).exists());
        remove(&paths).unwrap();
        remove(&paths).unwrap();
        let left = fs::read_dir(&paths.folder).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["record.json"]);
    }
}
