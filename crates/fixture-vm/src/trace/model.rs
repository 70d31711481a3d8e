//! The artifact files: a list of requirements and a list of verifications, every key known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The files under `artifacts/` that make up the trace.
const FILES: [&str; 2] = ["requirements.yaml", "verification.yaml"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    artifacts: Vec<Artifact>,
}

/// One requirement or one verification.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Unique over all files.
    pub id: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// One line.
    pub title: String,
    /// What is asked or shown, in sentences.
    pub description: String,
    /// How far it is.
    pub status: Status,
    /// Free words to select by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Where it points.
    #[serde(default)]
    pub links: Vec<Link>,
    /// How a verification is done; a requirement has none.
    pub fields: Option<Fields>,
}

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Something the project must do.
    Requirement,
    /// Something that shows it.
    Feature,
}

/// How far an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Wanted, not built: no verification is asked for yet.
    Draft,
    /// Built; must be verified.
    Implemented,
}

/// A pointer to another artifact.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What the pointer means.
    #[serde(rename = "type")]
    pub kind: LinkKind,
    /// The other's id.
    pub target: String,
}

/// What a link means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// A verification shows that a requirement holds.
    Satisfies,
    /// A requirement is a part of another.
    Refines,
}

/// How a verification is done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// In which way.
    pub method: Method,
    /// What is run, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// In which way something is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A test that fails when it does not hold.
    AutomatedTest,
    /// A measurement with a bound.
    PerformanceTest,
}

/// One command of a verification.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The command, as one types it at the top of the project.
    pub run: String,
}

/// An artifact and the line its id stands on.
pub struct Placed {
    /// The file, below the project's root.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What stands there.
    pub artifact: Artifact,
}

impl Placed {
    /// The commands of a verification, in order; a requirement has none.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.artifact.fields.iter().flat_map(|fields| &fields.steps).map(|step| step.run.as_str())
    }
}

/// All artifacts, in the order of the files.
pub struct Artifacts {
    /// Each with its place.
    pub all: Vec<Placed>,
}

impl Artifacts {
    /// Reads the files of the folder; an unknown key or value is an error with its place.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut all = Vec::new();
        for name in FILES {
            let path = folder.join(name);
            let text = fixture::file::read_text(&path, fixture::file::DOCUMENT).with_context(|| {
                format!("reading {}; run this at the top of the project or give --root", path.display())
            })?;
            all.extend(parse(&Path::new("artifacts").join(name), &text)?);
        }
        Ok(Self { all })
    }

    /// The requirements, in order.
    pub fn requirements(&self) -> impl Iterator<Item = &Placed> {
        self.all.iter().filter(|placed| placed.artifact.kind == Kind::Requirement)
    }

    /// The verifications that say they satisfy a requirement, in order.
    pub fn verifications_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Placed> {
        let points = move |link: &Link| link.kind == LinkKind::Satisfies && link.target == id;
        self.all.iter().filter(move |placed| placed.artifact.links.iter().any(points))
    }

    /// Id to artifact; of those with one id the first.
    pub fn by_id(&self) -> BTreeMap<&str, &Placed> {
        self.all.iter().rev().map(|placed| (placed.artifact.id.as_str(), placed)).collect()
    }
}

fn parse(file: &Path, text: &str) -> Result<Vec<Placed>> {
    let document: Document = match serde_yaml::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let place =
                error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
            bail!("{}{place}: {error}", file.display());
        }
    };
    let mut lines = text.lines().enumerate();
    let mut place = |artifact: Artifact| {
        let is_id =
            |line: &str| line.trim_start().strip_prefix("- id:").is_some_and(|id| id.trim() == artifact.id);
        // Ids stand in the order of the artifacts, so each search goes on where the last one ended.
        let line = lines.find(|(_, line)| is_id(line)).map_or(1, |(index, _)| index + 1);
        Placed { file: file.to_owned(), line, artifact }
    };
    Ok(document.artifacts.into_iter().map(&mut place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "artifacts:\n  - id: REQ-1\n    type: requirement\n    title: t\n    description: d\n    status: implemented\n";

    #[test]
    fn an_artifact_knows_its_line() {
        let placed = parse(Path::new("r.yaml"), ONE).expect("reads");
        assert_eq!((placed.len(), placed[0].line), (1, 2));
    }

    #[test]
    fn unknown_keys_and_values_have_a_place() {
        for (text, told) in [
            (format!("{ONE}    owner: me\n"), "r.yaml:7:5: artifacts[0]: unknown field `owner`"),
            (ONE.replace("implemented", "done"), "r.yaml:6:13: artifacts[0].status: unknown variant `done`"),
            (ONE.replace("    title: t\n", ""), "missing field `title`"),
            (format!("{ONE}    links: [{{type: satisfies, target: X, why: y}}]\n"), "unknown field `why`"),
        ] {
            let error = parse(Path::new("r.yaml"), &text).err().expect("is refused").to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
