//! A run: plan, image, boot, wait, collect, verify, publish; or a set from the store in place of a guest.
//!
//! [`run`] is what a user's command does, [`make`] the story of one run.

mod answer;
mod boot;
pub mod budget;
mod check;
pub mod closure;
mod console;
pub mod events;
pub mod folder;
pub mod golden;
pub mod host;
mod limits;
mod lines;
pub mod made;
mod ours;
mod place;
pub mod plan;
mod private;
mod promise;
mod publish;
pub mod recording;
mod salvage;
mod saved;
pub mod seeds;
mod set_files;
pub mod settle;
mod share;
pub mod side_by_side;
pub mod summary;
pub mod timeline;
mod vocabulary;
mod watch;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::contract::handover::Status;
use fixture::contract::input::{Farewell, Hold};
use fixture::contract::manifest::{Closure, Guest, Manifest, Run};
use fixture::contract::{self, CONSOLE, MANIFEST, SCENARIO};
use fixture::scenario::Clock;
use fixture::verify::Report;

use self::boot::SavedAtEnd;
use self::events::{EventLog, HostEvent, Stage};
use self::folder::RunFolder;
use self::host::Host;
use self::limits::{CONSOLE_BYTES, STDERR_BYTES};
use self::made::{Attempt, Made, Published, Set};
use self::ours::Kind;
use self::plan::{Plan, Runs};
use self::publish::Staging;
use self::share::Share;
use crate::cli::{Keep, RunArgs};
use crate::digest;
use crate::exit::{Code, Interrupted};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;
use crate::qemu::args::{Files, Log, Machine, Ports};
use crate::qemu::binary::{self, Qemu};
use crate::qemu::process;
use crate::remove;
use crate::room::{self, RoomAt};

/// Runs a scenario, once or as often as asked for; afterwards its fixture sets are in place, or nothing has
/// changed.
pub fn run(args: &RunArgs, interrupt: &Interrupt) -> Result<Code> {
    if host::is_root() {
        output::tell(format_args!("warning: {}", host::ROOT));
    }
    let plan = plan::plan(args)?;
    interrupt.unwinds();
    match plan.runs {
        Runs::One => once(&plan, args.dry_run, interrupt),
        Runs::Check(times) => check::run(&plan, times, interrupt),
        Runs::Seeds(seeds) => seeds::run(&plan, seeds, interrupt),
    }
}

fn once(plan: &Plan, dry_run: bool, interrupt: &Interrupt) -> Result<Code> {
    let mut attempt = Attempt::begin(plan, Progress::new(plan.json))?;
    let host = Host::find(plan, attempt.folder.path(), &mut attempt.log, interrupt)?;
    if dry_run {
        // Whoever starts that command line has no monitor that could end a guest that holds.
        let prepared = prepare(plan, &host, &attempt.folder, Hold::Never).room_at(attempt.folder.path())?;
        if plan.keep != Keep::None {
            attempt.folder.keep();
        }
        return summary::dry_run(plan, &prepared).map(|()| Code::Success);
    }
    let published = obtain(plan, &host, attempt, interrupt)?;
    summary::show(&published, plan.json)?;
    let code = settle::settle(plan, &published)?;
    published.reproduced()?;
    Ok(code)
}

/// One run, by the store or by a guest: afterwards its set is in place.
pub fn obtain(plan: &Plan, host: &Host, mut attempt: Attempt, interrupt: &Interrupt) -> Result<Published> {
    let made = match answer::from_store(plan, host, &mut attempt)? {
        Some(set) => Made { set, attempt },
        None => make(plan, host, attempt, interrupt)?,
    };
    made.publish(plan.store.as_ref())
}

/// One run with a guest: afterwards its set waits beside its place, complete and verified.
fn make(plan: &Plan, host: &Host, mut attempt: Attempt, interrupt: &Interrupt) -> Result<Made> {
    let Attempt { folder, log } = &mut attempt;
    let prepared = prepare(plan, host, folder, plan.keep.into()).room_at(folder.path())?;
    let set = boot::boot(plan, &prepared, folder, log, interrupt)
        .map_err(|error| room::of_run(error, folder.path()))
        .and_then(|guest| collected(plan, &prepared, folder, guest, log, interrupt));
    match set {
        Ok(set) => Ok(Made { set, attempt }),
        Err(error) => Err(diagnose(plan, &prepared, folder, log, interrupt.or(error), interrupt)),
    }
}

