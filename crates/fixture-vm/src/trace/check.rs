//! The rules of the trace, each a finding with the file, the place and the mend.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::model::{Artifacts, Kind, Link, LinkKind, Placed, Status};
use super::source::{Outcomes, Selection, Test, Tests};

/// Something wrong, and where.
pub struct Finding {
    place: String,
    text: String,
}

impl Finding {
    fn at(placed: &Placed, text: String) -> Self {
        let Placed { file, line, artifact } = placed;
        Self { place: format!("{}:{line}: {}", file.display(), artifact.id), text }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// What a step runs.
pub enum Runs<'a> {
    /// These tests.
    Tests(Vec<&'a Test>),
    /// This script.
    Script,
    /// Nothing, for this reason.
    Nothing(String),
}

/// Every rule that needs no results.
pub fn all(artifacts: &Artifacts, tests: &Tests, root: &Path) -> Vec<Finding> {
    let mut findings = twice(artifacts);
    findings.extend(untold(artifacts));
    findings.extend(links(artifacts));
    findings.extend(unproved(artifacts));
    findings.extend(steps(artifacts, tests, root));
    findings
}

/// Every test that a verification names must have run and passed.
pub fn results(artifacts: &Artifacts, tests: &Tests, outcomes: &Outcomes) -> Vec<Finding> {
    let mut findings = Vec::new();
    for placed in &artifacts.all {
        for selection in placed.commands().filter_map(cargo_test) {
            for test in tests.matching(selection) {
                let why = match outcomes.of(test) {
                    Some(true) => continue,
                    Some(false) => "did not pass",
                    None => "was not run",
                };
                findings.push(Finding::at(placed, format!("{} of {} {why}", test.name, test.package)));
            }
        }
    }
    findings
}

/// What a step of a verification runs in this project.
pub fn resolve<'a>(step: &str, tests: &'a Tests, root: &Path) -> Runs<'a> {
    if let Some(selection) = cargo_test(step) {
        let found: Vec<_> = tests.matching(selection).collect();
        return if found.is_empty() {
            Runs::Nothing(format!("no test of {} has {:?} in its name", selection.package, selection.filter))
        } else {
            Runs::Tests(found)
        };
    }
    let script = step.split_whitespace().next().unwrap_or_default();
    if !script.starts_with("tools/") {
        return Runs::Nothing("it is neither `cargo test -p CRATE NAME` nor a script under tools/".into());
    }
    if !is_executable(&root.join(script)) {
        return Runs::Nothing(format!("{script} is no executable file"));
    }
    if callers(root).iter().any(|text| text.contains(script)) {
        Runs::Script
    } else {
        Runs::Nothing(format!("neither tools/test nor a workflow runs {script}"))
    }
}

/// Reads `cargo test -p PACKAGE [--test BINARY] [FILTER]`.
fn cargo_test(step: &str) -> Option<Selection<'_>> {
    let mut words = step.strip_prefix("cargo test -p ")?.split_whitespace();
    let mut selection = Selection { package: words.next()?, binary: None, filter: "" };
    while let Some(word) = words.next() {
        match word {
            "--test" => selection.binary = words.next(),
            filter => selection.filter = filter,
        }
    }
    Some(selection)
}

/// The files that say which scripts are run: the test command, the workflows, and the scripts of both.
fn callers(root: &Path) -> Vec<String> {
    let below = |folder: &str| {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let mut files = below(".github/workflows");
    files.push(root.join("tools/test"));
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn twice(artifacts: &Artifacts) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let again = artifacts.all.iter().filter(|placed| !seen.insert(&placed.artifact.id));
    again.map(|placed| Finding::at(placed, "the id is taken; ids are unique over all files".into())).collect()
}

fn untold(artifacts: &Artifacts) -> Vec<Finding> {
    let says_nothing = |text: &str| text.trim().is_empty();
    let untold = artifacts
        .all
        .iter()
        .filter(|placed| says_nothing(&placed.artifact.title) || says_nothing(&placed.artifact.description));
    untold.map(|placed| Finding::at(placed, "title and description must say something".into())).collect()
}

fn links(artifacts: &Artifacts) -> Vec<Finding> {
    let by_id = artifacts.by_id();
    let wrong = |link: &Link, from: Kind| match by_id.get(link.target.as_str()) {
        None => Some(format!("links to {}, which no file defines", link.target)),
        Some(to) if to.artifact.kind != Kind::Requirement => {
            Some(format!("links to {}, which is no requirement", link.target))
        }
        Some(_) if (link.kind == LinkKind::Satisfies) != (from == Kind::Feature) => {
            Some("a verification satisfies, a requirement refines; mend the link's type".into())
        }
        Some(_) => None,
    };
    let mut findings = Vec::new();
    for placed in &artifacts.all {
        let found = placed.artifact.links.iter().filter_map(|link| wrong(link, placed.artifact.kind));
        findings.extend(found.map(|text| Finding::at(placed, text)));
    }
    findings
}

fn unproved(artifacts: &Artifacts) -> Vec<Finding> {
    let must_be = artifacts.requirements().filter(|placed| placed.artifact.status == Status::Implemented);
    let is_shown =
        |id: &str| artifacts.verifications_of(id).any(|placed| placed.artifact.status == Status::Implemented);
    must_be
        .filter(|placed| !is_shown(&placed.artifact.id))
        .map(|placed| {
            Finding::at(
                placed,
                "is implemented, and no implemented verification satisfies it; add one".into(),
            )
        })
        .collect()
}

fn steps(artifacts: &Artifacts, tests: &Tests, root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for placed in &artifacts.all {
        let artifact = &placed.artifact;
        match (artifact.kind, &artifact.fields) {
            (Kind::Requirement, None) => {}
            (Kind::Requirement, Some(_)) => {
                findings.push(Finding::at(
                    placed,
                    "a requirement has no fields; they are a verification's".into(),
                ));
            }
            (Kind::Feature, fields) if fields.as_ref().is_none_or(|fields| fields.steps.is_empty()) => {
                findings.push(Finding::at(placed, "a verification without steps shows nothing".into()));
            }
            (Kind::Feature, _) if artifact.links.is_empty() => {
                findings.push(Finding::at(placed, "a verification that satisfies no requirement".into()));
            }
            (Kind::Feature, _) => {
                for step in placed.commands() {
                    if let Runs::Nothing(why) = resolve(step, tests, root) {
                        findings.push(Finding::at(placed, format!("the step `{step}` runs no test: {why}")));
                    }
                }
            }
        }
    }
    findings
}
