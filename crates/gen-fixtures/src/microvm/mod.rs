//! MicroVMs in the guest: nodes with a kernel, a clock and a life of their own.
//!
//! [`backend`] is what a VMM can do, [`qemu`] and [`firecracker`] do it; [`choice`] says which of them does here, from
//! what [`accel`] has tried; [`injection`] mends how QEMU's translator interrupts them. [`image`] and [`initramfs`] are
//! what they boot, [`tap`] and [`drives`] what they are wired to, [`link`] is how their agents are spoken with, over a
//! [`mod@line`].
//! [`evidence`] is what is asked of them beyond what their daemons have seen. [`leftover`] is what of a VMM outlives it
//! or its manager, [`leaks`] and [`secrets`] see that nothing of it does that must not. [`health`] looks after those
//! that run.
//! [`machines`] puts these together for the manager of `pools`, [`course`] is the scenario's part in that, and
//! [`lives`] is what a run sees of it all.

mod accel;
mod backend;
mod choice;
mod course;
mod drives;
mod evidence;
mod fault;
mod firecracker;
mod health;
mod image;
mod initramfs;
mod injection;
mod leaks;
mod leftover;
mod line;
pub mod link;
mod lives;
mod machines;
mod qemu;
mod qmp;
pub mod secrets;
mod snapshot;
mod tap;

pub use self::fault::Fault;
pub use self::lives::MicroVms;
