//! Against a Firecracker, where one is to be had: it must say what was recorded.

use std::io::Write;
use std::path::Path;

use super::super::accel;
use super::tests::{Conversation, World, refused};
use super::*;

/// Everything that the microVM is given, as far as its VMM looks at it.
fn write_files(world: &World, kernel: &[u8]) {
    fs::write(&world.boot.kernel, kernel).unwrap();
    let Paths { config, secrets, data, .. } = &world.paths;
    for file in [&world.boot.initramfs, &world.boot.root, config, secrets, data] {
        fs::write(file, [0; 4096]).unwrap();
    }
}

/// A kernel of a few instructions: 64 bits, at 16 MiB.
fn kernel(code: &[u8]) -> Vec<u8> {
    const AT: u64 = 16 << 20;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves =
        |elf: &mut Vec<u8>, values: &[u16]| elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    // An executable for x86-64, its entry, one program header behind this one.
    halves(&mut elf, &[2, 62, 1, 0]);
    elf.extend([AT, 64, 0].iter().flat_map(|value| value.to_le_bytes()));
    halves(&mut elf, &[0, 0, 64, 56, 1, 64, 0, 0]);
    // Load, readable and executable: place in the file, addresses, sizes, alignment.
    halves(&mut elf, &[1, 0, 5, 0]);
    let length = code.len() as u64;
    elf.extend([4096, AT, AT, length, length, 4096].iter().flat_map(|value: &u64| value.to_le_bytes()));
    elf.resize(4096, 0);
    elf.extend(code);
    elf
}

fn skip(reason: &str) {
    eprintln!("a real Firecracker skipped: {reason}");
    if let Some(list) = std::env::var_os("FIXTURE_VM_SKIPS") {
        let mut list = fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        writeln!(list, "a_real_firecracker: {reason}").unwrap();
    }
}

#[test]
fn a_real_firecracker_says_what_was_recorded() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("firecracker")).find(|path| path.is_file());
    let Some(program) = found else { return skip("there is no `firecracker` on PATH") };
    let firecracker = Firecracker { program: program.to_string_lossy().into_owned() };
    let world = World::new();
    let recorded = world.conversation();
    let Conversation { start, pause, save, resume, restore, .. } = &recorded;

    for exchange in start.iter().chain(pause).chain(save).chain(resume).chain(restore) {
        for refusal in exchange.refused.iter().filter(|refusal| refusal.bare) {
            // One after another, since the first that fails to load a snapshot ends.
            let (_vmm, mut api) = firecracker.run(&world.spec()).unwrap();
            let asked = requests::create(&world.spec(), &[]);
            let others = [requests::state("Paused"), requests::state("Resumed")];
            let files = [requests::save(&world.paths), requests::load(&world.paths)];
            let request = asked.iter().chain(&others).chain(&files).find(|request| exchange.asks(request));
            refused(&api.ask(request.unwrap()).unwrap_err().into(), exchange, refusal);
        }
    }

    let accelerated = Path::new("/dev/kvm").exists();
    if !accelerated {
        return skip("a microVM is not started, for there is no /dev/kvm");
    }
    // jmp to itself
    write_files(&world, &kernel(&[0xeb, 0xfe]));
    let vmm = firecracker.start(world.spec()).unwrap();
    assert!(firecracker.answers(&world.paths));
    firecracker.pause(&world.paths).unwrap();
    firecracker.save(&world.paths).unwrap();
    drop(vmm);
    let vmm = firecracker.restore(world.spec()).unwrap();
    firecracker.resume(&world.paths).unwrap();
    drop(vmm);
    // Half of its memory is gone.
    let file = fs::OpenOptions::new().write(true).open(&world.paths.snapshot).unwrap();
    file.set_len(64 << 20).unwrap();
    let error = firecracker.restore(world.spec()).unwrap_err();
    refused(&error, &restore[0], &restore[0].refused[1]);

    match accel::try_kvm(Path::new("/no/modules")).unwrap() {
        Err(error) => skip(&format!("no code of a microVM is run, for KVM runs none: {error:#}")),
        Ok(_exits) => {
            // mov al, 0xfe; out 0x64, al: the reset that `reboot=k` is, which ends it.
            write_files(&world, &kernel(&[0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe]));
            firecracker.start(world.spec()).unwrap().end(Duration::from_secs(60)).unwrap();
        }
    }
    eprintln!("recorded of Firecracker {}", recorded.firecracker);
}
