//! Breaking microVMs on purpose, so that tests meet what a manager must survive, or must fail with.
//!
//! `fixture.fault=KIND@NAME` on the kernel command line, for example `vmm-killed@worker-0`, or several with commas
//! between; the host passes it in tests only. Each strikes the microVM of its name once:
//!
//! | kind | when | what happens |
//! |---|---|---|
//! | `vmm-killed` | it has started | its VMM gets SIGKILL |
//! | `vmm-stopped` | it has started | its VMM gets SIGSTOP: neither it nor the agent answers any more |
//! | `agent-hung` | it has started | its agent answers nothing any more, its VMM does |
//! | `panic` | it has started | its kernel panics |
//! | `out-of-memory` | it has started | its agent takes all memory there is, until its kernel panics |
//! | `tap-lost` | it has started | the TAP that it is linked by is deleted |
//! | `secret-told` | it has started | its secret is written to the set |
//! | `manager-lost` | all have started | the manager forgets all about all microVMs, whose VMMs go on; another begins |
//! | `snapshot-torn` | it is asleep | what it was saved to loses its second half |
//! | `restore-refused` | it is asleep | what it was saved to is whole, and says that it is of another machine |
//! | `tap-gone` | before it starts | the TAP it is to be linked by is deleted |

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use fixture::contract::vm::VmEvent;
use fixture::pool::{Identity, Liveness, Operation, State};
use nix::sys::signal::Signal;

use super::machines::Machinery;
use super::{snapshot, tap};
use crate::agent::breakage::Breakage;
use crate::pools::Machines;
use crate::work;

/// How QEMU names the machine, near the begin of what it saves.
const MACHINE: &[u8] = b"microvm";
const ANOTHER: &[u8] = b"another";

/// A fault and the microVM that it strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    VmmKilled,
    VmmStopped,
    AgentHung,
    Panic,
    OutOfMemory,
    TapLost,
    SecretTold,
    ManagerLost,
    SnapshotTorn,
    RestoreRefused,
    TapGone,
}

const KINDS: [(&str, Kind); 11] = [
    ("vmm-killed", Kind::VmmKilled),
    ("vmm-stopped", Kind::VmmStopped),
    ("agent-hung", Kind::AgentHung),
    ("panic", Kind::Panic),
    ("out-of-memory", Kind::OutOfMemory),
    ("tap-lost", Kind::TapLost),
    ("secret-told", Kind::SecretTold),
    ("manager-lost", Kind::ManagerLost),
    ("snapshot-torn", Kind::SnapshotTorn),
    ("restore-refused", Kind::RestoreRefused),
    ("tap-gone", Kind::TapGone),
];

impl Kind {
    /// After which operation it strikes.
    fn follows(self) -> Option<Operation> {
        match self {
            Self::TapGone | Self::ManagerLost => None,
            Self::SnapshotTorn | Self::RestoreRefused => Some(Operation::Sleep),
            _ => Some(Operation::Start),
        }
    }
}

impl Fault {
    /// Reads a list of faults; none, if it is no such list: `panic@traffic` is one of the guest itself, which has
    /// steps where this has names.
    pub fn list(text: &str) -> Option<Result<Vec<Self>>> {
        let is_ours = |fault: &str| {
            let (kind, at) = fault.split_once('@').unwrap_or((fault, ""));
            KINDS.iter().any(|(known, _)| *known == kind) && !crate::fault::is_step(at)
        };
        text.split(',').any(is_ours).then(|| text.split(',').map(str::parse).collect())
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, name) = text.split_once('@').context("a fault is KIND@NAME, like vmm-killed@worker-0")?;
        let kind = KINDS.iter().find(|(known, _)| *known == kind).context("no fault of this kind")?;
        Ok(Self { kind: kind.1, name: name.to_owned() })
    }
}

/// Machinery, with faults to run into.
pub struct Faulty<'a> {
    /// What does the work.
    pub machinery: Machinery<'a>,
    /// What is still to strike.
    pub faults: Vec<Fault>,
}