/// Everything that is ready before QEMU starts.
struct Prepared<'a> {
    qemu: &'a Qemu,
    image: &'a Image,
    machine: Machine,
    files: Files,
    stderr: PathBuf,
    closure: Closure,
    share: Share,
    nonce: String,
}

fn prepare<'a>(plan: &Plan, host: &'a Host, folder: &RunFolder, hold: Hold) -> Result<Prepared<'a>> {
    let Host { qemu, image, .. } = host;
    let at = |name: &str| folder.path().join(name);
    let nonce = nonce()?;
    let share = Share::create(at("share"), nonce.clone())?;
    let farewell = Farewell { nonce: nonce.clone(), hold };
    fs::write(at("nonce"), farewell.to_text()).context("writing the nonce")?;
    let (opening, course) = plan.input.parts();
    fs::write(at("network"), opening.to_bytes()?).context("writing the guest's input")?;
    fs::write(at("course"), course.to_bytes()?).context("writing the guest's input")?;
    let root = match plan.input.clock {
        Clock::Virtual => image.root(),
        Clock::Real => {
            let overlay = at("root.qcow2");
            process::overlay(&binary::qemu_img()?, &image.root(), &overlay)?;
            overlay
        }
    };
    let files = Files {
        firmware: qemu.firmware.clone(),
        kernel: image.kernel(),
        initramfs: image.initramfs(),
        root,
        console: at(CONSOLE),
        events: at("guest-events"),
        network: at("network"),
        course: at("course"),
        nonce: at("nonce"),
        share: share.path().to_owned(),
        saved: None,
        log: Log::Discarded,
        ports: Ports::Files,
    };
    let (machine, closure) = (host.machine(plan), host.closure(plan)?);
    Ok(Prepared { qemu, image, machine, files, stderr: at("qemu.stderr"), closure, share, nonce })
}

/// Collects the set, verifies it, and keeps the guest if that is one that was asked for.
fn collected(
    plan: &Plan,
    prepared: &Prepared,
    folder: &RunFolder,
    guest: Option<SavedAtEnd>,
    log: &mut EventLog,
    interrupt: &Interrupt,
) -> Result<Set> {
    let set = collect(plan, prepared, folder, log, interrupt);
    let is_kept = match &set {
        Ok(_) => plan.keep == Keep::All,
        Err(error) => !error.is::<Interrupted>(),
    };
    boot::keep(prepared, folder, guest.filter(|_| is_kept), log)?;
    set
}

/// Collects the set and verifies it.
fn collect(
    plan: &Plan,
    prepared: &Prepared,
    folder: &RunFolder,
    log: &mut EventLog,
    interrupt: &Interrupt,
) -> Result<Set> {
    log.begin(Stage::Collect)?;
    let place = &plan.target.path;
    let staging = plan.target.stage(Kind::Set, folder).room_at(place)?;
    let status = prepared.share.collect(staging.path(), interrupt).room_at(place)?;
    let manifest = add_origin(plan, prepared, status, staging.path(), log).room_at(place)?;
    let console = fs::copy(&prepared.files.console, staging.path().join(CONSOLE));
    console.context("adding the console").room_at(place)?;
    log.done("")?;
    interrupt.check()?;

    let report = verify(plan, &staging, log)?;
    interrupt.check()?;
    Ok(Set { staging, manifest, report })
}

/// Verifies a set in its staging.
fn verify(plan: &Plan, staging: &Staging, log: &mut EventLog) -> Result<Report> {
    log.begin(Stage::Verify)?;
    let report = crate::verify::staged(staging.path(), plan.target.path.display().to_string())?;
    log.done(summary::in_words(&report))?;
    Ok(report)
}

