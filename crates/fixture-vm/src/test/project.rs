//! The project file `fixture-vm.toml`: which scenarios a project has, and how they are run.

use std::fmt;
use std::num::NonZeroU8;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::scenario::Clock;
use fixture::value::Nanos;
use serde::Deserialize;
use toml::Spanned;

use super::filter::Filter;
use crate::exit::Usage;

/// The file's name.
pub const FILE: &str = "fixture-vm.toml";
/// Where sets go if nothing is said.
const OUT: &str = "fixture-vm-out";

/// A project: the file, or a folder that has none.
#[derive(Debug)]
pub struct Project {
    /// The folder that paths in the file start from.
    pub folder: PathBuf,
    /// What the file says.
    pub says: Says,
    /// The filter of each group, in the groups' order.
    pub filters: Vec<Filter>,
    source: Option<Source>,
}

/// The file as it was read, for messages.
#[derive(Debug)]
struct Source {
    file: PathBuf,
    text: String,
}

/// The file's content.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Says {
    /// Scenario files, folders of them, and globs; from the file's folder.
    pub scenarios: Vec<Spanned<String>>,
    /// Where sets go, each in a folder of its test's name; from the file's folder.
    pub out: Option<PathBuf>,
    /// Where a JUnit report is written; from the file's folder.
    pub junit: Option<PathBuf>,
    /// The most guests at once.
    pub jobs: Option<std::num::NonZeroUsize>,
    /// Whether no test begins any more once one has failed.
    pub fail_fast: bool,
    /// What holds for each test of which no group says otherwise.
    pub defaults: Settings,
    /// Tests that have something in common.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

/// How a test is run; what is not said is left to whoever comes next.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The guest: `debian`, `nixos`, or the folder of an image, from the file's folder.
    pub guest: Option<String>,
    /// Another clock than the scenario's.
    pub clock: Option<Clock>,
    /// Guest memory in MiB.
    pub memory: Option<u32>,
    /// Virtual CPUs.
    pub cpus: Option<NonZeroU8>,
    /// How long the scenario may take by the host's clock, without the guest's boot.
    pub timeout: Option<Nanos>,
    /// Longest time without a word of the guest.
    pub silence: Option<Nanos>,
    /// After how long the scenario is said to be slow.
    pub slow: Option<Nanos>,
    /// How often a test that failed is tried again.
    pub retries: Option<u32>,
    /// Whether fixtures are compared with the scenario's golden where there is one, on the virtual clock.
    pub golden: Option<bool>,
}

/// Tests that have something in common.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// The group's name.
    pub name: Spanned<String>,
    /// Which tests belong to it.
    pub filter: Spanned<String>,
    /// How many of its tests run at once, at most.
    pub at_most: Option<std::num::NonZeroUsize>,
    /// Scenarios that must pass before any of its tests begins.
    #[serde(default)]
    pub set_up: Vec<Spanned<String>>,
    /// Scenarios that run after the last of its tests, whatever became of them.
    #[serde(default)]
    pub tear_down: Vec<Spanned<String>>,
    /// How its tests are run.
    #[serde(default)]
    pub defaults: Settings,
}

impl Settings {
    /// These, and where they say nothing, others.
    pub fn or(self, others: &Self) -> Self {
        Self {
            guest: self.guest.or_else(|| others.guest.clone()),
            clock: self.clock.or(others.clock),
            memory: self.memory.or(others.memory),
            cpus: self.cpus.or(others.cpus),
            timeout: self.timeout.or(others.timeout),
            silence: self.silence.or(others.silence),
            slow: self.slow.or(others.slow),
            retries: self.retries.or(others.retries),
            golden: self.golden.or(others.golden),
        }
    }
}

