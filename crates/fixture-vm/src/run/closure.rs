//! The input closure: everything that decides the bytes of a set made on the virtual clock, and its digest.

use anyhow::{Context, Result};
use fixture::contract::input::GuestInput;
use fixture::contract::manifest::Closure;

use crate::digest;
use crate::image::Descriptor;
use crate::qemu::args::{Files, Machine, arguments};
use crate::qemu::identity::Identity;

/// Names everything that decides the bytes.
///
/// The scenario, the seed and the clock are in the guest's input; kernel, initramfs, root and guest program
/// are in the image; the firmware and the binary are in QEMU's identity; the rest is on its command line, in
/// which names stand for this run's paths.
pub fn closure(
    input: &GuestInput,
    image: &Descriptor,
    qemu: &Identity,
    machine: &Machine,
) -> Result<Closure> {
    let words = arguments(machine, &Files::named());
    let (opening, course) = input.parts();
    let mut closure = Closure {
        digest: String::new(),
        input: digest::of_bytes(&[opening.to_bytes()?, course.to_bytes()?].concat()),
        image: image.digest(),
        program: image.origin.as_ref().map(|origin| origin.program.clone()),
        qemu: qemu.version.clone(),
        qemu_sha256: qemu.sha256.clone(),
        firmware: qemu.firmware.clone(),
        accelerator: machine.accelerator.name().to_owned(),
        machine: words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    // Fields are written in the order of the type: the same closure gives the same JSON.
    closure.digest = digest::of_bytes(&serde_json::to_vec(&closure).context("writing the closure as JSON")?);
    Ok(closure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::accelerator::Accelerator;
    use fixture::scenario::{Clock, read};
    use std::collections::BTreeSet;

    /// All that goes into a closure.
    struct Inputs {
        input: GuestInput,
        image: Descriptor,
        qemu: Identity,
        machine: Machine,
    }

    impl Inputs {
        fn new() -> Self {
            let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/vlan-trunk.yaml");
            let scenario = std::fs::read_to_string(scenario).unwrap();
            let scenario = read::from_yaml("vlan-trunk.yaml", &scenario).unwrap();
            let contract = fixture::contract::VERSION;
            let image = serde_json::json!({
                "contract": contract, "kind": "debian", "cmdline": "quiet",
                "files": {
                    "vmlinux": { "sha256": "k", "size": 1 }, "initramfs": { "sha256": "i", "size": 2 },
                    "root.img": { "sha256": "r", "size": 3 },
                },
                "origin": { "inputs": "x", "kernel_release": "6.12", "program": "p", "lock": "l", "packages": {} },
            });
            Self {
                input: GuestInput { contract, clock: Clock::Virtual, seed: 1, scenario },
                image: serde_json::from_value(image).unwrap(),
                qemu: Identity {
                    version: "QEMU emulator version 10.0.2".into(),
                    sha256: "q".into(),
                    firmware: [("qboot.rom".into(), "f".into()), ("pvh.bin".into(), "o".into())].into(),
                },
                machine: Machine {
                    clock: Clock::Virtual,
                    accelerator: Accelerator::Tcg,
                    memory_mib: 512,
                    cpus: 1,
                    cmdline: "quiet".into(),
                    root_size: 3,
                    microvms: false,
                    fault: None,
                },
            }
        }

        fn digest(&self) -> String {
            closure(&self.input, &self.image, &self.qemu, &self.machine).unwrap().digest
        }
    }

    #[test]
    fn each_kind_of_input_changes_the_digest() {
        type Change = fn(&mut Inputs);
        let changes: [(&str, Change); 16] = [
            ("scenario", |i| i.input.scenario.nodes[0].name = "other".parse().unwrap()),
            ("scenario's times", |i| i.input.scenario.duration = "2s".parse().unwrap()),
            ("seed", |i| i.input.seed = 2),
            ("clock", |i| i.input.clock = Clock::Real),
            ("kernel", |i| i.image.files.get_mut("vmlinux").unwrap().sha256.push('x')),
            ("initramfs with the guest program", |i| {
                i.image.files.get_mut("initramfs").unwrap().sha256.push('x');
            }),
            ("root", |i| i.image.files.get_mut("root.img").unwrap().sha256.push('x')),
            ("image's command line", |i| i.image.cmdline.push('x')),
            ("guest program", |i| i.image.origin.as_mut().unwrap().program.push('x')),
            ("QEMU's version", |i| i.qemu.version.push('x')),
            ("QEMU's binary", |i| i.qemu.sha256.push('x')),
            ("firmware", |i| i.qemu.firmware.get_mut("qboot.rom").unwrap().push('x')),
            ("option ROM", |i| i.qemu.firmware.get_mut("pvh.bin").unwrap().push('x')),
            ("memory", |i| i.machine.memory_mib = 768),
            ("a processor that nests", |i| i.machine.microvms = true),
            ("accelerator", |i| i.machine.accelerator = Accelerator::Kvm),
        ];
        let same = Inputs::new().digest();
        assert_eq!(same, Inputs::new().digest());
        let mut seen = BTreeSet::from([same]);
        for (what, change) in changes {
            let mut inputs = Inputs::new();
            change(&mut inputs);
            assert!(seen.insert(inputs.digest()), "another {what} leaves the digest as it is");
        }
    }

    #[test]
    fn no_path_of_this_machine_is_in_it() {
        let Inputs { input, image, qemu, machine } = Inputs::new();
        let closure = closure(&input, &image, &qemu, &machine).unwrap();
        for word in &closure.machine {
            assert!(
                !word.split(['=', ',']).any(|part| part.starts_with('/') && !part.starts_with("/dev/")),
                "{word}"
            );
        }
    }
}
