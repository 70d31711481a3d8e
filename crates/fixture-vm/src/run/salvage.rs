//! What is kept of the share of a run that failed: plain files with plain names, up to a limit.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::stat::SFlag;

use super::limits::{SALVAGE, SALVAGE_TIME, ShareLimits, is_qemus};
use super::share::is_printable;
use crate::beneath::{Folder, kind};
use crate::digest;
use crate::interrupt::Interrupt;

/// How much of what was left out is listed.
const LISTED: usize = 100;

/// Where the files go, in the folder of the failed run.
const SHARE: &str = "share";

/// What was left out, and why.
const LEFT_OUT: &str = "share.left-out.txt";

/// Copies the files to `share` in that folder; lists beside it what was left out. Only a signal is an error: what is
/// left of a failure is shown as far as it can be, and the failure itself is reported elsewhere.
pub fn salvage(out: &Folder, to: &Path, interrupt: &Interrupt) -> Result<()> {
    let mut salvage =
        Salvage { limits: SALVAGE, ends: Instant::now() + SALVAGE_TIME, interrupt, left_out: Vec::new() };
    salvage.folder(out, &to.join(SHARE), Path::new(""), 1)?;
    if !salvage.left_out.is_empty() {
        salvage.left_out.push(String::new());
        fs::write(to.join(LEFT_OUT), salvage.left_out.join("\n")).ok();
    }
    Ok(())
}

struct Salvage<'a> {
    /// What may still come.
    limits: ShareLimits,
    ends: Instant,
    interrupt: &'a Interrupt,
    left_out: Vec<String>,
}

impl Salvage<'_> {
    fn folder(&mut self, from: &Folder, to: &Path, below: &Path, depth: usize) -> Result<()> {
        let Ok(mut names) = from.names(self.limits.entries + 1) else { return Ok(()) };
        names.sort();
        for name in names.iter().filter(|name| !is_qemus(name)) {
            self.interrupt.check()?;
            let path = below.join(name);
            let Ok(stat) = from.stat(name) else { continue };
            let folder = kind(&stat) == SFlag::S_IFDIR;
            if let Some(why) = self.refusal(name, depth, kind(&stat), stat.st_size) {
                self.leave_out(&path, why);
            } else if folder {
                if let Ok(inner) = from.folder(Path::new(name)) {
                    self.folder(&inner, &to.join(name), &path, depth + 1)?;
                }
            } else if let Err(error) = self.file(from, name, to) {
                self.interrupt.check()?;
                self.leave_out(&path, &format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Why an entry is left out, if it is; else it counts from here.
    fn refusal(&mut self, name: &OsStr, depth: usize, kind: SFlag, length: i64) -> Option<&'static str> {
        if self.limits.entries == 0 {
            return Some("more files and folders than are kept");
        }
        if Instant::now() > self.ends {
            return Some("it took too long");
        }
        self.limits.entries -= 1;
        if !name.to_str().is_some_and(is_printable) {
            return Some("a name that is not printable ASCII");
        }
        match kind {
            SFlag::S_IFDIR if depth == self.limits.depth => Some("more levels of folders than are kept"),
            SFlag::S_IFDIR => None,
            SFlag::S_IFREG => {
                match self.limits.bytes.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)) {
                    Some(left) => {
                        self.limits.bytes = left;
                        None
                    }
                    None => Some("more bytes than are kept"),
                }
            }
            _ => Some("neither a file nor a folder"),
        }
    }

    fn file(&self, from: &Folder, name: &OsStr, to: &Path) -> Result<()> {
        use std::io::Read;
        let source = from.file(Path::new(name))?;
        let length = source.metadata()?.len();
        fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
        let go_on = || {
            self.interrupt.check()?;
            if Instant::now() > self.ends { bail!("it took too long") } else { Ok(()) }
        };
        digest::copy_while(source.take(length), &to.join(name), go_on).map(drop)
    }

    fn leave_out(&mut self, path: &Path, why: &str) {
        match self.left_out.len() {
            LISTED => self.left_out.push("and more".into()),
            n if n < LISTED => self.left_out.push(format!("{path:?}: {why}")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_plain_and_bounded() {
        let home = tempfile::tempdir().unwrap();
        let (out, kept) = (home.path().join("out"), home.path().join("kept"));
        let deep = out.join(vec!["d"; 30].join("/"));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(out.join("plain"), "plain").unwrap();
        fs::write(out.join("a\nb"), "x").unwrap();
        fs::create_dir(out.join(".virtfs_metadata")).unwrap();
        fs::write(out.join(".virtfs_metadata/plain"), "virtfs.uid=0").unwrap();
        for name in ["s1", "s2"] {
            fs::File::create(out.join(name)).unwrap().set_len(200 << 20).unwrap();
        }
        std::os::unix::fs::symlink("/etc", out.join("link")).unwrap();
        nix::unistd::mkfifo(&out.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        salvage(&Folder::open(&out).unwrap(), &kept, &Interrupt::never()).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(kept.join("share")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["plain", "s1"]);
        insta::assert_snapshot!(fs::read_to_string(kept.join("share.left-out.txt")).unwrap());
    }
}
