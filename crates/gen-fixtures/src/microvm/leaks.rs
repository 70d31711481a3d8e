//! What microVMs without a VMM have left behind: processes, open files, sockets, TAPs, drives. The guest looks
//! itself, at the end of a run and where one fails.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fixture::pool::{Identity, Paths};

use super::tap;
use crate::clock;
use crate::netns::Namespace;

/// How long the kernel may take to tell that a TAP has lost its carrier: it does so once a second.
const CARRIER: Duration = Duration::from_secs(10);

/// What is left of one that has no VMM, in words. `ends` are the far ends of its links: node and TAP.
pub fn of(vm: &Identity, paths: &Paths, ends: &[(&Namespace, &str)]) -> Result<Vec<String>> {
    let mut left = processes(&paths.folder)?;
    let sockets = fs::read_to_string("/proc/net/unix").context("listing sockets")?;
    left.extend(sockets_below(&sockets, &paths.folder));
    for file in [&paths.runtime, &paths.control, &paths.agent, &paths.secrets] {
        if file.exists() {
            left.push(format!("the file {}", file.display()));
        }
    }
    for (node, port) in ends {
        let alone = clock::wait_until(CARRIER, Duration::from_millis(50), || {
            let alone = !node.without_carrier(&[port])?.is_empty();
            Ok(if alone { Ok(()) } else { Err(format!("somebody at the TAP {port} of {}", node.name())) })
        });
        left.extend(alone.err().map(|error| format!("{error:#}")));
    }
    Ok(left.into_iter().map(|left| format!("{}: {left}", vm.name)).collect())
}

/// This process's own ends of TAPs: a VMM has inherited those that are in use.
pub fn own_taps() -> Result<Vec<String>> {
    let open = open_files(Path::new("/proc/self"));
    let taps = open.into_iter().filter(|file| file.as_path() == Path::new(tap::DEVICE));
    Ok(taps.map(|_| "the guest program: its end of a TAP is open".to_owned()).collect())
}

/// Every process that was started with something of this folder, or has a file of it open.
fn processes(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("listing processes")? {
        let entry = entry.context("listing processes")?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // One that ends meanwhile has nothing.
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let named = names(&words, folder);
        if named || open_files(&entry.path()).iter().any(|file| file.starts_with(folder)) {
            let program = words.split(|byte| *byte == 0).next().unwrap_or_default();
            found.push(format!("the process {pid}, {}", String::from_utf8_lossy(program)));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a command line has a path below this folder.
fn names(words: &[u8], folder: &Path) -> bool {
    let below = [folder.as_os_str().as_bytes(), b"/"].concat();
    words.windows(below.len()).any(|bytes| bytes == below)
}

fn open_files(process: &Path) -> Vec<std::path::PathBuf> {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.filter_map(|file| fs::read_link(file.path()).ok()).collect()
}

/// Sockets with a path, as /proc/net/unix lists them: the last of eight words, or there is none.
fn sockets_below(list: &str, folder: &Path) -> Vec<String> {
    let paths = list.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7));
    let mut below: Vec<_> = paths
        .filter(|path| Path::new(path).starts_with(folder))
        .map(|path| format!("the socket {path}"))
        .collect();
    below.dedup();
    below
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::child::Daemon;

    #[test]
    fn a_process_a_socket_and_a_file_are_found_until_they_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), "worker-1");
        fs::create_dir_all(&paths.folder).unwrap();
        let vm =
            Identity { name: "worker-1".into(), instance: None, macs: vec![], resources: Default::default() };
        let of = || of(&vm, &paths, &[]).unwrap();
        assert_eq!(of(), Vec::<String>::new());

        let argv = ["/bin/sh", "-c", "exec sleep 1000 < \"$0\"", &paths.log.display().to_string()];
        fs::write(&paths.log, "").unwrap();
        let daemon = Daemon::start(&argv.map(String::from), &dir.path().join("log")).unwrap();
        let socket = UnixListener::bind(&paths.control).unwrap();
        fs::write(&paths.secrets, "s3cret").unwrap();
        let left = of();
        assert!(left[0].starts_with(&format!("worker-1: the process {}, ", daemon.pid())), "{left:?}");
        let control = paths.control.display();
        assert!(left.contains(&format!("worker-1: the socket {control}")), "{left:?}");
        assert!(left.contains(&format!("worker-1: the file {control}")), "{left:?}");
        assert!(left.contains(&format!("worker-1: the file {}", paths.secrets.display())), "{left:?}");

        // Another microVM whose name begins alike has none of it.
        let other = Paths::new(dir.path(), "worker");
        assert_eq!(processes(&other.folder).unwrap(), Vec::<String>::new());
        drop((daemon, socket));
        fs::remove_file(&paths.control).unwrap();
        fs::remove_file(&paths.secrets).unwrap();
        assert_eq!(of(), Vec::<String>::new());
    }
}
