//! The guest program: PID 1 of the Debian guest, a unit of the NixOS guest.
//!
//! It builds the scene that the scenario asks for, runs daemons and traffic in it, makes the fixture set of
//! what real tools report, hands it to the host and switches the machine off, whatever happens.

mod agent;
mod boot;
mod capture;
mod child;
mod clock;
mod cmdline;
mod collect;
mod daemons;
mod events;
mod failure;
mod fault;
mod gptp;
mod handover;
mod input;
mod lldp;
mod microvm;
mod netns;
mod observe;
mod plan;
mod pools;
mod random;
mod scene;
mod shell;
mod talk;
mod terminal;
mod tools;
mod work;

use anyhow::{Context, Result};
use fixture::contract::VERSION;
use fixture::contract::event::{HOLD_NS, Step, What};
use fixture::contract::input::Opening;

use crate::cmdline::CommandLine;
use crate::daemons::Daemons;
use crate::events::Events;
use crate::handover::Share;
use crate::microvm::MicroVms;
use crate::plan::Plan;
use crate::plan::perturb::Perturbation;
use crate::scene::Scene;
use crate::talk::Talkers;
use crate::tools::Tools;

fn main() {
    let init = std::process::id() == 1;
    if let Err(error) = start(init) {
        println!("fixture-vm: {error:#}");
    }
    boot::power::off()
}

/// Is what the kernel command line says: the guest, or a node of its own in one.
fn start(init: bool) -> Result<()> {
    if init {
        boot::mount_kernel_file_systems()?;
    }
    let line = CommandLine::read();
    if let Ok(CommandLine { agent: Some(channel), tools, .. }) = &line {
        agent::run(channel, tools.as_deref());
    }
    let events = begin()?;
    match line {
        // The step that fails has told of it.
        Ok(line) => drop(generate(init, &line, &events)),
        Err(error) => failure::report(&events, &error),
    }
    Ok(())
}

/// Opens the way to the host, so that everything after it can be told.
fn begin() -> Result<Events> {
    let events = Events::open()?;
    failure::report_panics(&events);
    let kernel = kernel_release()?;
    events.send(What::Hello { contract: VERSION, program: env!("CARGO_PKG_VERSION").into(), kernel });
    Ok(events)
}

/// The whole run, step by step.
fn generate(init: bool, line: &CommandLine, events: &Events) -> Result<()> {
    let run = Run { line, events };
    let (tools, versions) = run.step(Step::Boot, || {
        if init {
            boot::enter_root(line, events)?;
        }
        let tools = Tools::find()?;
        let versions = tools.versions()?;
        let detail = versions.values().cloned().collect::<Vec<_>>().join("; ");
        Ok(((tools, versions), detail))
    })?;
    events.send(What::Ready);
    hold();

    let Opening { network, seed, .. } = run.step(Step::Input, || {
        let opening = input::opening()?;
        random::mix(&opening.seed.to_le_bytes())?;
        let detail = format!("on the {} clock, seed {}", opening.clock.name(), opening.seed);
        Ok((opening, detail))
    })?;
    let plan = Plan::of(&network, seed);

    let scene = run.step(Step::Topology, || {
        work::create()?;
        let scene = Scene::build(&plan, &tools, events)?;
        Ok((scene, format!("{} nodes, {} links", network.nodes.len(), network.links.len())))
    })?;
    let (captures, begin) = run.step(Step::Capture, || {
        let begin = clock::realtime();
        let captures = capture::start_all(&network, &scene, &tools)?;
        let detail = format!("{} capture points", captures.len());
        Ok(((captures, begin), detail))
    })?;
    let (mut daemons, mut microvms) = run.step(Step::Daemons, || {
        let daemons = Daemons::start(&plan, &scene, &tools)?;
        let microvms = MicroVms::start(&network, seed, &scene, line, events)?;
        let count =
            microvms.as_ref().map_or(String::new(), |_| format!(", {} microVMs", network.microvms().count()));
        let detail = format!("{} started{count}", daemons.count());
        Ok(((daemons, microvms), detail))
    })?;
    run.step(Step::Converge, || {
        let (followers, neighbours) = daemons.converge(&network, &tools, events)?;
        if let Some(microvms) = &mut microvms {
            microvms.converge()?;
        }
        Ok(((), format!("{followers} ports follow the grandmaster, {neighbours} neighbours")))
    })?;
    events.send(What::Converged);
    hold();

    let scenario = &run.step(Step::Traffic, || {
        let scenario = network.clone().with_course(input::course()?);
        events.note(scenario.name.clone());
        let perturbation = Perturbation::of(&scenario, seed);
        if scenario.perturb.is_some() {
            work::write_raw("plan/perturbation", perturbation.text(&scenario))?;
        }
        if !scenario.streams.is_empty() {
            scene.wait_for_spanning_tree(&scenario, &tools)?;
        }
        let talkers = Talkers::open(&scenario, &perturbation.streams, &scene)?;
        let sent = observe::run(&scenario, &talkers, &mut daemons, microvms.as_mut(), &captures, events)?;
        let detail = format!("{sent} frames of {} streams", scenario.streams.len());
        Ok((scenario, detail))
    })?;
    let window = run.step(Step::Collect, || {
        let summary = collect::collect(scenario, &scene, daemons, microvms.take(), captures, &tools, events)?;
        Ok(((begin, clock::realtime()), summary))
    })?;
    // A host that wants to look at it finds it as it is.
    let scene = Some(scene).filter(|_| shell::is_wanted(false));
    run.step(Step::HandOver, || {
        let share = Share::mount()?;
        let (files, bytes) = share.hand_over(kernel_release()?, versions, window)?;
        let secrets = match microvm::secrets::count() {
            0 => String::new(),
            count => format!(", none of {count} secrets in them"),
        };
        Ok(((), format!("{files} files, {bytes} bytes{secrets}")))
    })?;
    events.send(What::Done);
    events.flush();
    shell::hold(false, events);
    drop(scene);
    Ok(())
}

/// What every step needs: whom to tell, and where to break on purpose.
struct Run<'a> {
    line: &'a CommandLine,
    events: &'a Events,
}

impl Run<'_> {
    fn step<T>(&self, step: Step, act: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        self.events.begin(step);
        let acted =
            self.line.fault.map_or(Ok(()), |fault| fault.strike(step, self.events)).and_then(|()| act());
        // Told here and not where `generate` ends: what the steps before have built is still there, for a host
        // that wants to look at it.
        let (value, detail) = acted.inspect_err(|error| {
            failure::report(self.events, error);
            shell::hold(true, self.events);
        })?;
        self.events.send(What::StepDone { step, detail });
        Ok(value)
    }
}

/// Gives the host time to save the machine. Busy, since an idle guest's clock may be put forward to its next timer
/// while the machine is being stopped.
fn hold() {
    let end = clock::monotonic() + HOLD_NS;
    while clock::monotonic() < end {
        std::hint::spin_loop();
    }
}

/// Kernel release, as uname(2) gives it.
fn kernel_release() -> Result<String> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("asking for the kernel's release")?;
    Ok(release.trim().to_owned())
}
