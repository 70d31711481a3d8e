//! The NixOS image: the one that the environment names, or the one that Nix builds from the checkout's flake.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::cache::Cache;
use super::opened::{Check, Image};
use super::progress::Progress;
use super::tool;

/// Environment variable that names the image's folder; `nix run` sets it.
const VARIABLE: &str = "FIXTURE_VM_NIXOS_IMAGE";

/// The flake's output that is the image.
const OUTPUT: &str = "guest-image";

/// The link in the cache that keeps Nix from collecting the image.
const LINK: &str = "nixos-guest";

/// Files by which a folder is known as a checkout of this project.
const MARKS: [&str; 2] = ["flake.nix", "tools/nixos/image.nix"];

/// Finds the image, or has Nix build it with the lock as it is.
pub fn find_or_build(cache: &Cache, progress: &Progress) -> Result<Image> {
    let dir = match std::env::var_os(VARIABLE) {
        Some(dir) => PathBuf::from(dir),
        None => build(&flake()?, &cache.images().with_file_name(LINK), progress)?,
    };
    Image::open(&dir, cache, Check::SinceLastTime).context("opening the NixOS guest image")
}

/// The checkout: where the command is run, or where this executable was built.
fn flake() -> Result<PathBuf> {
    let here = std::env::current_dir().context("finding the current folder")?;
    let executable = std::env::current_exe().context("finding this executable")?;
    let mut folders = here.ancestors().chain(executable.ancestors());
    let is_checkout = |dir: &&Path| MARKS.iter().all(|mark| dir.join(mark).is_file());
    match folders.find(is_checkout) {
        Some(dir) => Ok(dir.to_owned()),
        None => bail!(
            "the NixOS guest is built from a checkout of fixture-vm, and neither {} nor {} lies in one; \
             run this there, name an image with {VARIABLE}, or take the default, --guest debian",
            here.display(),
            executable.display()
        ),
    }
}

fn build(flake: &Path, link: &Path, progress: &Progress) -> Result<PathBuf> {
    ensure!(
        flake.join("flake.lock").is_file(),
        "{} has no flake.lock, and without its pins no NixOS guest is built; \
         restore it (git checkout flake.lock), or take the default, --guest debian",
        flake.display()
    );
    progress.step("building the NixOS guest with nix");
    let built = tool::answer("nix", progress, |nix| {
        nix.args(["--extra-experimental-features", "nix-command flakes", "build", "--no-update-lock-file"]);
        nix.arg("--out-link").arg(link).arg(format!("{}#{OUTPUT}", flake.display()))
    });
    match built {
        Ok(_) => Ok(link.to_owned()),
        Err(error) if tool::is_absent(&error) => bail!(
            "--guest nixos needs Nix, and there is no `nix` on PATH; install it from \
             https://nixos.org/download, or take the default, --guest debian"
        ),
        Err(error) => Err(error.context(format!(
            "building the NixOS guest from {}; the lock is taken as it is: if nix says it is stale, \
             restore it (git checkout flake.nix flake.lock)",
            flake.display()
        ))),
    }
}
