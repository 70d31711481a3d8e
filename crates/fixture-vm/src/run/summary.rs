//! What a user reads when a run has ended: where the set is, what is in it, how long each stage took.

use std::io::Write;

use anyhow::Result;
use fixture::printable;
use fixture::verify::Report;
use fixture::verify::report::Format;
use serde_json::json;

use super::made::Published;
use super::plan::Plan;
use super::{Prepared, timeline};
use crate::output;
use crate::qemu::args;

/// The verdict in a few words.
pub fn in_words(report: &Report) -> String {
    let holds = report.files.iter().flat_map(|file| &file.holds);
    holds.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// The result of a run, on standard output.
pub fn show(published: &Published, json: bool) -> Result<()> {
    let Published { place, manifest, report, log, stored } = published;
    let mut out = if json { output::json() } else { output::painted() };
    let times = log.stage_times();
    let is_answered = manifest.answered.is_some();
    if let Err(error) = stored {
        output::tell(format_args!("fixture-vm: the set is published, but not stored: {error:#}"));
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
    let colour = out.colour();
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
pub(super) fn dry_run(plan: &Plan, prepared: &Prepared) -> Result<()> {
    let mut out = output::text();
    writeln!(out, "# {} would go to {}", plan.input.scenario.name, plan.target.path.display())?;
    write!(out, "{}", prepared.qemu.path.display())?;
    for word in args::arguments(&prepared.machine, &prepared.files) {
        write!(out, " {}", shell_word(&word.to_string_lossy()))?;
    }
    writeln!(out)?;
    Ok(())
}

/// A word as a shell reads it, with printable characters only: what is none is quoted as `$'\033'` (POSIX.1-2024,
/// 2.2.4).
pub fn shell_word(word: &str) -> String {
    if !word.chars().all(printable::is_printable) {
        let octet = |octet: &u8| format!("\\{octet:03o}");
        let shown = |c: char| match c {
            '\'' | '\\' => format!("\\{c}"),
            c if printable::is_printable(c) => c.to_string(),
            c => c.encode_utf8(&mut [0; 4]).as_bytes().iter().map(octet).collect(),
        };
        return format!("$'{}'", word.chars().map(shown).collect::<String>());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The first line of a message that may have several.
pub fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}