impl Project {
    /// The project that is named, a file or a folder; without a name, that of the current folder or of the
    /// nearest one above it.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        match named {
            Some(folder) if folder.is_dir() => match folder.join(FILE) {
                file if file.is_file() => Self::read(&file),
                _ => Ok(Self {
                    folder: folder.to_owned(),
                    says: Says { scenarios: vec![Spanned::new(0..0, ".".into())], ..Says::default() },
                    filters: Vec::new(),
                    source: None,
                }),
            },
            Some(file) => Self::read(file),
            None => {
                let here = std::env::current_dir().context("finding the current folder")?;
                let found = here.ancestors().map(|folder| folder.join(FILE)).find(|file| file.is_file());
                let file = found.ok_or_else(|| {
                    Usage(format!(
                        "no {FILE} in {} or above it; name a project or a folder of scenarios with --project",
                        here.display()
                    ))
                })?;
                Self::read(file.strip_prefix(&here).unwrap_or(&file))
            }
        }
    }

    fn read(file: &Path) -> Result<Self> {
        let text = fixture::file::read_text(file, fixture::file::DOCUMENT)
            .map_err(|error| Usage(format!("the project {} cannot be read: {error}", file.display())))?;
        Ok(Self::parse(file, text)?)
    }

    fn parse(file: &Path, text: String) -> Result<Self, Usage> {
        let source = Source { file: file.to_owned(), text };
        let says: Says = toml::from_str(&source.text)
            .map_err(|error| source.faults([(error.span().unwrap_or(0..0), error.message().to_owned())]))?;
        let mut faults = Vec::new();
        let mut filters = Vec::new();
        if says.scenarios.is_empty() {
            faults.push((
                0..0,
                "`scenarios` names none; say, for example, scenarios = [\"*.yaml\"]".to_owned(),
            ));
        }
        for (n, group) in says.groups.iter().enumerate() {
            let name = group.name.get_ref();
            if says.groups[..n].iter().any(|other| other.name.get_ref() == name) {
                faults.push((group.name.span(), format!("two groups are called `{name}`; rename one")));
            }
            match group.filter.get_ref().parse::<Filter>() {
                Ok(filter) => filters.push(filter),
                // The place in the string, after its quote.
                Err(error) => {
                    let span = group.filter.span();
                    let at = (span.start + 1 + error.at).min(span.end);
                    faults.push((at..at, error.message));
                }
            }
        }
        if !faults.is_empty() {
            return Err(source.faults(faults));
        }
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { folder, says, filters, source: Some(source) })
    }

    /// Where sets go.
    pub fn out(&self) -> PathBuf {
        self.folder.join(self.says.out.as_deref().unwrap_or(Path::new(OUT)))
    }

    /// What is wrong at places of the file, as one error.
    pub fn wrong(&self, faults: impl IntoIterator<Item = (Range<usize>, String)>) -> Usage {
        match &self.source {
            Some(source) => source.faults(faults),
            None => {
                let messages: Vec<_> = faults.into_iter().map(|(_, message)| message).collect();
                Usage(format!("{}: {}", self.folder.display(), messages.join("\n")))
            }
        }
    }
}

impl Source {
    fn faults(&self, faults: impl IntoIterator<Item = (Range<usize>, String)>) -> Usage {
        let mut faults: Vec<_> = faults.into_iter().collect();
        faults.sort_by_key(|(span, _)| span.start);
        let lines = faults.into_iter().map(|(span, message)| {
            let place = Place::of(&self.text, span.start);
            format!("{}:{place}: {message}", self.file.display())
        });
        Usage(lines.collect::<Vec<_>>().join("\n"))
    }
}

/// Line and column, both from 1.
struct Place(usize, usize);

impl Place {
    fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self(before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Project::parse(Path::new(FILE), text.to_owned()).unwrap_err().to_string()
    }

    #[test]
    fn all_that_can_be_said_is_read() {
        let text = r#"
            scenarios = ["*.yaml", "more/"]
            out = "../out"
            junit = "../out/junit.xml"
            jobs = 3
            fail-fast = true
            [defaults]
            guest = "nixos"
            slow = "30s"
            golden = true
            [[group]]
            name = "schedules"
            filter = "tag(tsn)"
            at-most = 1
            set-up = ["small"]
            tear-down = ["last"]
            defaults = { clock = "real", memory = 1024, cpus = 2, timeout = "5min", silence = "10s", retries = 2 }
        "#;
        let project = Project::parse(Path::new("p/fixture-vm.toml"), text.into()).unwrap();
        assert_eq!(project.out(), Path::new("p/../out"));
        let group = project.says.groups[0].defaults.clone().or(&project.says.defaults);
        assert_eq!((group.slow, group.retries, group.golden), (Some(Nanos::secs(30)), Some(2), Some(true)));
        assert_eq!(project.filters, ["tag(tsn)".parse().unwrap()]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = [
            "",
            "scenarios = 3\n",
            "scenarios = [\"*.yaml\"\n",
            "scenarios = [\"a.yaml\"]\ntime-out = \"3s\"\n",
            "scenarios = [\"a.yaml\"]\n[defaults]\nslow = \"3 minutes\"\n",
            "scenarios = [\"a.yaml\"]\n[defaults]\ncpus = 0\n",
            "scenarios = [\"a.yaml\"]\n[defaults]\nclock = \"fake\"\n",
            "scenarios = [\"a.yaml\"]\n[[group]]\nname = \"g\"\nfilter = \"tag(a) or role(brige)\"\n\
             [[group]]\nname = \"g\"\nfilter = \"all()\"\n",
            "scenarios = [\"a.yaml\"]\n[[group]]\nname = \"g\"\n",
        ];
        let told: Vec<_> = wrong.iter().map(|text| refusal(text)).collect();
        insta::assert_snapshot!(told.join("\n\n"));
    }
}
