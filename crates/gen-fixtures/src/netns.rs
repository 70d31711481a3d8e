//! A node's namespaces: network and host name of its own, under its name in /run/netns as ip-netns(8) does it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;

/// Where ip(8) looks for namespaces by name.
const FOLDER: &str = "/run/netns";

/// The namespaces of a node. Dropped, the name goes, and with the last program in them they and all their
/// links and queueing disciplines.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    network: File,
    host_name: File,
    /// Where its name is; none: these are the machine's own.
    path: Option<PathBuf>,
}

impl Namespace {
    /// Makes the namespaces; IPv6 is off in them, since its chatter would be in every capture.
    pub fn create(name: &str) -> Result<Self> {
        let path = PathBuf::from(FOLDER).join(name);
        fs::create_dir_all(FOLDER).with_context(|| format!("making {FOLDER}"))?;
        File::create(&path).with_context(|| format!("making {}", path.display()))?;
        // Namespaces belong to threads: this one makes them and goes; the open files keep them.
        let make = || -> Result<Self> {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS).context("unshare(2)")?;
            let mut namespaces = Self::own(name)?;
            let own = "/proc/thread-self/ns/net";
            mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("mounting {}", path.display()))?;
            namespaces.path = Some(path.clone());
            Ok(namespaces)
        };
        in_thread(make).with_context(|| format!("making the namespaces of {name}"))
    }

    /// The namespaces in which the caller is, as those of the node that this machine is.
    pub fn own(name: &str) -> Result<Self> {
        sethostname(name).context("sethostname(2)")?;
        for scope in ["all", "default"] {
            without_ipv6(scope)?;
        }
        let open = |kind: &str| {
            let path = format!("/proc/thread-self/ns/{kind}");
            File::open(&path).with_context(|| format!("opening {path}"))
        };
        Ok(Self { name: name.to_owned(), network: open("net")?, host_name: open("uts")?, path: None })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does something inside: what is started or opened there belongs to the node.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.network, CloneFlags::CLONE_NEWNET)
                .and_then(|()| setns(&self.host_name, CloneFlags::CLONE_NEWUTS))
                .with_context(|| format!("entering the namespaces of {}", self.name))?;
            act()
        })
    }

    /// Which of these interfaces have no carrier yet, and so cannot send.
    pub fn without_carrier(&self, interfaces: &[&str]) -> Result<Vec<String>> {
        let running: Vec<String> = self.enter(|| {
            let all = getifaddrs().context("getifaddrs(3)")?;
            let running = all.filter(|address| address.flags.contains(InterfaceFlags::IFF_RUNNING));
            Ok(running.map(|address| address.interface_name).collect())
        })?;
        let waiting = interfaces.iter().filter(|name| !running.iter().any(|up| up == *name));
        Ok(waiting.map(|name| (*name).to_owned()).collect())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = umount2(path, MntFlags::MNT_DETACH);
            let _ = fs::remove_file(path);
        }
    }
}

fn in_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(act).join()).expect("a panic ends the guest by its hook, not here")
}

fn without_ipv6(scope: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
    match fs::write(&path, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("writing {path}")),
    }
}
