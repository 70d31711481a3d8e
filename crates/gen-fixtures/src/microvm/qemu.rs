//! The QEMU back end: its `microvm` machine, in which every device is virtio over MMIO.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fixture::pool::Paths;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;

use super::backend::{Accelerator, Backend, Spec, console};
use super::line::Line;
use super::qmp::Qmp;
use super::tap::{self, Tap};
use crate::child::Daemon;
use crate::clock;
use crate::netns::Namespace;

/// The first port of the virtio console, to which a message is one exit and not one for each byte.
const CHANNEL: &str = "/dev/vport0p1";

/// How long QEMU may take until its control socket is there.
const STARTED: Duration = Duration::from_secs(60);

/// How long QEMU may take to say that it is there.
const ANSWERS: Duration = Duration::from_secs(5);

/// How long a microVM may take to be written to memory or read from it.
const MOVED: Duration = Duration::from_secs(300);

/// QEMU.
#[derive(Debug)]
pub struct Qemu {
    /// The program.
    pub program: String,
    /// What runs the code of its guests.
    pub accelerator: Accelerator,
}

impl Backend for Qemu {
    fn name(&self) -> &'static str {
        "qemu-microvm"
    }

    fn words(&self) -> String {
        // Without a power button or a keyboard controller a triple fault is what ends a VMM.
        format!("reboot=t fixture.agent={CHANNEL}")
    }

    fn line(&self, paths: &Paths) -> Line {
        Line { socket: paths.agent.clone(), port: None }
    }

    fn tap<'a>(&self, node: &'a Namespace, port: &'a str) -> Result<Tap<'a>> {
        tap::attach(node, port)
    }

    fn start(&self, spec: Spec<'_>) -> Result<Daemon> {
        self.run(&spec, &[])
    }

    fn pause(&self, paths: &Paths) -> Result<()> {
        Qmp::connect(&paths.control)?.execute("stop", &json!({}))?;
        Ok(())
    }

    fn resume(&self, paths: &Paths) -> Result<()> {
        Qmp::connect(&paths.control)?.execute("cont", &json!({}))?;
        Ok(())
    }

    fn save(&self, paths: &Paths) -> Result<()> {
        let mut qmp = Qmp::connect(&paths.control)?;
        let uri = format!("file:{}", paths.snapshot.display());
        qmp.execute("migrate", &json!({ "uri": uri }))?;
        moved(&mut qmp).context("saving it")
    }

    fn restore(&self, spec: Spec<'_>) -> Result<Daemon> {
        let daemon = self.run(&spec, &["-S", "-incoming", "defer"])?;
        let mut qmp = Qmp::connect(&spec.paths.control)?;
        let uri = format!("file:{}", spec.paths.snapshot.display());
        // One that ended for what it cannot read would not say what that is.
        qmp.execute("migrate-incoming", &json!({ "uri": uri, "exit-on-error": false }))?;
        // What exactly it cannot read, QEMU says in its log alone.
        let moved = moved(&mut qmp).with_context(|| daemon.log().trim().to_owned());
        moved.context("restoring it")?;
        Ok(daemon)
    }

    fn answers(&self, paths: &Paths) -> bool {
        Qmp::connect_within(&paths.control, ANSWERS).is_ok()
    }
}

impl Qemu {
    fn run(&self, spec: &Spec<'_>, more: &[&str]) -> Result<Daemon> {
        for socket in [&spec.paths.control, &spec.paths.agent] {
            // A VMM that was killed has left its own behind.
            let _ = fs::remove_file(socket);
        }
        for tap in spec.taps.iter().filter_map(|tap| tap.file.as_ref()) {
            // QEMU inherits it; this process closes its own when the specification is dropped.
            fcntl(tap, FcntlArg::F_SETFD(FdFlag::empty())).context("passing a TAP on")?;
        }
        let mut argv = arguments(&self.program, self.accelerator, spec);
        argv.extend(more.iter().map(|word| (*word).to_owned()));
        let mut daemon = Daemon::start(&argv, &spec.paths.log)?;
        clock::wait_until(STARTED, Duration::from_millis(5), || {
            daemon.check()?;
            let there = spec.paths.control.exists() && spec.paths.agent.exists();
            Ok(if there { Ok(()) } else { Err("QEMU does not listen".to_owned()) })
        })?;
        Ok(daemon)
    }
}

