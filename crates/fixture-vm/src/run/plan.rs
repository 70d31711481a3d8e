//! What a run will do, as plain data: the user's words and the scenario, with every default filled in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use fixture::contract::input::GuestInput;
use fixture::contract::{self};
use fixture::scenario::{Clock, read};

use super::golden::{self, Act};
use super::promise;
use super::publish::Target;
use super::seeds::Seeds;
use super::summary;
use super::watch::Deadlines;
use crate::accel::Choice;
use crate::cli::RunArgs;
use crate::exit::Usage;
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
    /// Whether the guest may be continued from a saved one, and saved for later runs.
    pub warm: bool,
    /// Whether QEMU's log is kept, from which the run can be run again.
    pub record: bool,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// Whether the run folder stays.
    pub keep: bool,
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
    /// The golden, and what is to be done with it.
    pub golden: Option<(PathBuf, Act)>,
    /// Whether results are told as JSON.
    pub json: bool,
    /// What a user types to repeat this, but for the seed and the place.
    again: String,
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

    /// What a user types to have this run again.
    pub fn again(&self) -> String {
        let out = summary::shell_word(&self.target.path.to_string_lossy());
        format!("{} --seed {} --out {out}", self.again, self.input.seed)
    }
}

/// Reads the scenario, fills in the defaults, refuses what contradicts itself.
pub fn plan(args: &RunArgs) -> Result<Plan> {
    let scenario = scenario(&args.scenario)?;
    let clock = args.clock.map_or(scenario.clock, Clock::from);
    promise::check(args, clock)?;
    if args.memory < LEAST_MEMORY {
        return Err(Usage(format!(
            "--memory {} is too little; the guest needs {LEAST_MEMORY} MiB",
            args.memory
        ))
        .into());
    }
    // Guest time may pass much more slowly than the host's: a translated guest, a loaded machine.
    let guest_time = (scenario.convergence_timeout.duration() + scenario.duration.duration()) * 10;
    let deadlines = Deadlines {
        boot: Duration::from_secs(180),
        scenario: args.timeout.unwrap_or(guest_time + Duration::from_secs(300)),
        hand_over: Duration::from_secs(180),
        silence: args.silence,
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
    Ok(Plan {
        input: GuestInput { contract: contract::VERSION, clock, seed, scenario },
        target,
        guest: args.guest.clone(),
        accelerator: args.accel,
        memory_mib: args.memory,
        cpus: args.cpus,
        warm: clock == Clock::Virtual && !args.cold && !args.record && args.fault.is_none(),
        record: args.record,
        deadlines,
        keep: args.keep,
        work_dir: super::folder::base(args.work_dir.as_deref()),
        fault: args.fault.clone(),
        store: if clock == Clock::Virtual { Some(Store::find(args.store.as_deref())?) } else { None },
        answers: !(args.no_cache || args.cold || args.record),
        runs,
        jobs: args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        golden: act.map(|act| (golden::beside(&args.scenario), act)),
        json: args.json,
        again: again(args),
    })
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
    option(
        "--memory",
        Some(args.memory).filter(|mib| *mib != crate::cli::MEMORY_MIB).map(|mib| mib.to_string()),
    );
    option("--cpus", Some(args.cpus).filter(|cpus| *cpus != 1).map(|cpus| cpus.to_string()));
    words.iter().map(|word| summary::shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn scenario(path: &Path) -> Result<fixture::scenario::Scenario> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("the scenario {shown} cannot be read: {error}")))
        .context("reading the scenario")?;
    Ok(read::from_yaml(&shown, &text)?)
}
