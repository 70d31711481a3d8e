//! Whether the guest's KVM runs the code of microVMs, which a few instructions show.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use super::injection::{self, Exits};
use crate::boot::modules;

/// Where code runs at all, it is done in a small part of this.
const SOON: Duration = Duration::from_secs(5);

/// Loads the modules of KVM, which no other scenario needs, and tries it. The inner error says why it is of no use;
/// what comes with it is to be kept for as long as microVMs run.
pub fn try_kvm(modules: &Path) -> Result<Result<Option<Exits>>> {
    modules::load_all(modules)?;
    let (tell, told) = mpsc::channel();
    // A KVM that never comes back keeps its thread, and nothing else.
    std::thread::spawn(move || _ = tell.send(run_code()));
    let verdict = told.recv_timeout(SOON).context("KVM does not come back from guest code");
    Ok(verdict.and_then(|verdict| verdict).and_then(|()| injection::exit_at_once()))
}

/// `mov al, 42; mov dx, 0x501; out dx, al; hlt`
const CODE: [u8; 7] = [0xb0, ANSWER, 0xba, 0x01, 0x05, 0xee, 0xf4];
const ANSWER: u8 = 42;
const PORT: u16 = 0x501;

/// A processor begins 16 bytes below 4 GiB, in the last page.
const PAGE: usize = 4096;
const LAST_PAGE: u64 = (1 << 32) - PAGE as u64;
const RESET_AT: usize = PAGE - 16;

/// The ioctls and constants of linux/kvm.h that the probe uses.
const KVM: u8 = 0xae;
const EXIT_IO: u32 = 2;
// Those without a pointer take a number all the same, here always 0; they refuse what a register happens to hold.
nix::ioctl_write_int_bad!(create_vm, nix::request_code_none!(KVM, 0x01));
nix::ioctl_write_int_bad!(vcpu_size, nix::request_code_none!(KVM, 0x04));
nix::ioctl_write_int_bad!(create_vcpu, nix::request_code_none!(KVM, 0x41));
nix::ioctl_write_int_bad!(run, nix::request_code_none!(KVM, 0x80));
nix::ioctl_write_ptr!(set_memory, KVM, 0x46, Region);

/// `struct kvm_userspace_memory_region`
#[repr(C)]
pub struct Region {
    slot: u32,
    flags: u32,
    guest_address: u64,
    size: u64,
    host_address: u64,
}

#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Runs [`CODE`] on a processor that has just been switched on, and sees what it says.
#[expect(unsafe_code, reason = "KVM is spoken to by ioctl(2) and a shared mapping")]
fn run_code() -> Result<()> {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm").context("/dev/kvm")?;
    let mut page = Box::new(Page([0xf4; PAGE]));
    page.0[RESET_AT..RESET_AT + CODE.len()].copy_from_slice(&CODE);
    let region = Region {
        slot: 0,
        flags: 0,
        guest_address: LAST_PAGE,
        size: PAGE as u64,
        host_address: page.0.as_mut_ptr() as u64,
    };
    // SAFETY: `page` and `region` outlive the machine, whose descriptors are closed first as they are dropped; the
    // mapping is as large as KVM says, and what is read of it is written by KVM before `run` returns.
    unsafe {
        let own = |fd: i32| File::from_raw_fd(fd);
        let vm = own(create_vm(kvm.as_raw_fd(), 0).context("KVM_CREATE_VM")?);
        set_memory(vm.as_raw_fd(), &raw const region).context("KVM_SET_USER_MEMORY_REGION")?;
        let size = vcpu_size(kvm.as_raw_fd(), 0).context("KVM_GET_VCPU_MMAP_SIZE")? as usize;
        let vcpu = own(create_vcpu(vm.as_raw_fd(), 0).context("KVM_CREATE_VCPU")?);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let state = libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, vcpu.as_raw_fd(), 0);
        ensure!(state != libc::MAP_FAILED, "mapping a processor's state: {}", Errno::last().desc());
        let ran = loop {
            match run(vcpu.as_raw_fd(), 0) {
                Err(Errno::EINTR) => {}
                ran => break ran.context("KVM_RUN"),
            }
        };
        let verdict = ran.and_then(|_| said(std::slice::from_raw_parts(state.cast::<u8>(), size)));
        libc::munmap(state, size);
        verdict
    }
}

/// Reads `struct kvm_run`: the reason of the exit, and what was written to which port.
fn said(state: &[u8]) -> Result<()> {
    let number = |at: usize| u32::from_le_bytes([state[at], state[at + 1], state[at + 2], state[at + 3]]);
    let reason = number(8);
    ensure!(reason == EXIT_IO, "guest code does not run (exit {reason})");
    let port = u16::from_le_bytes([state[34], state[35]]);
    let data = number(40) as usize;
    ensure!(port == PORT && state.get(data) == Some(&ANSWER), "guest code computes wrongly");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(reason: u32, port: u16, data: u8) -> Vec<u8> {
        let mut state = vec![0; 64];
        state[8..12].copy_from_slice(&reason.to_le_bytes());
        state[34..36].copy_from_slice(&port.to_le_bytes());
        state[40] = 48;
        state[48] = data;
        state
    }

    #[test]
    fn only_code_that_ran_and_was_right_counts() {
        assert!(said(&state(EXIT_IO, PORT, ANSWER)).is_ok());
        assert_eq!(
            said(&state(17, PORT, ANSWER)).unwrap_err().to_string(),
            "guest code does not run (exit 17)"
        );
        assert!(said(&state(EXIT_IO, PORT, 41)).is_err());
    }
}
