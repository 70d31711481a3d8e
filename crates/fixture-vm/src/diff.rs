//! `fixture-vm diff`: what is different in two sets, or in two files of sets; exits as diff(1) does.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use fixture::diff::{self, DiffError};

use crate::exit::Code;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  fixture-vm diff out/monday out/tuesday
  fixture-vm diff out/monday/capture.pcapng out/tuesday/capture.pcapng
  fixture-vm diff out/monday out/tuesday --json | jq '.files[].name'

Exit codes: 0 the same bytes, 1 different, 2 they cannot be compared";

/// What `diff` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// A set, or a file of one
    pub a: PathBuf,
    /// The set or file to compare it with
    pub b: PathBuf,
    /// Print the differences as JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares, and prints what differs.
pub fn run(args: &DiffArgs) -> Result<Code> {
    let DiffArgs { a, b, json } = args;
    let diff = match (a.is_dir(), b.is_dir()) {
        (true, true) => diff::sets(a, b)?,
        (false, false) => diff::files(a, b)?,
        (true, false) => return Err(DiffError::Mixed { folder: a.clone(), file: b.clone() }.into()),
        (false, true) => return Err(DiffError::Mixed { folder: b.clone(), file: a.clone() }.into()),
    };
    let mut out = if *json { output::json() } else { output::text() };
    if *json {
        serde_json::to_writer_pretty(&mut out, &diff).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{diff}")?;
    }
    Ok(if diff.is_same() { Code::Success } else { Code::Differ })
}
