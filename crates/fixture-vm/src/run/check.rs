//! `--check N`: the same run several times, side by side, every set compared with the first.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context, Result};
use fixture::diff::{self, Diff};
use serde_json::json;

use super::host::Host;
use super::made::{Attempt, Made};
use super::plan::Plan;
use super::settle;
use super::side_by_side::side_by_side;
use super::summary;
use crate::exit::{Code, NotReproducible};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Several;

/// A run whose set is not the first's.
struct Differing {
    run: usize,
    place: PathBuf,
    diff: Diff,
}

/// Runs, compares, and publishes the first set; one that differs is published beside it, for examination.
pub fn run(plan: &Plan, times: usize, interrupt: &Interrupt) -> Result<Code> {
    let several = Several::new(plan.json);
    let plans = (1..=times).map(|run| plan.numbered(run)).collect::<Result<Vec<_>>>()?;
    let mut attempt = Attempt::begin(plan, several.of("run 1"))?;
    let host = Host::find(plan, attempt.folder.path(), &mut attempt.log, interrupt)?;
    let first_attempt = Mutex::new(Some(attempt));

    let one = |index: usize| -> Result<Made> {
        let begun = first_attempt.lock().ok().filter(|_| index == 0).and_then(|mut first| first.take());
        let attempt = match begun {
            Some(attempt) => attempt,
            None => Attempt::begin(&plans[index], several.of(&format!("run {}", index + 1)))?,
        };
        super::make(&plans[index], &host, attempt, interrupt)
    };
    let mut comparison = Comparison { first: None, waiting: Vec::new(), differing: Vec::new() };
    let mut result = Ok(());
    side_by_side(&mut (0..times), plan.jobs.min(times), one, |index, made| {
        result = made
            .with_context(|| format!("run {} of {times}", index + 1))
            .and_then(|made| comparison.take(index, made, &several));
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    result?;

    let Comparison { first, differing, .. } = comparison;
    let made = first.context("no run was made")?;
    // What cannot be made again is not what a store is for.
    let store = plan.store.as_ref().filter(|_| differing.is_empty());
    let published = made.publish(store)?;
    if differing.is_empty() {
        several.say(&format!("{times} runs gave the same bytes"));
        summary::show(&published, plan.json)?;
        published.reproduced()?;
    }
    if plan.json {
        let differing: Vec<_> =
            differing.iter().map(|d| json!({ "run": d.run, "set": d.place, "diff": d.diff })).collect();
        output::json_line(json!({ "check": { "runs": times, "differing": differing } }));
    }
    if differing.is_empty() {
        return settle::settle(plan, &published);
    }
    let sets: Vec<_> = differing.iter().map(|d| d.place.display().to_string()).collect();
    let message =
        format!("{} of {times} runs gave other bytes than the first; {}", sets.len(), sets.join(" "));
    Err(NotReproducible(message).into())
}

/// Compares sets with that of the first run as they come.
struct Comparison {
    first: Option<Made>,
    waiting: Vec<(usize, Made)>,
    differing: Vec<Differing>,
}

impl Comparison {
    fn take(&mut self, index: usize, made: Made, several: &Several) -> Result<()> {
        if index > 0 {
            self.waiting.push((index, made));
        } else {
            several.say("run 1: made");
            self.first = Some(made);
        }
        let Some(first) = &self.first else { return Ok(()) };
        for (index, made) in self.waiting.drain(..) {
            let run = index + 1;
            if made.set.manifest.files == first.set.manifest.files {
                several.say(&format!("run {run}: the same"));
                continue;
            }
            let mut diff = diff::sets(first.set.staging.path(), made.set.staging.path())?;
            let place = made.publish(None)?.place;
            diff.a = "the first run's".into();
            diff.b = place.display().to_string();
            several.say(&format!("run {run} differs from run 1:\n{diff}"));
            self.differing.push(Differing { run, place, diff });
        }
        Ok(())
    }
}
