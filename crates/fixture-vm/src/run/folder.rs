//! The run's own folder: private, locked while its owner lives, swept by whoever comes next when it does not.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getuid};

use crate::xdg;

const PREFIX: &str = "run-";
const OWNER: &str = "owner";
const QEMU: &str = "qemu";
const STAGING: &str = "staging";

/// A folder that holds everything of one run. Dropping it removes it.
pub struct RunFolder {
    path: PathBuf,
    kept: bool,
    /// Held for as long as the folder is ours: whoever gets this lock may sweep.
    _owner: Flock<File>,
}

/// Where run folders are made: `--work-dir`, the user's runtime folder, or a private one for temporary files.
pub fn base(work_dir: Option<&Path>) -> PathBuf {
    work_dir.map_or_else(xdg::runtime, Path::to_owned)
}

impl RunFolder {
    /// Makes a folder below `base`, after sweeping what dead runs left there.
    pub fn create(base: &Path) -> Result<Self> {
        let base = private_base(base)?;
        // Between its making and its locking a folder looks like a dead one: nobody may sweep then.
        let _gate = gate(&base)?;
        for leftover in leftovers_below(&base)? {
            leftover.sweep()?;
        }
        let path = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&base)
            .with_context(|| format!("making a run folder in {}", base.display()))?
            .keep();
        let owner = File::create_new(path.join(OWNER)).context("making the run's lock")?;
        let owner = Flock::lock(owner, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .context("locking the run folder")?;
        Ok(Self { path, kept: false, _owner: owner })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name that no other run on this machine has now.
    pub fn id(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Notes the QEMU that belongs to this run, for whoever has to sweep.
    pub fn note_qemu(&self, pid: Pid) -> Result<()> {
        let started = start_time(pid).context("QEMU ended as it started")?;
        fs::write(self.path.join(QEMU), format!("{pid} {started}")).context("noting QEMU's process id")
    }

    /// Notes the staging folder that belongs to this run, for whoever has to sweep.
    pub fn note_staging(&self, staging: &Path) -> Result<()> {
        fs::write(self.path.join(STAGING), staging.as_os_str().as_encoded_bytes())
            .context("noting the staging folder")
    }

    /// Leaves the folder where it is when the run ends.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let result =
            if self.kept { fs::remove_file(self.path.join(OWNER)) } else { fs::remove_dir_all(&self.path) };
        if let Err(error) = result {
            crate::output::tell(format_args!("fixture-vm: removing {}: {error}", self.path.display()));
        }
    }
}

/// What a run left that died without unwinding.
pub struct Leftover {
    /// Its folder.
    pub path: PathBuf,
    /// Its lock, now ours, so that two sweepers do not meet.
    _owner: Flock<File>,
}

impl Leftover {
    /// Ends its QEMU, if the death signal did not; removes its staging and its folder.
    pub fn sweep(self) -> Result<()> {
        if let Some(pid) = self.qemu() {
            killpg(pid, Signal::SIGKILL).ok();
        }
        if let Ok(staging) = fs::read(self.path.join(STAGING)) {
            let staging =
                PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&staging));
            if staging.is_dir() {
                fs::remove_dir_all(&staging).with_context(|| format!("removing {}", staging.display()))?;
            }
        }
        fs::remove_dir_all(&self.path).with_context(|| format!("removing {}", self.path.display()))
    }

    /// The QEMU it noted, if that very process still runs.
    fn qemu(&self) -> Option<Pid> {
        let noted = fs::read_to_string(self.path.join(QEMU)).ok()?;
        let (pid, started) = noted.split_once(' ')?;
        let pid = Pid::from_raw(pid.parse().ok()?);
        (start_time(pid)? == started).then_some(pid)
    }
}

/// The leftovers of dead runs below `base`.
pub fn leftovers(base: &Path) -> Result<Vec<Leftover>> {
    if !base.is_dir() {
        return Ok(Vec::new());
    }
    let _gate = gate(base)?;
    leftovers_below(base)
}

fn leftovers_below(base: &Path) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(base).with_context(|| format!("reading {}", base.display()))? {
        let path = entry?.path();
        let is_run = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let ours =
            fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == getuid().as_raw());
        // A folder without the file is one that was kept.
        let Ok(owner) = OpenOptions::new().write(true).open(path.join(OWNER)) else { continue };
        if let (true, true, Ok(owner)) = (is_run, ours, Flock::lock(owner, FlockArg::LockExclusiveNonblock)) {
            found.push(Leftover { path, _owner: owner });
        }
    }
    Ok(found)
}

/// The base folder, made if absent, ours and closed to others.
fn private_base(base: &Path) -> Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(base).with_context(|| {
        format!("making the work folder {}; name another with --work-dir", base.display())
    })?;
    let base = base.canonicalize().with_context(|| format!("resolving {}", base.display()))?;
    let meta = fs::metadata(&base)?;
    if meta.uid() != getuid().as_raw() {
        bail!("{} belongs to user {}; name a folder of your own with --work-dir", base.display(), meta.uid());
    }
    Ok(base)
}

fn gate(base: &Path) -> Result<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(base.join("gate"))
        .with_context(|| format!("writing in the work folder {}", base.display()))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("locking the work folder")
}

/// Names this process and no later one.
pub fn this_process() -> String {
    let pid = Pid::this();
    format!("{pid} {}", start_time(pid).unwrap_or_default())
}

/// Whether the process that [`this_process`] named still runs.
pub fn is_running(process: &str) -> bool {
    let Some((pid, started)) = process.split_once(' ') else { return false };
    pid.parse().is_ok_and(|pid| start_time(Pid::from_raw(pid)).is_some_and(|time| time == started))
}

/// Field 22 of /proc/PID/stat (proc_pid_stat(5)): with the id, it names one process and no later one.
fn start_time(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_run_is_left_alone_and_a_dead_one_swept() {
        let base = tempfile::tempdir().unwrap();
        let alive = RunFolder::create(base.path()).unwrap();
        let dead = base.path().join("run-dead");
        let staging = base.path().join("staging of the dead");
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&staging).unwrap();
        fs::write(dead.join(OWNER), "").unwrap();
        fs::write(dead.join(STAGING), staging.to_str().unwrap()).unwrap();
        fs::create_dir(base.path().join("another's")).unwrap();
        let next = RunFolder::create(base.path()).unwrap();
        assert!(alive.path().is_dir() && next.path().is_dir() && base.path().join("another's").is_dir());
        assert!(!dead.exists() && !staging.exists());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }

    #[test]
    fn a_process_id_that_was_used_again_is_not_taken_for_qemu() {
        let base = tempfile::tempdir().unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        fs::write(run.path().join(QEMU), format!("{} 1", std::process::id())).unwrap();
        let path = run.path().to_owned();
        std::mem::forget(run);
        let owner =
            Flock::lock(File::create(path.join("other")).unwrap(), FlockArg::LockExclusive).map_err(|e| e.1);
        assert!(Leftover { path, _owner: owner.unwrap() }.qemu().is_none());
    }
}
