//! Breaking on purpose, so that the host's tests meet every way in which a guest can end.
//!
//! `fixture.fault=KIND@STEP` on the kernel command line, for example `hang@traffic`; the host passes it
//! in tests only. The guest breaks as the step begins:
//!
//! | kind | what happens |
//! |---|---|
//! | `fail` | the step fails as it does when a command fails |
//! | `panic` | the guest program panics |
//! | `exit` | the guest program ends, so the kernel panics: "Attempted to kill init" |
//! | `crash` | the kernel panics at once (sysrq `c`) |
//! | `hang` | nothing happens any more and no heartbeat is sent |
//! | `stall` | nothing happens any more, but heartbeats go on |

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use fixture::contract::event::Step;

use crate::clock;
use crate::events::Events;

/// A fault and the step in which it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fail,
    Panic,
    Exit,
    Crash,
    Hang,
    Stall,
}

const KINDS: [(&str, Kind); 6] = [
    ("fail", Kind::Fail),
    ("panic", Kind::Panic),
    ("exit", Kind::Exit),
    ("crash", Kind::Crash),
    ("hang", Kind::Hang),
    ("stall", Kind::Stall),
];

const STEPS: [Step; 9] = [
    Step::Boot,
    Step::Input,
    Step::Topology,
    Step::Capture,
    Step::Daemons,
    Step::Converge,
    Step::Traffic,
    Step::Collect,
    Step::HandOver,
];

/// Whether a step has this name.
pub fn is_step(name: &str) -> bool {
    STEPS.into_iter().any(|step| step.name() == name)
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, step) = text.split_once('@').context("a fault is KIND@STEP, like hang@traffic")?;
        let kind = KINDS.iter().find(|(name, _)| *name == kind);
        let (_, kind) = kind.context("the kinds of faults are fail, panic, exit, crash, hang and stall")?;
        let step = STEPS.into_iter().find(|known| known.name() == step).context("no step has this name")?;
        Ok(Self { kind: *kind, step })
    }
}

impl Fault {
    /// Breaks if the fault belongs to this step.
    pub fn strike(self, step: Step, events: &Events) -> Result<()> {
        if self.step != step {
            return Ok(());
        }
        match self.kind {
            Kind::Fail => bail!("fixture.fault asked for a failure"),
            Kind::Panic => panic!("fixture.fault asked for a panic"),
            Kind::Exit => std::process::exit(1),
            Kind::Crash => std::fs::write("/proc/sysrq-trigger", "c").context("crashing the kernel")?,
            Kind::Hang => events.fall_silent(),
            Kind::Stall => {}
        }
        loop {
            clock::sleep(std::time::Duration::from_secs(3600));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let fault: Fault = "hang@hand-over".parse().unwrap();
        assert_eq!(fault, Fault { kind: Kind::Hang, step: Step::HandOver });
        for text in ["hang", "hang@", "hang@nowhere", "explode@traffic"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
