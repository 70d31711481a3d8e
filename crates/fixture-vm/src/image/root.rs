//! The root file system: a tree in memory, written by a mkfs.erofs that comes from the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::deb::Content;
use super::descriptor::VMLINUX;
use super::modules::Ready;
use super::pool::Pool;
use super::progress::Progress;
use super::recipe::{Account, Builder, Recipe};
use super::tool;

/// Type of the file system, as mount(8) names it.
pub const FSTYPE: &str = "erofs";

/// Where the guest finds what was made for it: modules that the initramfs does not hold, and the kernel.
const OWN_DIR: &str = "/usr/lib/fixture-vm";

/// An NVDIMM's size must be a multiple of the alignment that the guest kernel uses for it.
const NVDIMM_ALIGNMENT: u64 = 2 << 20;

/// The image is told apart by its digest, so every one has the same, arbitrary volume id.
const VOLUME_ID: &str = "66697874-7572-652d-766d-2d6775657374";

/// What the root holds, by absolute path. Everything belongs to root.
#[derive(Default)]
pub struct Tree {
    directories: BTreeSet<String>,
    contents: BTreeMap<String, Content>,
}

impl Tree {
    /// The tree that a recipe asks for, with the modules given.
    pub fn build(recipe: &Recipe, pool: &Pool, modules: &[Ready<'_>]) -> Result<Self> {
        let mut tree = Self::default();
        for group in &recipe.groups {
            let files = group.files.iter().map(String::as_str);
            for path in pool.closure(files).with_context(|| format!("files of the group {}", group.name))? {
                let content = pool.take(&path).context("the closure is in the pool")?.clone();
                tree.insert(path, content);
            }
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            tree.insert(format!("/{name}"), Content::Link { target: format!("usr/{name}") });
        }
        tree.add_modules("modules", modules);
        tree.insert("/etc/passwd".into(), text_file(passwd(&recipe.accounts)));
        tree.insert("/etc/group".into(), text_file(group(&recipe.accounts)));
        tree.directories.extend(recipe.directories.iter().cloned());
        Ok(tree)
    }

    /// Adds modules with their order, in a folder of their own.
    pub fn add_modules(&mut self, folder: &str, modules: &[Ready<'_>]) {
        for (name, content) in module_files(modules) {
            self.insert(format!("{OWN_DIR}/{folder}/{name}"), content);
        }
    }

    /// Adds the kernel itself.
    pub fn add_kernel(&mut self, vmlinux: &[u8]) {
        let content = Content::File { mode: 0o644, data: vmlinux.to_vec() };
        self.insert(format!("{OWN_DIR}/{VMLINUX}"), content);
    }

    fn insert(&mut self, path: String, content: Content) {
        self.contents.insert(path, content);
    }

    /// Every directory, those that only lead to a file among them, parents first.
    fn all_directories(&self) -> BTreeSet<&str> {
        let mut all = BTreeSet::new();
        for path in self.contents.keys() {
            all.extend(parents(path));
        }
        for path in &self.directories {
            all.extend(parents(path));
            all.insert(path);
        }
        all
    }

    /// The tree as a tar archive in which nothing depends on the time, the folder or the user.
    fn to_tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let entry = |kind: tar::EntryType, mode: u32, size: usize| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size as u64);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header
        };
        for path in self.all_directories() {
            let mode = if path == "/tmp" { 0o1777 } else { 0o755 };
            let mut header = entry(tar::EntryType::Directory, mode, 0);
            tar.append_data(&mut header, relative(path), std::io::empty())?;
        }
        for (path, content) in &self.contents {
            match content {
                Content::File { mode, data } => {
                    let mut header = entry(tar::EntryType::Regular, *mode, data.len());
                    tar.append_data(&mut header, relative(path), data.as_slice())?;
                }
                Content::Link { target } => {
                    let mut header = entry(tar::EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, relative(path), target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }

    /// Writes the file system to `image`, padded to what an NVDIMM needs; `scratch` is a folder
    /// that the caller removes.
    pub fn write(&self, image: &Path, mkfs: &Mkfs, scratch: &Path, progress: &Progress) -> Result<()> {
        let tar = scratch.join("root.tar");
        fs::write(&tar, self.to_tar().context("packing the root's tree")?)
            .context("writing the root's tree")?;
        mkfs.run(&tar, image, progress)?;
        let file = fs::File::options().write(true).open(image)?;
        let padded = file.metadata()?.len().next_multiple_of(NVDIMM_ALIGNMENT);
        file.set_len(padded).with_context(|| format!("padding {}", image.display()))?;
        file.set_permissions(fs::Permissions::from_mode(0o444)).context("making the root read-only")
    }
}

/// The locked mkfs.erofs, unpacked into a folder of the host with its loader and libraries.
pub struct Mkfs {
    dir: PathBuf,
}

impl Mkfs {
    /// Unpacks what the program needs to run on any host.
    pub fn unpack(builder: &Builder, pool: &Pool, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        for path in pool.closure([builder.program.as_str()].into_iter())? {
            let name = if path == builder.program { "mkfs.erofs" } else { file_name(&path) };
            let target = dir.join(name);
            fs::write(&target, pool.followed(&path)?)
                .with_context(|| format!("writing {}", target.display()))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { dir })
    }

    fn run(&self, tar: &Path, image: &Path, progress: &Progress) -> Result<()> {
        let loader = self.dir.join("ld-linux-x86-64.so.2");
        let loader = loader.to_str().context("the cache's path is not UTF-8")?;
        tool::output(loader, progress, |mkfs| {
            mkfs.arg("--library-path").arg(&self.dir).arg(self.dir.join("mkfs.erofs"));
            mkfs.args(["--quiet", "-T0", "-U", VOLUME_ID, "--tar=f"]).arg(image).arg(tar)
        })
        .context("writing the root file system")?;
        Ok(())
    }
}

/// The files that tell a guest which modules to insert: the modules, and their order.
pub fn module_files(modules: &[Ready<'_>]) -> Vec<(String, Content)> {
    let order: String = modules.iter().map(|module| format!("{}\n", module.file_name)).collect();
    let file = |module: &Ready<'_>| {
        (module.file_name.clone(), Content::File { mode: 0o644, data: module.data.to_vec() })
    };
    let mut files: Vec<_> = modules.iter().map(file).collect();
    files.push(("order".to_owned(), text_file(order)));
    files
}

fn text_file(text: String) -> Content {
    Content::File { mode: 0o644, data: text.into_bytes() }
}

fn passwd(accounts: &[Account]) -> String {
    let mut text = String::new();
    for Account { name, id, home } in accounts {
        writeln!(text, "{name}:x:{id}:{id}::{home}:/usr/sbin/nologin").expect("a String takes every write");
    }
    text
}

fn group(accounts: &[Account]) -> String {
    accounts.iter().map(|account| format!("{}:x:{}:\n", account.name, account.id)).collect()
}

/// The directories above a path, outermost first, without `/`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().filter(|(index, c)| *c == '/' && *index > 0).map(|(index, _)| &path[..index])
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small_tree() -> Tree {
        let mut tree = Tree::default();
        tree.insert("/usr/bin/x".into(), Content::File { mode: 0o755, data: b"x".to_vec() });
        tree.insert("/bin".into(), Content::Link { target: "usr/bin".into() });
        tree.directories.insert("/tmp".into());
        tree
    }

    #[test]
    fn parents_come_first() {
        assert_eq!(
            small_tree().all_directories().into_iter().collect::<Vec<_>>(),
            ["/tmp", "/usr", "/usr/bin"]
        );
    }

    #[test]
    fn the_tar_tells_nothing_of_when_and_by_whom() {
        let bytes = small_tree().to_tar().expect("packs");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().expect("a tar") {
            let entry = entry.expect("an entry");
            let header = entry.header();
            assert_eq!(
                (header.mtime().ok(), header.uid().ok(), header.gid().ok()),
                (Some(0), Some(0), Some(0))
            );
            seen.push((entry.path().expect("a path").display().to_string(), header.mode().expect("a mode")));
        }
        let expected =
            [("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("bin", 0o777), ("usr/bin/x", 0o755)];
        assert_eq!(seen, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn accounts_become_lines() {
        let lldpd = [Account { name: "_lldpd".into(), id: 101, home: "/run/lldpd".into() }];
        assert_eq!(passwd(&lldpd), "_lldpd:x:101:101::/run/lldpd:/usr/sbin/nologin\n");
        assert_eq!(group(&lldpd), "_lldpd:x:101:\n");
    }
}
