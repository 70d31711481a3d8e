//! A run: plan, image, boot, wait, collect, verify, publish.

mod boot;
pub mod closure;
pub mod events;
pub mod folder;
mod plan;
mod publish;
mod share;
mod summary;
pub mod timeline;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::contract::handover::Status;
use fixture::contract::manifest::{Closure, Guest, Manifest, Run};
use fixture::contract::{self, CONSOLE, EVENTS, MANIFEST, SCENARIO, TIMELINE};
use fixture::scenario::Clock;
use fixture::verify::Report;

use self::closure::closure;
use self::events::{EventLog, HostEvent, Stage};
use self::folder::RunFolder;
use self::plan::Plan;
use self::share::Share;
use crate::accel;
use crate::cli::RunArgs;
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::qemu::args::{Files, Machine};
use crate::qemu::binary::{self, Qemu};
use crate::qemu::process;

/// Runs a scenario; afterwards its fixture set is in place, or nothing has changed.
pub fn run(args: &RunArgs, interrupt: &Interrupt) -> Result<()> {
    let plan = plan::plan(args)?;
    let qemu = Qemu::find()?;
    // Dropped last to first: QEMU ends, then what it used is removed, then the folder's lock goes.
    let mut folder = RunFolder::create(&plan.work_dir)?;
    let mut log = EventLog::start(&folder.path().join(EVENTS), Progress::new(args.json))?;
    let prepared = prepare(&plan, qemu, &folder, &mut log, interrupt)?;
    if args.dry_run {
        return summary::dry_run(&plan, &prepared);
    }
    if plan.keep {
        folder.keep();
    }
    let result = boot::boot(&plan, &prepared, &folder, &mut log, interrupt)
        .and_then(|()| deliver(&plan, &prepared, &folder, &mut log, interrupt));
    match result {
        Ok(report) => summary::show(&plan, &report, &log, args.json),
        Err(error) => Err(diagnose(&plan, &prepared, &mut folder, &mut log, error)),
    }
}

/// Everything that is ready before QEMU starts.
struct Prepared {
    qemu: Qemu,
    image: Image,
    machine: Machine,
    files: Files,
    closure: Closure,
    share: Share,
    nonce: String,
}

fn prepare(
    plan: &Plan,
    qemu: Qemu,
    folder: &RunFolder,
    log: &mut EventLog,
    interrupt: &Interrupt,
) -> Result<Prepared> {
    log.begin(Stage::Plan)?;
    let clock = plan.input.clock;
    let decision = accel::decide(plan.accelerator, clock, &qemu, folder.path())?;
    let detail = format!("{}, {} clock, {}", plan.input.scenario.name, clock.name(), decision.reason);
    log.done(detail)?;

    log.begin(Stage::Image)?;
    let image = crate::guest::find(&plan.guest, interrupt)?;
    log.done(format!("{} {:.12}", image.descriptor().kind, image.digest()))?;

    let at = |name: &str| folder.path().join(name);
    let nonce = nonce()?;
    let share = Share::create(at("share"), nonce.clone())?;
    fs::write(at("nonce"), &nonce).context("writing the nonce")?;
    fs::write(at("scenario"), plan.input.to_bytes()?).context("writing the guest's input")?;
    let root = match clock {
        Clock::Virtual => image.root(),
        Clock::Real => {
            let overlay = at("root.qcow2");
            process::overlay(&binary::qemu_img()?, &image.root(), &overlay)?;
            overlay
        }
    };
    let machine = Machine {
        clock,
        accelerator: decision.accelerator,
        memory_mib: plan.memory_mib,
        cpus: plan.cpus,
        cmdline: image.cmdline().to_owned(),
        root_size: image.root_size(),
        fault: plan.fault.clone(),
    };
    let files = Files {
        firmware: qemu.firmware.clone(),
        kernel: image.kernel(),
        initramfs: image.initramfs(),
        root,
        console: at(CONSOLE),
        events: at("guest-events"),
        scenario: at("scenario"),
        nonce: at("nonce"),
        share: share.path().to_owned(),
        saved: None,
    };
    let closure = closure(&plan.input, &image, &qemu, &machine)?;
    Ok(Prepared { qemu, image, machine, files, closure, share, nonce })
}

