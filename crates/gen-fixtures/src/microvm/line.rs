//! How an agent is reached: the VMM's socket, and behind Firecracker's the port that the agent listens on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The longest answer to `CONNECT` has ten digits.
const GREETING: usize = 32;

/// The way to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The VMM's socket.
    pub socket: PathBuf,
    /// Which port of the microVM the VMM is to connect to first (vsock.md of Firecracker's documentation); none:
    /// what the socket takes and gives is the channel.
    pub port: Option<u32>,
}

impl Line {
    /// Whether the VMM itself answers, whatever the microVM is doing.
    pub fn is_always_open(&self) -> bool {
        self.port.is_none()
    }

    /// Connects. Through a port that takes a microVM that runs and an agent that listens.
    pub fn dial(&self, within: Duration) -> Result<UnixStream> {
        let dial = || -> Result<UnixStream> {
            let mut stream = UnixStream::connect(&self.socket)?;
            if let Some(port) = self.port {
                stream.set_read_timeout(Some(within)).context("a time limit for the VMM")?;
                writeln!(stream, "CONNECT {port}")?;
                greeted(&mut stream)?;
            }
            Ok(stream)
        };
        dial().with_context(|| format!("connecting to {}", self.socket.display()))
    }
}

/// Reads `OK`, the VMM's end of the connection, and a newline; not a byte more, since what follows is the agent's.
fn greeted(stream: &mut UnixStream) -> Result<()> {
    let mut said = Vec::new();
    while said.last() != Some(&b'\n') {
        let mut byte = [0];
        ensure!(stream.read(&mut byte)? == 1, "nobody listens in the microVM");
        said.push(byte[0]);
        ensure!(said.len() < GREETING, "the VMM does not say OK");
    }
    ensure!(said.starts_with(b"OK "), "the VMM says {:?}", String::from_utf8_lossy(&said).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// What a VMM that answers this makes of a connection to port 1024, and what comes after its greeting.
    fn dialled(answer: &'static [u8]) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let line = Line { socket: dir.path().join("vsock"), port: Some(1024) };
        let listener = UnixListener::bind(&line.socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 13];
                stream.read_exact(&mut asked).unwrap();
                assert_eq!(&asked, b"CONNECT 1024\n");
                stream.write_all(answer).unwrap();
            });
            let mut rest = String::new();
            line.dial(LONG)?.read_to_string(&mut rest)?;
            Ok(rest)
        })
    }

    #[test]
    fn a_port_is_connected_to_and_what_follows_is_the_agent_s() {
        assert_eq!(dialled(b"OK 1073741824\n{}\n").unwrap(), "{}\n");
    }

    #[test]
    fn without_an_agent_there_is_no_line() {
        for (answer, told) in [
            (&b""[..], "nobody listens in the microVM"),
            (b"OK 10", "nobody listens in the microVM"),
            (b"EH 1\n", "the VMM says \"EH 1\""),
            (&[b'O'; 40], "the VMM does not say OK"),
        ] {
            let error = format!("{:#}", dialled(answer).unwrap_err());
            assert!(error.starts_with("connecting to ") && error.ends_with(told), "{error}");
        }
    }
}
