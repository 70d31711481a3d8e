//! Pausing the machine from within, so that the host can save it at a moment that the guest chose.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

/// The x86 I/O ports as a file: the offset is the port (mem(4)).
const PORTS: &str = "/dev/port";
/// The port of QEMU's pvpanic device (docs/specs/pvpanic.rst).
const PVPANIC: u64 = 0x505;
/// The event upon which QEMU pauses the machine. The device knows none that is meant for living guests.
const PANICKED: u8 = 1;

/// Pauses the machine; returns when the host has let it go on.
///
/// The write is the last instruction before the pause and time stands still in it, so a guest that was
/// saved there, and continued later or elsewhere, cannot tell. A machine without the device goes on at once.
pub fn pause() -> Result<()> {
    let ports = OpenOptions::new().write(true).open(PORTS).with_context(|| format!("opening {PORTS}"))?;
    ports.write_all_at(&[PANICKED], PVPANIC).with_context(|| format!("writing to {PORTS}"))
}
