//! QEMU's arguments: a pure function of the machine and the files of the run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use fixture::contract::{handover, input};
use fixture::scenario::Clock;
use serde::{Deserialize, Serialize};

use super::accelerator::Accelerator;

/// The file descriptor under which QEMU finds its end of the monitor's socket.
pub const MONITOR_FD: i32 = 3;

/// Where QEMU finds its ends of the serial ports' sockets, if they are [`Ports::Sockets`].
pub const PORT_FDS: [i32; 2] = [4, 5];

/// The name of the drive that saved guests are in.
const SAVED_DRIVE: &str = "saved";

/// The name a guest is saved under.
pub const SAVED_AS: &str = "saved";

/// The processor of a guest with microVMs: TCG translates SVM with nested paging (and no VMX), so that the
/// guest's own KVM runs them. The state of QEMU's random numbers is not in a saved guest, so RDRAND and RDSEED would
/// give one that is continued other numbers than a cold boot. What TCG lacks of the model is left out of it, lest QEMU
/// warn of each.
const NESTING_MODEL: &str =
    "EPYC,+svm,-rdrand,-rdseed,-fxsr-opt,-misalignsse,-osvw,-topoext,-nrip-save,-xsavec,-umip";

/// The name a guest is saved under at its end, to be looked into.
pub const KEPT_AS: &str = "kept";

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
    /// Whether the guest runs microVMs.
    pub microvms: bool,
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
    /// The network for fw_cfg.
    pub network: PathBuf,
    /// The course for fw_cfg.
    pub course: PathBuf,
    /// The nonce for fw_cfg.
    pub nonce: PathBuf,
    /// The folder shared over 9p.
    pub share: PathBuf,
    /// Where the guest can be saved, or is continued from.
    pub saved: Option<Saved>,
    /// What becomes of the log of everything that reaches the guest; the virtual clock only.
    pub log: Log,
    /// Where the serial ports lead.
    pub ports: Ports,
}

/// Where the two serial ports lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ports {
    /// Into [`Files::console`] and [`Files::events`]: written as the guest writes, so they disturb no clock.
    #[default]
    Files,
    /// To sockets that QEMU is given as [`PORT_FDS`], for someone to talk with the guest. Idle time then passes as
    /// it does for people.
    Sockets,
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
    /// The file that QEMU writes to.
    pub disk: PathBuf,
    /// The file with the guest in it, if `disk` is an empty overlay over its bytes: QEMU writes to the disk that it
    /// reads a guest from, and what it writes is gone with the run.
    pub over: Option<PathBuf>,
    /// The name of the guest in it that is to be continued.
    pub resume: Option<&'static str>,
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
            network: name("network"),
            course: name("course"),
            nonce: name("nonce"),
            share: name("share"),
            saved: None,
            log: Log::Discarded,
            ports: Ports::Files,
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
    processor_and_clock(machine, files, &mut args);
    boot(machine, files, &mut args);
    root(machine, files, &mut args);
    match files.ports {
        // What a saved guest had written is there already.
        Ports::Files => {
            args.option("-chardev", "file,id=console,append=on,path=", &files.console, "");
            args.option("-chardev", "file,id=events,append=on,path=", &files.events, "");
        }
        Ports::Sockets => {
            let [console, events] = PORT_FDS;
            args.words(&format!(
                "-chardev socket,id=console,fd={console} -chardev socket,id=events,fd={events}"
            ));
        }
    }
    args.words("-serial chardev:console -serial chardev:events");
    args.words(&format!("-chardev socket,id=qmp,fd={MONITOR_FD} -mon chardev=qmp,mode=control"));
    args.words("-device pvpanic");
    args.option("-fw_cfg", &format!("name={},file=", input::NETWORK_KEY), &files.network, "");
    args.option("-fw_cfg", &format!("name={},file=", input::COURSE_KEY), &files.course, "");
    args.option("-fw_cfg", &format!("name={},file=", input::NONCE_KEY), &files.nonce, "");
    args.option(
        "-fsdev",
        "local,id=share,security_model=mapped-file,multidevs=remap,path=",
        &files.share,
        "",
    );
    args.words(&format!("-device virtio-9p-pci,fsdev=share,mount_tag={}", handover::SHARE_TAG));
    if let Some(saved) = &files.saved {
        // What is lost in a crash of the host is made again.
        let drive = format!("if=none,id={SAVED_DRIVE},format=qcow2,cache=unsafe,");
        match &saved.over {
            None => args.option("-drive", &(drive + "file="), &saved.disk, ""),
            Some(saved_in) => {
                let before = drive + "file.driver=qcow2,file.file.driver=file,file.file.filename=";
                args.option("-drive", &before, &saved.disk, "");
                args.more(
                    ",file.backing.driver=raw,file.backing.file.driver=file,file.backing.file.filename=",
                    saved_in,
                );
            }
        }
        if let Some(name) = saved.resume {
            args.words(&format!("-loadvm {name}"));
        }
    }
    args.0
}

fn processor_and_clock(machine: &Machine, files: &Files, args: &mut Arguments) {
    let nvdimm = if machine.clock == Clock::Virtual { ",nvdimm=on" } else { "" };
    args.words(&format!("-M q35,smm=off,usb=off,sata=off{nvdimm}"));
    args.words(&format!("-smp {} -accel {}", machine.cpus, machine.accelerator.name()));
    match machine.accelerator {
        Accelerator::Kvm => args.words("-cpu host"),
        // A named model: `max` would change with QEMU and `host` with the machine.
        Accelerator::Tcg if machine.microvms => args.words(&format!("-cpu {NESTING_MODEL}")),
        Accelerator::Tcg => args.words("-cpu qemu64"),
    }
    match machine.clock {
        Clock::Real => args.words(&format!("-m {}M", machine.memory_mib)),
        Clock::Virtual => {
            let most = u64::from(machine.memory_mib) + machine.root_size.div_ceil(1 << 20);
            args.words(&format!("-m {}M,slots=1,maxmem={most}M", machine.memory_mib));
            count_instructions(files, args);
            // The seed of the run comes with the scenario: up to there all runs of an image are one.
            args.words(&format!("-rtc base={EPOCH},clock=vm -seed 1"));
        }
    }
}

/// Recording holds the lock that makes an idle guest's clock exact, whether the log itself is kept or not.
fn count_instructions(files: &Files, args: &mut Arguments) {
    let sleep = if files.ports == Ports::Sockets { "on" } else { "off" };
    let option = |mode: &str| format!("shift=0,sleep={sleep},rr={mode},rrfile=");
    let snapshot = format!(",rrsnapshot={SAVED_AT_START}");
    match &files.log {
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
    if machine.microvms && machine.accelerator == Accelerator::Tcg {
        // A translated processor leaks nothing, and each exit of a microVM would pay for the precautions.
        cmdline += " mitigations=off";
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

    /// Another path in the last option.
    fn more(&mut self, before: &str, path: &Path) {
        if let Some(option) = self.0.last_mut() {
            option.push(before);
            option.push(doubled_commas(path.as_os_str()));
        }
    }
}

fn doubled_commas(text: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let double = |byte: &u8| if *byte == b',' { vec![b',', b','] } else { vec![*byte] };
    OsString::from_vec(text.as_bytes().iter().flat_map(double).collect())
}

#[cfg(test)]
mod tests;
