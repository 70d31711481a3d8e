//! Where this user's caches, data and run folders lie (XDG Base Directory Specification).

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::unistd::getuid;

/// Permission bits by which group or others could rename what lies in a folder.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What can be made again: `$XDG_CACHE_HOME/fixture-vm`, by default in `~/.cache`.
pub fn cache() -> Result<PathBuf> {
    of_process().folder("XDG_CACHE_HOME", ".cache")
}

/// What is kept: `$XDG_DATA_HOME/fixture-vm`, by default in `~/.local/share`.
pub fn data() -> Result<PathBuf> {
    of_process().folder("XDG_DATA_HOME", ".local/share")
}

/// What lasts from one run to the next, and is of no matter: `$XDG_STATE_HOME/fixture-vm`, by default in
/// `~/.local/state`.
pub fn state() -> Result<PathBuf> {
    of_process().folder("XDG_STATE_HOME", ".local/state")
}

/// What lasts as long as a run: `$XDG_RUNTIME_DIR/fixture-vm`, or a folder of this user among the temporary files.
pub fn runtime() -> PathBuf {
    of_process().runtime()
}

/// A variable that names a file or a folder of fixture-vm's own; an empty one counts as not set.
pub fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn of_process() -> Environment<impl Fn(&str) -> Option<OsString>> {
    Environment { variable: |name: &str| std::env::var_os(name) }
}

/// The variables that are looked at.
struct Environment<V> {
    variable: V,
}

impl<V: Fn(&str) -> Option<OsString>> Environment<V> {
    /// The value of a variable, if it is an absolute path. The specification has empty and relative ones ignored.
    fn absolute(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn folder(&self, variable: &str, default: &str) -> Result<PathBuf> {
        if let Some(base) = self.absolute(variable) {
            return Ok(base.join("fixture-vm"));
        }
        if let Some(home) = self.absolute("HOME") {
            return Ok(home.join(default).join("fixture-vm"));
        }
        let home = match (self.variable)("HOME") {
            None => "HOME is not set".to_owned(),
            Some(home) if home.is_empty() => "HOME is empty".to_owned(),
            Some(home) => format!("HOME is {}, which is no absolute path", Path::new(&home).display()),
        };
        bail!(
            "{home}, so there is no place for files of fixture-vm; set HOME or {variable} to the absolute path of a folder"
        )
    }

    fn runtime(&self) -> PathBuf {
        match self.absolute("XDG_RUNTIME_DIR").filter(|dir| is_private(dir)) {
            Some(dir) => dir.join("fixture-vm"),
            None => {
                let temporary = self.absolute("TMPDIR").unwrap_or_else(|| "/tmp".into());
                temporary.join(format!("fixture-vm-{}", getuid()))
            }
        }
    }
}

/// The specification has the runtime folder belong to its user, who alone can write there.
fn is_private(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|dir| {
        dir.is_dir() && dir.uid() == getuid().as_raw() && dir.mode() & WRITABLE_BY_OTHERS == 0
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Environment<impl Fn(&str) -> Option<OsString>> {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        Environment {
            variable: move |name: &str| {
                variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.into())
            },
        }
    }

    #[test]
    fn only_absolute_paths_name_a_place() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Result<&'a str, &'a str>);
        let cases: [Case; 10] = [
            (&[("HOME", "/h")], Ok("/h/.cache/fixture-vm")),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], Ok("/c/fixture-vm")),
            (&[("XDG_CACHE_HOME", "/c")], Ok("/c/fixture-vm")),
            (&[("HOME", ""), ("XDG_CACHE_HOME", "/c")], Ok("/c/fixture-vm")),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "")], Ok("/h/.cache/fixture-vm")),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "c")], Ok("/h/.cache/fixture-vm")),
            (&[], Err("HOME is not set,")),
            (&[("HOME", "")], Err("HOME is empty,")),
            (&[("HOME", "here")], Err("HOME is here, which is no absolute path,")),
            (&[("HOME", ""), ("XDG_CACHE_HOME", "./c")], Err("HOME or XDG_CACHE_HOME")),
        ];
        for (variables, wanted) in cases {
            match (with(variables).folder("XDG_CACHE_HOME", ".cache"), wanted) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, Path::new(wanted), "{variables:?}"),
                (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
                (got, _) => panic!("{variables:?} gave {got:?}"),
            }
        }
    }

    #[test]
    fn a_runtime_folder_is_absolute_ours_and_closed_to_the_writing_of_others() {
        let (home, user) = (tempfile::tempdir().unwrap(), getuid());
        let made = |name: &str, mode: u32| {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (private, readable, group, all) =
            (made("0700", 0o700), made("0755", 0o755), made("0770", 0o770), made("1777", 0o1777));
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let fallback = PathBuf::from(format!("/t/fixture-vm-{user}"));
        // Root can give a folder away; the root folder is another user's to all else.
        let other = if user.is_root() { made("another user's", 0o700) } else { "/".into() };
        if user.is_root() {
            std::os::unix::fs::chown(&other, Some(65_534), None).unwrap();
        }
        let cases = [
            (private.as_str(), true),
            (&readable, true),
            (&group, false),
            (&all, false),
            (file.to_str().unwrap(), false),
            (&other, false),
            ("/nonexistent", false),
            ("", false),
            (".", false),
        ];
        for (dir, taken) in cases {
            let got = with(&[("XDG_RUNTIME_DIR", dir), ("TMPDIR", "/t")]).runtime();
            let wanted = if taken { Path::new(dir).join("fixture-vm") } else { fallback.clone() };
            assert_eq!(got, wanted, "{dir:?}");
        }
        for temporary in ["", "t", "./t"] {
            let got = with(&[("TMPDIR", temporary)]).runtime();
            assert_eq!(got, Path::new(&format!("/tmp/fixture-vm-{user}")), "{temporary:?}");
        }
    }
}
