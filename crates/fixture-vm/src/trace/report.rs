//! The matrix: each requirement, the verifications that show it and how many tests those run.

use std::fmt::Write as _;
use std::path::Path;

use super::Format;
use super::check::{Runs, resolve};
use super::model::{Artifacts, Method, Placed, Status};
use super::source::Tests;

/// One line: what there is and how much of it is shown.
pub fn summary(artifacts: &Artifacts, tests: &Tests, root: &Path) -> String {
    let rows = rows(artifacts, tests, root);
    let shown = rows.iter().filter(|row| row.shown_by.is_some()).count();
    let drafts = rows.iter().filter(|row| row.status == Status::Draft).count();
    format!("trace: {} requirements, {shown} shown by tests, {drafts} still drafts", rows.len())
}

/// The matrix of the requirements that bear the tag, or of all.
pub fn matrix(
    artifacts: &Artifacts,
    tests: &Tests,
    root: &Path,
    tag: Option<&str>,
    format: Format,
) -> String {
    let rows: Vec<_> = rows(artifacts, tests, root).into_iter().filter(|row| row.has(tag)).collect();
    let mut text = match format {
        Format::Text => columns(&rows),
        Format::Markdown => table(&rows),
    };
    writeln!(text, "\n{}", summary(artifacts, tests, root)).expect("a String takes every write");
    text
}

struct Row<'a> {
    id: &'a str,
    title: &'a str,
    status: Status,
    tags: &'a [String],
    /// `TEST-SCENARIO (7 tests), TEST-NIX (tools/ci/nix-check)`.
    shown_by: Option<String>,
}

impl Row<'_> {
    fn has(&self, tag: Option<&str>) -> bool {
        tag.is_none_or(|tag| self.tags.iter().any(|own| own == tag))
    }
}

fn rows<'a>(artifacts: &'a Artifacts, tests: &Tests, root: &Path) -> Vec<Row<'a>> {
    let row = |placed: &'a Placed| {
        let artifact = &placed.artifact;
        let by: Vec<_> =
            artifacts.verifications_of(&artifact.id).map(|placed| describe(placed, tests, root)).collect();
        Row {
            id: &artifact.id,
            title: &artifact.title,
            status: artifact.status,
            tags: &artifact.tags,
            shown_by: (!by.is_empty()).then(|| by.join(", ")),
        }
    };
    artifacts.requirements().map(row).collect()
}

fn describe(verification: &Placed, tests: &Tests, root: &Path) -> String {
    let (mut count, mut scripts) = (0, Vec::new());
    for step in verification.commands() {
        match resolve(step, tests, root) {
            Runs::Tests(found) => count += found.len(),
            Runs::Script => scripts.push(step.to_owned()),
            Runs::Nothing(_) => scripts.push(format!("nothing: {step}")),
        }
    }
    let measures =
        verification.artifact.fields.as_ref().is_some_and(|fields| fields.method == Method::PerformanceTest);
    let noun = if measures { "measurement" } else { "test" };
    let counted = match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        _ => Some(format!("{count} {noun}s")),
    };
    let what: Vec<_> = counted.into_iter().chain(scripts).collect();
    format!("{} ({})", verification.artifact.id, what.join(", "))
}

fn state(status: Status) -> &'static str {
    match status {
        Status::Draft => "draft",
        Status::Implemented => "implemented",
    }
}

fn columns(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Row { id, title, status, shown_by, .. } in rows {
        let by = shown_by.as_deref().unwrap_or("nothing yet");
        writeln!(text, "{id:width$}  {:11}  {title}\n{:width$}  shown by {by}", state(*status), "")
            .expect("a String takes every write");
    }
    text
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("| requirement | status | what | shown by |\n|---|---|---|---|\n");
    for Row { id, title, status, shown_by, .. } in rows {
        let by = shown_by.as_deref().unwrap_or("nothing yet");
        writeln!(text, "| {id} | {} | {title} | {by} |", state(*status)).expect("a String takes every write");
    }
    text
}
