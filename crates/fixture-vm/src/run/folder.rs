//! The run's own folder: private, locked while its owner lives, swept by whoever comes next when it does not.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getuid};

use super::private;
use crate::{digest, remove, xdg};

const PREFIX: &str = "run-";
const OWNER: &str = "owner";
const QEMU: &str = "qemu";
const STAGING: &str = "staging";

/// The longest path (PATH_MAX), and so the longest note.
const LONGEST_NOTE: u64 = 4096;

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
        let base = private::base(base)?;
        // Between its making and its locking a folder looks like a dead one: nobody may sweep then.
        let _gate = gate(&base)?;
        for leftover in leftovers_below(&base)? {
            // What cannot be removed takes room, but no run needs that room to be free.
            if let Err(error) = leftover.sweep() {
                crate::output::tell(format_args!(
                    "warning: a dead run's leftover stays, remove it by hand: {error:#}"
                ));
            }
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
        // The lock's file goes last: whoever is killed in between leaves what the next run sweeps.
        let result = if self.kept {
            fs::remove_file(self.path.join(OWNER)).with_context(|| format!("keeping {}", self.path.display()))
        } else {
            remove::folder_and_last(&self.path, OWNER)
        };
        if let Err(error) = result {
            crate::output::tell(format_args!("fixture-vm: {error:#}"));
        }
    }
}

/// What a run left that died without unwinding.
pub struct Leftover {
    /// Its folder.
    pub path: PathBuf,
    /// Its lock, now ours, so that two sweepers do not meet; none if the run died before it had one.
    _owner: Option<Flock<File>>,
}

impl Leftover {
    /// Ends its QEMU, if the death signal did not; removes its staging and its folder.
    pub fn sweep(self) -> Result<()> {
        if let Some(pid) = self.qemu() {
            killpg(pid, Signal::SIGKILL).ok();
        }
        if let Some(staging) = self.staging() {
            remove::folder(&staging)?;
        }
        remove::folder_and_last(&self.path, OWNER)
    }

    /// The staging folder it noted, if that is there and has the name of one of this run's.
    fn staging(&self) -> Option<PathBuf> {
        let staging = PathBuf::from(std::ffi::OsString::from_vec(self.note(STAGING)?));
        let run = self.path.file_name()?.as_bytes();
        let named = staging.file_name()?.as_bytes().strip_suffix(run)?;
        let is_ours = |meta: &fs::Metadata| meta.is_dir() && meta.uid() == getuid().as_raw();
        let fits =
            staging.is_absolute() && named.starts_with(b".") && named.ends_with(b".") && named.len() > 2;
        (fits && fs::symlink_metadata(&staging).is_ok_and(|meta| is_ours(&meta))).then_some(staging)
    }

    fn note(&self, name: &str) -> Option<Vec<u8>> {
        let mut noted = Vec::new();
        digest::open(&self.path.join(name)).ok()?.take(LONGEST_NOTE).read_to_end(&mut noted).ok()?;
        Some(noted)
    }

    /// The QEMU it noted, if that very process still runs.
    fn qemu(&self) -> Option<Pid> {
        let noted = String::from_utf8(self.note(QEMU)?).ok()?;
        let (pid, started) = noted.split_once(' ')?;
        let pid = Pid::from_raw(pid.parse().ok()?);
        (start_time(pid)? == started).then_some(pid)
    }
}

/// The leftovers of dead runs below `base`.
pub fn leftovers(base: &Path) -> Result<Vec<Leftover>> {
    private::refuse_shared_links(base)?;
    if !base.is_dir() {
        return Ok(Vec::new());
    }
    let _gate = gate(base)?;
    leftovers_below(base)
}

/// Who calls this holds the gate, so that no folder is one in the making.
fn leftovers_below(base: &Path) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(base).with_context(|| format!("reading {}", base.display()))? {
        let path = entry?.path();
        let is_run = path.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
        let ours =
            fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == getuid().as_raw());
        if !(is_run && ours) {
            continue;
        }
        match own_file(OpenOptions::new().write(true), &path.join(OWNER)) {
            Ok(owner) => {
                if let Ok(owner) = Flock::lock(owner, FlockArg::LockExclusiveNonblock) {
                    found.push(Leftover { path, _owner: Some(owner) });
                }
            }
            // Killed between the making of its folder and of its lock, or between their removal. A folder with
            // anything in it but no lock is one that was kept.
            Err(_) if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none()) => {
                found.push(Leftover { path, _owner: None });
            }
            Err(_) => {}
        }
    }
    Ok(found)
}

fn gate(base: &Path) -> Result<Flock<File>> {
    let path = base.join("gate");
    let file = own_file(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600), &path)
        .with_context(|| format!("writing {}; name another work folder with --work-dir", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("locking the work folder")
}

/// Opens a file that can only be a regular one of ours: no link is followed, no FIFO waited for.
fn own_file(options: &mut OpenOptions, path: &Path) -> Result<File> {
    let file = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)?;
    let meta = file.metadata()?;
    ensure!(meta.is_file(), "it is not a regular file");
    ensure!(meta.uid() == getuid().as_raw(), "it belongs to user {}", meta.uid());
    Ok(file)
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
        let staging = base.path().join(".set.run-dead");
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
        assert!(Leftover { path, _owner: Some(owner.unwrap()) }.qemu().is_none());
    }

    #[test]
    fn a_sweep_removes_what_is_of_runs_and_nothing_else() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        let dead = |name: &str, note: &Path| {
            fs::create_dir_all(at(name).join("share/out/raw")).unwrap();
            fs::write(at(name).join(OWNER), "").unwrap();
            fs::write(at(name).join(STAGING), note.as_os_str().as_bytes()).unwrap();
        };
        fs::create_dir(at("thesis")).unwrap();
        fs::create_dir(at("thesis/.set.run-linked")).unwrap();
        symlink(at("thesis"), at(".set.run-link")).unwrap();
        dead("run-foreign", &at("thesis"));
        dead("run-link", &at(".set.run-link"));
        dead("run-other", &at("thesis/.set.run-linked"));
        dead("run-closed", Path::new(""));
        fs::set_permissions(at("run-closed/share/out"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::create_dir(at("run-empty")).unwrap();
        fs::create_dir_all(at("run-kept/share")).unwrap();
        symlink(at("thesis"), at("run-symlink")).unwrap();
        fs::create_dir(at("run-fifo")).unwrap();
        nix::unistd::mkfifo(&at("run-fifo").join(OWNER), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let id = run.id();
        let mut right = [".set.run-link", "gate", &id, "run-fifo", "run-kept", "run-symlink", "thesis"];
        right.sort();
        assert_eq!(left, right);
        assert!(at("thesis/.set.run-linked").is_dir());
    }

    #[test]
    fn a_gate_that_is_no_file_of_ours_is_refused_and_not_waited_for() {
        let base = tempfile::tempdir().unwrap();
        let gate = base.path().join("gate");
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = |what: &str| {
            let error = format!("{:#}", RunFolder::create(base.path()).err().expect(what));
            assert!(error.contains("--work-dir"), "{error}");
            fs::remove_file(&gate).unwrap();
        };
        refused("a FIFO");
        std::os::unix::fs::symlink(base.path().join("elsewhere"), &gate).unwrap();
        refused("a link");
        assert!(!base.path().join("elsewhere").exists());
    }
}
