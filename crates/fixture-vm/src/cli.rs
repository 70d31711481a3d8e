//! The command line: what a user can type, with help, completions and manual page from one definition.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fixture::contract::input::Hold;
use fixture::scenario::Clock;
use fixture::value::Nanos;

use crate::accel::Choice;
use crate::run::seeds::Seeds;

pub const EXAMPLES: &str = "\
Examples:
  fixture-vm run scenarios/tsn-three-node.yaml --out out/tsn
  fixture-vm run scenarios/vlan-trunk.yaml --out out/trunk --clock real --accel auto
  fixture-vm --verify out/tsn
  fixture-vm doctor

Exit codes:
    0  all is well
    1  `diff`: the two differ
    2  the command line, or a file that it names, is wrong; nothing was started
    3  something is missing here: QEMU, an image, disk room, a writable folder
    4  the guest failed, panicked, stopped or died
    5  a stage passed its deadline, or the guest fell silent
    6  the fixtures are not right
    7  equal inputs gave other bytes, or a golden's are others
    8  the golden does not know these inputs; nothing was compared
    9  `test`: tests failed
   10  the fixtures mean something that nobody has reviewed yet
  130  interrupted";

/// Makes reproducible network fixtures in a virtual machine, and verifies them
#[derive(Debug, Parser)]
#[command(name = "fixture-vm", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub verify: Option<VerifyFlag>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The flag that existing workflows call.
#[derive(Debug, Args)]
pub struct VerifyFlag {
    /// Verify fixture sets, as the command `verify` does
    #[arg(long = "verify", value_name = "DIR", num_args = 1.., required = true)]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a scenario in a guest and publish its fixtures
    Run(Box<RunArgs>),
    /// Run the scenarios of a project, each in a guest of its own, side by side
    Test(Box<crate::test::cli::TestArgs>),
    /// Run a recorded run again, instruction by instruction, with a debugger if you like
    Replay(crate::replay::ReplayArgs),
    /// Verify fixture sets
    Verify(crate::verify::VerifyArgs),
    /// Say what is different in two fixture sets
    Diff(crate::diff::DiffArgs),
    /// Accept or reject what scenarios newly mean
    Review(crate::snapshot::review::ReviewArgs),
    /// Build and look after guest images
    Image(crate::image::cli::Command),
    /// Look after the store of finished sets
    Store(crate::store::cli::Command),
    /// Show what happened in runs: harness, QEMU, guests, networks and tests
    Events(crate::events::cli::Command),
    /// Open a shell in the guest that was kept of a run
    Shell(crate::shell::ShellArgs),
    /// List the runs that the event database has
    Runs(crate::events::cli::RunsArgs),
    /// Tell the story of a run
    Timeline(crate::events::cli::TimelineArgs),
    /// Draw a set or a run as one HTML page, or its pictures as SVG
    Report(crate::report::cli::ReportArgs),
    /// Say what this machine has and lacks, and the mend; changes nothing
    Doctor(DoctorArgs),
    /// Follow requirements to the tests that prove them
    Trace(crate::trace::TraceArgs),
    /// Print shell completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

const RUN_EXAMPLES: &str = "\
Examples:
  fixture-vm run scenarios/tsn-three-node.yaml --out out/tsn
  fixture-vm run scenarios/lldp-ring.yaml --out out/ring --json > run.jsonl
  fixture-vm run scenarios/vlan-trunk.yaml --out out/trunk --dry-run
  fixture-vm run scenarios/vlan-trunk.yaml --out out/trunk --check 5
  fixture-vm run scenarios/vlan-trunk.yaml --out out/sweep --seeds 1..50";

/// The guest, if none is named.
pub const GUEST: &str = "debian";
/// The guest's memory in MiB, if nothing is said of it and no microVMs run in it.
pub const MEMORY_MIB: u32 = 512;

/// The longest silence of a guest, if nothing is said of it.
pub const SILENCE: Duration = Duration::from_secs(45);

/// What `run` takes.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// The scenario, a YAML file
    pub scenario: PathBuf,
    /// Where the fixture set goes; a set that is there, and nothing else, is replaced when the new one is complete and
    /// verified
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The guest's clock [default: the scenario's]
    #[arg(long)]
    pub clock: Option<ClockArg>,
    /// Seed of the run [default: the scenario's]
    #[arg(long)]
    pub seed: Option<u64>,
    /// What runs the guest's code
    #[arg(long, default_value = "auto")]
    pub accel: Choice,
    /// The guest: `debian`, `nixos`, or the folder of an image
    #[arg(long, default_value = GUEST, value_name = "GUEST")]
    pub guest: String,
    /// How long the scenario may take by the host's clock, like 90s or 10min [default: from the scenario]
    #[arg(long, value_parser = duration, value_name = "T")]
    pub timeout: Option<Duration>,
    /// Longest time without a word of the guest
    #[arg(long, value_parser = duration, value_name = "T", default_value = "45s")]
    pub silence: Duration,
    /// Guest memory in MiB [default: 512, or what the scenario's microVMs add up to]
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u32>,
    /// Virtual CPUs
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub cpus: u8,
    /// Boot the guest, even where a saved one could be continued, and save none
    #[arg(long)]
    pub cold: bool,
    /// Keep what `replay` needs to run it again, in a folder beside the set
    #[arg(long)]
    pub record: bool,
    /// Print events and result as JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Keep the guest as it is when it ends, so that `shell` can look into it; with --dry-run, the run folder
    #[arg(long, default_value = "none", value_name = "WHICH")]
    pub keep: Keep,
    /// Prepare, print QEMU's command line, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Where run folders are made [default: the user's runtime folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Where finished sets are kept [default: $FIXTURE_VM_STORE, else fixture-vm/store in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// The event database [default: $FIXTURE_VM_EVENTS, else fixture-vm/events.db in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub events_db: Option<PathBuf>,
    /// Run the guest even if the store has the set
    #[arg(long)]
    pub no_cache: bool,
    /// Run N times, side by side, and compare every set with the first; exits with 7 if one differs
    #[arg(long, value_name = "N", value_parser = times, conflicts_with_all = ["seeds", "dry_run"])]
    pub check: Option<usize>,
    /// Run once for each seed, like 1..50, and tell for which the expectations held; sets go to DIR/seed-N
    #[arg(long, value_name = "A..B", conflicts_with_all = ["seed", "golden", "update_golden", "dry_run"])]
    pub seeds: Option<Seeds>,
    /// How many of several runs go on at once [default: as many as processors and memory allow]
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<usize>,
    /// Compare with the scenario's golden, NAME.golden beside NAME.yaml
    #[arg(long, conflicts_with_all = ["update_golden", "dry_run"])]
    pub golden: bool,
    /// Record the fixtures' digests in the scenario's golden, and show what is different
    #[arg(long, conflicts_with = "dry_run")]
    pub update_golden: bool,
    /// Compare with the scenario's snapshot, NAME.snap beside NAME.yaml, and begin one where there is none; one
    /// that is there is always compared
    #[arg(long, conflicts_with_all = ["seeds", "dry_run"])]
    pub snapshot: bool,
    /// A fault for the guest to run into, KIND@STEP: for tests of fixture-vm itself
    #[arg(long, hide = true)]
    pub fault: Option<String>,
}

