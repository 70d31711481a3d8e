//! The guest program: where it is found, and that it can run as the guest's first process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::elf;
use super::progress::Progress;
use super::tool;

/// Environment variable that names the guest program.
pub const VARIABLE: &str = "FIXTURE_VM_GUEST_PROGRAM";

/// File name of the guest program.
const NAME: &str = "gen-fixtures";

/// Script of a checkout that builds the program and prints its path.
const BUILD_SCRIPT: &str = "tools/build-guest";

/// A guest program that was read and found usable.
pub struct Program {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Program {
    /// The program named; else the one of the environment; else, in a checkout, the one built from
    /// its sources; else the one beside this executable.
    pub fn find(named: Option<&Path>, progress: &Progress) -> Result<Self> {
        if let Some(path) = named {
            return Self::read(path);
        }
        if let Some(path) = std::env::var_os(VARIABLE) {
            return Self::read(Path::new(&path)).with_context(|| format!("{VARIABLE} names it"));
        }
        let executable = std::env::current_exe().context("finding this executable")?;
        if let Some(script) =
            executable.ancestors().map(|dir| dir.join(BUILD_SCRIPT)).find(|path| path.is_file())
        {
            return Self::read(&from_checkout(&script, progress)?);
        }
        let beside = executable.with_file_name(NAME);
        ensure!(
            beside.is_file(),
            "the guest program {NAME} is not beside {}; name it with --program or {VARIABLE}",
            executable.display()
        );
        Self::read(&beside)
    }

    fn read(path: &Path) -> Result<Self> {
        let bytes = fixture::file::read(path, fixture::file::LOG)
            .with_context(|| format!("reading the guest program {}", path.display()))?;
        check(&bytes).with_context(|| format!("{} cannot be the guest program", path.display()))?;
        Ok(Self { sha256: format!("{:x}", Sha256::digest(&bytes)), bytes })
    }
}

/// The initramfs has no loader and no libraries.
fn check(bytes: &[u8]) -> Result<()> {
    ensure!(elf::is_elf(bytes), "it is not an ELF file");
    let needs = elf::needs(bytes)?;
    ensure!(
        needs.interpreter.is_none() && needs.libraries.is_empty(),
        "it is not static; `{BUILD_SCRIPT}` builds one that is"
    );
    Ok(())
}

/// The program of a checkout, built unless it is newer than all its sources.
fn from_checkout(script: &Path, progress: &Progress) -> Result<PathBuf> {
    let top = script.ancestors().nth(2).context("the script lies in a checkout")?;
    let built = top.join("target/guest").join(NAME);
    let manifests =
        ["Cargo.toml", "Cargo.lock", "crates/fixture/Cargo.toml", "crates/gen-fixtures/Cargo.toml"];
    let others: Vec<PathBuf> =
        manifests.map(|name| top.join(name)).into_iter().chain([script.to_owned()]).collect();
    if is_current(&built, &others) {
        return Ok(built);
    }
    progress.step("building the guest program");
    let script = script.to_str().context("the checkout's path is not UTF-8")?;
    let printed = tool::output(script, progress, |script| script).context("building the guest program")?;
    let path = PathBuf::from(printed.trim_end());
    if !path.is_file() {
        bail!("{script} printed `{}`, which is not the guest program", path.display());
    }
    Ok(path)
}

/// Whether a program is newer than `others` and each source its dependency file (`gen-fixtures.d`) names.
///
/// Every run asks, and asking cargo takes a tenth of a second.
fn is_current(program: &Path, others: &[PathBuf]) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let (Some(built), Ok(rule)) = (modified(program), fs::read_to_string(program.with_extension("d"))) else {
        return false;
    };
    let Some((_, sources)) = rule.trim_end().split_once(": ") else { return false };
    // make(1) writes a space within a name as `\ `.
    let sources = sources.replace("\\ ", "\0");
    let sources = sources.split(' ').map(|source| PathBuf::from(source.replace('\0', " ")));
    sources
        .chain(others.iter().cloned())
        .all(|source| modified(&source).is_some_and(|changed| changed <= built))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_refused() {
        let dynamic = std::env::current_exe().expect("a path");
        let message =
            format!("{:#}", Program::find(Some(&dynamic), &Progress::silent()).err().expect("refused"));
        assert!(message.contains("it is not static"), "{message}");
    }

    #[test]
    fn a_program_older_than_a_source_is_not_current() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for name in ["a b.rs", "gen-fixtures"] {
            fs::write(at(name), "").expect("written");
        }
        let source = at("a b.rs").display().to_string().replace(' ', "\\ ");
        assert!(!is_current(&at("gen-fixtures"), &[]), "no dependency file");
        fs::write(at("gen-fixtures.d"), format!("{}: {source}\n", at("gen-fixtures").display()))
            .expect("written");
        assert!(is_current(&at("gen-fixtures"), &[]));
        assert!(!is_current(&at("gen-fixtures"), &[at("Cargo.lock")]), "a manifest that is gone");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        fs::File::options().write(true).open(at("a b.rs")).expect("open").set_modified(later).expect("set");
        assert!(!is_current(&at("gen-fixtures"), &[]));
    }
}
