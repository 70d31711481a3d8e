//! `--seeds A..B`: one run for each seed, side by side, and whether the expectations held.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;

use anyhow::Result;
use serde_json::json;

use super::host::Host;
use super::made::{Attempt, Published};
use super::plan::Plan;
use super::side_by_side::side_by_side;
use super::summary;
use crate::exit::{Code, code_of};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Several;

/// The most seeds of one sweep.
const MOST: u64 = 100_000;

/// Seeds, both ends included, written `1..50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    first: u64,
    last: u64,
}

impl Seeds {
    /// The first of them.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The seeds in order.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().ok();
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && last - first < MOST => Ok(Self { first, last }),
            (Some(first), Some(last)) if first <= last => Err(format!("more than {MOST} seeds")),
            _ => Err("expected the first and the last seed, like 1..50".into()),
        }
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.last)
    }
}

/// How a seed went.
struct Outcome {
    seed: u64,
    /// Where its set is, or why there is none.
    set: Result<Held, Failed>,
}

struct Held {
    place: PathBuf,
    fixtures: Vec<String>,
}

struct Failed {
    code: Code,
    message: String,
    repeat: String,
}

/// Runs all seeds. A seed whose expectations do not hold is a result; what keeps runs from being made is an
/// error.
pub fn run(plan: &Plan, seeds: Seeds, interrupt: &Interrupt) -> Result<Code> {
    let several = Several::new(plan.json);
    let plans = seeds.iter().map(|seed| plan.with_seed(seed)).collect::<Result<Vec<_>>>()?;
    let name = |index: usize| format!("seed {}", plans[index].input.seed);
    let mut attempt = Attempt::begin(&plans[0], several.of(&name(0)))?;
    let host = Host::find(&plans[0], attempt.folder.path(), &mut attempt.log, interrupt)?;
    let first_attempt = Mutex::new(Some(attempt));

    let one = |index: usize| -> Result<Published> {
        let plan = &plans[index];
        let begun = first_attempt.lock().ok().filter(|_| index == 0).and_then(|mut first| first.take());
        let attempt = match begun {
            Some(attempt) => attempt,
            None => Attempt::begin(plan, several.of(&name(index)))?,
        };
        super::obtain(plan, &host, attempt, interrupt)
    };
    let mut outcomes = Vec::new();
    let mut fatal = None;
    side_by_side(&mut (0..plans.len()), plan.jobs.min(plans.len()), one, |index, result| {
        let seed = plans[index].input.seed;
        let set = match result.and_then(|published| held(&published)) {
            Ok(held) => Ok(held),
            Err(error) => match code_of(&error) {
                code @ (Code::Guest | Code::TimedOut | Code::Verification | Code::NotReproducible) => {
                    let message = format!("{error:#}");
                    Err(Failed { code, message, repeat: plans[index].again() })
                }
                _ => {
                    fatal = Some(error.context(name(index)));
                    return ControlFlow::Break(());
                }
            },
        };
        let outcome = Outcome { seed, set };
        several.say(&outcome.to_string());
        outcomes.push(outcome);
        ControlFlow::Continue(())
    });
    if let Some(error) = fatal {
        return Err(error);
    }
    outcomes.sort_by_key(|outcome| outcome.seed);
    report(plan, &outcomes)
}

fn held(published: &Published) -> Result<Held> {
    published.reproduced()?;
    let fixtures = fixture::contract::FIXTURES.iter().filter_map(|name| published.manifest.files.get(*name));
    let fixtures = fixtures.map(|digest| digest.sha256.clone()).collect();
    Ok(Held { place: published.place.clone(), fixtures })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.set {
            Ok(held) => write!(f, "seed {}: expectations held: {}", self.seed, held.place.display()),
            Err(failed) => {
                write!(f, "seed {}: FAILED: {}\n  again: {}", self.seed, failed.message, failed.repeat)
            }
        }
    }
}

/// The sweep's result on standard output; the code is that of the first seed that failed.
fn report(plan: &Plan, outcomes: &[Outcome]) -> Result<Code> {
    let failed: Vec<_> =
        outcomes.iter().filter_map(|o| o.set.as_ref().err().map(|failed| (o.seed, failed))).collect();
    let held = outcomes.iter().filter_map(|outcome| outcome.set.as_ref().ok());
    let different: BTreeSet<_> = held.map(|held| &held.fixtures).collect();
    let mut out = if plan.json { output::json() } else { output::text() };
    if plan.json {
        let seeds: Vec<_> = outcomes
            .iter()
            .map(|outcome| match &outcome.set {
                Ok(held) => json!({ "seed": outcome.seed, "held": true, "fixtures": held.place }),
                Err(failed) => json!({
                    "seed": outcome.seed, "held": false, "code": failed.code as u8,
                    "message": failed.message, "repeat": failed.repeat,
                }),
            })
            .collect();
        writeln!(out, "{}", json!({ "seeds": seeds, "different_sets": different.len() }))?;
    } else {
        let held = outcomes.len() - failed.len();
        writeln!(out, "{held} of {} seeds held, with {} different sets", outcomes.len(), different.len())?;
        for (seed, failed) in &failed {
            writeln!(out, "seed {seed} failed: {}", summary::first_line(&failed.message))?;
            writeln!(out, "  {}", failed.repeat)?;
        }
    }
    Ok(failed.first().map_or(Code::Success, |(_, failed)| failed.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_they_are_written() {
        let seeds: Seeds = "1..50".parse().unwrap();
        assert_eq!((seeds.iter().count(), seeds.to_string()), (50, "1..50".into()));
        assert_eq!("7".parse::<Seeds>().unwrap().iter().collect::<Vec<_>>(), [7]);
        for wrong in ["", "..", "2..1", "1..", "-1..2", "1...3", "0..18446744073709551615", "1..=3"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }
}
