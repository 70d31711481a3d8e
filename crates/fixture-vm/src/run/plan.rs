//! What a run will do, as plain data: the user's words and the scenario, with every default filled in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use fixture::contract::input::GuestInput;
use fixture::contract::{self};
use fixture::file;
use fixture::scenario::memory::Memory;
use fixture::scenario::{Clock, Scenario, read};
use fixture::value::Nanos;

use super::budget::Budget;
use super::golden::{self, Act};
use super::ours::Kind;
use super::place;
use super::promise;
use super::publish::Target;
use super::seeds::Seeds;
use super::summary;
use super::watch::{Deadlines, Milestone};
use crate::accel::Choice;
use crate::cli::{Keep, RunArgs};
use crate::events::Place;
use crate::exit::Usage;
use crate::output;
use crate::snapshot;
use crate::store::Store;

/// The least memory the guest and its tools need, in MiB.
const LEAST_MEMORY: u32 = 128;

/// Everything that was decided before anything is touched.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the guest is given.
    pub input: GuestInput,
    /// Where the set goes.
    pub target: Target,
    /// Which guest image.
    pub guest: String,
    /// Which accelerator was asked for.
    pub accelerator: Choice,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u8,
    /// How far a saved guest may have got from which this one is continued, or as which it is saved for later
    /// runs. None: it boots, and is not saved.
    pub warm: Option<Milestone>,
    /// Whether QEMU's log is kept, from which the run can be run again.
    pub record: bool,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// Which guests are kept for a shell; a dry run's folder stays for any but none.
    pub keep: Keep,
    /// Where run folders are made.
    pub work_dir: PathBuf,
    /// A fault for the guest to run into.
    pub fault: Option<String>,
    /// Where finished sets are kept; none on the real clock, where each run gives bytes of its own.
    pub store: Option<Store>,
    /// Whether a set in the store may take the place of a run.
    pub answers: bool,
    /// One run, or several.
    pub runs: Runs,
    /// How many runs go on at once.
    pub jobs: usize,
    /// The scenario's file, beside which its golden and its snapshot lie.
    pub scenario_file: PathBuf,
    /// Whether a snapshot is begun where there is none.
    pub snapshot: bool,
    /// The golden, and what is to be done with it.
    pub golden: Option<(PathBuf, Act)>,
    /// Where events go besides the run's own files; a dry run leaves none.
    pub events: Option<Place>,
    /// The test that this is run for.
    pub test: Option<OfTest>,
    /// Whether results are told as JSON.
    pub json: bool,
    /// What a user types to repeat this, but for the seed and the place.
    again: String,
}

/// The test that a run is an attempt at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfTest {
    /// The test's id, as the runner shows it.
    pub id: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How many attempts there may be.
    pub of: u32,
    /// Id of the runner's own story in the event database.
    pub runner: Option<String>,
}

/// How often a scenario is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// Once.
    One,
    /// So many times, to compare.
    Check(usize),
    /// Once for each seed.
    Seeds(Seeds),
}

impl Plan {
    /// The plan of one of several equal runs, from 1; all but the first go beside the place.
    pub fn numbered(&self, run: usize) -> Result<Self> {
        let target = match run {
            1 => self.target.clone(),
            _ => Target::new(&self.target.beside(&format!("run-{run}")))?,
        };
        Ok(Self { target, ..self.clone() })
    }

    /// The plan of one seed; it has a place of its own in the folder of the sweep.
    pub fn with_seed(&self, seed: u64) -> Result<Self> {
        let target = Target::new(&self.target.path.with_file_name(format!("seed-{seed}")))?;
        let input = GuestInput { seed, ..self.input.clone() };
        Ok(Self { target, input, ..self.clone() })
    }

    /// The plan with a guest that breaks on purpose: it is neither saved nor answered by the store.
    pub fn with_fault(self, fault: String) -> Self {
        Self { fault: Some(fault), warm: None, answers: false, ..self }
    }

