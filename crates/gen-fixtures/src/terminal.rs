//! A shell's terminal: a pseudo-terminal whose keys come from a serial port and whose screen goes there.
//!
//! A serial port drops what comes faster than it is read, so the host is told of every key that was taken and sends
//! no more than the port holds.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use fixture::contract::shell::ShellRequest;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::winsize as Winsize;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;

/// Where pseudo-terminals are (pts(4)); no run needs them, so they are there once a shell is.
const PTS: &str = "/dev/pts";

/// Both ends of a pseudo-terminal: ours, and the one that becomes the shell's.
pub fn open(wanted: &ShellRequest) -> Result<(File, File)> {
    if !Path::new(PTS).join("ptmx").exists() {
        fs::create_dir_all(PTS).with_context(|| format!("making {PTS}"))?;
        mount(Some("devpts"), PTS, Some("devpts"), MsFlags::empty(), Some("mode=620"))
            .with_context(|| format!("mounting {PTS}"))?;
    }
    let size = Winsize { ws_row: wanted.rows, ws_col: wanted.columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).context("opening a pseudo-terminal")?;
    Ok((pty.master.into(), pty.slave.into()))
}

/// Passes keys and screen on until the shell has ended: nobody has its end of the pseudo-terminal open any more.
/// `took` is told how many keys have reached it, first of all that none has.
pub fn relay(port: &File, master: File, mut took: impl FnMut(u64)) -> Result<()> {
    // A shell that takes no keys for a while must not keep us from its screen.
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("setting up the pseudo-terminal")?;
    let (mut keys, mut taken): (Vec<u8>, u64) = (Vec::new(), 0);
    took(taken);
    loop {
        let [key, screen] = wait(port, &master, !keys.is_empty())?;
        if screen && !show(port, &master)? {
            return Ok(());
        }
        if key {
            let mut some = [0; 64];
            let n = (&*port).read(&mut some).context("reading keys")?;
            keys.extend_from_slice(&some[..n]);
        }
        if !keys.is_empty() {
            let n = pass_keys(&master, &keys)?;
            keys.drain(..n);
            taken += n as u64;
            if n > 0 {
                took(taken);
            }
        }
    }
}

/// Waits until there is a key, or something for the screen, or room for keys that wait.
fn wait(port: &File, master: &File, waiting: bool) -> Result<[bool; 2]> {
    let of_master = if waiting { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut polled = [PollFd::new(port.as_fd(), PollFlags::POLLIN), PollFd::new(master.as_fd(), of_master)];
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(polled.map(|fd| fd.any().unwrap_or(false))),
        Err(errno) => Err(errno).context("waiting for keys"),
    }
}

/// Puts on the screen what there is; false at the end.
fn show(mut port: &File, mut master: &File) -> Result<bool> {
    let mut some = [0; 4096];
    match master.read(&mut some) {
        Ok(0) => Ok(false),
        Ok(n) => port.write_all(&some[..n]).map(|()| true).context("writing to the screen"),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(true),
        // What a master says once the other end is closed (pty(7)).
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(false),
        Err(error) => Err(error).context("reading what the shell shows"),
    }
}

/// Gives the shell keys; says how many it had room for.
fn pass_keys(mut master: &File, keys: &[u8]) -> Result<usize> {
    match master.write(keys) {
        Ok(n) => Ok(n),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(0),
        Err(error) => Err(error).context("passing keys on"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a program on a pseudo-terminal, not a child of the guest's"
    )]
    fn keys_are_counted_as_they_are_taken_and_the_screen_ends_with_the_program() {
        let wanted = ShellRequest { command: None, term: "dumb".into(), rows: 24, columns: 80 };
        let (master, slave) = open(&wanted).unwrap();
        let end = || slave.try_clone().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read line; stty size; echo got $line"]);
        let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop((command, slave));
        let (ours, mut host) = UnixStream::pair().unwrap();
        let port = File::from(std::os::fd::OwnedFd::from(ours));
        let mut counts = Vec::new();
        host.write_all(b"seven keys\n").unwrap();
        relay(&port, master, |taken| counts.push(taken)).unwrap();
        drop(port);
        let mut screen = String::new();
        host.read_to_string(&mut screen).unwrap();
        assert!(screen.ends_with("24 80\r\ngot seven keys\r\n"), "{screen:?}");
        assert_eq!((counts[0], *counts.last().unwrap()), (0, 11));
        assert!(child.wait().unwrap().success());
    }
}
