//! Which back end a guest's microVMs run on: decided by what the guest has, and told with the reasons.

use std::fmt;

use anyhow::{Result, bail};
use fixture::scenario::{Node, Scenario};

use super::backend::{Accelerator, Backend};
use super::firecracker::Firecracker;
use super::qemu::Qemu;
use crate::tools::find_program;

/// What a guest has for microVMs.
#[derive(Debug, Default)]
pub struct Found {
    /// QEMU.
    pub qemu: Option<String>,
    /// Firecracker.
    pub firecracker: Option<String>,
}

/// A microVM whose links lead to more than one node: Firecracker opens its TAPs by name, in the one network namespace
/// that it runs in.
pub fn linked_apart(scenario: &Scenario) -> Option<&str> {
    let is_apart = |vm: &&Node| {
        let far = vm.ports.iter().filter_map(|port| scenario.port(scenario.peer(&port.name)?));
        let mut nodes = far.map(|(node, _)| &node.name);
        nodes.next().is_some_and(|first| nodes.any(|other| other != first))
    };
    scenario.microvms().find(is_apart).map(|vm| vm.name.as_str())
}

/// What microVMs run on.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// Firecracker, which needs KVM.
    Firecracker(String),
    /// QEMU, on what there is; and why nothing better.
    Qemu {
        /// The program.
        program: String,
        /// What runs the code of its guests.
        accelerator: Accelerator,
        /// Why nothing faster; none: this guest has nothing faster.
        since: Option<String>,
    },
}

impl Found {
    /// Looks for both.
    pub fn look() -> Self {
        Self { qemu: find_program("qemu-system-x86_64"), firecracker: find_program("firecracker") }
    }

    /// Firecracker before QEMU, KVM before a translator. `kvm` says why there is none; `apart` names a microVM that
    /// is linked to more than one node.
    pub fn choose(self, kvm: Result<(), String>, apart: Option<&str>) -> Result<Choice> {
        let obstacle = match (&kvm, apart) {
            (Err(why), _) => Some(format!("KVM does not work here: {why}")),
            (Ok(()), Some(vm)) => Some(format!("{vm} is linked to more than one node")),
            (Ok(()), None) => None,
        };
        let accelerator = if kvm.is_ok() { Accelerator::Kvm } else { Accelerator::Tcg };
        let since = obstacle.filter(|_| self.firecracker.is_some() || kvm.is_err());
        match (self.firecracker, since, self.qemu) {
            (Some(program), None, _) => Ok(Choice::Firecracker(program)),
            (_, since, Some(program)) => Ok(Choice::Qemu { program, accelerator, since }),
            (Some(_), Some(why), None) => bail!("Firecracker cannot run microVMs in this guest, since {why}"),
            (None, ..) => bail!("this guest image has neither QEMU nor Firecracker to run microVMs with"),
        }
    }
}

impl Choice {
    /// The back end, and the accelerator as events name it.
    pub fn into_backend(self) -> (Box<dyn Backend>, Accelerator) {
        match self {
            Self::Firecracker(program) => (Box::new(Firecracker { program }), Accelerator::Kvm),
            Self::Qemu { program, accelerator, .. } => (Box::new(Qemu { program, accelerator }), accelerator),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firecracker(_) => {
                f.write_str("microVMs run on Firecracker with nested KVM, which runs code here")
            }
            Self::Qemu { accelerator, since, .. } => {
                let on = match accelerator {
                    Accelerator::Kvm => "nested KVM, which runs code here",
                    Accelerator::Tcg => "TCG",
                };
                write!(f, "microVMs run on QEMU with {on}")?;
                since.as_ref().map_or(Ok(()), |since| write!(f, ", since {since}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fixture::scenario::read::from_yaml;

    use super::*;

    fn chosen(has: &[&str], kvm: Result<(), &str>, apart: Option<&str>) -> String {
        let found = |name: &str| has.contains(&name).then(|| format!("/bin/{name}"));
        let found = Found { qemu: found("qemu"), firecracker: found("firecracker") };
        match found.choose(kvm.map_err(str::to_owned), apart) {
            Ok(choice) => choice.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_a_guest_has_decides() {
        let (both, none) = (&["qemu", "firecracker"], Err("exit 17"));
        for (has, kvm, apart, told) in [
            (&both[..], Ok(()), None, "on Firecracker with nested KVM, which runs code here"),
            (&both[1..], Ok(()), None, "on Firecracker with nested KVM, which runs code here"),
            (
                both,
                Ok(()),
                Some("gw"),
                "on QEMU with nested KVM, which runs code here, since gw is linked to more than one node",
            ),
            (both, none, None, "on QEMU with TCG, since KVM does not work here: exit 17"),
            (&both[..1], none, None, "on QEMU with TCG, since KVM does not work here: exit 17"),
            (&both[..1], Ok(()), Some("gw"), "on QEMU with nested KVM, which runs code here"),
        ] {
            assert_eq!(chosen(has, kvm, apart), format!("microVMs run {told}"));
        }
    }

    #[test]
    fn a_guest_in_which_none_can_run_says_why() {
        for (has, kvm, apart, told) in [
            (
                &["firecracker"][..],
                Err("exit 17"),
                None,
                "Firecracker cannot run microVMs in this guest, since KVM does not work here: exit 17",
            ),
            (
                &["firecracker"],
                Ok(()),
                Some("gw"),
                "Firecracker cannot run microVMs in this guest, since gw is linked to more than one node",
            ),
            (&[], Ok(()), None, "this guest image has neither QEMU nor Firecracker to run microVMs with"),
        ] {
            assert_eq!(chosen(has, kvm, apart), told);
        }
    }

    #[test]
    fn links_to_two_nodes_are_apart_and_two_to_one_are_not() {
        let scenario = |second: &str| {
            let text = format!(
                "version: 1\nname: two\nduration: 5s\nnodes:\n\
                 - {{ name: a, role: bridge, ports: [{{ name: a-p1, mac: 02:00:00:00:00:01 }}, {{ name: a-p2, mac: 02:00:00:00:00:02 }}] }}\n\
                 - {{ name: b, role: bridge, ports: [{{ name: b-p1, mac: 02:00:00:00:00:03 }}, {{ name: b-p2, mac: 02:00:00:00:00:04 }}] }}\n\
                 - {{ name: gw, kind: microvm, role: end-station, ports: [{{ name: gw-p1, mac: 02:00:00:00:00:05 }}, {{ name: gw-p2, mac: 02:00:00:00:00:06 }}] }}\n\
                 links: [{{ ends: [a-p1, gw-p1] }}, {{ ends: [{second}, gw-p2] }}, {{ ends: [{}, b-p1] }}]\n\
                 captures: [{{ port: a-p1 }}]\nexpect: {{ empty: [lldp, tsn, gptp] }}\n",
                if second == "a-p2" { "b-p2" } else { "a-p2" },
            );
            from_yaml("two.yaml", &text).unwrap_or_else(|error| panic!("{error}"))
        };
        assert_eq!(linked_apart(&scenario("b-p2")), Some("gw"));
        assert_eq!(linked_apart(&scenario("a-p2")), None);
    }
}