    /// The plan as an attempt at a test.
    pub fn for_test(self, test: OfTest) -> Self {
        Self { test: Some(test), ..self }
    }

    /// The plan of something before the run, which is no run of its own in the event database.
    pub fn without_events(&self) -> Self {
        Self { events: None, ..self.clone() }
    }

    /// What a user types to have this run again.
    pub fn again(&self) -> String {
        let out = summary::shell_word(&self.target.path.to_string_lossy());
        format!("{} --seed {} --out {out}", self.again, self.input.seed)
    }
}

/// Reads the scenario, fills in the defaults, refuses what contradicts itself.
pub fn plan(args: &RunArgs) -> Result<Plan> {
    of(args, scenario(&args.scenario)?)
}

/// The plan of a scenario that was read.
pub fn of(args: &RunArgs, scenario: Scenario) -> Result<Plan> {
    let clock = args.clock.map_or(scenario.clock, Clock::from);
    promise::check(args, clock)?;
    let memory_mib = memory(args.memory, &scenario, Budget::most_memory_mib())?;
    // Guest time may pass much more slowly than the host's: a translated guest, a loaded machine.
    let spans = [scenario.convergence_timeout, scenario.duration, scenario.settling()];
    let guest_time = spans.iter().map(|span| span.duration()).sum::<Duration>() * 10;
    let deadlines = Deadlines {
        boot: Duration::from_secs(180),
        scenario: args.timeout.unwrap_or(guest_time + Duration::from_secs(300)),
        hand_over: Duration::from_secs(180),
        silence: args.silence,
        slow: None,
    };
    let seed = args.seed.unwrap_or(scenario.seed);
    let runs = match (args.check, args.seeds) {
        (Some(times), _) => Runs::Check(times),
        (None, Some(seeds)) => Runs::Seeds(seeds),
        (None, None) => Runs::One,
    };
    let target = match runs {
        Runs::Seeds(seeds) => Target::new(&args.out.join(format!("seed-{}", seeds.first())))?,
        _ => Target::new(&args.out)?,
    };
    let work_dir = super::folder::base(args.work_dir.as_deref());
    let store = if clock == Clock::Virtual { Some(Store::find(args.store.as_deref())?) } else { None };
    let events = if args.dry_run { None } else { events(args.events_db.as_deref()) };
    for (what, path) in [
        ("the scenario", Some(args.scenario.as_path())),
        ("the work folder", Some(work_dir.as_path())),
        ("the store", store.as_ref().map(Store::dir)),
        ("the event database", events.as_ref().map(|place| place.path.as_path())),
    ] {
        path.map_or(Ok(()), |path| place::must_not_hold(&target.path, what, path))?;
    }
    if args.record {
        target.may_replace(Kind::Recording)?;
    }
    let act = match (args.golden, args.update_golden) {
        (true, _) => Some(Act::Compare),
        (_, true) => Some(Act::Update),
        _ => None,
    };
    if act.is_some() && clock == Clock::Real {
        return Err(Usage(
            "on the real clock every run gives other bytes; a golden needs --clock virtual".into(),
        )
        .into());
    }
    let warm = warm(args, clock, &scenario);
    let golden = act.map(|act| (golden::beside(&args.scenario), act));
    if let Some((path, _)) = &golden {
        golden::check(path, &scenario.name)?;
    }
    if !matches!(runs, Runs::Seeds(_)) {
        snapshot::check_readable(&args.scenario, &scenario.name)?;
    }
    let input = GuestInput { contract: contract::VERSION, clock, seed, scenario };
    input.check_size().map_err(|error| Usage(format!("{}: {error}", args.scenario.display())))?;
    Ok(Plan {
        input,
        target,
        guest: args.guest.clone(),
        accelerator: args.accel,
        memory_mib,
        cpus: args.cpus,
        warm,
        record: args.record,
        deadlines,
        keep: args.keep,
        work_dir,
        fault: args.fault.clone(),
        store,
        answers: !(args.no_cache || args.cold || args.record),
        runs,
        jobs: args
            .jobs
            .unwrap_or_else(|| Budget::of_machine().holds(Budget::of_guest(args.cpus, memory_mib))),
        scenario_file: args.scenario.clone(),
        snapshot: args.snapshot,
        golden,
        events,
        test: None,
        json: args.json,
        again: again(args),
    })
}