/// Collects the set, verifies it and puts it in place.
fn deliver(
    plan: &Plan,
    prepared: &Prepared,
    folder: &RunFolder,
    log: &mut EventLog,
    interrupt: &Interrupt,
) -> Result<Report> {
    log.begin(Stage::Collect)?;
    let staging = plan.target.stage(folder)?;
    let status = prepared.share.collect(staging.path())?;
    add_origin(plan, prepared, status, staging.path(), log)?;
    log.done("")?;
    interrupt.check()?;

    log.begin(Stage::Verify)?;
    let mut report = crate::verify::staged(staging.path())?;
    report.subject = plan.target.path.display().to_string();
    log.done(summary::in_words(&report))?;
    interrupt.check()?;

    log.begin(Stage::Publish)?;
    fs::copy(&prepared.files.console, staging.path().join(CONSOLE)).context("adding the console")?;
    tell_story(staging.path(), log)?;
    staging.publish()?;
    log.done(plan.target.path.display().to_string())?;
    Ok(report)
}

/// Adds the scenario and the manifest.
fn add_origin(plan: &Plan, prepared: &Prepared, status: Status, set: &Path, log: &EventLog) -> Result<()> {
    let mut scenario =
        serde_json::to_vec_pretty(&plan.input.scenario).context("writing the scenario as JSON")?;
    scenario.push(b'\n');
    fs::write(set.join(SCENARIO), scenario).context("adding the scenario")?;
    let mut files = status.files;
    files.insert(SCENARIO.into(), share::digest(&set.join(SCENARIO))?);
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
    };
    let mut text = serde_json::to_vec_pretty(&manifest).context("writing the manifest as JSON")?;
    text.push(b'\n');
    fs::write(set.join(MANIFEST), text).context("adding the manifest")
}

fn tell_story(to: &Path, log: &EventLog) -> Result<()> {
    let mut lines = Vec::new();
    for record in log.records() {
        serde_json::to_writer(&mut lines, record).context("writing an event as JSON")?;
        lines.push(b'\n');
    }
    fs::write(to.join(EVENTS), lines).context("adding the events")?;
    fs::write(to.join(TIMELINE), timeline::timeline(log.records())).context("adding the timeline")
}

/// Keeps what a failed run has for diagnosis, and says where. The former set is not touched.
fn diagnose(
    plan: &Plan,
    prepared: &Prepared,
    folder: &mut RunFolder,
    log: &mut EventLog,
    error: anyhow::Error,
) -> anyhow::Error {
    if error.is::<crate::exit::Interrupted>() {
        return error;
    }
    let keep = |log: &mut EventLog| -> Result<PathBuf> {
        log.host(HostEvent::Failed { message: format!("{error:#}") })?;
        let place = plan.target.failed();
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
        }
        fs::create_dir(&place).with_context(|| format!("making {}", place.display()))?;
        for file in [&prepared.files.console, &folder.path().join("qemu.stderr")] {
            if let (true, Some(name)) = (file.exists(), file.file_name()) {
                fs::copy(file, place.join(name)).with_context(|| format!("keeping {}", file.display()))?;
            }
        }
        prepared.share.salvage(&place.join("share"));
        tell_story(&place, log)?;
        Ok(place)
    };
    match keep(log) {
        Ok(place) => error.context(format!("the run failed; what it left is in {}", place.display())),
        Err(why) => {
            folder.keep();
            let place = folder.path().display();
            error.context(format!("the run failed; what it left is in {place} ({why:#})"))
        }
    }
}

/// A nonce that no other run has.
fn nonce() -> Result<String> {
    let mut bytes = [0; contract::input::NONCE_SIZE / 2];
    let mut random = fs::File::open("/dev/urandom").context("opening /dev/urandom")?;
    std::io::Read::read_exact(&mut random, &mut bytes).context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
