//! The guest program: PID 1 of the Debian guest, a unit of the NixOS guest.
//!
//! It builds the scene that the scenario asks for, runs daemons and traffic in it, makes the fixture set of
//! what real tools report, hands it to the host and switches the machine off, whatever happens.

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
mod netns;
mod observe;
mod plan;
mod random;
mod scene;
mod talk;
mod tools;
mod work;

use anyhow::{Context, Result};
use fixture::contract::VERSION;
use fixture::contract::event::{HOLD_NS, Step, What};

use crate::cmdline::CommandLine;
use crate::daemons::Daemons;
use crate::events::Events;
use crate::handover::Share;
use crate::plan::Plan;
use crate::scene::Scene;
use crate::talk::Talkers;
use crate::tools::Tools;

fn main() {
    let init = std::process::id() == 1;
    match begin(init) {
        Ok(events) => {
            if let Err(error) = generate(init, &events) {
                failure::report(&events, &error);
            }
        }
        Err(error) => println!("fixture-vm: {error:#}"),
    }
    boot::power::off()
}

/// Opens the way to the host, so that everything after it can be told.
fn begin(init: bool) -> Result<Events> {
    if init {
        boot::mount_kernel_file_systems()?;
    }
    let events = Events::open()?;
    failure::report_panics(&events);
    let kernel = kernel_release()?;
    events.send(What::Hello { contract: VERSION, program: env!("CARGO_PKG_VERSION").into(), kernel });
    Ok(events)
}

/// The whole run, step by step.
fn generate(init: bool, events: &Events) -> Result<()> {
    let line = &CommandLine::read()?;
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

    let input = run.step(Step::Input, || {
        let input = input::read()?;
        random::mix(input.seed)?;
        let detail =
            format!("{} on the {} clock, seed {}", input.scenario.name, input.clock.name(), input.seed);
        Ok((input, detail))
    })?;
    let scenario = &input.scenario;
    let plan = Plan::of(scenario, input.seed);

    let scene = run.step(Step::Topology, || {
        work::create()?;
        if scenario.perturb.is_some() {
            work::write_raw("plan/perturbation", plan.perturbation.text(scenario))?;
        }
        let scene = Scene::build(&plan, &tools, events)?;
        Ok((scene, format!("{} nodes, {} links", scenario.nodes.len(), scenario.links.len())))
    })?;
    let (captures, begin) = run.step(Step::Capture, || {
        let begin = clock::realtime();
        let captures = capture::start_all(scenario, &scene, &tools)?;
        let detail = format!("{} capture points", captures.len());
        Ok(((captures, begin), detail))
    })?;
    let mut daemons = run.step(Step::Daemons, || {
        let daemons = Daemons::start(&plan, &scene, &tools)?;
        let detail = format!("{} started", daemons.count());
        Ok((daemons, detail))
    })?;
    run.step(Step::Converge, || {
        let (followers, neighbours) = daemons.converge(scenario, &scene, &tools, events)?;
        Ok(((), format!("{followers} ports follow the grandmaster, {neighbours} neighbours")))
    })?;
    run.step(Step::Traffic, || {
        let talkers = Talkers::open(scenario, &plan.perturbation.streams, &scene)?;
        let sent = observe::run(scenario, &talkers, &mut daemons, &captures, events)?;
        Ok(((), format!("{sent} frames of {} streams", scenario.streams.len())))
    })?;
    let window = run.step(Step::Collect, || {
        let summary = collect::collect(scenario, &scene, daemons, captures, &tools, events)?;
        Ok(((begin, clock::realtime()), summary))
    })?;
    drop(scene);
    run.step(Step::HandOver, || {
        let share = Share::mount()?;
        let (files, bytes) = share.hand_over(kernel_release()?, versions, window)?;
        Ok(((), format!("{files} files, {bytes} bytes")))
    })?;
    events.send(What::Done);
    events.flush();
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
        self.line.fault.map_or(Ok(()), |fault| fault.strike(step, self.events))?;
        let (value, detail) = act()?;
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
