//! What all runs of one command share: QEMU, the accelerator, the guest image.

use std::path::Path;

use anyhow::Result;
use fixture::contract::manifest::Closure;

use super::closure::closure;
use super::events::{EventLog, Stage};
use super::plan::Plan;
use crate::accel::{self, Decision};
use crate::guest;
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::qemu::args::Machine;
use crate::qemu::binary::Qemu;

/// What to know of a run as root.
pub const ROOT: &str =
    "running as root: a guest that breaks out of QEMU has this machine; an ordinary user is enough";

/// Whether this is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Found once, and read only from then on.
pub struct Host {
    /// QEMU and its firmware.
    pub qemu: Qemu,
    /// What runs the guest's code.
    pub decision: Decision,
    /// The guest; kept from collection as long as this lives.
    pub image: Image,
}

impl Host {
    /// Finds QEMU, decides on the accelerator, finds or builds the image.
    pub fn find(plan: &Plan, scratch: &Path, log: &mut EventLog, interrupt: &Interrupt) -> Result<Self> {
        log.begin(Stage::Plan)?;
        let qemu = Qemu::find()?;
        let clock = plan.input.clock;
        let decision = accel::decide(plan.accelerator, clock, &qemu, scratch)?;
        log.done(format!("{}, {} clock, {}", plan.input.scenario.name, clock.name(), decision.reason))?;

        log.begin(Stage::Image)?;
        let image = guest::find(&plan.guest, interrupt)?;
        log.done(format!("{} {:.12}", image.descriptor().kind, image.digest()))?;
        Ok(Self { qemu, decision, image })
    }

    /// The machine that a run boots.
    pub fn machine(&self, plan: &Plan) -> Machine {
        Machine {
            clock: plan.input.clock,
            accelerator: self.decision.accelerator,
            microvms: plan.input.scenario.microvms().next().is_some(),
            memory_mib: plan.memory_mib,
            cpus: plan.cpus,
            cmdline: self.image.cmdline().to_owned(),
            root_size: self.image.root_size(),
            fault: plan.fault.clone(),
        }
    }

    /// Everything that decides the bytes of a run's set.
    pub fn closure(&self, plan: &Plan) -> Result<Closure> {
        closure(&plan.input, self.image.descriptor(), &self.qemu.identity, &self.machine(plan))
    }
}
