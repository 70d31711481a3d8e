//! `fixture-vm image`: build, list, show, collect, and the lock.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use fixture::file;

use super::apt::Mirrors;
use super::base::Sources;
use super::cache::{Cache, folders};
use super::lock::Lock;
use super::recipe::Recipe;
use super::update::{self, LOCK_FILE, RECIPE_FILE};
use super::{Builder, Check, Image, Progress};
use crate::interrupt::Interrupt;
use crate::output;
use crate::room::RoomAt;
use crate::warm;

/// Build and look after guest images
#[derive(Debug, Args)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the Debian guest image from the lock, or answer from the cache; prints its folder
    Build(Build),
    /// List the cached images, last used first
    List,
    /// Check an image against its digests and show what it is
    Show {
        /// Folder of an image, or a digest (or its beginning) of a cached one; the last used one if absent
        image: Option<PathBuf>,
    },
    /// Remove images that are neither in use nor among the last used, their saved guests, and downloads nothing needs
    Gc {
        /// How many of the last used images stay
        #[arg(long, default_value_t = 2)]
        keep: usize,
        /// Only tell what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the lock, or resolve it anew
    Lock(LockArgs),
}

#[derive(Debug, Args)]
struct Build {
    /// The guest program, a static gen-fixtures [default: built from the checkout, or beside fixture-vm]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Args)]
struct LockArgs {
    /// Resolve the recipe against the release as it is now and rewrite the lock
    #[arg(long)]
    update: bool,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Args)]
struct From {
    /// Folder with recipe.yaml and debian.lock [default: those compiled in; tools/debian for --update]
    #[arg(long, value_name = "DIR")]
    recipe: Option<PathBuf>,
    /// Base URI that has debian/ and debian-security/ below it [default: the machine's apt sources]
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,
}

/// Carries out the command; what it answers goes to standard output, progress to standard error.
pub fn run(command: Command, interrupt: &Interrupt) -> Result<()> {
    interrupt.unwinds();
    let progress = Progress::shown(interrupt);
    let cache = Cache::of_user()?;
    let mut out = output::text();
    match command.action {
        Action::Build(build) => self::build(build, &cache, &progress, &mut out),
        Action::List => list(&cache, &mut out),
        Action::Show { image } => show(image, &cache, &mut out),
        Action::Gc { keep, dry_run } => collect(keep, dry_run, &cache, &progress, &mut out),
        Action::Lock(args) if args.update => update_lock(args.from, &cache, &progress, &mut out),
        Action::Lock(args) => Ok(out.write_all(args.from.sources()?.lock.as_bytes())?),
    }
}

impl From {
    fn sources(&self) -> Result<Sources> {
        let Some(dir) = &self.recipe else { return Ok(Builder::default().sources) };
        let read = |name: &str| {
            let path = dir.join(name);
            file::read_text(&path, file::DOCUMENT).with_context(|| format!("reading {}", path.display()))
        };
        Ok(Sources { recipe: read(RECIPE_FILE)?, lock: read(LOCK_FILE)? })
    }
}

fn build(build: Build, cache: &Cache, progress: &Progress, out: &mut impl Write) -> Result<()> {
    let sources = build.from.sources()?;
    let builder = Builder { sources, program: build.program, mirror: build.from.mirror };
    let image = builder.find_or_build(cache, progress).room_at(cache.dir())?;
    writeln!(out, "{}", image.dir().display())?;
    Ok(())
}

fn list(cache: &Cache, out: &mut impl Write) -> Result<()> {
    for image in cache.list()? {
        let name = image.dir.file_name().unwrap_or_default().to_string_lossy();
        match &image.descriptor {
            Ok(descriptor) => {
                let kernel = descriptor.origin.as_ref().map_or("-", |origin| &origin.kernel_release);
                let (kind, megabytes, age) = (&descriptor.kind, image.size() / 1_000_000, age(image.used));
                writeln!(out, "{name:.16}  {kind}  {kernel}  {megabytes} MB  used {age} ago")?;
            }
            Err(error) => writeln!(out, "{name:.16}  unusable: {error:#}")?,
        }
    }
    Ok(())
}

