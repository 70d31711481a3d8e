//! Which tests there are: a scan of the source for `#[test]`, and what `cargo test` said of each.
//!
//! The scan reads files as rustfmt lays them out. It needs no build, so `trace check` answers at once and
//! also where the tests cannot be built; a test compares it with what a test binary lists of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

/// A test: its crate and the path that `cargo test` prints, `trace::model::tests::an_artifact_knows_its_line`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// Package name.
    pub package: String,
    /// The binary: `it` for the integration tests, empty for the unit tests.
    pub binary: String,
    /// Modules and function.
    pub name: String,
    /// Not run unless asked for.
    pub ignored: bool,
}

/// All tests of the workspace.
pub struct Tests {
    all: BTreeSet<Test>,
}

impl Tests {
    /// Scans every crate below `crates`.
    pub fn scan(crates: &Path) -> Result<Self> {
        let mut all = BTreeSet::new();
        for (package, folder) in folders(crates)? {
            scan_folder(&folder.join("src"), &package, "", &mut Vec::new(), &mut all)?;
            let tests = folder.join("tests");
            for (binary, folder) in folders(&tests)? {
                if folder.join("main.rs").exists() {
                    scan_folder(&folder, &package, &binary, &mut Vec::new(), &mut all)?;
                }
            }
        }
        Ok(Self { all })
    }

    /// The tests that would run.
    pub fn matching(
        &self,
        Selection { package, binary, filter }: Selection<'_>,
    ) -> impl Iterator<Item = &Test> {
        let runs = move |test: &&Test| {
            test.package == package
                && binary.is_none_or(|binary| test.binary == binary)
                && test.name.contains(filter)
                && !test.ignored
        };
        self.all.iter().filter(runs)
    }
}

/// What a `cargo test` command selects.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// Package name.
    pub package: &'a str,
    /// Only this integration test binary.
    pub binary: Option<&'a str>,
    /// Only names that hold this.
    pub filter: &'a str,
}

/// The folders in a folder, by name; none where it is not there.
fn folders(parent: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    if !parent.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent).with_context(|| format!("reading {}", parent.display()))? {
        let entry = entry.with_context(|| format!("reading {}", parent.display()))?;
        if entry.path().is_dir() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn scan_folder(
    folder: &Path,
    package: &str,
    binary: &str,
    modules: &mut Vec<String>,
    all: &mut BTreeSet<Test>,
) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            modules.push(stem);
            scan_folder(&path, package, binary, modules, all)?;
            modules.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let is_root = matches!(stem.as_str(), "lib" | "main" | "mod");
            let file_modules = modules.iter().cloned().chain((!is_root).then_some(stem));
            for (name, ignored) in tests_in(&text) {
                let name = file_modules.clone().chain([name]).collect::<Vec<_>>().join("::");
                let (package, binary) = (package.to_owned(), binary.to_owned());
                all.insert(Test { package, binary, name, ignored });
            }
        }
    }
    Ok(())
}

/// The tests of one file, with the inline modules they stand in, and whether each is ignored.
fn tests_in(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut modules: Vec<(&str, &str)> = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in text.lines() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let item = code.strip_prefix("pub ").unwrap_or(code);
        if let Some(name) = item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            modules.push((name, indent));
        } else if code == "}" && modules.last().is_some_and(|(_, at)| *at == indent) {
            modules.pop();
        } else if code == "#[test]" {
            is_test = true;
        } else if code.starts_with("#[ignore") {
            is_ignored = true;
        } else if let Some(rest) = code.strip_prefix("fn ") {
            if is_test {
                let name = rest.split(['(', '<']).next().unwrap_or(rest);
                let path = modules.iter().map(|(name, _)| *name).chain([name]).collect::<Vec<_>>().join("::");
                found.push((path, is_ignored));
            }
            (is_test, is_ignored) = (false, false);
        }
    }
    found
}

/// What a run of `cargo test` printed of each test, by path.
pub struct Outcomes {
    by_name: BTreeMap<String, bool>,
}

impl Outcomes {
    /// Reads libtest's lines, `test NAME ... ok`. A test that failed once has failed.
    pub fn read(log: &str) -> Self {
        let mut by_name = BTreeMap::new();
        for line in log.lines() {
            let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
            else {
                continue;
            };
            let passed = outcome.starts_with("ok");
            let name = name.trim_end_matches(" - should panic").to_owned();
            by_name.entry(name).and_modify(|all| *all &= passed).or_insert(passed);
        }
        Self { by_name }
    }

    /// Whether the test passed; `None` when it did not run.
    pub fn of(&self, test: &Test) -> Option<bool> {
        self.by_name.get(&test.name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_finds_what_this_binary_lists() {
        #[expect(clippy::disallowed_methods, reason = "this very binary, asked for its own tests")]
        let mut this = std::process::Command::new(std::env::current_exe().expect("a path"));
        let output = this.args(["--list", "--format=terse"]).output().expect("it runs");
        let listed = String::from_utf8(output.stdout).expect("text");
        let listed: BTreeSet<_> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();

        let tests = Tests::scan(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("scans");
        let own = tests.all.iter().filter(|test| test.package == "fixture-vm" && test.binary.is_empty());
        let scanned: BTreeSet<_> = own.map(|test| test.name.as_str()).collect();
        assert_eq!(scanned, listed);
    }

    #[test]
    fn modules_and_macros_are_followed() {
        let text = "#[test]\nfn top() {\n}\nfn helper() {\n}\nmod inner {\n    proptest! {\n        #[test]\n        \
                    fn law(x in 0..9u8) {\n        }\n    }\n    #[test]\n    #[ignore = \"slow\"]\n    fn long() {\n    \
                    }\n}\n#[test]\nfn last() {\n}\n";
        let found = tests_in(text);
        let expected = [("top", false), ("inner::law", false), ("inner::long", true), ("last", false)];
        assert_eq!(found, expected.map(|(name, ignored)| (name.to_owned(), ignored)));
    }

    #[test]
    fn outcomes_are_read_from_libtest() {
        let log =
            "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\ntest c ... ok\ntest d ... ignored, slow\n";
        let outcomes = Outcomes::read(log);
        let of = |name: &str| {
            let (package, binary) = (String::new(), String::new());
            outcomes.of(&Test { package, binary, name: name.to_owned(), ignored: false })
        };
        assert_eq!([of("a::b"), of("c"), of("d"), of("e")], [Some(true), Some(false), Some(false), None]);
    }
}