/// The guest's memory: what was asked for, or enough for the microVMs in it.
fn memory(asked: Option<u32>, scenario: &Scenario, most: Option<u64>) -> Result<u32> {
    let needed = Memory::of(scenario);
    let least = needed.as_ref().map_or(u64::from(LEAST_MEMORY), Memory::mib);
    let sum = needed.map_or(String::new(), |needed| format!(", as it adds up: {needed}"));
    match asked {
        Some(asked) if u64::from(asked) < least => {
            let message = format!("--memory {asked} is too little; the guest needs {least} MiB{sum}");
            Err(Usage(message).into())
        }
        Some(asked) if most.is_some_and(|most| u64::from(asked) > most) => {
            let most = most.unwrap_or_default();
            let message = format!("--memory {asked} is more than this machine has, which is {most} MiB");
            Err(Usage(message).into())
        }
        Some(asked) => Ok(asked),
        // A scenario that was checked needs no more than a guest can have.
        None => Ok(u32::try_from(least)?.max(crate::cli::MEMORY_MIB)),
    }
}

/// A database that cannot be had changes no run.
fn events(named: Option<&Path>) -> Option<Place> {
    let warn = |error: &anyhow::Error| {
        output::tell(format_args!("fixture-vm: warning: events go to the run's own files only: {error:#}"));
    };
    Place::find(named).inspect_err(warn).ok()
}

/// A guest that breaks on purpose, is recorded or runs on the real clock boots. Runs that are to be compared each
/// bring up their network themselves, and so do those with microVMs, whose own guests are part of it.
fn warm(args: &RunArgs, clock: Clock, scenario: &Scenario) -> Option<Milestone> {
    if clock == Clock::Real || args.cold || args.record || args.fault.is_some() {
        return None;
    }
    let alone = args.check.is_none() && args.seeds.is_none();
    let plain = scenario.pools.is_empty() && scenario.microvms().next().is_none();
    Some(if alone && plain { Milestone::Converged } else { Milestone::Ready })
}

/// The command without what differs from run to run. Options are left out where they are the default.
fn again(args: &RunArgs) -> String {
    let mut words = vec!["fixture-vm".to_owned(), "run".to_owned(), args.scenario.display().to_string()];
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    };
    let named = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    option("--clock", args.clock.and_then(|clock| named(clock.to_possible_value())));
    option(
        "--accel",
        Some(args.accel).filter(|a| *a != Choice::Auto).and_then(|a| named(a.to_possible_value())),
    );
    option("--guest", Some(args.guest.clone()).filter(|guest| guest != crate::cli::GUEST));
    option("--memory", args.memory.map(|mib| mib.to_string()));
    let written = |time: Duration| Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).to_string();
    option("--timeout", args.timeout.map(written));
    option("--silence", Some(args.silence).filter(|silence| *silence != crate::cli::SILENCE).map(written));
    option("--cpus", Some(args.cpus).filter(|cpus| *cpus != 1).map(|cpus| cpus.to_string()));
    words.iter().map(|word| summary::shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn scenario(path: &Path) -> Result<Scenario> {
    let shown = path.display().to_string();
    let text = file::read_text(path, file::SCENARIO)
        .map_err(|error| Usage(format!("the scenario {shown} cannot be read: {error}")))
        .context("reading the scenario")?;
    Ok(read::from_yaml(&shown, &text)?)
}
