//! The kernel's random numbers, made to depend on the seed of the run.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use sha2::{Digest, Sha256};

const DEVICE: &str = "/dev/urandom";

/// What RNDADDENTROPY takes: `struct rand_pool_info` of linux/random.h with 32 bytes in it.
#[repr(C)]
struct Pool {
    bits: i32,
    size: i32,
    bytes: [u8; 32],
}

nix::ioctl_write_ptr!(add_entropy, b'R', 0x03, [i32; 2]);
nix::ioctl_none!(reseed, b'R', 0x07);

/// Mixes the seed into the kernel's pool and reseeds from it (random(4)).
///
/// The boot up to here is the same for every seed, so that a guest saved before serves them all.
pub fn mix(seed: &[u8]) -> Result<()> {
    let device = OpenOptions::new().write(true).open(DEVICE).with_context(|| format!("opening {DEVICE}"))?;
    let pool = Pool { bits: 256, size: 32, bytes: Sha256::digest(seed).into() };
    let fd = device.as_raw_fd();
    #[expect(unsafe_code, reason = "ioctl(2); the pointer is to a live value of the shape the call reads")]
    unsafe {
        add_entropy(fd, (&raw const pool).cast()).context("RNDADDENTROPY")?;
        match reseed(fd) {
            // ENODATA: the generator was not seeded before, and now is.
            Ok(_) | Err(Errno::ENODATA) => Ok(()),
            Err(error) => Err(error).context("RNDRESEEDCRNG"),
        }
    }
}
