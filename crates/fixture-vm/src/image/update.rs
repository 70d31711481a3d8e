//! Making a new lock: a deliberate act of its own, reviewed and committed like source.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::apt::{Mirrors, PrivateApt};
use super::base;
use super::cache::Cache;
use super::lock::Lock;
use super::progress::Progress;
use super::recipe::Recipe;

/// Names of the two files in a recipe folder.
pub const RECIPE_FILE: &str = "recipe.yaml";
/// See [`RECIPE_FILE`].
pub const LOCK_FILE: &str = "debian.lock";

/// Resolves a recipe against the release as it is now; returns the new lock.
///
/// All dependencies are fetched and a base is put together from them; what gave a file to it is
/// locked. So a lock is complete by construction, and free of what only package scripts need.
pub fn resolve(recipe: &Recipe, mirrors: Mirrors, cache: &Cache, progress: &Progress) -> Result<Lock> {
    let scratch = cache.scratch_dir()?;
    progress.step(&format!("reading the package lists of {}", recipe.suite));
    let apt = PrivateApt::update(&scratch.path().join("apt"), mirrors.clone(), &recipe.suite, progress)?;
    let packages = apt.resolve(&recipe.packages())?;

    let downloads = cache.downloads()?;
    downloads.fetch(&packages, || Ok(mirrors), progress)?;
    let pool = base::unpack(recipe, &packages, &downloads, progress)?;
    let out = scratch.path().join("base");
    fs::create_dir(&out)?;
    base::assemble(recipe, &pool, &out, scratch.path(), progress)?;

    let used = pool.packages_used();
    Ok(Lock::new(packages.into_iter().filter(|package| used.contains(&package.name)).collect()))
}

/// Rewrites the lock in a recipe folder; returns what changed, one line a package.
pub fn update(dir: &Path, new: &Lock) -> Result<Vec<String>> {
    let path = dir.join(LOCK_FILE);
    // There may be none yet, or one that no longer parses: then everything is new.
    let before = fs::read_to_string(&path).ok().and_then(|text| Lock::parse(&text).ok());
    let changes = new.changes_since(&before.unwrap_or_else(|| Lock::new(Vec::new())));
    fs::write(&path, new.to_text()).with_context(|| format!("writing {}", path.display()))?;
    Ok(changes)
}
