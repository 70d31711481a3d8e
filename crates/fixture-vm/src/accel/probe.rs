//! The KVM probe: a firmware that enters long mode, computes with SSE2, counts, and reports by its exit code.
//!
//! A device that opens and a machine that is created prove nothing: some hosts then stop at the guest's
//! first instruction, with QEMU waiting for ever. Guest code that ran and left a result does prove it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use fixture::printable::QUOTE;

use crate::exit::Interrupted;
use crate::interrupt::Interrupt;
use crate::qemu::args::MONITOR_FD;
use crate::qemu::monitor::Notice;
use crate::qemu::process::Running;

/// What the probe found.
pub enum Kvm {
    /// Guest code ran.
    Works,
    /// It did not; why.
    Unusable(String),
}

/// Where code runs at all it is done in a quarter of this.
const DEADLINE: Duration = Duration::from_millis(1500);

/// QEMU's exit code when the firmware wrote 42 to isa-debug-exit: twice the value plus one.
const RAN: i32 = 85;

/// Runs the probe under KVM.
pub fn kvm(qemu: &Path, scratch: &Path) -> Result<Kvm> {
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Kvm::Unusable(format!("/dev/kvm: {error}")));
    }
    let image = scratch.join("probe.rom");
    fs::write(&image, firmware()).context("writing the KVM probe")?;
    let fixed = "-M microvm -accel kvm -m 8 -no-user-config -nodefaults -display none \
                 -device isa-debug-exit,iobase=0x501,iosize=1 -mon chardev=qmp,mode=control";
    let mut args: Vec<OsString> = fixed.split_whitespace().map(OsString::from).collect();
    args.extend(["-chardev".into(), format!("socket,id=qmp,fd={MONITOR_FD}").into()]);
    args.extend(["-bios".into(), image.into()]);
    let mut running = match Running::start(qemu, &args, &scratch.join("probe.stderr")) {
        Ok(running) => running,
        Err(error) if error.is::<Interrupted>() => return Err(error),
        Err(error) => return Ok(Kvm::Unusable(in_one_line(&format!("{error:#}")))),
    };
    let interrupt = Interrupt::of_process();
    let deadline = Instant::now() + DEADLINE;
    let verdict = loop {
        interrupt.check()?;
        for notice in running.listen(Duration::from_millis(20))? {
            if let Notice::Paused(state) = notice {
                return Ok(Kvm::Unusable(format!("the guest stopped at once ({state:?})")));
            }
        }
        if let Some(status) = running.ended()? {
            break match status.code() {
                Some(RAN) => Kvm::Works,
                _ => Kvm::Unusable(in_one_line(&format!("QEMU ended ({status}){}", running.words()))),
            };
        }
        if Instant::now() > deadline {
            break Kvm::Unusable("guest code does not run (no result and no error)".into());
        }
    };
    Ok(verdict)
}

/// A message and the first of QEMU's words.
fn in_one_line(text: &str) -> String {
    text.lines().take(2).collect::<Vec<_>>().join(" ").replace(QUOTE, "")
}

/// Offset of the code in the firmware, which fills the last 64 KiB below 4 GiB.
const CODE_AT: usize = 0xe000;
/// The reset vector, 16 bytes below 4 GiB: a jump to the code.
const RESET_AT: usize = 0xfff0;
const RESET: [u8; 3] = [0xe9, 0x0d, 0xe0];

/// The probe as QEMU loads it.
fn firmware() -> Vec<u8> {
    let mut image = vec![0; 0x10000];
    image[CODE_AT..CODE_AT + CODE.len()].copy_from_slice(&CODE);
    image[RESET_AT..RESET_AT + RESET.len()].copy_from_slice(&RESET);
    image
}

#[rustfmt::skip]
const CODE: [u8; 246] = [
    // Real mode: load the GDT below, set CR0.PE, jump to 32-bit code.
    0xfa, 0x2e, 0x66, 0x0f, 0x01, 0x16, 0xf0, 0xe0, 0x0f, 0x20, 0xc0, 0x66, 0x83, 0xc8, 0x01, 0x0f,
    0x22, 0xc0, 0x66, 0xea, 0x1a, 0xe0, 0xff, 0xff, 0x08, 0x00,
    // Protected mode: data segments and a stack.
    0xb8, 0x10, 0x00, 0x00, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x90, 0x00, 0x00,
    // Page tables at 0x1000 to 0x6fff: the first 2 MiB and the last 2 MiB below 4 GiB, mapped to themselves.
    0x31, 0xc0, 0xbf, 0x00, 0x10, 0x00, 0x00, 0xb9, 0x00, 0x18, 0x00, 0x00, 0xfc, 0xf3, 0xab,
    0xc7, 0x05, 0x00, 0x10, 0x00, 0x00, 0x03, 0x20, 0x00, 0x00,
    0xc7, 0x05, 0x00, 0x20, 0x00, 0x00, 0x03, 0x30, 0x00, 0x00,
    0xc7, 0x05, 0x18, 0x20, 0x00, 0x00, 0x03, 0x40, 0x00, 0x00,
    0xc7, 0x05, 0x00, 0x30, 0x00, 0x00, 0x83, 0x00, 0x00, 0x00,
    0xc7, 0x05, 0xf8, 0x4f, 0x00, 0x00, 0x83, 0x00, 0xe0, 0xff,
    // CR3, CR4.{PAE,OSFXSR,OSXMMEXCPT}, EFER.LME, CR0.{PG,MP,PE}, jump to 64-bit code.
    0xb8, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xe0, 0x0d, 0x20, 0x06, 0x00, 0x00,
    0x0f, 0x22, 0xe0, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x0d, 0x00, 0x01, 0x00, 0x00, 0x0f,
    0x30, 0x0f, 0x20, 0xc0, 0x83, 0xe0, 0xfb, 0x0d, 0x03, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0,
    0xea, 0xa1, 0xe0, 0xff, 0xff, 0x18, 0x00,
    // Long mode: 21 + 21 with SSE2, into EBX.
    0x66, 0x0f, 0xef, 0xc9, 0xb8, 0x15, 0x00, 0x00, 0x00, 0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0xd4,
    0xc0, 0x66, 0x0f, 0xfb, 0xc1, 0x66, 0x0f, 0x7e, 0xc3,
    // Count two million down to 0, write BL to port 0x501, halt for ever.
    0xb9, 0x80, 0x84, 0x1e, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0x88, 0xd8, 0x66, 0xba, 0x01, 0x05, 0xee,
    0xf4, 0xeb, 0xfd, 0x8d, 0x74, 0x00,
    // GDT: null, flat 32-bit code, flat data, 64-bit code; then its limit and address.
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xcf, 0x00,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xaf, 0x00,
    0x1f, 0x00, 0xd0, 0xe0, 0xff, 0xff,
];
