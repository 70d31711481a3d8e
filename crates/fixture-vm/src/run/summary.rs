//! What a user reads when a run has ended: where the set is, what is in it, how long each stage took.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use fixture::verify::Report;
use fixture::verify::report::Format;
use serde_json::json;

use super::made::Published;
use super::plan::Plan;
use super::{Prepared, timeline};
use crate::qemu::args;

/// The verdict in a few words.
pub fn in_words(report: &Report) -> String {
    let holds = report.files.iter().flat_map(|file| &file.holds);
    holds.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// The result of a run, on standard output.
pub fn show(published: &Published, json: bool) -> Result<()> {
    let Published { place, manifest, report, log, stored } = published;
    let mut out = std::io::stdout().lock();
    let times = log.stage_times();
    let is_answered = manifest.answered.is_some();
    if let Err(error) = stored {
        writeln!(std::io::stderr(), "fixture-vm: the set is published, but not stored: {error:#}").ok();
    }
    if json {
        let stages: serde_json::Map<_, _> =
            times.iter().map(|(stage, ns)| (stage.name().to_owned(), json!(ns))).collect();
        let result = json!({ "result": {
            "run": log.run_id(), "fixtures": place, "closure": manifest.closure.digest, "answered_from_store": is_answered,
            "stages_ns": stages, "verify": report,
        } });
        writeln!(out, "{result}")?;
        return Ok(());
    }
    writeln!(out, "fixtures: {}", place.display())?;
    if is_answered {
        writeln!(out, "answered from the store; --no-cache runs the guest anyway")?;
    }
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    writeln!(out, "\n{}", Format::Human { colour }.render(std::slice::from_ref(report)))?;
    let total: u64 = times.iter().map(|(_, ns)| ns).sum();
    for (stage, ns) in &times {
        writeln!(out, "{:>10}  {:>8} s", stage.name(), timeline::seconds(*ns))?;
    }
    writeln!(out, "{:>10}  {:>8} s", "total", timeline::seconds(total))?;
    if let Some(id) = log.run_id() {
        writeln!(out, "\nrun {id}: fixture-vm timeline {id}")?;
    }
    Ok(())
}

/// What a run would do, on standard output: QEMU's command line, ready for a shell.
pub fn dry_run(plan: &Plan, prepared: &Prepared) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "# {} would go to {}", plan.input.scenario.name, plan.target.path.display())?;
    write!(out, "{}", prepared.qemu.path.display())?;
    for word in args::arguments(&prepared.machine, &prepared.files) {
        write!(out, " {}", shell_word(&word.to_string_lossy()))?;
    }
    writeln!(out)?;
    Ok(())
}

/// A word as a shell reads it.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The first line of a message that may have several.
pub fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}
