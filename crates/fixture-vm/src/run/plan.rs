//! What a run will do, as plain data: the user's words and the scenario, with every default filled in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use fixture::contract::input::GuestInput;
use fixture::contract::{self};
use fixture::scenario::{Clock, read};

use super::promise;
use super::publish::Target;
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
    Ok(Plan {
        input: GuestInput { contract: contract::VERSION, clock, seed, scenario },
        target: Target::new(&args.out)?,
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
    })
}

fn scenario(path: &Path) -> Result<fixture::scenario::Scenario> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("the scenario {shown} cannot be read: {error}")))
        .context("reading the scenario")?;
    Ok(read::from_yaml(&shown, &text)?)
}
