//! QEMU: its arguments as a pure function of the machine, its process as a guard, its monitor.

pub mod accelerator;
pub mod args;
pub mod binary;
pub mod identity;
pub mod monitor;
pub mod process;
