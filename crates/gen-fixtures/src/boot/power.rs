//! The end: the machine is switched off, on success and on failure alike.

use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;

/// Writes back what is not written yet and switches the machine off.
///
/// With ACPI, as on q35, QEMU ends. Where the kernel cannot switch off, it is restarted, which ends a QEMU
/// that was started with `-no-reboot` as well.
pub fn off() -> ! {
    sync();
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    println!("fixture-vm: power-off: {error}; restarting instead");
    restart()
}

/// Writes back what is not written yet and restarts the machine, which ends a VMM that was told not to.
pub fn restart() -> ! {
    sync();
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    println!("fixture-vm: restart: {error}");
    std::process::exit(1)
}
