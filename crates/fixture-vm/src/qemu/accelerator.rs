//! The accelerators of QEMU that are known here.

use serde::{Deserialize, Serialize};

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accelerator {
    /// The kernel's virtual machine.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// As QEMU's `-accel` names it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}
