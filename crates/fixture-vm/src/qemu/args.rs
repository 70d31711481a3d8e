//! QEMU's arguments: a pure function of the machine and the files of the run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use fixture::contract::{handover, input};
use fixture::scenario::Clock;
use serde::{Deserialize, Serialize};

use crate::accel::Accelerator;

/// The file descriptor under which QEMU finds its end of the monitor's socket.
pub const MONITOR_FD: i32 = 3;

/// The name of the drive that saved guests are in.
const SAVED_DRIVE: &str = "saved";

/// The name a guest is saved under: it is ready for the scenario.
pub const SAVED_AS: &str = "ready";

/// When the guest's real-time clock begins on the virtual clock.
const EPOCH: &str = "2026-01-01T00:00:00";

/// What kind of machine is booted: everything but the paths of this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Which clock the guest sees.
    pub clock: Clock,
    /// What runs the guest's code.
    pub accelerator: Accelerator,
    /// Guest memory in MiB, the root's mapping not counted.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u8,
    /// The image's kernel command line.
    pub cmdline: String,
    /// Size of the root's image in bytes.
    pub root_size: u64,
    /// A fault for the guest to run into, as tests ask for it.
    pub fault: Option<String>,
}

/// The files QEMU is given.
#[derive(Debug, Clone)]
pub struct Files {
    /// Firmware.
    pub firmware: PathBuf,
    /// Uncompressed kernel with a PVH entry, or a bzImage.
    pub kernel: PathBuf,
    /// Initramfs.
    pub initramfs: PathBuf,
    /// Root: the overlay on the real clock, the image itself, mapped privately, on the virtual one.
    pub root: PathBuf,
    /// Where the first serial port is written.
    pub console: PathBuf,
    /// Where the second serial port is written.
    pub events: PathBuf,
    /// The scenario for fw_cfg.
    pub scenario: PathBuf,
    /// The nonce for fw_cfg.
    pub nonce: PathBuf,
    /// The folder shared over 9p.
    pub share: PathBuf,
    /// Where the guest can be saved, or is continued from.
    pub saved: Option<Saved>,
    /// What becomes of the log of everything that reaches the guest; the virtual clock only.
    pub log: Log,
}

/// QEMU's log of a run, from which it can run again instruction by instruction.
#[derive(Debug, Clone, Default)]
pub enum Log {
    /// Written for the sake of the clock, and thrown away.
    #[default]
    Discarded,
    /// Kept in this file; [`Saved`] must be given and gets the machine at its first instruction.
    Kept(PathBuf),
    /// Read from this file; [`Saved`] must be given as the recording left it.
    Replayed {
        /// The file.
        log: PathBuf,
        /// Where a debugger can connect, as `-gdb` takes it; the machine then waits for its word.
        debugger: Option<OsString>,
    },
}

/// The name under which a recording saves the machine at its first instruction.
const SAVED_AT_START: &str = "start";

/// A qcow2 file for a saved guest. The guest does not see it.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The file.
    pub disk: PathBuf,
    /// Whether a guest is in it, to be continued.
    pub resume: bool,
}

impl Files {
    /// Names in place of paths: what is the same in every run.
    pub fn named() -> Self {
        let name = |name: &str| PathBuf::from(format!("<{name}>"));
        Self {
            firmware: name("firmware"),
            kernel: name("kernel"),
            initramfs: name("initramfs"),
            root: name("root"),
            console: name("console"),
            events: name("events"),
            scenario: name("scenario"),
            nonce: name("nonce"),
            share: name("share"),
            saved: None,
            log: Log::Discarded,
        }
    }
}

