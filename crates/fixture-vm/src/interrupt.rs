//! SIGINT and SIGTERM as an ordinary error: the first unwinds, the second leaves at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::{Code, Interrupted};

/// Tells whether a signal has arrived.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over SIGINT and SIGTERM for the rest of the process.
    pub fn install() -> Result<Self> {
        let arrived = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set by the first, and exits.
            flag::register_conditional_shutdown(signal, Code::Interrupted as i32, Arc::clone(&arrived))
                .and_then(|_| flag::register(signal, Arc::clone(&arrived)))
                .context("installing the signal handlers")?;
        }
        Ok(Self(arrived))
    }

    /// One that no signal reaches.
    #[cfg(test)]
    pub fn never() -> Self {
        Self(Arc::default())
    }

    /// One that a signal has reached.
    #[cfg(test)]
    pub fn arrived() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// An error once a signal has arrived.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}
