//! SIGINT and SIGTERM: at first they end the process; once there is something to clean up they are an ordinary
//! error, and the second one ends the process.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::{Code, Interrupted};

/// The one of this process: signals are for the process as a whole.
static OF_PROCESS: OnceLock<Interrupt> = OnceLock::new();

/// Tells whether a signal has arrived.
#[derive(Clone)]
pub struct Interrupt {
    arrived: Arc<AtomicBool>,
    /// Whether the first signal ends the process, as nothing would be left behind.
    leaves: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over SIGINT and SIGTERM for the rest of the process. Until [`Self::unwinds`] either ends it at once, with
    /// the documented code.
    pub fn install() -> Result<Self> {
        let interrupt = Self { arrived: Arc::default(), leaves: Arc::new(AtomicBool::new(true)) };
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set by the first, and exits.
            for ends in [&interrupt.leaves, &interrupt.arrived] {
                flag::register_conditional_shutdown(signal, Code::Interrupted as i32, Arc::clone(ends))
                    .context("installing the signal handlers")?;
            }
            flag::register(signal, Arc::clone(&interrupt.arrived))
                .context("installing the signal handlers")?;
        }
        Ok(OF_PROCESS.get_or_init(|| interrupt).clone())
    }

    /// The one that was installed, for what waits far below a command; one that no signal reaches if none was.
    pub fn of_process() -> Self {
        OF_PROCESS.get().cloned().unwrap_or_else(Self::never)
    }

    /// One that no signal reaches.
    pub fn never() -> Self {
        Self { arrived: Arc::default(), leaves: Arc::default() }
    }

    /// From here on the first signal is an error, which ends and removes what the command has started.
    pub fn unwinds(&self) {
        self.leaves.store(false, Ordering::SeqCst);
    }

    /// One that a signal has reached.
    #[cfg(test)]
    pub fn arrived() -> Self {
        Self { arrived: Arc::new(AtomicBool::new(true)), ..Self::never() }
    }

    /// An error once a signal has arrived.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.arrived.load(Ordering::SeqCst) { Err(Interrupted) } else { Ok(()) }
    }

    /// Waits for an exclusive lock. flock(2) by itself goes on waiting after a signal, so this asks again and again.
    pub fn lock(&self, mut file: File) -> Result<Flock<File>> {
        const ASK_EVERY: Duration = Duration::from_millis(50);
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((again, Errno::EWOULDBLOCK | Errno::EINTR)) => file = again,
                Err((_, errno)) => return Err(errno.into()),
            }
            self.check()?;
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// Whatever went wrong after a signal had arrived may have gone wrong by it: then the signal is the error.
    pub fn or(&self, error: anyhow::Error) -> anyhow::Error {
        match self.check() {
            Ok(()) => error,
            Err(interrupted) => interrupted.into(),
        }
    }
}
