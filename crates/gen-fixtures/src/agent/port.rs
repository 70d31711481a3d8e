//! The agent's end of its channel: a port of the virtio console, to which a message is one exit, or of vsock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::time::Duration;

use anyhow::{Context, Result};

use super::vsock::Vsock;
use crate::clock;

/// How long the device may take to be there, once its driver is.
const SOON: Duration = Duration::from_secs(10);

/// How often a channel that nobody has opened at the other end is looked at again.
const ALONE: Duration = Duration::from_millis(20);

/// The channel.
#[derive(Debug)]
pub enum Port {
    /// A port of the virtio console.
    Console(File),
    /// A port of vsock, which the guest connects to.
    Vsock(Vsock),
}

impl Port {
    /// Opens what the kernel command line names: the device when it is there, or `vsock:` and a number.
    pub fn open(channel: &str) -> Result<Self> {
        if let Some(number) = channel.strip_prefix("vsock:") {
            let number = number.parse().with_context(|| format!("{channel}, the agent's channel"))?;
            return Vsock::listen(number).map(Self::Vsock);
        }
        let open = || OpenOptions::new().read(true).write(true).open(channel);
        let port = clock::wait_until(SOON, Duration::from_millis(1), || {
            Ok(open().map_err(|error| format!("opening {channel}, the agent's channel: {error}")))
        })?;
        Ok(Self::Console(port))
    }

    /// The same channel once more.
    pub fn try_clone(&self) -> Result<Self> {
        match self {
            Self::Console(port) => port.try_clone().map(Self::Console).context("dup(2)"),
            Self::Vsock(port) => Ok(Self::Vsock(port.clone())),
        }
    }
}

impl Read for Port {
    /// Waits for the guest, who comes back after a microVM was restored: while it is away the console's driver says
    /// that there is nothing more (`port_fops_read` of the kernel's virtio_console).
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Vsock(port) => return port.read(to),
                Self::Console(port) => match port.read(to)? {
                    0 => clock::sleep(ALONE),
                    n => return Ok(n),
                },
            }
        }
    }
}

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Console(port) => port.write(bytes),
            Self::Vsock(port) => port.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Console(port) => port.flush(),
            Self::Vsock(_) => Ok(()),
        }
    }
}
