//! What guests side by side may take of this machine: a budget of processors and memory, not a number of guests.

use std::fs;
use std::path::Path;

/// What QEMU takes beside the guest's memory, in MiB: its code, translated code, the share, the image's pages.
const QEMU_MIB: u64 = 192;

/// Processors and memory: what there is, or what one guest takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Processors.
    pub cpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Budget {
    /// What this process may use now: its processors, and the memory that is available to it without swapping.
    pub fn of_machine() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
        let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
        let memory = [system, left_in_cgroup()].into_iter().flatten().min();
        // Where the kernel tells nothing, processors alone decide.
        Self { cpus, memory_mib: memory.map_or(u64::MAX, |bytes| bytes >> 20) }
    }

    /// The most memory that this process can ever have, in MiB: the machine's, or its control group's. None if the
    /// kernel does not tell.
    pub fn most_memory_mib() -> Option<u64> {
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemTotal:"));
        let cgroup = of_cgroup().and_then(|number| number("memory.max"));
        [machine, cgroup].into_iter().flatten().min().map(|bytes| bytes >> 20)
    }

    /// What a guest takes.
    pub fn of_guest(cpus: u8, memory_mib: u32) -> Self {
        Self { cpus: cpus.into(), memory_mib: u64::from(memory_mib) + QEMU_MIB }
    }

    /// How many equal guests fit at once; at least one, since one is always tried.
    pub fn holds(self, guest: Self) -> usize {
        let by = |all: u64, one: u64| all / one.max(1);
        let guests = by(self.cpus, guest.cpus).min(by(self.memory_mib, guest.memory_mib));
        usize::try_from(guests).unwrap_or(usize::MAX).max(1)
    }

    /// Whether a guest fits into what is left.
    pub fn fits(self, guest: Self) -> bool {
        guest.cpus <= self.cpus && guest.memory_mib <= self.memory_mib
    }

    /// What is left with that guest running; one that is larger than the whole budget leaves nothing.
    pub fn without(self, guest: Self) -> Self {
        Self {
            cpus: self.cpus.saturating_sub(guest.cpus),
            memory_mib: self.memory_mib.saturating_sub(guest.memory_mib),
        }
    }
}

/// MemAvailable of /proc/meminfo in bytes.
fn available(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemAvailable:")
}

/// A field of /proc/meminfo (proc_meminfo(5)) in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control group of this process may still take (memory.max less memory.current), in bytes.
fn left_in_cgroup() -> Option<u64> {
    let number = of_cgroup()?;
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// Reads numbers of the control group of this process (cgroup v2).
fn of_cgroup() -> Option<impl Fn(&str) -> Option<u64>> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    // Without a limit the file says `max`, which is no number.
    Some(move |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processors_both_bound_the_guests() {
        let machine = |cpus, memory_mib| Budget { cpus, memory_mib };
        let guest = Budget::of_guest(1, 512);
        assert_eq!(machine(2, 24 << 10).holds(guest), 2);
        assert_eq!(machine(64, 1500).holds(guest), 2);
        assert_eq!(machine(1, 100).holds(guest), 1, "one is always tried");
        assert!(!machine(4, 4096).without(Budget::of_guest(4, 512)).fits(guest));
    }

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24689764 kB\nMemAvailable:   20000000 kB\nBuffers: 1 kB\n";
        assert_eq!(available(text), Some(20_000_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert!(Budget::of_machine().cpus >= 1);
    }
}
