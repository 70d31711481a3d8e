//! The tests of a project: every scenario, with the settings that hold for it, and which of them are to run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::file;
use fixture::scenario::{Clock, Scenario, read};
use fixture::value::Nanos;
use serde::Serialize;
use toml::Spanned;

use super::cli::TestArgs;
use super::project::{Project, Settings};
use crate::exit::Usage;

/// A scenario and how it is run.
#[derive(Debug)]
pub struct Test {
    /// The scenario's file.
    pub file: PathBuf,
    /// What it says.
    pub scenario: Scenario,
    /// What holds for it.
    pub settings: Settings,
    /// The guest's clock.
    pub clock: Clock,
    /// The groups it belongs to, by number.
    pub groups: Vec<usize>,
    /// What it is for.
    pub part: Part,
}

/// What a scenario is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It must pass before the tests of its groups begin.
    SetUp,
    /// It stands for itself.
    Test,
    /// It runs after the tests of its groups.
    TearDown,
}

/// All tests of a project, by name.
pub struct Catalogue {
    /// The project.
    pub project: Project,
    /// The tests in the order of their names.
    pub tests: Vec<Test>,
}

/// A test that is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its number in the catalogue.
    pub test: usize,
    /// What must have passed before it, by number in the choice.
    pub set_ups: Vec<usize>,
    /// What must have come to its end before it, by number in the choice.
    pub follows: Vec<usize>,
}

impl Test {
    /// The test's name: its scenario's.
    pub fn name(&self) -> &str {
        &self.scenario.name
    }
}

