//! `fixture-vm shell`: QEMU continues a kept guest, whose shell talks with this terminal; with the shell, it ends.
//!
//! Each shell starts from the guest as it was kept: what one does in it is gone with it.

mod talk;
mod terminal;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use fixture::contract::handover::NONCE_FILE;
use fixture::contract::input::{Farewell, Hold, NONCE_SIZE, PART_SIZE};
use fixture::contract::shell::ShellRequest;

use crate::exit::{Code, GuestFailed};
use crate::interrupt::Interrupt;
use crate::kept::{self, Kept};
use crate::qemu::args::{self, Files, KEPT_AS, Log, Ports, Saved};
use crate::qemu::binary::Qemu;
use crate::qemu::process::Running;
use crate::run::folder::{RunFolder, base};

const EXAMPLES: &str = "\
Examples:
  fixture-vm run scenarios/lldp-ring.yaml --out out/ring --no-cache --keep all
  fixture-vm shell
  fixture-vm shell last --command 'ip netns exec a bridge vlan show'

`exit` ends the shell, Ctrl-] ends it whatever the guest does.";

/// What `shell` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShellArgs {
    /// The run: its id, the beginning of it, or `last`
    #[arg(default_value = "last")]
    run: String,
    /// Run this instead, as `sh -c` does, and print what it says
    #[arg(long, short, value_name = "COMMAND")]
    command: Option<String>,
    /// Where run folders are made [default: the user's runtime folder]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<std::path::PathBuf>,
    /// The event database, which knows the last run [default: as `run` has it]
    #[arg(long, value_name = "FILE")]
    events_db: Option<std::path::PathBuf>,
}

/// Opens a shell and waits for its end.
pub fn run(args: &ShellArgs, interrupt: &Interrupt) -> Result<Code> {
    let kept = kept::Store::of_user()?.find(&args.run, args.events_db.as_deref())?;
    interrupt.unwinds();
    let folder = RunFolder::create(&base(args.work_dir.as_deref()))?;
    let (columns, rows) = terminal::size();
    let request = ShellRequest {
        command: args.command.clone(),
        term: std::env::var("TERM").unwrap_or_else(|_| "dumb".into()),
        rows,
        columns,
    };
    let (mut qemu, [console, events]) = start(&kept, &request, &folder)?;
    let talk = talk::Talk::begin(console, events, args.command.is_none())?;
    let status = talk.until_the_end(&mut qemu, interrupt);
    qemu.end()?;
    match status? {
        0 => Ok(Code::Success),
        status => Err(GuestFailed(format!("the shell ended with status {status}")).into()),
    }
}

/// Starts QEMU where the guest was kept, with our ends of its serial ports.
fn start(kept: &Kept, request: &ShellRequest, folder: &RunFolder) -> Result<(Running, [UnixStream; 2])> {
    let about = kept.about()?;
    let qemu = Qemu::find()?;
    let image = about.parts(&qemu)?;
    let at = |name: &str| folder.path().join(name);
    let (disk, root) = kept.copy(folder.path())?;
    let farewell = Farewell { nonce: "0".repeat(NONCE_SIZE), hold: Hold::Never };
    fs::write(at("network"), vec![b' '; PART_SIZE]).context("writing the network")?;
    fs::write(at("request"), request.to_bytes()?).context("writing the request")?;
    fs::write(at("nonce"), farewell.to_text()).context("writing the nonce")?;
    share(&at("share"), &farewell)?;
    let files = Files {
        firmware: qemu.firmware.clone(),
        kernel: image.kernel(),
        initramfs: image.initramfs(),
        root: root.unwrap_or_else(|| image.root()),
        console: at("console"),
        events: at("events"),
        network: at("network"),
        course: at("request"),
        nonce: at("nonce"),
        share: at("share"),
        saved: Some(Saved { disk, over: None, resume: Some(KEPT_AS) }),
        log: Log::Discarded,
        ports: Ports::Sockets,
    };
    let (console, its_console) = UnixStream::pair().context("making a socket")?;
    let (events, its_events) = UnixStream::pair().context("making a socket")?;
    let words = args::arguments(&about.machine, &files);
    let stderr = at("qemu.stderr");
    let mut running = Running::start_with(&qemu.path, &words, &stderr, vec![its_console, its_events])?;
    folder.note_qemu(running.pid())?;
    if let Some(status) = running.ended()? {
        anyhow::bail!("QEMU cannot continue the kept guest ({status}){}", running.words());
    }
    Ok((running, [console, events]))
}

/// A share of its own, for the machine has one.
fn share(at: &Path, farewell: &Farewell) -> Result<()> {
    fs::create_dir(at).context("making the share")?;
    fs::write(at.join(NONCE_FILE), &farewell.nonce).context("writing the nonce")
}
