//! The agent's way out to the guest: whoever has something to tell, one message at a time.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use super::frame;
use super::protocol::{Answer, Tell};

/// Writes to the channel. Clones share it.
#[derive(Clone)]
pub struct Voice(Arc<Mutex<Box<dyn Write + Send>>>);

impl Voice {
    /// Of this channel.
    pub fn new(to: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(to))))
    }

    /// Tells, in answer to a question or by itself. Without the channel nobody hears of the failure either; the
    /// console has it.
    pub fn tell(&self, id: Option<u64>, tell: Tell) {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = frame::write(&mut *to, &Answer { id, tell }) {
            println!("fixture-vm: the agent's channel: {error}");
        }
    }
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voice")
    }
}