/// The arguments, without the program's name.
pub fn arguments(machine: &Machine, files: &Files) -> Vec<OsString> {
    let mut args = Arguments(Vec::new());
    args.words("-no-user-config -nodefaults -display none -no-reboot");
    // In a replay nothing but a debugger stops the guest.
    let panic = if let Log::Replayed { .. } = files.log { "none" } else { "pause" };
    args.words(&format!("-action panic={panic}"));
    args.words("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    processor_and_clock(machine, &files.log, &mut args);
    boot(machine, files, &mut args);
    root(machine, files, &mut args);
    // Serial ports backed by files are written as the guest writes, so they disturb no clock. What a saved
    // guest had written is there already.
    args.option("-chardev", "file,id=console,append=on,path=", &files.console, "");
    args.option("-chardev", "file,id=events,append=on,path=", &files.events, "");
    args.words("-serial chardev:console -serial chardev:events");
    args.words(&format!("-chardev socket,id=qmp,fd={MONITOR_FD} -mon chardev=qmp,mode=control"));
    args.words("-device pvpanic");
    args.option("-fw_cfg", &format!("name={},file=", input::SCENARIO_KEY), &files.scenario, "");
    args.option("-fw_cfg", &format!("name={},file=", input::NONCE_KEY), &files.nonce, "");
    args.option("-fsdev", "local,id=share,security_model=none,multidevs=remap,path=", &files.share, "");
    args.words(&format!("-device virtio-9p-pci,fsdev=share,mount_tag={}", handover::SHARE_TAG));
    if let Some(saved) = &files.saved {
        // What is lost in a crash of the host is made again.
        let before = format!("if=none,id={SAVED_DRIVE},format=qcow2,cache=unsafe,file=");
        args.option("-drive", &before, &saved.disk, "");
        if saved.resume {
            args.words(&format!("-loadvm {SAVED_AS}"));
        }
    }
    args.0
}

fn processor_and_clock(machine: &Machine, log: &Log, args: &mut Arguments) {
    let nvdimm = if machine.clock == Clock::Virtual { ",nvdimm=on" } else { "" };
    args.words(&format!("-M q35,smm=off,usb=off,sata=off{nvdimm}"));
    args.words(&format!("-smp {} -accel {}", machine.cpus, machine.accelerator.name()));
    match machine.accelerator {
        Accelerator::Kvm => args.words("-cpu host"),
        // A named model: `max` would change with QEMU and `host` with the machine.
        Accelerator::Tcg => args.words("-cpu qemu64"),
    }
    match machine.clock {
        Clock::Real => args.words(&format!("-m {}M", machine.memory_mib)),
        Clock::Virtual => {
            let most = u64::from(machine.memory_mib) + machine.root_size.div_ceil(1 << 20);
            args.words(&format!("-m {}M,slots=1,maxmem={most}M", machine.memory_mib));
            count_instructions(log, args);
            // The seed of the run comes with the scenario: up to there all runs of an image are one.
            args.words(&format!("-rtc base={EPOCH},clock=vm -seed 1"));
        }
    }
}

/// Recording holds the lock that makes an idle guest's clock exact, whether the log itself is kept or not.
fn count_instructions(log: &Log, args: &mut Arguments) {
    let option = |mode: &str| format!("shift=0,sleep=off,rr={mode},rrfile=");
    let snapshot = format!(",rrsnapshot={SAVED_AT_START}");
    match log {
        Log::Discarded => args.option("-icount", &option("record"), Path::new("/dev/null"), ""),
        Log::Kept(log) => args.option("-icount", &option("record"), log, &snapshot),
        Log::Replayed { log, debugger } => {
            args.option("-icount", &option("replay"), log, &snapshot);
            if let Some(debugger) = debugger {
                args.0.extend(["-S".into(), "-gdb".into(), debugger.clone()]);
            }
        }
    }
}

fn boot(machine: &Machine, files: &Files, args: &mut Arguments) {
    args.path("-bios", &files.firmware);
    args.path("-kernel", &files.kernel);
    args.path("-initrd", &files.initramfs);
    let device = if machine.clock == Clock::Virtual { "/dev/pmem0" } else { "/dev/vda" };
    let mut cmdline = format!("console=ttyS0 panic=-1 {} fixture.root={device}", machine.cmdline);
    if machine.clock == Clock::Virtual {
        cmdline += " nokaslr";
    }
    if machine.accelerator == Accelerator::Tcg && machine.cpus == 1 {
        // Calibrating the local APIC's timer and watching the TSC cost half of a boot; the HPET is as exact.
        cmdline += " nolapic_timer tsc=reliable";
    }
    if let Some(fault) = &machine.fault {
        cmdline += &format!(" fixture.fault={fault}");
    }
    args.0.extend(["-append".into(), cmdline.into()]);
}

fn root(machine: &Machine, files: &Files, args: &mut Arguments) {
    match machine.clock {
        Clock::Real => {
            args.option("-drive", "if=none,id=root,format=qcow2,file=", &files.root, "");
            args.words("-device virtio-blk-pci,drive=root");
        }
        Clock::Virtual => {
            // Plain memory to the guest: reading it is synchronous, writing it stays in this process.
            let size = format!(",size={},share=off,readonly=on,rom=off", machine.root_size);
            args.option("-object", "memory-backend-file,id=root,mem-path=", &files.root, &size);
            args.words("-device nvdimm,id=root-device,memdev=root,unarmed=off");
        }
    }
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn words(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(OsString::from));
    }

    fn path(&mut self, flag: &str, path: &Path) {
        self.0.extend([flag.into(), path.into()]);
    }

    /// An option with a path in it: QEMU takes a doubled comma for a comma.
    fn option(&mut self, flag: &str, before: &str, path: &Path, after: &str) {
        let mut value = OsString::from(before);
        value.push(doubled_commas(path.as_os_str()));
        value.push(after);
        self.0.extend([flag.into(), value]);
    }
}

