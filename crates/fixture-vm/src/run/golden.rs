//! Goldens: a file beside the scenario says which bytes it gives, for each closure that was looked at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::contract::FIXTURES;
use fixture::contract::handover::FileDigest;
use fixture::contract::manifest::Manifest;
use fixture::diff;
use fixture::file;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::made::Published;
use super::plan::Plan;
use crate::exit::{Code, NotReproducible, UnknownGolden, Usage};
use crate::output;
use crate::store::Store;

/// The file's version.
const VERSION: u32 = 1;

/// What is to be done with the golden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The set must be as the golden says.
    Compare,
    /// The golden becomes as the set is.
    Update,
}

/// The golden of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    version: u32,
    scenario: String,
    known: Vec<Known>,
}

/// The fixtures of one closure. Besides its digest only as much of the closure as tells people which it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    closure: String,
    seed: u64,
    guest: String,
    qemu: String,
    /// SHA-256 of scenario, seed and clock as the guest gets them.
    input: String,
    /// Digest of the guest image.
    image: String,
    fixtures: BTreeMap<String, FileDigest>,
}

/// The golden of a scenario file lies beside it.
pub fn beside(scenario: &Path) -> PathBuf {
    scenario.with_extension("golden")
}

/// Refuses a golden that could not be compared with anything.
pub fn check(path: &Path, scenario: &str) -> Result<(), Usage> {
    Golden::read(path, scenario).map(drop).map_err(|error| Usage(format!("{error:#}")))
}

/// Compares a set with its golden or updates the golden, as the plan says, and tells the result.
pub fn settle(plan: &Plan, published: &Published) -> Result<Code> {
    let Some((path, act)) = &plan.golden else { return Ok(Code::Success) };
    let verdict = verdict(plan, path, *act, published);
    let words = verdict.as_ref().map_or_else(ToString::to_string, Clone::clone);
    if plan.json {
        output::json_line(json!({ "golden": { "file": path, "agrees": verdict.is_ok(), "text": words } }));
    } else if verdict.is_ok() {
        output::line(format_args!("golden: {words}"));
    }
    verdict.map(|_| Code::Success)
}

/// What the golden says of a set, or has become by it; an error if the set is another.
pub fn verdict(plan: &Plan, path: &Path, act: Act, published: &Published) -> Result<String> {
    let golden = Golden::read(path, &published.manifest.scenario)?;
    let here = Known::of(&published.manifest);
    match act {
        Act::Compare => compare(&golden, &here, &published.place, plan.store.as_ref(), path),
        Act::Update => update(golden, here, &published.place, plan.store.as_ref(), path),
    }
}

fn compare(
    golden: &Golden,
    here: &Known,
    place: &Path,
    store: Option<&Store>,
    path: &Path,
) -> Result<String> {
    let shown = path.display();
    let Some(known) = golden.known.iter().find(|known| known.closure == here.closure) else {
        let message = format!(
            "{shown} does not know closure {:.12}, so nothing was compared: {}; \
             --update-golden records this set",
            here.closure,
            golden.nearest(here)
        );
        return Err(UnknownGolden(message).into());
    };
    if known.fixtures == here.fixtures {
        return Ok(format!("the fixtures are those of {shown}"));
    }
    let text = difference(known, here, place, store)?;
    Err(NotReproducible(format!("the fixtures are not those of {shown}:\n{}", text.trim_end())).into())
}

fn update(
    mut golden: Golden,
    here: Known,
    place: &Path,
    store: Option<&Store>,
    path: &Path,
) -> Result<String> {
    let same_closure = golden.known.iter().find(|known| known.closure == here.closure);
    if same_closure.is_some_and(|known| known.fixtures == here.fixtures) {
        return Ok(format!("{} knows this set already", path.display()));
    }
    let former = same_closure.or(golden.known.iter().rfind(|known| known.is_of(&here)));
    let shown = match former {
        Some(former) => difference(former, &here, place, store)?,
        None => format!("closure {:.12} with seed {} is new\n", here.closure, here.seed),
    };
    // What the same QEMU gave for this seed is what was updated; another scenario can never come back to it.
    golden.known.retain(|known| {
        known.closure != here.closure
            && !(known.is_of(&here) && (known.qemu == here.qemu || known.input != here.input))
    });
    golden.known.push(here);
    golden.known.sort_by(|a, b| (a.seed, &a.guest, &a.qemu).cmp(&(b.seed, &b.guest, &b.qemu)));
    golden.write(path)?;
    Ok(format!("{} is updated:\n{}", path.display(), shown.trim_end()))
}