/// Which guests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Keep {
    /// Those that failed, or took too long
    Failed,
    /// Every one
    All,
    /// None
    #[default]
    None,
}

impl From<Keep> for Hold {
    fn from(keep: Keep) -> Self {
        match keep {
            // Whether a guest that did well has failed is known when its fixtures are verified.
            Keep::Failed | Keep::All => Hold::Always,
            Keep::None => Hold::Never,
        }
    }
}

impl RunArgs {
    /// What `run SCENARIO --out DIR` means.
    pub fn of(scenario: PathBuf, out: PathBuf) -> Self {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            args: RunArgs,
        }
        let words = ["run".into(), "--out=.".into(), "--".into(), scenario.into_os_string()];
        Self { out, ..Alone::parse_from::<_, std::ffi::OsString>(words).args }
    }
}

/// The clock as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClockArg {
    /// Counted in instructions: two runs give the same bytes
    Virtual,
    /// The host's: real jitter
    Real,
}

impl From<ClockArg> for Clock {
    fn from(clock: ClockArg) -> Self {
        match clock {
            ClockArg::Virtual => Clock::Virtual,
            ClockArg::Real => Clock::Real,
        }
    }
}

/// What `doctor` takes.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print the checks as JSON
    #[arg(long)]
    pub json: bool,
    /// Where run folders are made [default: the user's runtime folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
}

fn times(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|times| *times >= 2).ok_or_else(|| "at least 2 runs can be compared".into())
}

pub fn jobs(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|jobs| *jobs >= 1).ok_or_else(|| "expected a number of at least 1".into())
}

pub fn duration(text: &str) -> Result<Duration, fixture::value::ValueError> {
    text.parse::<Nanos>().map(Nanos::duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_complete() {
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!("help", command.render_long_help());
        let run = command.find_subcommand_mut("run").unwrap().clone().term_width(100).render_long_help();
        insta::assert_snapshot!("help_run", run);
    }

    #[test]
    fn the_flag_and_the_command_are_the_same() {
        let flag = Cli::parse_from(["fixture-vm", "--verify", "a", "b"]);
        assert_eq!(flag.verify.unwrap().paths, [PathBuf::from("a"), PathBuf::from("b")]);
        assert!(Cli::try_parse_from(["fixture-vm", "--verify", "a", "doctor", "--json"]).is_err());
    }
}
