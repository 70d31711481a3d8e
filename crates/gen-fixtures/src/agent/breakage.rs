//! Breaking a node on purpose, so that tests meet what a manager must survive.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::clock;

/// Memory is taken in such pieces.
const PIECE: usize = 1 << 20;

/// How a node breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breakage {
    /// Its agent answers nothing any more; all else goes on.
    Hang,
    /// Its kernel panics.
    Panic,
    /// Its agent takes all memory that there is. The kernel ends whoever it may for that, and then itself.
    OutOfMemory,
}

impl Breakage {
    /// Breaks; returns only if that cannot be done.
    pub fn strike(self) -> Result<()> {
        match self {
            Self::Hang => {}
            Self::Panic => std::fs::write("/proc/sysrq-trigger", "c").context("crashing the kernel")?,
            Self::OutOfMemory => {
                let mut taken = Vec::new();
                loop {
                    taken.push(std::hint::black_box(vec![1_u8; PIECE]));
                }
            }
        }
        loop {
            clock::sleep(Duration::from_secs(3600));
        }
    }
}
