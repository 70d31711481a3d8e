//! A channel over vsock(7): the guest connects to the agent's port, and connects again after it was away.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, listen, socket,
};

/// Connections that the guest has given up may lie before the one that it uses.
const WAITING: i32 = 16;

/// A port, and the connection that it has. Clones share both.
#[derive(Debug, Clone)]
pub struct Vsock {
    listener: Arc<OwnedFd>,
    line: Arc<Mutex<Option<Arc<File>>>>,
}

impl Vsock {
    /// Listens on the port of this number.
    pub fn listen(number: u32) -> Result<Self> {
        let listen_on = || -> nix::Result<OwnedFd> {
            let socket = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            bind(socket.as_raw_fd(), &VsockAddr::new(nix::libc::VMADDR_CID_ANY, number))?;
            listen(&socket, Backlog::new(WAITING)?)?;
            Ok(socket)
        };
        let listener = listen_on().with_context(|| format!("listening on port {number} of vsock"))?;
        Ok(Self::on(listener))
    }

    fn on(listener: OwnedFd) -> Self {
        Self { listener: Arc::new(listener), line: Arc::default() }
    }

    fn line(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection there is, or the next one.
    fn connection(&self) -> io::Result<Arc<File>> {
        if let Some(line) = self.line().clone() {
            return Ok(line);
        }
        let accepted = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        #[expect(unsafe_code, reason = "nix gives a number, which is a descriptor that nobody else has")]
        let line = Arc::new(unsafe { File::from_raw_fd(accepted) });
        *self.line() = Some(line.clone());
        Ok(line)
    }
}

impl Read for Vsock {
    /// Waits for the guest, however often it goes: a microVM that is saved loses its connections.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection()?.as_ref().read(to) {
                Ok(0) => *self.line() = None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => *self.line() = None,
                Ok(n) => return Ok(n),
            }
        }
    }
}

impl Write for Vsock {
    /// What is told while the guest is away it does not hear.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = self.line().clone();
        match line.map(|line| line.as_ref().write(bytes)) {
            Some(Ok(n)) => Ok(n),
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            // The thread that reads finds out, and waits for the next.
            Some(Err(_)) | None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn the_guest_may_go_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("port");
        // Another family of addresses, the same calls.
        let mut port = Vsock::on(UnixListener::bind(&at).unwrap().into());
        port.write_all(b"to nobody").unwrap();
        for asked in [b"one", b"two"] {
            let mut guest = UnixStream::connect(&at).unwrap();
            guest.write_all(asked).unwrap();
            let mut heard = [0; 3];
            port.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, asked);
            port.clone().write_all(b"answer").unwrap();
            let mut answer = [0; 6];
            guest.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"answer");
        }
    }
}