fn doubled_commas(text: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let double = |byte: &u8| if *byte == b',' { vec![b',', b','] } else { vec![*byte] };
    OsString::from_vec(text.as_bytes().iter().flat_map(double).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(clock: Clock) -> Machine {
        Machine {
            clock,
            accelerator: Accelerator::Tcg,
            memory_mib: 512,
            cpus: 1,
            cmdline: "quiet fixture.rootfstype=erofs".into(),
            root_size: 32 << 20,
            fault: None,
        }
    }

    /// One option a line.
    fn shown(args: &[OsString]) -> String {
        let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        words.join(" ").replace(" -", "\n-")
    }

    #[test]
    fn the_virtual_clock_lets_nothing_asynchronous_in() {
        insta::assert_snapshot!(shown(&arguments(&machine(Clock::Virtual), &Files::named())));
    }

    #[test]
    fn the_real_clock_has_a_disk_with_an_overlay() {
        insta::assert_snapshot!(shown(&arguments(&machine(Clock::Real), &Files::named())));
    }

    #[test]
    fn a_saved_guest_is_continued_on_the_same_machine() {
        let saved =
            |resume| Files { saved: Some(Saved { disk: "<saved>".into(), resume }), ..Files::named() };
        let cold = arguments(&machine(Clock::Virtual), &Files::named());
        let saving = arguments(&machine(Clock::Virtual), &saved(false));
        let warm = arguments(&machine(Clock::Virtual), &saved(true));
        assert!(saving.starts_with(&cold) && warm.starts_with(&saving));
        insta::assert_snapshot!(shown(&warm[cold.len()..]));
    }

    #[test]
    fn a_replay_differs_in_the_log_alone() {
        let saved = Some(Saved { disk: "<saved>".into(), resume: false });
        let with = |log| {
            shown(&arguments(
                &machine(Clock::Virtual),
                &Files { saved: saved.clone(), log, ..Files::named() },
            ))
        };
        let kept = with(Log::Kept("<log>".into()));
        let replayed =
            with(Log::Replayed { log: "<log>".into(), debugger: Some("unix:<gdb>,server=on".into()) });
        let only = |of: &str, in_other: &str| {
            of.lines()
                .filter(|line| !in_other.lines().any(|other| other == *line))
                .collect::<Vec<_>>()
                .join("\n")
        };
        insta::assert_snapshot!(format!("{}\n\n{}", only(&kept, &replayed), only(&replayed, &kept)));
    }

    #[test]
    fn every_device_of_the_virtual_clock_is_known_to_be_synchronous_or_unused_until_the_hand_over() {
        let words = arguments(&machine(Clock::Virtual), &Files::named());
        let after = |flag: &'static str| {
            words
                .windows(2)
                .filter(move |pair| pair[0] == flag)
                .map(|pair| pair[1].to_string_lossy().into_owned())
        };
        let devices: Vec<_> =
            after("-device").map(|words| words.split(',').next().unwrap().to_owned()).collect();
        assert_eq!(devices, ["nvdimm", "pvpanic", "virtio-9p-pci"].map(String::from).to_vec());
        for flag in ["-netdev", "-nic", "-drive", "-blockdev", "-monitor"] {
            assert_eq!(after(flag).next(), None);
        }
        assert!(after("-chardev").all(|words| words.starts_with("file,") || words.contains("id=qmp")));
    }

    #[test]
    fn commas_in_paths_stay_in_paths() {
        let files = Files { share: "/a,b/share, of one".into(), ..Files::named() };
        let args = arguments(&machine(Clock::Real), &files);
        let share = args.iter().find(|arg| arg.to_string_lossy().contains("/a")).unwrap();
        assert!(share.to_string_lossy().ends_with("path=/a,,b/share,, of one"), "{share:?}");
    }
}