impl Catalogue {
    /// Reads every scenario of a project; what is wrong with any of them is told at once.
    pub fn read(project: Project, args: &TestArgs) -> Result<Self> {
        let mut tests: Vec<Test> = Vec::new();
        let mut wrong = Vec::new();
        for path in files(&project)? {
            let shown = path.display().to_string();
            let text = match file::read_text(&path, file::SCENARIO) {
                Ok(text) => text,
                Err(error) => {
                    wrong.push(format!("the scenario {shown} cannot be read: {error}"));
                    continue;
                }
            };
            match read::from_yaml(&shown, &text) {
                Ok(scenario) => tests.push(Test::new(path, scenario, &project, args)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        tests.sort_by(|a, b| a.name().cmp(b.name()).then_with(|| a.file.cmp(&b.file)));
        for pair in tests.windows(2).filter(|pair| pair[0].name() == pair[1].name()) {
            wrong.push(format!(
                "{} and {} are both called `{}`; a test's name decides where its set goes, so rename one",
                pair[0].file.display(),
                pair[1].file.display(),
                pair[0].name()
            ));
        }
        if !wrong.is_empty() {
            return Err(Usage(wrong.join("\n")).into());
        }
        let mut catalogue = Self { project, tests };
        catalogue.give_parts()?;
        Ok(catalogue)
    }

    /// Says which tests are set-ups and tear-downs.
    fn give_parts(&mut self) -> Result<(), Usage> {
        let mut faults = Vec::new();
        let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
        for group in &self.project.says.groups {
            let named = |names: &'static str, part| {
                let list: &[Spanned<String>] =
                    if part == Part::SetUp { &group.set_up } else { &group.tear_down };
                list.iter().map(move |name| (names, part, name))
            };
            for (what, part, name) in named("set-up", Part::SetUp).chain(named("tear-down", Part::TearDown)) {
                let known = self.tests.iter().any(|test| test.name() == name.get_ref());
                if !known {
                    let names: Vec<_> = self.tests.iter().map(Test::name).collect();
                    let message = format!(
                        "{what}: no scenario is called `{}`; the scenarios are {}",
                        name.get_ref(),
                        names.join(", ")
                    );
                    faults.push((name.span(), message));
                } else if *parts.entry(name.get_ref()).or_insert(part) != part {
                    let message = format!(
                        "`{}` is both a set-up and a tear-down; make two scenarios of it",
                        name.get_ref()
                    );
                    faults.push((name.span(), message));
                }
            }
        }
        if !faults.is_empty() {
            return Err(self.project.wrong(faults));
        }
        for test in &mut self.tests {
            test.part = parts.get(test.scenario.name.as_str()).copied().unwrap_or(Part::Test);
        }
        Ok(())
    }

    /// The tests that are meant, and the set-ups and tear-downs that they need; in an order in which each comes
    /// after what it waits for, and what takes longest begins first.
    pub fn choose(&self, args: &TestArgs) -> Vec<Chosen> {
        let is_meant = |test: &Test| {
            (args.filters.is_empty()
                || args.filters.iter().any(|filter| filter.means(&test.scenario, test.clock)))
                && args.shard.is_none_or(|shard| shard.has(test.name()))
        };
        let mut meant: BTreeSet<usize> =
            (0..self.tests.len()).filter(|number| is_meant(&self.tests[*number])).collect();
        let tests: Vec<usize> =
            meant.iter().copied().filter(|number| self.tests[*number].part == Part::Test).collect();
        for test in tests {
            meant.extend(self.of_groups(test, Part::SetUp));
            meant.extend(self.of_groups(test, Part::TearDown));
        }
        let mut order: Vec<usize> = meant.into_iter().collect();
        order.sort_by_key(|number| {
            let test = &self.tests[*number];
            (test.part, std::cmp::Reverse(test.scenario.duration), *number)
        });
        let place = |number: usize| order.iter().position(|other| *other == number);
        let chosen = |number: usize| {
            let part = self.tests[number].part;
            let set_ups = if part == Part::Test { self.of_groups(number, Part::SetUp) } else { Vec::new() };
            let is_followed =
                |other: &usize| part == Part::TearDown && self.of_groups(*other, part).contains(&number);
            let mut follows: BTreeSet<usize> = order.iter().copied().filter(is_followed).collect();
            for test in follows.clone() {
                follows.extend(self.of_groups(test, Part::SetUp));
            }
            Chosen {
                test: number,
                set_ups: set_ups.into_iter().filter_map(place).collect(),
                follows: follows.into_iter().filter_map(place).collect(),
            }
        };
        order.iter().map(|number| chosen(*number)).collect()
    }

    /// The set-ups or tear-downs of a test's groups; those have none themselves.
    fn of_groups(&self, test: usize, part: Part) -> Vec<usize> {
        let test = &self.tests[test];
        if test.part != Part::Test {
            return Vec::new();
        }
        let groups = test.groups.iter().map(|group| &self.project.says.groups[*group]);
        let names: BTreeSet<&str> = groups
            .flat_map(|group| if part == Part::SetUp { &group.set_up } else { &group.tear_down })
            .map(|name| name.get_ref().as_str())
            .collect();
        (0..self.tests.len()).filter(|number| names.contains(self.tests[*number].name())).collect()
    }
}

impl Test {
    fn new(file: PathBuf, scenario: Scenario, project: &Project, args: &TestArgs) -> Self {
        let nanos = |time: std::time::Duration| Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let typed = Settings {
            guest: args.guest.clone(),
            clock: args.clock.map(Clock::from),
            timeout: args.timeout.map(nanos),
            slow: args.slow.map(nanos),
            retries: args.retries,
            golden: args.golden.then_some(true),
            ..Settings::default()
        };
        // A group cannot say which clock decides who belongs to it.
        let clock = typed.clock.or(project.says.defaults.clock).unwrap_or(scenario.clock);
        let groups: Vec<usize> = (0..project.filters.len())
            .filter(|group| project.filters[*group].means(&scenario, clock))
            .collect();
        let mut says = Settings::default();
        for group in &groups {
            says = says.or(&project.says.groups[*group].defaults);
        }
        let mut says = says.or(&project.says.defaults);
        says.guest = says.guest.map(|guest| match guest.as_str() {
            "debian" | "nixos" => guest,
            folder => project.folder.join(folder).display().to_string(),
        });
        let settings = typed.or(&says);
        let clock = settings.clock.unwrap_or(scenario.clock);
        Self { file, scenario, settings, clock, groups, part: Part::Test }
    }
}

/// The scenario files of a project, each once.
fn files(project: &Project) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut faults = Vec::new();
    for said in &project.says.scenarios {
        let path = project.folder.join(said.get_ref());
        let files = match path {
            _ if said.get_ref() == "." => folder(&project.folder)?,
            path if path.is_dir() => folder(&path)?,
            path if path.is_file() => vec![path],
            path => glob_of(&path).unwrap_or_default(),
        };
        if files.is_empty() {
            let message =
                format!("`{}` names no scenario: no file, no folder with *.yaml, no glob", said.get_ref());
            faults.push((said.span(), message));
        }
        found.extend(files);
    }
    if faults.is_empty() { Ok(found) } else { Err(project.wrong(faults).into()) }
}

fn glob_of(pattern: &Path) -> Option<Vec<PathBuf>> {
    let paths = glob::glob(pattern.to_str()?).ok()?;
    Some(paths.filter_map(Result::ok).filter(|path| path.is_file()).collect())
}

fn folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).with_context(|| format!("reading {}", here.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = folder.join(entry?.file_name());
        if path.is_file()
            && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            files.push(path);
        }
    }
    Ok(files)
}
