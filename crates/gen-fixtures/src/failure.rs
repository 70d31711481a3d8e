//! The way out when something went wrong: the host is told, and gets what evidence there is.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Error, Result};
use fixture::contract::event::Step;

use crate::boot;
use crate::child::CommandError;
use crate::events::Events;
use crate::handover::Share;
use crate::work;

/// Tells the host of the failure and hands over what there is.
pub fn report(events: &Events, error: &Error) {
    let command = error.chain().find_map(|cause| cause.downcast_ref::<CommandError>());
    events.fail(format!("{error:#}"), command.map(|error| error.0.clone()));
    // A share that could not be used for the set is not tried again.
    if work::set().exists() && events.step() != Step::HandOver {
        let handed_over = keep_captures()
            .and_then(|()| work::write_raw("kernel.log", kernel_log()))
            .and_then(|_| Share::mount()?.hand_over_evidence());
        if let Err(error) = handed_over {
            println!("fixture-vm: the evidence could not be handed over: {error:#}");
        }
    }
    events.flush();
}

/// A panic is a failure like any other. The program would be aborted, and with PID 1 the kernel; so the
/// machine is switched off from within the hook.
pub fn report_panics(events: &Events) {
    let events = events.clone();
    std::panic::set_hook(Box::new(move |panic| {
        report(&events, &anyhow::anyhow!("the guest program panicked: {panic}"));
        boot::power::off()
    }));
}

/// What each capture point has seen; a whole set has them in one file.
fn keep_captures() -> Result<()> {
    let folder = work::scratch("capture");
    for file in work::files_below(&folder)? {
        let kept = work::raw(&format!("capture/{}", file.display()))?;
        fs::rename(folder.join(&file), kept).context("keeping a capture")?;
    }
    Ok(())
}

/// What the kernel said so far, one record a line as /dev/kmsg gives it; reading it again and again until it
/// would block.
fn kernel_log() -> Vec<u8> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    let mut log = Vec::new();
    if let Ok(mut file) = file {
        let mut record = [0; 8192];
        while let Ok(n @ 1..) = file.read(&mut record) {
            log.extend_from_slice(&record[..n]);
        }
    }
    log
}