/// What is different: in terms of the domain if the store has the former set, else by digest.
fn difference(known: &Known, here: &Known, place: &Path, store: Option<&Store>) -> Result<String> {
    let stored = store.map(|store| store.open(&known.closure)).transpose()?.flatten();
    if let Some((set, manifest)) = stored {
        if Known::of(&manifest).fixtures == known.fixtures {
            return Ok(diff::sets(&set, place)?.to_string());
        }
    }
    let mut text = String::new();
    for name in FIXTURES {
        let digest = |known: &Known| known.fixtures.get(name).map_or("none", |file| &file.sha256).to_owned();
        let (was, is) = (digest(known), digest(here));
        let line = if was == is {
            format!("{name}: the same")
        } else {
            format!("{name}: {was:.16} was, {is:.16} is")
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "the store does not have the golden's set, so there is no more to tell");
    Ok(text)
}

impl Known {
    fn of(manifest: &Manifest) -> Self {
        let is_fixture = |name: &&String| FIXTURES.contains(&name.as_str());
        let fixtures = manifest.files.iter().filter(|(name, _)| is_fixture(name));
        Self {
            closure: manifest.closure.digest.clone(),
            seed: manifest.seed,
            guest: manifest.guest.kind.clone(),
            qemu: manifest.closure.qemu.clone(),
            input: manifest.closure.input.clone(),
            image: manifest.closure.image.clone(),
            fixtures: fixtures.map(|(name, digest)| (name.clone(), digest.clone())).collect(),
        }
    }

    /// Whether this is the golden of the same seed in the same guest.
    fn is_of(&self, other: &Self) -> bool {
        self.seed == other.seed && self.guest == other.guest
    }
}

impl Golden {
    /// Reads the golden of a scenario; a file that is not there knows nothing.
    fn read(path: &Path, scenario: &str) -> Result<Self> {
        let text = match file::read_text(path, file::DOCUMENT) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        if text.is_empty() {
            return Ok(Self { version: VERSION, scenario: scenario.into(), known: Vec::new() });
        }
        let golden: Self =
            serde_yaml::from_str(&text).with_context(|| format!("{} is no golden", path.display()))?;
        anyhow::ensure!(
            golden.version == VERSION,
            "{} has version {}; this fixture-vm reads {VERSION}",
            path.display(),
            golden.version
        );
        anyhow::ensure!(
            golden.scenario == scenario,
            "{} is the golden of scenario `{}`, not of `{scenario}`; name file and scenario alike",
            path.display(),
            golden.scenario
        );
        Ok(golden)
    }

    /// Writes it beside its place first.
    fn write(&self, path: &Path) -> Result<()> {
        let context = || format!("writing {}", path.display());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let text =
            "# Which bytes the scenario gives. Written by `fixture-vm run --update-golden`; do not edit.\n"
                .to_owned()
                + &serde_yaml::to_string(self).with_context(context)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).with_context(context)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(readable).with_context(context)?;
        file.persist(path).with_context(context)?;
        Ok(())
    }

    /// In which inputs this closure is another than what is known.
    fn nearest(&self, here: &Known) -> String {
        let Some(known) = self.known.iter().rfind(|known| known.is_of(here)) else {
            return format!("it has nothing for seed {} in the {} guest", here.seed, here.guest);
        };
        let parts = [
            ("the scenario", known.input != here.input),
            ("the guest image", known.image != here.image),
            ("QEMU", known.qemu != here.qemu),
        ];
        let others: Vec<_> = parts.into_iter().filter_map(|(name, other)| other.then_some(name)).collect();
        match others.is_empty() {
            true => "the machine is another than what it knows".into(),
            false => format!("{} differs from what it knows", others.join(" and ")),
        }
    }
}
