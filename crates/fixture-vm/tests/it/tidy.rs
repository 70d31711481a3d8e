//! What ARCHITECTURE.md says is absent stays so, and files stay small enough to read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::project::root;

/// Every Rust file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["crates", "fuzz"] {
        sources(&root().join(folder), &mut found);
    }
    found.sort();
    assert!(found.len() > 100, "{} files are too few to be all", found.len());
    found
}

/// The code of a file without its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap().to_owned()
}

#[test]
fn every_file_opens_with_a_sentence() {
    for path in all() {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().find(|line| !line.starts_with("#![")).unwrap_or_default();
        assert!(first.starts_with("//! "), "{} opens with `{first}`", path.display());
    }
}

#[test]
fn no_file_is_long() {
    for path in all() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 400, "{} has {lines} lines; split it by subject", path.display());
    }
}

#[test]
fn the_library_knows_no_process_and_no_clock() {
    for path in all().iter().filter(|path| path.starts_with(root().join("crates/fixture/src"))) {
        let code = code(path);
        for absent in ["std::process", "SystemTime", "Instant::", "TcpStream", "UdpSocket", "std::env"] {
            assert!(!code.contains(absent), "{absent} in {}", path.display());
        }
    }
}

#[test]
fn guest_and_host_depend_on_the_library_and_not_on_each_other() {
    for (one, other) in [("gen-fixtures", "fixture-vm"), ("fixture-vm", "gen-fixtures")] {
        let manifest = fs::read_to_string(root().join("crates").join(one).join("Cargo.toml")).unwrap();
        assert!(!manifest.lines().any(|line| line.starts_with(other)), "{one} depends on {other}");
    }
    let library = fs::read_to_string(root().join("crates/fixture/Cargo.toml")).unwrap();
    for other in ["gen-fixtures", "fixture-vm"] {
        assert!(!library.lines().any(|line| line.starts_with(other)), "fixture depends on {other}");
    }
}
