//! Keeps QEMU's translator from delivering an interrupt of a microVM twice.
//!
//! A hypervisor injects an interrupt with VMRUN. QEMU delivers it, but leaves it behind as the exception that its
//! processor's loop is about (`exception_index`). Whatever ends the loop next clears that, if it is an exit of the
//! microVM or an exception in it; if it is one of the guest's own timers instead, the loop delivers the interrupt
//! once more, whether the microVM has its interrupts off or not. A kernel that holds the lock its handler takes then
//! waits for itself for ever.
//!
//! So each VMRUN that injects is made to exit at once: two programs at KVM's tracepoints see the injection, and
//! raise an interrupt at this processor where it can no longer be taken before the VMRUN.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

/// The processor's name for a hypervisor that is QEMU's translator (CPUID 0x4000_0000).
const TRANSLATOR: [&[u8; 4]; 3] = [b"TCGT", b"CGTC", b"GTCG"];

/// The calls and types of linux/bpf.h that are used here.
const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const HASH: u32 = 1;
const RAW_TRACEPOINT: u32 = 17;
const UPDATE_ELEMENT: i32 = 2;
const DELETE_ELEMENT: i32 = 3;
const CURRENT_THREAD: i32 = 14;
const SEND_SIGNAL: i32 = 109;

/// More virtual processors than a guest can have.
const PROCESSORS: u32 = 1024;

/// The programs at their tracepoints, for as long as this is kept.
#[derive(Debug)]
pub struct Exits {
    _links: [OwnedFd; 2],
}

/// Makes every VMRUN that injects an interrupt exit at once, where QEMU's translator runs the guest; else nothing
/// is to be done. KVM must be loaded.
pub fn exit_at_once() -> Result<Option<Exits>> {
    if !translated() {
        return Ok(None);
    }
    // Threads that have injected an interrupt and not yet entered their microVM.
    let injected = map().context("BPF_MAP_CREATE")?;
    let links = [
        at(c"kvm_inj_virq", &remember(injected.as_raw_fd())).context("BPF program at kvm_inj_virq")?,
        at(c"kvm_entry", &interrupt(injected.as_raw_fd())).context("BPF program at kvm_entry")?,
    ];
    Ok(Some(Exits { _links: links }))
}

fn translated() -> bool {
    #[allow(unused_unsafe, reason = "older compilers have it unsafe; every x86-64 has CPUID")]
    #[expect(unsafe_code, reason = "CPUID has no effect")]
    let said = unsafe { std::arch::x86_64::__cpuid(0x4000_0000) };
    [said.ebx, said.ecx, said.edx].map(u32::to_le_bytes) == TRANSLATOR.map(|part| *part)
}

/// One instruction of BPF.
const fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    u64::from_le_bytes({
        let ([o0, o1], [v0, v1, v2, v3]) = (offset.to_le_bytes(), value.to_le_bytes());
        [code, from << 4 | to, o0, o1, v0, v1, v2, v3]
    })
}

const fn call(helper: i32) -> u64 {
    op(0x85, 0, 0, 0, helper)
}

const STACK: u8 = 10;
const END: u64 = op(0x95, 0, 0, 0, 0);

/// `[stack - 8] = thread; r1 = map; r2 = stack - 8`
fn key(map: i32) -> [u64; 6] {
    [
        call(CURRENT_THREAD),
        op(0x7b, STACK, 0, -8, 0),
        op(0x18, 1, 1, 0, map),
        0,
        op(0xbf, 2, STACK, 0, 0),
        op(0x07, 2, 0, 0, -8),
    ]
}

/// Notes that this thread has injected: `update(map, &thread, &thread, 0)`.
fn remember(map: i32) -> Vec<u64> {
    let value = [op(0xbf, 3, 2, 0, 0), op(0xb7, 4, 0, 0, 0)];
    [&key(map)[..], &value, &[call(UPDATE_ELEMENT), END]].concat()
}

/// If this thread has: `delete(map, &thread) == 0 && send_signal(0)`. Signal 0 does nothing; but where interrupts
/// are off, as they are here, it is sent from an interrupt that the processor raises at itself.
fn interrupt(map: i32) -> Vec<u64> {
    let unless_deleted = op(0x55, 0, 0, 2, 0);
    let raise = [op(0xb7, 1, 0, 0, 0), call(SEND_SIGNAL)];
    [&key(map)[..], &[call(DELETE_ELEMENT), unless_deleted], &raise, &[END]].concat()
}

fn map() -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Create {
        kind: u32,
        key: u32,
        value: u32,
        entries: u32,
    }
    bpf(MAP_CREATE, &Create { kind: HASH, key: 8, value: 8, entries: PROCESSORS })
}

fn at(tracepoint: &CStr, program: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        program: u64,
        license: u64,
    }
    #[repr(C)]
    struct Open {
        name: u64,
        program: u64,
    }
    let program = bpf(
        PROG_LOAD,
        &Load {
            kind: RAW_TRACEPOINT,
            instructions: program.len() as u32,
            program: program.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
        },
    )?;
    bpf(RAW_TRACEPOINT_OPEN, &Open { name: tracepoint.as_ptr() as u64, program: program.as_raw_fd() as u64 })
}

/// bpf(2); all that is asked of it gives a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "libc has no wrapper of bpf(2)")]
    // SAFETY: the kernel reads as many bytes as it is told, and what they point to lives in the callers; the
    // descriptor is new and nobody else's.
    unsafe {
        match libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd as i32)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_the_instructions_they_are_meant_to_be() {
        let shown = |program: Vec<u64>| program.iter().map(|op| format!("{op:016x}")).collect::<Vec<_>>();
        // Written out from the encoding in RFC 9669.
        let key = [
            "0000000e00000085",
            "00000000fff80a7b",
            "0000000700001118",
            "0000000000000000",
            "000000000000a2bf",
            "fffffff800000207",
        ];
        let remember_rest = ["00000000000023bf", "00000000000004b7", "0000000200000085", "0000000000000095"];
        let interrupt_rest = [
            "0000000300000085",
            "0000000000020055",
            "00000000000001b7",
            "0000006d00000085",
            "0000000000000095",
        ];
        assert_eq!(shown(remember(7)), [&key[..], &remember_rest].concat());
        assert_eq!(shown(interrupt(7)), [&key[..], &interrupt_rest].concat());
    }
}
