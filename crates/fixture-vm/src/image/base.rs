//! The base of an image: kernel, root and boot modules, all that does not depend on the guest program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::apt::Mirrors;
use super::cache::Cache;
use super::descriptor::{Part, ROOT, VMLINUX};
use super::download::{Downloads, write_whole};
use super::initramfs;
use super::kernel::Kernel;
use super::lock::{Lock, Package};
use super::modules::Modules;
use super::pool::Pool;
use super::progress::Progress;
use super::recipe::Recipe;
use super::root::{FSTYPE, Mkfs, Tree, module_files};

/// Name of the initramfs without the guest program.
const MODULES: &str = "modules.cpio";
/// Name of the file that says what a base was made of.
const ORIGIN: &str = "base.json";

/// The sources of everything that decides a base's bytes: other code makes another base.
const CODE: [&str; 8] = [
    include_str!("base.rs"),
    include_str!("deb.rs"),
    include_str!("elf.rs"),
    include_str!("initramfs.rs"),
    include_str!("kernel.rs"),
    include_str!("modules.rs"),
    include_str!("pool.rs"),
    include_str!("root.rs"),
];

/// What the kernel is told besides where its root is: docs/guest-image.md has what each is worth.
const CMDLINE: &str = "quiet cryptomgr.notests random.trust_cpu=on init_on_alloc=0 rodata=off \
    initcall_blacklist=jent_mod_init,btf_vmlinux_init,load_system_certificate_list,bpf_tcp_ca_kfunc_init,\
    init_msg_buckets,init_user_buckets,trace_eval_init,init_kprobe_trace,ftrace_check_for_weak_functions";

/// The recipe and the lock, as text: what a base is made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Text of recipe.yaml.
    pub recipe: String,
    /// Text of debian.lock.
    pub lock: String,
}

impl Sources {
    /// Digest of all that decides a base's bytes.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for text in [self.recipe.as_str(), self.lock.as_str()].into_iter().chain(CODE) {
            hasher.update(text.len().to_le_bytes());
            hasher.update(text);
        }
        format!("{:x}", hasher.finalize())
    }

    /// Digest of the lock alone, as descriptors name it.
    pub fn lock_digest(&self) -> String {
        format!("{:x}", Sha256::digest(&self.lock))
    }
}

/// A base in the cache.
#[derive(Debug)]
pub struct Base {
    dir: PathBuf,
    /// What it was made of.
    pub origin: Origin,
}

/// `base.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Origin {
    /// What `uname -r` prints in the guest.
    pub kernel_release: String,
    /// Digest and size of each file of the base.
    pub files: BTreeMap<String, Part>,
}

impl Base {
    /// The base of these sources: from the cache, or built into it.
    pub fn find_or_build(
        sources: &Sources,
        cache: &Cache,
        mirrors: impl FnOnce() -> Result<Mirrors>,
        progress: &Progress,
    ) -> Result<Self> {
        let dir = cache.bases().join(sources.digest());
        if let Some(base) = Self::open(&dir) {
            return Ok(base);
        }
        let recipe = Recipe::parse(&sources.recipe)?;
        let lock = Lock::parse(&sources.lock)?;
        let downloads = cache.downloads()?;
        downloads.fetch(lock.packages(), mirrors, progress)?;
        let pool = unpack(&recipe, lock.packages(), &downloads, progress)?;

        let scratch = cache.scratch_dir()?;
        let built = scratch.path().join("base");
        fs::create_dir(&built)?;
        assemble(&recipe, &pool, &built, scratch.path(), progress)?;
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("replacing {}", dir.display()))?;
        }
        fs::rename(&built, &dir).with_context(|| format!("publishing {}", dir.display()))?;
        Self::open(&dir).with_context(|| format!("{} was built but cannot be read", dir.display()))
    }

    /// Opens a base that is whole; anything less is built again.
    ///
    /// Its files are those of images too, so what damaged an image has damaged the base.
    fn open(dir: &Path) -> Option<Self> {
        let origin: Origin = serde_json::from_slice(&fs::read(dir.join(ORIGIN)).ok()?).ok()?;
        let whole =
            |(name, part): (&String, &Part)| Part::of(&dir.join(name)).is_ok_and(|found| found == *part);
        origin.files.iter().all(whole).then(|| Self { dir: dir.to_owned(), origin })
    }

    /// The kernel.
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join(VMLINUX)
    }

    /// The root file system.
    pub fn root(&self) -> PathBuf {
        self.dir.join(ROOT)
    }

    /// The first part of the initramfs.
    pub fn modules(&self) -> Result<Vec<u8>> {
        let path = self.dir.join(MODULES);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// What an image on this base needs on the kernel command line.
    pub fn cmdline(&self) -> String {
        format!("fixture.rootfstype={FSTYPE} {CMDLINE}")
    }
}

/// Reads the packages, keeping what an image could want of them.
pub fn unpack(
    recipe: &Recipe,
    packages: &[Package],
    downloads: &Downloads,
    progress: &Progress,
) -> Result<Pool> {
    progress.step(&format!("unpacking {} packages", packages.len()));
    let wanted: BTreeSet<&str> = recipe.files().chain([recipe.builder.program.as_str()]).collect();
    let mut pool = Pool::default();
    for package in packages {
        progress.go_on()?;
        pool.add(&package.name, &downloads.path(package), &wanted)
            .with_context(|| format!("package {} {}", package.name, package.version))?;
    }
    Ok(pool)
}

/// Makes the files of a base in `out` from the pool, which notes what packages they came from.
pub fn assemble(recipe: &Recipe, pool: &Pool, out: &Path, scratch: &Path, progress: &Progress) -> Result<()> {
    progress.step("taking out the kernel and its modules");
    let kernel = Kernel::from_pool(pool)?;
    let mut modules = Modules::of_kernel(pool, &kernel.release)?;
    let boot = modules.in_order(recipe.kernel.boot_modules.iter().map(String::as_str), &[])?;
    let mut rest = Vec::new();
    let mut on_demand = Vec::new();
    for group in &recipe.groups {
        if group.on_demand {
            let of_group = modules
                .in_order(group.modules.iter().map(String::as_str), &[])
                .with_context(|| format!("modules of the group {}", group.name))?;
            on_demand.push((group.name.as_str(), of_group));
            continue;
        }
        let before = [boot.as_slice(), &rest].concat();
        let more = modules
            .in_order(group.modules.iter().map(String::as_str), &before)
            .with_context(|| format!("modules of the group {}", group.name))?;
        rest.extend(more);
    }

    progress.step("writing the root file system");
    let mut tree = Tree::build(recipe, pool, &modules.ready(&rest))?;
    for (group, names) in &on_demand {
        tree.add_modules(group, &modules.ready(names));
    }
    // MicroVMs boot the same kernel.
    tree.add_kernel(&kernel.vmlinux);
    let mkfs = Mkfs::unpack(&recipe.builder, pool, scratch.join("mkfs"))?;
    tree.write(&out.join(ROOT), &mkfs, scratch, progress)?;

    write_whole(&out.join(VMLINUX), &kernel.vmlinux)?;
    let initramfs = initramfs::base(&module_files(&modules.ready(&boot))).context("writing the initramfs")?;
    write_whole(&out.join(MODULES), &initramfs)?;
    let parts = [ROOT, VMLINUX, MODULES].map(|name| Ok((name.to_owned(), Part::of(&out.join(name))?)));
    let origin = Origin { kernel_release: kernel.release, files: parts.into_iter().collect::<Result<_>>()? };
    write_whole(&out.join(ORIGIN), serde_json::to_string(&origin)?.as_bytes())
}
