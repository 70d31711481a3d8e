//! What of a VMM outlives it, or the manager that started it: a process, and what it said last.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fixture::pool::{Paths, Runtime};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::backend::console;
use crate::child::{CommandError, Daemon};
use crate::clock;

/// How long a process may take to end that cannot but do so.
const GONE: Duration = Duration::from_secs(60);

/// The state of a process that has ended.
const ZOMBIE: &str = "Z";

/// How the kernel of a microVM begins its last words.
const PANIC: &str = "Kernel panic";

/// What is on record of a VMM, whether it still is so or not.
pub fn runtime(paths: &Paths) -> Option<Runtime> {
    serde_json::from_slice(&fs::read(&paths.runtime).ok()?).ok()
}

/// When a process started, if it has not ended.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let (state, ticks) = stat(pid)?;
    (state != ZOMBIE).then_some(ticks)
}

/// State and start time of a process: fields 3 and 22 of its status, after the name in parentheses
/// (proc_pid_stat(5)).
fn stat(pid: u32) -> Option<(String, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.nth(18)?.parse().ok()?))
}

/// Ends a VMM that a manager before this one started and that is on record, if it is that very process.
pub fn end(paths: &Paths) -> Result<()> {
    let Some(runtime) = runtime(paths) else { return Ok(()) };
    // A zombie is there: other threads of it may still have its files open.
    let is_there = || stat(runtime.pid).is_some_and(|(_, ticks)| ticks == runtime.start_ticks);
    if !is_there() {
        return Ok(());
    }
    let pid = Pid::from_raw(runtime.pid as i32);
    let _ = kill(pid, Signal::SIGKILL);
    clock::wait_until(GONE, Duration::from_millis(5), || {
        // It may be a child of this process, or of none that lives.
        let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        Ok(if is_there() { Err(format!("the VMM {pid} does not end")) } else { Ok(()) })
    })
}

/// How a VMM ended and what its guest's kernel said last; none: it runs.
pub fn last_words(vmm: &mut Daemon, paths: &Paths) -> Option<String> {
    let error = vmm.check().err()?;
    let said = error.downcast_ref::<CommandError>().map(|CommandError(failed)| {
        let stderr = failed.stderr.trim();
        if stderr.is_empty() { failed.ended.clone() } else { format!("{}: {stderr}", failed.ended) }
    });
    let said = said.unwrap_or_else(|| error.to_string());
    Some(panic(&console(paths)).map_or(said.clone(), |panic| format!("{said}: {panic}")))
}

/// The line with which the kernel of a microVM panicked, if it did.
pub fn panic(console: &Path) -> Option<String> {
    let text = fs::read(console).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find_map(|line| line.find(PANIC).map(|at| &line[at..]))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Daemon {
        let argv = ["/bin/sh", "-c", "exec sleep 1000"].map(String::from);
        Daemon::start(&argv, &dir.join("log")).unwrap()
    }

    #[test]
    fn only_the_very_process_on_record_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), "gm");
        fs::create_dir_all(&paths.folder).unwrap();
        end(&paths).unwrap();
        let mut vmm = sleeper(dir.path());
        let mut runtime =
            Runtime { pid: vmm.pid(), start_ticks: start_ticks(vmm.pid()).unwrap(), taps: vec![] };
        let record =
            |runtime: &Runtime| fs::write(&paths.runtime, serde_json::to_vec(runtime).unwrap()).unwrap();
        runtime.start_ticks += 1;
        record(&runtime);
        end(&paths).unwrap();
        assert!(vmm.check().is_ok(), "another process that has its number is left alone");
        runtime.start_ticks -= 1;
        record(&runtime);
        end(&paths).unwrap();
        assert_eq!(start_ticks(runtime.pid), None);
    }

    #[test]
    fn a_vmm_that_ended_is_told_with_its_exit_and_its_kernel_s_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), "gm");
        fs::create_dir_all(&paths.folder).unwrap();
        let mut vmm = sleeper(dir.path());
        assert_eq!(last_words(&mut vmm, &paths), None);
        vmm.signal(Signal::SIGKILL).unwrap();
        let ended = || {
            clock::wait_until(GONE, Duration::from_millis(1), || {
                Ok(vmm.check().is_err().then_some(()).ok_or_else(String::new))
            })
        };
        let mut ended = ended;
        ended().unwrap();
        assert_eq!(last_words(&mut vmm, &paths).unwrap(), "ended early, signal 9");
        let console = "[    1.5] gm login\n[    2.0] Kernel panic - not syncing: sysrq triggered crash\n[    2.0] CPU: 0\n";
        fs::write(super::console(&paths), console).unwrap();
        assert_eq!(
            last_words(&mut vmm, &paths).unwrap(),
            "ended early, signal 9: Kernel panic - not syncing: sysrq triggered crash"
        );
    }
}
