//! What an ELF file needs to run: its loader and its shared libraries.

use anyhow::{Result, ensure};
use goblin::elf::Elf;

/// The loader and the libraries an ELF file names.
#[derive(Debug, PartialEq, Eq)]
pub struct Needs {
    /// `PT_INTERP`; a static program and most libraries have none.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`, in the file's order.
    pub libraries: Vec<String>,
}

/// Whether these bytes begin like an ELF file.
pub fn is_elf(data: &[u8]) -> bool {
    data.starts_with(b"\x7fELF")
}

/// Reads the dynamic section; refuses a RUNPATH, which the library search does not follow.
pub fn needs(data: &[u8]) -> Result<Needs> {
    let elf = Elf::parse(data)?;
    ensure!(
        elf.runpaths.is_empty() && elf.rpaths.is_empty(),
        "it sets a library path of its own ({:?})",
        [elf.runpaths, elf.rpaths].concat()
    );
    Ok(Needs {
        interpreter: elf.interpreter.map(str::to_owned),
        libraries: elf.libraries.iter().map(|name| (*name).to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_program_needs_libc() {
        let program = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
        assert!(is_elf(&program));
        let needs = needs(&program).expect("a well-formed program");
        assert!(needs.libraries.iter().any(|name| name.starts_with("libc.so")), "{needs:?}");
        assert!(needs.interpreter.is_some_and(|path| path.contains("ld-linux")));
    }
}
