//! The trace from requirement to test: `fixture-vm trace check` and `fixture-vm trace report`.
//!
//! Requirements and verifications are YAML under `artifacts/`. A verification's steps are commands; what
//! each of them runs is looked up in the source, so a renamed test cannot leave a requirement behind.

mod check;
mod model;
mod report;
mod source;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use check::Finding;
use model::Artifacts;
use source::Tests;

use crate::exit::VerificationFailed;
use crate::output;

/// Follow requirements to the tests that prove them.
#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Debug, Subcommand)]
enum TraceCommand {
    /// Find unknown keys, dangling links, unproved requirements and steps that run no test.
    Check {
        #[command(flatten)]
        project: Project,
        /// What `cargo test` printed: every test that a verification names must have passed in it.
        #[arg(long, value_name = "FILE")]
        results: Option<PathBuf>,
    },
    /// Print the matrix of requirements, verifications and tests.
    Report {
        #[command(flatten)]
        project: Project,
        /// Only requirements with this tag.
        #[arg(long)]
        tag: Option<String>,
        /// How the matrix is written.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Debug, Args)]
struct Project {
    /// The project's top-level folder, with `artifacts/` and `crates/` in it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

/// How the matrix is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Columns for a terminal.
    Text,
    /// A table for a job summary.
    Markdown,
}

/// Runs `fixture-vm trace`.
pub fn run(args: &TraceArgs) -> Result<()> {
    match &args.command {
        TraceCommand::Check { project, results } => check_all(&project.root, results.as_deref()),
        TraceCommand::Report { project, tag, format } => {
            let (artifacts, tests) = read(&project.root)?;
            let matrix = report::matrix(&artifacts, &tests, &project.root, tag.as_deref(), *format);
            output::line(matrix.trim_end_matches('\n'));
            Ok(())
        }
    }
}

fn check_all(root: &Path, results: Option<&Path>) -> Result<()> {
    let (artifacts, tests) = read(root)?;
    let mut findings = check::all(&artifacts, &tests, root);
    if let Some(file) = results {
        let log = fixture::file::read_text(file, fixture::file::LOG)
            .with_context(|| format!("reading {}", file.display()))?;
        findings.extend(check::results(&artifacts, &tests, &source::Outcomes::read(&log)));
    }
    if findings.is_empty() {
        output::line(report::summary(&artifacts, &tests, root));
        return Ok(());
    }
    Err(VerificationFailed(tell(&findings), Vec::new()).into())
}

fn read(root: &Path) -> Result<(Artifacts, Tests)> {
    let artifacts = Artifacts::read(&root.join("artifacts"))?;
    let tests = Tests::scan(&root.join("crates"))?;
    Ok((artifacts, tests))
}

fn tell(findings: &[Finding]) -> String {
    let mut text = format!("the trace has {} findings:", findings.len());
    for finding in findings {
        write!(text, "\n  {finding}").expect("a String takes every write");
    }
    text
}