/// Adds the scenario, as it was run, and the manifest.
fn add_origin(
    plan: &Plan,
    prepared: &Prepared,
    status: Status,
    set: &Path,
    log: &EventLog,
) -> Result<Manifest> {
    let decided = plan.input.decided();
    let mut scenario = serde_json::to_vec_pretty(&decided).context("writing the scenario as JSON")?;
    scenario.push(b'\n');
    fs::write(set.join(SCENARIO), scenario).context("adding the scenario")?;
    let mut files = status.files;
    files.insert(SCENARIO.into(), digest::of_file(&set.join(SCENARIO))?);
    let (started_ns, took_ns) = log.times_ns();
    let manifest = Manifest {
        contract: contract::VERSION,
        fixture_vm: env!("CARGO_PKG_VERSION").into(),
        scenario: plan.input.scenario.name.clone(),
        clock: plan.input.clock,
        seed: plan.input.seed,
        window_ns: status.window_ns,
        files,
        closure: prepared.closure.clone(),
        guest: Guest {
            kind: prepared.image.descriptor().kind.clone(),
            kernel: status.kernel,
            tools: status.tools,
            exit_status: 0,
        },
        run: Run { nonce: prepared.nonce.clone(), started_ns, took_ns },
        answered: None,
    };
    write_manifest(set, &manifest)?;
    Ok(manifest)
}

fn write_manifest(set: &Path, manifest: &Manifest) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(manifest).context("writing the manifest as JSON")?;
    text.push(b'\n');
    fs::write(set.join(MANIFEST), text).context("adding the manifest")
}

/// Keeps what a failed run has for diagnosis, and says where. The former set is not touched.
fn diagnose(
    plan: &Plan,
    prepared: &Prepared,
    folder: &mut RunFolder,
    log: &mut EventLog,
    error: anyhow::Error,
    interrupt: &Interrupt,
) -> anyhow::Error {
    if error.is::<Interrupted>() {
        return error;
    }
    let keep = |log: &mut EventLog| -> Result<PathBuf> {
        let message = without_folders(&format!("{error:#}"), &[folder.path()]);
        log.end_attempt(Some(summary::first_line(&message).to_owned()))?;
        log.host(HostEvent::Failed { message })?;
        let mut staging = plan.target.stage(Kind::Failed, folder)?;
        let place = staging.path();
        for (file, most) in [(&prepared.files.console, CONSOLE_BYTES), (&prepared.stderr, STDERR_BYTES)] {
            if let (Ok(source), Some(name)) = (fs::File::open(file), file.file_name()) {
                digest::copy(source.take(most), &place.join(name))?;
            }
        }
        log.tell(place)?;
        prepared.share.salvage(place, interrupt)?;
        ours::mark_failed(place)?;
        staging.publish()?;
        Ok(staging.target().to_owned())
    };
    match keep(log).room_at(&plan.target.failed()) {
        Ok(place) => {
            let run = log.run_id().map(|id| format!(" {id}")).unwrap_or_default();
            let shell = log.kept().map(|id| format!("; fixture-vm shell {id} looks into its guest"));
            let place = place.display();
            error.context(format!(
                "the run{run} failed; what it left is in {place}{}",
                shell.unwrap_or_default()
            ))
        }
        Err(why) if why.is::<Interrupted>() => {
            remove::folder(&plan.target.failed()).map_or_else(|error| error.context(Interrupted), |()| why)
        }
        Err(why) => {
            folder.keep();
            let place = folder.path().display();
            error.context(format!("the run failed; what it left is in {place} ({why:#})"))
        }
    }
}

/// A message that outlives these folders.
fn without_folders(message: &str, folders: &[&Path]) -> String {
    folders.iter().fold(message.to_owned(), |message, folder| {
        message.replace(&folder.display().to_string(), "<run folder>")
    })
}

/// A nonce that no other run has.
fn nonce() -> Result<String> {
    let mut bytes = [0; contract::input::NONCE_SIZE / 2];
    let mut random = fs::File::open("/dev/urandom").context("opening /dev/urandom")?;
    random.read_exact(&mut bytes).context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
