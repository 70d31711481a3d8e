//! Guest images: found in the cache or built from locked packages, checked, kept while in use.
//!
//! An image is a folder with a kernel, an initramfs, a root and the `image.json` that describes them;
//! docs/guest-image.md is its specification. Reading order: [`recipe`] and [`lock`] say what a Debian
//! image is made of, [`download`] and [`apt`] fetch it, [`deb`] and [`pool`] unpack it, [`base`] puts the
//! parts together, [`Builder`] adds the guest program, [`opened`] and [`cache`] keep the results.

mod apt;
mod base;
mod cache;
pub mod cli;
mod deb;
mod descriptor;
mod download;
mod elf;
mod initramfs;
mod kernel;
mod lock;
mod modules;
pub mod nixos;
mod opened;
mod pool;
mod program;
mod progress;
mod recipe;
mod root;
mod tool;
mod update;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use fixture::contract;
use sha2::{Digest, Sha256};

pub use self::cache::{Cache, folders};
pub use self::descriptor::Descriptor;
pub use self::opened::{Check, Image};
pub use self::progress::Progress;

use self::apt::Mirrors;
use self::base::{Base, Sources};
use self::descriptor::{FILE_NAME, INITRAMFS, Origin, Part, ROOT, VMLINUX};
use self::download::write_whole;
use self::lock::Lock;
use self::program::Program;

/// Builds Debian images, or answers from the cache.
#[derive(Debug)]
pub struct Builder {
    sources: Sources,
    program: Option<PathBuf>,
    mirror: Option<String>,
}

impl Default for Builder {
    /// The recipe and lock compiled in, the guest program found by itself, the machine's mirrors.
    fn default() -> Self {
        let sources = Sources { recipe: recipe::BUILT_IN.to_owned(), lock: lock::BUILT_IN.to_owned() };
        Self { sources, program: None, mirror: None }
    }
}

impl Builder {
    /// The image of these inputs; built, and published by one rename, if the cache has none.
    pub fn find_or_build(&self, cache: &Cache, progress: &Progress) -> Result<Image> {
        let program = Program::find(self.program.as_deref(), progress)?;
        let inputs = self.inputs(&program);
        match find(cache, &inputs) {
            Some(Ok(image)) => return Ok(image),
            Some(Err(error)) => progress.step(&format!("{error:#}")),
            None => {}
        }
        let _lock = cache.lock_for_building(|| progress.step("waiting for another build to end"))?;
        if let Some(Ok(image)) = find(cache, &inputs) {
            return Ok(image);
        }
        let mirrors = || match &self.mirror {
            Some(base) => Ok(Mirrors::under(base)),
            None => Mirrors::of_this_machine(progress),
        };
        let base = Base::find_or_build(&self.sources, cache, mirrors, progress)?;
        let dir = publish(&base, &program, self.origin(&base, &program, inputs)?, cache)?;
        Image::open(&dir, cache, Check::Digests).context("opening the image just built")
    }

    /// Digest of everything that decides the image's bytes.
    fn inputs(&self, program: &Program) -> String {
        let text = format!("{}\n{}\n{}\n", contract::VERSION, self.sources.digest(), program.sha256);
        format!("{:x}", Sha256::digest(text))
    }

    fn origin(&self, base: &Base, program: &Program, inputs: String) -> Result<Origin> {
        let lock = Lock::parse(&self.sources.lock)?;
        let versions = lock.packages().iter().map(|p| (p.name.clone(), p.version.clone()));
        Ok(Origin {
            inputs,
            kernel_release: base.origin.kernel_release.clone(),
            program: program.sha256.clone(),
            lock: self.sources.lock_digest(),
            packages: versions.collect(),
        })
    }
}

/// The cached image of these inputs, or why it cannot be used.
fn find(cache: &Cache, inputs: &str) -> Option<Result<Image>> {
    let images = cache.list().ok()?;
    let made_of =
        |descriptor: &Descriptor| descriptor.origin.as_ref().is_some_and(|origin| origin.inputs == inputs);
    let dir = images.into_iter().find(|image| image.descriptor.as_ref().is_ok_and(made_of))?.dir;
    Some(Image::open(&dir, cache, Check::SinceLastTime).and_then(|image| {
        cache.touch(image.dir())?;
        Ok(image)
    }))
}

/// Puts an image together beside the others and gives it its name when it is whole.
fn publish(base: &Base, program: &Program, origin: Origin, cache: &Cache) -> Result<PathBuf> {
    let scratch = cache.scratch_dir()?;
    let dir = scratch.path().join("image");
    fs::create_dir(&dir)?;
    for (from, name) in [(base.vmlinux(), VMLINUX), (base.root(), ROOT)] {
        // Images on the same base share its files.
        fs::hard_link(&from, dir.join(name)).with_context(|| format!("linking {}", from.display()))?;
    }
    let initramfs = [base.modules()?, initramfs::program(&program.bytes)?].concat();
    write_whole(&dir.join(INITRAMFS), &initramfs)?;

    let parts = [VMLINUX, INITRAMFS, ROOT].map(|name| Ok((name.to_owned(), Part::of(&dir.join(name))?)));
    let descriptor = Descriptor {
        contract: contract::VERSION,
        kind: "debian".to_owned(),
        cmdline: base.cmdline(),
        files: parts.into_iter().collect::<Result<BTreeMap<_, _>>>()?,
        origin: Some(origin),
    };
    write_whole(&dir.join(FILE_NAME), descriptor.to_json().as_bytes())?;

    let published = cache.images().join(descriptor.digest());
    if published.exists() {
        // It did not open, or it would have been the answer.
        let broken = scratch.path().join("broken");
        fs::rename(&published, &broken).with_context(|| format!("replacing {}", published.display()))?;
    }
    fs::rename(&dir, &published).with_context(|| format!("publishing {}", published.display()))?;
    Ok(published)
}
