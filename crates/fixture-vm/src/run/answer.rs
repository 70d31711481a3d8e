//! A run that the store answers: its inputs are those of a set that is there, so its bytes are too.

use anyhow::Result;
use fixture::contract::manifest::Answered;

use super::events::{Stage, wall_ns};
use super::host::Host;
use super::made::{Attempt, Set};
use super::ours::Kind;
use super::plan::Plan;
use crate::room::RoomAt;
use crate::store::Found;

/// The set, verified as one that a guest made would be; nothing if the store has none that is whole.
///
/// The set keeps everything of the run that made it; its manifest says that it was answered, and when.
pub fn from_store(plan: &Plan, host: &Host, attempt: &mut Attempt) -> Result<Option<Set>> {
    let Some(store) = plan.store.as_ref().filter(|_| plan.answers) else { return Ok(None) };
    let Attempt { log, folder } = attempt;
    let closure = host.closure(plan)?.digest;
    log.begin(Stage::Store)?;
    let staging = plan.target.stage(Kind::Set, folder).room_at(&plan.target.path)?;
    let mut manifest = match store.take(&closure, staging.path()).room_at(&plan.target.path)? {
        Found::Set(manifest) => *manifest,
        Found::Nothing => {
            log.done(format!("no set of closure {closure:.12}"))?;
            return Ok(None);
        }
        Found::Damaged(damaged) => {
            log.done(format!("the set of closure {closure:.12} is damaged and made again: {damaged}"))?;
            return Ok(None);
        }
    };
    manifest.answered = Some(Answered { at_ns: wall_ns() });
    super::write_manifest(staging.path(), &manifest).room_at(&plan.target.path)?;
    log.done(format!("answered from closure {closure:.12}; no guest runs"))?;
    let report = super::verify(plan, &staging, log)?;
    Ok(Some(Set { staging, manifest, report }))
}
