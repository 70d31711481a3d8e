//! The accelerator: decided by running guest code, never by the existence of a device.

mod probe;

use std::path::Path;

use anyhow::{Result, bail};
use fixture::scenario::Clock;

use crate::qemu::accelerator::Accelerator;
use crate::qemu::binary::Qemu;

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// KVM where it runs guest code and the clock is real, else TCG.
    #[default]
    Auto,
    /// KVM, or failure.
    Kvm,
    /// TCG.
    Tcg,
}

/// The accelerator that was chosen, and why in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What will run the guest's code.
    pub accelerator: Accelerator,
    /// One line for the user.
    pub reason: String,
}

/// Decides, by a probe where KVM is in question.
pub fn decide(choice: Choice, clock: Clock, qemu: &Qemu, scratch: &Path) -> Result<Decision> {
    let tcg = |reason: String| Ok(Decision { accelerator: Accelerator::Tcg, reason });
    match (choice, clock) {
        (Choice::Tcg, _) => tcg("TCG, as asked".into()),
        (_, Clock::Virtual) => tcg("TCG, as the virtual clock needs".into()),
        (choice, Clock::Real) => match probe::kvm(&qemu.path, scratch)? {
            probe::Kvm::Works => Ok(Decision {
                accelerator: Accelerator::Kvm,
                reason: "KVM, which runs guest code here".into(),
            }),
            probe::Kvm::Unusable(why) if choice == Choice::Kvm => {
                bail!("--accel kvm: KVM does not work here: {why}; use --accel auto or tcg")
            }
            probe::Kvm::Unusable(why) => tcg(format!("TCG, since KVM does not work here: {why}")),
        },
    }
}

/// Whether KVM works here, and if not why.
pub fn kvm_works(qemu: &Path, scratch: &Path) -> Result<Result<(), String>> {
    Ok(match probe::kvm(qemu, scratch)? {
        probe::Kvm::Works => Ok(()),
        probe::Kvm::Unusable(why) => Err(why),
    })
}