/// Waits until a migration has ended.
fn moved(qmp: &mut Qmp) -> Result<()> {
    clock::wait_until(MOVED, Duration::from_millis(5), || {
        let said = qmp.execute("query-migrate", &json!({}))?;
        match said["status"].as_str() {
            Some("completed") => Ok(Ok(())),
            Some("failed" | "cancelled") => {
                bail!("{}", said["error-desc"].as_str().unwrap_or("QEMU does not say why"))
            }
            status => Ok(Err(format!("its memory is still moving ({status:?})"))),
        }
    })
}

/// The command line: nothing in it depends on anything but the microVM and its place.
fn arguments(program: &str, accelerator: Accelerator, spec: &Spec<'_>) -> Vec<String> {
    let resources = spec.identity.resources;
    let mut argv = vec![program.to_owned()];
    let mut words = |text: &str| argv.extend(text.split(' ').map(str::to_owned));
    words("-no-user-config -nodefaults -display none -no-reboot");
    words(&format!("-M microvm,acpi=on,rtc=off,pit=off,pic=off,accel={}", accelerator.name()));
    words(match accelerator {
        Accelerator::Kvm => "-cpu host",
        Accelerator::Tcg => "-cpu qemu64",
    });
    words(&format!("-smp {} -m {}M -bios qboot.rom", resources.vcpus, resources.mem_mib));
    let paths = spec.paths;
    words(&format!("-chardev file,id=console,append=on,path={}", console(paths).display()));
    words("-serial chardev:console");
    for (id, socket) in [("control", &paths.control), ("agent", &paths.agent)] {
        words(&format!("-chardev socket,id={id},server=on,wait=off,path={}", socket.display()));
    }
    words("-mon chardev=control,mode=control");
    words("-device virtio-serial-device -device virtserialport,chardev=agent,name=agent");
    drive("root", &spec.boot.root, true, &mut words);
    drive("config", &paths.config, true, &mut words);
    drive("secrets", &paths.secrets, true, &mut words);
    if resources.data_disk_mib > 0 {
        drive("data", &paths.data, false, &mut words);
    }
    let taps = spec.taps.iter().filter_map(|tap| tap.file.as_ref());
    for (at, (tap, mac)) in taps.zip(&spec.identity.macs).enumerate() {
        words(&format!("-netdev tap,id=port{at},fd={}", tap.as_raw_fd()));
        words(&format!("-device virtio-net-device,netdev=port{at},mac={mac}"));
    }
    words(&format!("-kernel {} -initrd {}", spec.boot.kernel.display(), spec.boot.initramfs.display()));
    argv.extend(["-append".into(), spec.boot.cmdline.clone()]);
    argv
}

fn drive(id: &str, file: &Path, read_only: bool, words: &mut impl FnMut(&str)) {
    let mode = if read_only { "on" } else { "off" };
    words(&format!("-drive if=none,id={id},format=raw,readonly={mode},file={}", file.display()));
    words(&format!("-device virtio-blk-device,drive={id}"));
}

#[cfg(test)]
mod tests {
    use fixture::pool::{Identity, Resources};

    use super::super::backend::Boot;
    use super::*;

    #[test]
    fn the_command_line_of_a_microvm() {
        let identity = Identity {
            name: "gm".into(),
            instance: None,
            macs: vec!["02:00:00:00:00:01".parse().unwrap()],
            resources: Resources { data_disk_mib: 4, ..Resources::default() },
        };
        let paths = Paths::new(Path::new("/run/fixture-vm/microvm"), "gm");
        let boot = Boot {
            kernel: "/vmlinux".into(),
            initramfs: "/initramfs".into(),
            root: "/dev/pmem0".into(),
            cmdline: "quiet".into(),
        };
        let spec = Spec { identity: &identity, paths: &paths, boot: &boot, taps: vec![] };
        let argv = arguments("qemu", Accelerator::Kvm, &spec);
        insta::assert_snapshot!(argv.join(" ").replace(" -", "\n-"));
    }
}
