//! `fixture-vm test`: the scenarios of a project, each in a guest of its own, side by side.
//!
//! A session is project, catalogue, choice, plans and guests, schedule, report.

mod catalogue;
pub mod cli;
mod failure;
mod filter;
mod list;
mod outcome;
mod project;
mod report;
mod schedule;
mod session;
mod shard;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use self::catalogue::{Catalogue, Chosen};
use self::cli::{Form, TestArgs};
use self::outcome::{Outcome, Status, Summary};
use self::project::Project;
use self::session::Session;
use crate::exit::{Code, Usage};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Several;

/// Runs the tests that are meant, and reports.
pub fn run(args: &TestArgs, interrupt: &Interrupt) -> Result<Code> {
    let catalogue = Catalogue::read(Project::find(args.project.as_deref())?, args)?;
    let chosen = catalogue.choose(args);
    if chosen.is_empty() && args.shard.is_none() {
        return Err(nothing_is_meant(&catalogue).into());
    }
    if args.list {
        return list::show(&catalogue, &chosen, args.format);
    }
    interrupt.unwinds();
    let several = Several::new(false);
    let session = Session::prepare(&catalogue, &chosen, args, &several, interrupt)?;
    if args.no_run {
        return list::show(&catalogue, &chosen, args.format);
    }
    let colour = output::tells_painted();
    let bar = several.overall(chosen.len());
    let (outcomes, summary) = session.run(|outcome| {
        bar.inc(1);
        several.say(&report::human::line(outcome, colour));
        if args.format == Form::Json {
            output::json_line(report::json::test(outcome));
        }
    });
    bar.finish_and_clear();
    let out = catalogue.project.says.junit.as_ref().map(|file| catalogue.project.folder.join(file));
    if let Some(file) = args.junit.clone().or(out) {
        write_junit(&file, &outcomes, &summary)?;
    }
    let mut out = match args.format {
        Form::Human => output::painted(),
        Form::Json => output::json(),
        Form::Junit | Form::Github => output::text(),
    };
    let text = match args.format {
        Form::Human => report::human::report(&outcomes, &summary, out.colour()),
        Form::Json => report::json::summary(&summary) + "\n",
        Form::Junit => report::junit::render(&outcomes, &summary)?,
        Form::Github => report::github::render(&outcomes, &summary),
    };
    out.write_all(text.as_bytes()).context("writing the report")?;
    Ok(code(&outcomes, &summary))
}

fn write_junit(file: &Path, outcomes: &[Outcome], summary: &Summary) -> Result<()> {
    let context = || format!("writing the JUnit report {}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(context)?;
    }
    std::fs::write(file, report::junit::render(outcomes, summary)?).with_context(context)
}

/// The worst that happened decides; an interrupt, whatever else did.
fn code(outcomes: &[Outcome], summary: &Summary) -> Code {
    let is_interrupted = |outcome: &Outcome| outcome.reason.as_deref() == Some("interrupted");
    if outcomes.iter().any(is_interrupted) {
        Code::Interrupted
    } else if outcomes.iter().any(|outcome| outcome.status == Status::Failed) {
        Code::TestsFailed
    } else if summary.golden_unknown > 0 {
        Code::UnknownGolden
    } else {
        Code::Success
    }
}

fn nothing_is_meant(catalogue: &Catalogue) -> Usage {
    let names: Vec<_> = catalogue.tests.iter().map(catalogue::Test::name).collect();
    Usage(format!("no test is meant by these filters; the tests are {}", names.join(", ")))
}

/// How many of the chosen there are, in words.
fn many(chosen: &[Chosen]) -> String {
    match chosen.len() {
        1 => "1 test".into(),
        count => format!("{count} tests"),
    }
}