fn show(image: Option<PathBuf>, cache: &Cache, out: &mut impl Write) -> Result<()> {
    let dir = match image {
        Some(path) if path.is_dir() => path,
        Some(digest) => by_digest(&digest.to_string_lossy(), cache)?,
        None => {
            cache
                .list()?
                .into_iter()
                .next()
                .context("no image is cached; `fixture-vm image build` makes one")?
                .dir
        }
    };
    let image = Image::open(&dir, cache, Check::Digests)?;
    writeln!(out, "folder  {}\ndigest  {}", image.dir().display(), image.digest())?;
    out.write_all(image.descriptor().to_json().as_bytes())?;
    Ok(())
}

fn by_digest(digest: &str, cache: &Cache) -> Result<PathBuf> {
    let starts =
        |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(digest));
    let found: Vec<PathBuf> = folders(&cache.images())?.into_iter().filter(starts).collect();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => bail!(
            "no cached image has a digest that begins with {digest}; `fixture-vm image list` shows them"
        ),
        _ => bail!("{} cached images have digests that begin with {digest}; give more of it", found.len()),
    }
}

fn collect(
    keep: usize,
    dry_run: bool,
    cache: &Cache,
    progress: &Progress,
    out: &mut impl Write,
) -> Result<()> {
    let _lock = cache.lock_for_building(|| progress.step("waiting for a build to end"))?;
    let verb = if dry_run { "would remove" } else { "removed" };
    for image in cache.list()?.iter().skip(keep) {
        if dry_run || cache.remove(image)? {
            writeln!(out, "{verb} {} ({} MB)", image.dir.display(), image.size() / 1_000_000)?;
        } else {
            writeln!(out, "kept {}: a run is using it", image.dir.display())?;
        }
    }
    let alive =
        cache.list()?.into_iter().take(keep).filter_map(|image| Some(image.descriptor.ok()?.digest()));
    let alive: BTreeSet<String> = alive.collect();
    let freed = warm::Store::of(cache)?.remove_except(|image| alive.contains(image), dry_run)?;
    writeln!(out, "{verb} {} MB of saved guests of other images", freed / 1_000_000)?;
    let sources = Builder::default().sources;
    for base in folders(&cache.bases())? {
        if !base.ends_with(sources.digest()) {
            if !dry_run {
                fs::remove_dir_all(&base).with_context(|| format!("removing {}", base.display()))?;
            }
            writeln!(out, "{verb} {}", base.display())?;
        }
    }
    let locked = Lock::parse(&sources.lock)?;
    let needed = |digest: &str| locked.packages().iter().any(|package| package.sha256 == digest);
    let freed = cache.downloads()?.remove_except(needed, dry_run)?;
    writeln!(out, "{verb} {} MB of downloads that the lock does not name", freed / 1_000_000)?;
    Ok(())
}

fn update_lock(from: From, cache: &Cache, progress: &Progress, out: &mut impl Write) -> Result<()> {
    let in_checkout = from.recipe.is_none();
    let dir = from.recipe.unwrap_or_else(|| PathBuf::from("tools/debian"));
    let recipe_path = dir.join(RECIPE_FILE);
    let text = file::read_text(&recipe_path, file::DOCUMENT)
        .with_context(|| format!("reading {}; name its folder with --recipe", recipe_path.display()))?;
    let recipe = Recipe::parse(&text).with_context(|| recipe_path.display().to_string())?;
    let mirrors = match &from.mirror {
        Some(base) => Mirrors::under(base),
        None => Mirrors::of_this_machine(progress)?,
    };
    let _lock = cache.lock_for_building(|| progress.step("waiting for a build to end"))?;
    let new = update::resolve(&recipe, mirrors, cache, progress)?;
    let changes = update::update(&dir, &new)?;
    report_changes(&changes, &dir, in_checkout, out)
}

fn report_changes(changes: &[String], dir: &Path, in_checkout: bool, out: &mut impl Write) -> Result<()> {
    if changes.is_empty() {
        writeln!(out, "{} is up to date", dir.join(LOCK_FILE).display())?;
        return Ok(());
    }
    for change in changes {
        writeln!(out, "{change}")?;
    }
    if in_checkout {
        writeln!(out, "The lock is compiled in: build fixture-vm again, then the image; commit the lock.")?;
    }
    Ok(())
}

/// A time ago, in its largest unit.
fn age(since: SystemTime) -> String {
    let seconds = since.elapsed().map_or(0, |age| age.as_secs());
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let ago = |seconds| age(SystemTime::now() - std::time::Duration::from_secs(seconds));
        assert_eq!([ago(5), ago(119), ago(7300), ago(200_000)], ["5 s", "1 min", "2 h", "2 days"]);
    }
}
