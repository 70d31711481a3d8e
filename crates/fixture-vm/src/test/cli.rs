//! What `fixture-vm test` takes.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::filter::Filter;
use super::shard::Shard;
use crate::accel::Choice;
use crate::cli::{ClockArg, Keep, duration, jobs};

const EXAMPLES: &str = "\
Filters: a word is a part of a test's name, a glob, or =NAME. name(…), role(…), tag(…) and clock(…) ask for
more, `and`, `or`, `not` and parentheses put them together. Of several filters one must hold.

Examples:
  fixture-vm test
  fixture-vm test --project scenarios vlan 'tag(tsn) and not role(bridge)'
  fixture-vm test --shard 1/4 --format github --junit junit.xml
  fixture-vm test --list

Exit codes:
    0  every test that was meant passed, or is flaky on the real clock
    2  the command line, the project or a scenario is wrong; nothing was started
    3  something is missing here: QEMU, an image, disk room, a writable folder
    8  nothing failed, but a golden does not know a test's inputs
    9  tests failed
  130  interrupted; what ran is reported";

/// Run the scenarios of a project, each in a guest of its own, side by side
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct TestArgs {
    /// Which tests [default: all]
    #[arg(value_name = "FILTER")]
    pub filters: Vec<Filter>,
    /// The project: its fixture-vm.toml, or a folder of scenarios [default: fixture-vm.toml here or above]
    #[arg(long, value_name = "PATH")]
    pub project: Option<PathBuf>,
    /// Where sets go, each in a folder of its test's name [default: the project's, else fixture-vm-out]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the tests and stop
    #[arg(long, conflicts_with = "no_run")]
    pub list: bool,
    /// Find or build the guests, print the tests and stop
    #[arg(long)]
    pub no_run: bool,
    /// Only the i-th of N parts of the tests, like 1/4; a test's name decides where it belongs
    #[arg(long, value_name = "i/N")]
    pub shard: Option<Shard>,
    /// The most guests at once [default: as many as processors and memory allow]
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<usize>,
    /// Begin no test any more once one has failed
    #[arg(long)]
    pub fail_fast: bool,
    /// Try a test that failed up to N times more; one that then passes is flaky [default: the project's, else 0]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// How long a scenario may take by the host's clock, without the guest's boot [default: the project's]
    #[arg(long, value_parser = duration, value_name = "T")]
    pub timeout: Option<Duration>,
    /// Say after so long that a scenario is slow [default: the project's]
    #[arg(long, value_parser = duration, value_name = "T")]
    pub slow: Option<Duration>,
    /// Compare each set with its scenario's golden where there is one, on the virtual clock
    #[arg(long)]
    pub golden: bool,
    /// Record each set's digests in its scenario's golden, and begin one where there is none, on the virtual clock
    #[arg(long, conflicts_with = "golden")]
    pub update_golden: bool,
    /// Begin a snapshot where a scenario has none; one that is there is always compared
    #[arg(long)]
    pub snapshot: bool,
    /// The guest: `debian`, `nixos`, or the folder of an image [default: the project's, else debian]
    #[arg(long, value_name = "GUEST")]
    pub guest: Option<String>,
    /// The guests' clock [default: the project's, else each scenario's]
    #[arg(long)]
    pub clock: Option<ClockArg>,
    /// What runs the guests' code
    #[arg(long, default_value = "auto")]
    pub accel: Choice,
    /// Run guests even if the store has their sets
    #[arg(long)]
    pub no_cache: bool,
    /// Boot each guest, even where a saved one could be continued, and save none
    #[arg(long)]
    pub cold: bool,
    /// Form of the report on standard output
    #[arg(long, value_enum, default_value_t = Form::Human)]
    pub format: Form,
    /// Write a JUnit report to a file as well [default: the project's]
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Where run folders are made [default: the user's runtime folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Where finished sets are kept [default: $FIXTURE_VM_STORE, else fixture-vm/store in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// The event database [default: $FIXTURE_VM_EVENTS, else fixture-vm/events.db in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub events_db: Option<PathBuf>,
    /// Which guests are kept, to look into them
    #[arg(long, value_enum, default_value_t = Keep::None)]
    pub keep: Keep,
    /// A fault for a test to run into, NAME=KIND@STEP or NAME#TRY=KIND@STEP: for tests of fixture-vm itself
    #[arg(long, hide = true, value_name = "FAULT")]
    pub fault: Vec<TestFault>,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Sentences; what failed comes last
    Human,
    /// One JSON object a line: each test as it ends, then the summary
    Json,
    /// JUnit XML, which CI systems read
    Junit,
    /// Commands of GitHub's workflows: annotations and groups
    Github,
}

/// A fault for one test, in every try or in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFault {
    /// The test's name.
    pub test: String,
    /// The try, from 1; every one if there is none.
    pub only: Option<u32>,
    /// As the guest reads it.
    pub fault: String,
}

impl FromStr for TestFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (test, fault) = text.split_once('=').ok_or("expected NAME=KIND@STEP")?;
        let (test, only) = match test.split_once('#') {
            Some((test, number)) => (test, Some(number.parse().map_err(|_| "expected NAME#TRY=KIND@STEP")?)),
            None => (test, None),
        };
        Ok(Self { test: test.into(), only, fault: fault.into() })
    }
}
