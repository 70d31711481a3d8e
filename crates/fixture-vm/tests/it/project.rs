//! The project under test, copies of it to break, and its scripts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Exit status by which a script says that it cannot do its work on this machine.
const SKIPPED: i32 = 77;

/// The top of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A copy of parts of the project, to be broken.
pub struct Copy {
    folder: TempDir,
}

impl Copy {
    /// Copies files and folders, named from the top.
    pub fn of(parts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in parts {
            copy(&root().join(part), &folder.path().join(part));
        }
        Self { folder }
    }

    /// The top of the copy.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces text in a file; the text must be there.
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.root().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not hold {from:?}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// A command; its folder is the top of the project.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the door of the tests")]
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs a script below `root`; `None` when it said that it cannot run here, and why is printed.
pub fn script(root: &Path, script: &str, args: &[&str]) -> Option<Output> {
    let output = command(root.join(script)).args(args).current_dir(root).output().unwrap();
    if output.status.code() == Some(SKIPPED) {
        skip(said(&output).lines().last().unwrap_or(script));
        return None;
    }
    Some(output)
}

/// Tells that the test that calls this cannot run here, and why.
pub fn skip(why: &str) {
    crate::lab::skip(std::thread::current().name().unwrap_or("a test"), why);
}

/// Where a program is on the PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A folder with one program in it, a script of the shell.
pub fn program(name: &str, text: &str) -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Both outputs as one text, for messages and for what must be in it.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a script that must succeed, or skip.
pub fn passes(name: &str, args: &[&str]) {
    if let Some(output) = script(&root(), name, args) {
        assert!(output.status.success(), "{name} {args:?}:\n{}", said(&output));
    }
}