impl Faulty<'_> {
    /// Whether the manager is to be lost now that all have started.
    pub fn loses_manager(&mut self) -> bool {
        let at = self.faults.iter().position(|fault| fault.kind == Kind::ManagerLost);
        at.map(|at| self.faults.remove(at)).is_some()
    }

    fn strikes(&mut self, vm: &Identity, which: impl Fn(Kind) -> bool) -> Option<Kind> {
        let at = self.faults.iter().position(|fault| fault.name == vm.name && which(fault.kind))?;
        Some(self.faults.remove(at).kind)
    }

    fn before(&mut self, vm: &Identity, operation: Operation) -> Result<()> {
        let is_gone = |kind| operation == Operation::Start && kind == Kind::TapGone;
        self.strikes(vm, is_gone).map_or(Ok(()), |_| self.delete_taps(vm))
    }

    fn after(&mut self, vm: &Identity, operation: Operation) -> Result<()> {
        let Some(kind) = self.strikes(vm, |kind| kind.follows() == Some(operation)) else { return Ok(()) };
        let machinery = &mut self.machinery;
        match kind {
            Kind::VmmKilled => machinery.vmm(vm)?.signal(Signal::SIGKILL),
            Kind::VmmStopped => machinery.vmm(vm)?.signal(Signal::SIGSTOP),
            Kind::AgentHung => machinery.break_agent(vm, Breakage::Hang),
            Kind::Panic => machinery.break_agent(vm, Breakage::Panic),
            Kind::OutOfMemory => machinery.break_agent(vm, Breakage::OutOfMemory),
            Kind::TapLost => self.delete_taps(vm),
            Kind::SecretTold => {
                let drive = fs::read(machinery.paths(vm).secrets).context("reading a secret to tell it")?;
                work::write_raw(&format!("microvm/{}.told", vm.name), drive).map(drop)
            }
            Kind::SnapshotTorn => {
                let path = snapshot::file(&machinery.paths(vm));
                let file = OpenOptions::new().write(true).open(path).context("tearing a snapshot")?;
                let half = file.metadata().context("tearing a snapshot")?.len() / 2;
                file.set_len(half).context("tearing a snapshot")
            }
            Kind::RestoreRefused => {
                let paths = machinery.paths(vm);
                snapshot::unpack(&paths)?;
                let file = OpenOptions::new().read(true).write(true).open(&paths.snapshot);
                let file = file.context("changing a snapshot")?;
                let mut head = [0; 64];
                file.read_exact_at(&mut head, 0).context("changing a snapshot")?;
                let at = head.windows(MACHINE.len()).position(|bytes| bytes == MACHINE);
                let at = at.context("a snapshot does not say of which machine it is")?;
                file.write_all_at(ANOTHER, at as u64).context("changing a snapshot")
            }
            Kind::ManagerLost | Kind::TapGone => Ok(()),
        }
    }

    fn delete_taps(&self, vm: &Identity) -> Result<()> {
        self.machinery.far_ends(vm)?.into_iter().try_for_each(|(node, port)| tap::delete(node, port))
    }
}

impl Machines for Faulty<'_> {
    fn now_ns(&self) -> u64 {
        self.machinery.now_ns()
    }

    fn sleep_until(&mut self, at_ns: u64) {
        self.machinery.sleep_until(at_ns);
    }

    fn carry_out(&mut self, vm: &Identity, operation: Operation, grace: Duration) -> Result<()> {
        self.before(vm, operation)?;
        self.machinery.carry_out(vm, operation, grace)?;
        self.after(vm, operation)
    }

    fn is_idle(&mut self, vm: &Identity) -> Result<bool> {
        self.machinery.is_idle(vm)
    }

    fn liveness(&mut self, vm: &Identity, state: State) -> Liveness {
        self.machinery.liveness(vm, state)
    }

    fn last_words(&mut self, vm: &Identity) -> Option<String> {
        self.machinery.last_words(vm)
    }

    fn tell(&mut self, event: VmEvent) {
        self.machinery.tell(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let list = |text| Fault::list(text).map(|list| list.map_err(|error| error.to_string()));
        let fault = |kind, name: &str| Fault { kind, name: name.into() };
        assert_eq!(list("tap-gone@worker-1"), Some(Ok(vec![fault(Kind::TapGone, "worker-1")])));
        let two = vec![fault(Kind::Panic, "worker-1"), fault(Kind::AgentHung, "gm")];
        assert_eq!(list("panic@worker-1,agent-hung@gm"), Some(Ok(two)));
        assert_eq!(list("hang@traffic"), None);
        assert_eq!(list("panic@traffic"), None, "that is the guest program's own");
        for wrong in ["tap-gone", "tap-gone@w-0,burnt@w-1"] {
            assert!(matches!(list(wrong), Some(Err(_))), "{wrong}");
        }
    }
}
