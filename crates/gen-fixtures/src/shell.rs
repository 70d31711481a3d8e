//! A shell for the host: asked for by the second serial port, shown on the first, in a guest that holds or works.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fixture::contract::event::What;
use fixture::contract::input::Hold;
use fixture::contract::shell::{KNOCK, ShellRequest};
use nix::libc::O_NOCTTY;
use nix::sys::termios::tcdrain;

use crate::child;
use crate::clock;
use crate::events::{self, Events};
use crate::input;
use crate::terminal;

/// The first serial port, the console.
const PORT: &str = "/dev/ttyS0";

/// The shell and its tools: one program under many names.
const BUSYBOX: &str = "/usr/bin/busybox";

/// Where the names are.
const NAMES: &str = "/run/shell";

/// Serves shells from now on, one after the other, whatever else the guest does. Nothing comes from a host that
/// only makes fixtures, so this thread sleeps in every run alike.
pub fn serve(events: &Events) -> Result<()> {
    let (mut port, events) = (events.host_side()?, events.clone());
    let answer = move || {
        let mut byte = [0];
        while let Ok(1) = port.read(&mut byte) {
            if byte[0] != KNOCK {
                continue;
            }
            let status = input::shell().and_then(|request| run(&request, &events)).unwrap_or_else(|error| {
                println!("fixture-vm: no shell: {error:#}");
                127
            });
            events.send(What::ShellEnded { status });
        }
    };
    std::thread::Builder::new().name("shell".into()).spawn(answer).context("a thread")?;
    Ok(())
}

/// Whether the host wants a guest that ends so to hold. Where even this cannot be read, it does not: the host
/// hears of the failure and sees the guest switch off.
pub fn is_wanted(failed: bool) -> bool {
    match input::farewell().map_or(Hold::Never, |farewell| farewell.hold) {
        Hold::Never => false,
        Hold::Failed => failed,
        Hold::Always => true,
    }
}

/// Stays as everything is, for ever, if the host wants that of a guest that ends so.
pub fn hold(failed: bool, events: &Events) {
    if is_wanted(failed) {
        events.send(What::Held);
        loop {
            clock::sleep(Duration::from_secs(3600));
        }
    }
}

/// Runs one shell to its end; gives its status.
fn run(request: &ShellRequest, events: &Events) -> Result<i32> {
    // What the kernel has to say would be in the midst of what the shell shows.
    fs::write("/proc/sys/kernel/printk", "1").context("quieting the console")?;
    name_tools()?;
    let open = OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY).open(PORT);
    let port = open.with_context(|| format!("opening {PORT}"))?;
    events::raw(&port).with_context(|| format!("setting up {PORT}"))?;
    let sh = format!("{NAMES}/sh");
    let status = match &request.command {
        Some(command) => child::run_towards(&[sh, "-c".into(), command.clone()], &port, NAMES, &request.term),
        None => interactive(&[sh, "-l".into()], &port, request, events),
    }?;
    tcdrain(&port).context("waiting for what the shell has shown")?;
    Ok(status)
}

/// A shell to type into.
fn interactive(argv: &[String], port: &File, request: &ShellRequest, events: &Events) -> Result<i32> {
    let (master, its_end) = terminal::open(request)?;
    let child = child::start_on_terminal(argv, &its_end, NAMES, &request.term)?;
    // Only the shell's ends are left, so that the screen ends with it.
    drop(its_end);
    terminal::relay(port, master, |keys| events.send(What::ShellTook { keys }))?;
    child::status_of(child, argv)
}

/// Gives the shell's tools the names that people know.
fn name_tools() -> Result<()> {
    if Path::new(NAMES).exists() {
        return Ok(());
    }
    fs::create_dir_all(NAMES).with_context(|| format!("making {NAMES}"))?;
    let names = child::run(&[BUSYBOX.into(), "--list".into()], Duration::from_secs(60))
        .context("asking the shell for its tools: is it in the image?")?;
    for name in String::from_utf8_lossy(&names).lines() {
        symlink(BUSYBOX, Path::new(NAMES).join(name)).with_context(|| format!("naming {name}"))?;
    }
    Ok(())
}
