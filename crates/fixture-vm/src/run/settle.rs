//! What lies beside the scenario is held against a set in its place: the golden its bytes, the snapshot its meaning.

use anyhow::Result;
use serde_json::json;

use super::golden;
use super::made::Published;
use super::plan::Plan;
use crate::exit::{Code, Unreviewed};
use crate::output;
use crate::snapshot::{self, Policy, Verdict};

/// Compares a set with golden and snapshot as the plan says, and tells the results. Another meaning says more
/// than other bytes, so it comes first.
pub fn settle(plan: &Plan, published: &Published) -> Result<Code> {
    let meaning = meaning(plan, published).inspect(|verdict| tell(plan, verdict));
    let bytes = golden::settle(plan, published);
    meaning?;
    bytes
}

/// What the snapshot says of a set.
///
/// # Errors
/// [`Unreviewed`] if somebody has to look at the difference first.
pub fn meaning(plan: &Plan, published: &Published) -> Result<Verdict> {
    let verdict = snapshot::check(&plan.scenario_file, &published.place, Policy::new(plan.snapshot))?;
    if verdict.is_settled() {
        return Ok(verdict);
    }
    Err(Unreviewed(verdict.text().unwrap_or_default()).into())
}

fn tell(plan: &Plan, verdict: &Verdict) {
    let Some(text) = verdict.text() else { return };
    if plan.json {
        output::json_line(
            json!({ "snapshot": { "file": snapshot::beside(&plan.scenario_file), "text": text } }),
        );
    } else {
        output::line(format_args!("snapshot: {text}"));
    }
}
