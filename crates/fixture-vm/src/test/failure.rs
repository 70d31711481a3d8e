//! How a try failed, as people need it: the reason, what was expected and seen, the guest's last words, and the
//! command that runs it again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Error;
use fixture::contract::{EVENTS, TIMELINE};
use fixture::verify::{Finding, Severity};
use serde::Serialize;

use crate::exit::{
    Code, GuestFailed, NotReproducible, TimedOut, UnknownGolden, Unreviewed, VerificationFailed, code_of,
};
use crate::run::plan::Plan;

/// How many of the last events are told.
const LAST: usize = 6;

/// How a try failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The exit code that `run` would have given.
    pub code: u8,
    /// Why, in one line.
    pub reason: String,
    /// The rules and expectations that do not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
    /// All that was said of it.
    pub message: String,
    /// The last of the timeline, one event a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last_events: Vec<String>,
    /// Where console, events and what the guest left are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// The command that runs it again.
    pub again: String,
}

/// A rule or an expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The rule's id, an anchor in `docs/rules.md`.
    pub rule: &'static str,
    /// What it asks for.
    pub expected: &'static str,
    /// Where it is broken, and what is there.
    pub seen: String,
}

impl Failure {
    /// The failure of a run of this plan, whose remains are where the plan puts them.
    pub fn of(plan: &Plan, error: &Error) -> Self {
        let code = code_of(error);
        let broken: Vec<Broken> = findings(error).map(Broken::of).collect();
        let message = cause(error);
        let reason = match broken.len() {
            0 => message.lines().next().unwrap_or_default().trim_end_matches(':').to_owned(),
            1 => "the fixtures are not right: 1 expectation does not hold".to_owned(),
            count => format!("the fixtures are not right: {count} expectations do not hold"),
        };
        // Other bytes or another meaning than promised are published all the same, for comparison.
        let is_published = matches!(code, Code::NotReproducible | Code::Unreviewed);
        let place = if is_published { plan.target.path.clone() } else { plan.target.failed() };
        let kept = Some(place).filter(|place| place.join(EVENTS).is_file());
        let last_events = kept.as_deref().map(last_events).unwrap_or_default();
        let golden =
            if matches!(code, Code::NotReproducible) && plan.golden.is_some() { " --golden" } else { "" };
        let again = format!("{}{golden}", plan.again());
        Self { code: code as u8, reason, broken, message, last_events, kept, again }
    }
}

impl Broken {
    fn of(finding: &Finding) -> Self {
        let place = finding.place.as_ref().map(|place| format!(", {place}")).unwrap_or_default();
        let more = if finding.more > 0 { format!(" (and {} more)", finding.more) } else { String::new() };
        let seen = format!("{}{place}: {}{more}", finding.file, finding.message);
        Self { rule: finding.rule.id, expected: finding.rule.asks, seen }
    }
}

fn findings(error: &Error) -> impl Iterator<Item = &Finding> {
    let failed = error.chain().find_map(|cause| cause.downcast_ref::<VerificationFailed>());
    let findings = failed.map(|VerificationFailed(_, findings)| findings.as_slice()).unwrap_or_default();
    findings.iter().filter(|finding| finding.severity == Severity::Error)
}

/// What the innermost cause of ours says, without where the remains are kept; else the whole chain.
fn cause(error: &Error) -> String {
    let ours = |cause: &&(dyn std::error::Error + 'static)| {
        cause.is::<GuestFailed>()
            || cause.is::<TimedOut>()
            || cause.is::<VerificationFailed>()
            || cause.is::<NotReproducible>()
            || cause.is::<UnknownGolden>()
            || cause.is::<Unreviewed>()
    };
    error.chain().find(ours).map_or_else(|| format!("{error:#}"), ToString::to_string)
}

/// The last events of the story that a failed run left.
fn last_events(place: &Path) -> Vec<String> {
    let text = fs::read_to_string(place.join(TIMELINE)).unwrap_or_default();
    // The story ends with the failure itself, in as many lines as its message has.
    let story = text.lines().take_while(|line| !line.contains("  FAILED: "));
    let lines: Vec<_> = story.filter(|line| line.contains("  guest: ")).map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LAST)..].to_vec()
}
