//! `fixture-vm verify`: verifies sets and files, and reports in the form asked for.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fixture::file;
use fixture::scenario::{self, Scenario};
use fixture::verify::Report;
use fixture::verify::report::{Format, statement};
use fixture::verify::{Against, verify, verify_all};

use crate::exit::{Code, Usage, VerificationFailed};
use crate::output::{self, Out};

/// Verifies fixture sets, or single fixtures
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Folders with a set each, or files whose format their content tells; `-` reads a list of them from
    /// standard input, one a line
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,

    /// Scenario to check the sets against, instead of their own scenario.json
    #[arg(long, value_name = "YAML")]
    scenario: Option<PathBuf>,

    /// Writes an in-toto v1 statement over the digests of each set, one a line, if all are valid
    #[arg(long, value_name = "FILE")]
    attest: Option<PathBuf>,

    /// How many sets are verified at once; default: as many as there are processors
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Form {
    /// A table and sentences, coloured on a terminal
    Human,
    /// Everything, for programs
    Json,
    /// SARIF 2.1.0, which code hosts show beside the files
    Sarif,
    /// JUnit XML, which CI systems read
    Junit,
    /// Markdown, for a summary page
    Markdown,
}

impl VerifyArgs {
    /// What `--verify PATH...` means: the command `verify` with nothing but paths.
    pub fn of(paths: Vec<PathBuf>) -> Self {
        Self { paths, format: Form::Human, scenario: None, attest: None, jobs: None }
    }
}

/// Verifies a set that is about to be published; the report calls it by a name, since its folder will be gone.
///
/// # Errors
/// [`VerificationFailed`] with the report, if the set is not valid.
pub fn staged(set: &Path, name: String) -> anyhow::Result<Report> {
    let report = Report { subject: name, ..verify(set, &Against::default()) };
    if report.valid {
        return Ok(report);
    }
    let text = Format::Human { colour: false }.render(std::slice::from_ref(&report));
    let text = format!("the fixtures are not right, and were not published:\n{}", text.trim_end());
    Err(VerificationFailed(text, report.findings).into())
}

/// Verifies what the arguments name and prints the report to standard output.
///
/// # Errors
/// A list, scenario or statement that cannot be read or written; a set that cannot be is in the report.
pub fn run(args: VerifyArgs) -> anyhow::Result<Code> {
    let paths = listed(&args.paths)?;
    let scenario = args.scenario.as_deref().map(read_scenario).transpose()?;
    let against = Against { scenario: scenario.as_ref(), ..Against::default() };
    let jobs = match args.jobs {
        Some(jobs) => jobs.get(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let reports = verify_all(&paths, &against, jobs);

    let mut out = output(args.format);
    let text = form(args.format, out.colour()).render(&reports);
    out.write_all(text.as_bytes()).context("writing the report")?;

    if !reports.iter().all(|report| report.valid) {
        return Ok(Code::Verification);
    }
    if let Some(file) = args.attest {
        attest(&file, &reports)?;
    }
    Ok(Code::Success)
}

fn output(form: Form) -> Out {
    match form {
        Form::Human => output::painted(),
        Form::Json | Form::Sarif => output::json(),
        Form::Junit | Form::Markdown => output::text(),
    }
}

fn form(form: Form, colour: bool) -> Format {
    match form {
        Form::Human => Format::Human { colour },
        Form::Json => Format::Json,
        Form::Sarif => Format::Sarif,
        Form::Junit => Format::Junit,
        Form::Markdown => Format::Markdown,
    }
}

/// The paths, with `-` replaced by those on standard input.
fn listed(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        if path.as_os_str() != "-" {
            all.push(path.clone());
            continue;
        }
        let list = file::read_from(io::stdin().lock(), file::LIST)
            .map_err(|error| Usage(format!("the list of sets on standard input cannot be read: {error}")))?;
        let lines = list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        all.extend(lines.map(|line| PathBuf::from(OsStr::from_bytes(line))));
    }
    if all.is_empty() {
        return Err(Usage("the list on standard input names no set; give one path a line".into()).into());
    }
    Ok(all)
}

fn read_scenario(path: &Path) -> anyhow::Result<Scenario> {
    let text = file::read_text(path, file::SCENARIO)
        .map_err(|error| Usage(format!("the scenario {} cannot be read: {error}", path.display())))?;
    Ok(scenario::read::from_yaml(&path.display().to_string(), &text)?)
}

fn attest(file: &Path, reports: &[Report]) -> anyhow::Result<()> {
    let lines: String =
        reports.iter().filter_map(statement).map(|statement| format!("{statement}\n")).collect();
    fs::write(file, lines).with_context(|| format!("writing the statement {}", file.display()))
}
