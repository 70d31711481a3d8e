//! The input closure: everything that decides the bytes of a set made on the virtual clock, and its digest.

use anyhow::{Context, Result};
use fixture::contract::input::GuestInput;
use fixture::contract::manifest::Closure;

use super::share::{digest, sha256};
use crate::image::Image;
use crate::qemu::args::{Files, Machine, arguments};
use crate::qemu::binary::Qemu;

/// Names everything that decides the bytes.
pub fn closure(input: &GuestInput, image: &Image, qemu: &Qemu, machine: &Machine) -> Result<Closure> {
    let words = arguments(machine, &Files::named());
    let mut closure = Closure {
        digest: String::new(),
        input: sha256(&input.to_bytes()?),
        image: image.digest().to_owned(),
        program: image.descriptor().origin.as_ref().map(|origin| origin.program.clone()),
        qemu: qemu.version.clone(),
        qemu_sha256: digest(&qemu.path)?.sha256,
        firmware: digest(&qemu.firmware)?.sha256,
        accelerator: machine.accelerator.name().to_owned(),
        machine: words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    // Fields are written in the order of the type: the same closure gives the same JSON.
    closure.digest = sha256(&serde_json::to_vec(&closure).context("writing the closure as JSON")?);
    Ok(closure)
}
