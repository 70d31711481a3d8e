//! The pool: the files of all unpacked packages, and which package gave each that was taken.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::deb::{self, Content};
use super::elf;

/// Where the loader of Debian amd64 looks for libraries.
const LIBRARY_DIRS: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/lib64"];

/// Links followed before a chain of them is taken for a loop.
const MAX_LINKS: usize = 16;

/// Files by absolute path, each with the package that it came in.
#[derive(Default)]
pub struct Pool {
    files: BTreeMap<String, (String, Content)>,
    taken_from: RefCell<BTreeSet<String>>,
}

impl Pool {
    /// Adds those files of a package that an image could want: libraries, the kernel with its
    /// modules, and the paths of `wanted`.
    pub fn add(&mut self, package: &str, deb: &Path, wanted: &BTreeSet<&str>) -> Result<()> {
        let keep = |path: &str| wanted.contains(path) || is_library(path) || is_kernel(path);
        deb::read(deb, keep, |path, content| {
            self.files.insert(path, (package.to_owned(), content));
        })
    }

    /// What is at a path, noting its package as one the image is made of.
    pub fn take(&self, path: &str) -> Option<&Content> {
        let (package, content) = self.files.get(path)?;
        self.taken_from.borrow_mut().insert(package.clone());
        Some(content)
    }

    /// The bytes of a regular file.
    pub fn data(&self, path: &str) -> Result<&[u8]> {
        match self.take(path) {
            Some(Content::File { data, .. }) => Ok(data),
            Some(Content::Link { .. }) => bail!("{path} is a link where a file is wanted"),
            None => Err(missing(path)),
        }
    }

    /// The paths that begin with `prefix`, sorted.
    pub fn paths<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.files.keys().map(String::as_str).filter(move |path| path.starts_with(prefix))
    }

    /// Packages that gave anything so far.
    pub fn packages_used(&self) -> BTreeSet<String> {
        self.taken_from.borrow().clone()
    }

    /// The wanted paths with all that they need to run: the targets of links, the program loader
    /// and the shared libraries, found the way the loader finds them.
    pub fn closure<'a>(&self, wanted: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let mut open: Vec<String> = wanted.map(str::to_owned).collect();
        while let Some(path) = open.pop() {
            if !found.insert(path.clone()) {
                continue;
            }
            match self.take(&path).with_context(|| missing(&path))? {
                Content::Link { target } => open.push(resolve(&path, target)),
                Content::File { data, .. } if elf::is_elf(data) => {
                    let needs = elf::needs(data).with_context(|| format!("reading what {path} needs"))?;
                    open.extend(needs.interpreter.map(|loader| merged_loader(&loader)));
                    for library in needs.libraries {
                        open.push(self.library(&library).with_context(|| format!("{path} needs {library}"))?);
                    }
                }
                Content::File { .. } => {}
            }
        }
        Ok(found)
    }

    /// The bytes of a path once every link is followed.
    pub fn followed(&self, path: &str) -> Result<&[u8]> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.take(&path).with_context(|| missing(&path))? {
                Content::Link { target } => path = resolve(&path, target),
                Content::File { data, .. } => return Ok(data),
            }
        }
        bail!("{path} is a loop of links")
    }

    fn library(&self, soname: &str) -> Result<String> {
        LIBRARY_DIRS
            .iter()
            .map(|dir| format!("{dir}/{soname}"))
            .find(|path| self.files.contains_key(path))
            .with_context(|| missing(soname))
    }
}

fn missing(what: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!(
        "no package of the image lock has {what}; if the recipe changed, run `fixture-vm image lock --update`"
    )
}

fn is_library(path: &str) -> bool {
    let Some((dir, name)) = path.rsplit_once('/') else { return false };
    LIBRARY_DIRS.contains(&dir) && (name.contains(".so.") || name.ends_with(".so"))
}

fn is_kernel(path: &str) -> bool {
    path.starts_with("/boot/vmlinuz-") || path.starts_with("/usr/lib/modules/")
}

/// `/lib64/ld-linux-x86-64.so.2`, as programs name it, where packages now put it.
fn merged_loader(path: &str) -> String {
    if path.starts_with("/usr/") { path.to_owned() } else { format!("/usr{path}") }
}

/// The absolute path that a link at `path` points to.
fn resolve(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return merged_target(target);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn merged_target(target: &str) -> String {
    let in_root = ["/lib/", "/lib64/", "/bin/", "/sbin/"].iter().any(|dir| target.starts_with(dir));
    if in_root { format!("/usr{target}") } else { target.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::deb::tests::write_deb;

    #[test]
    fn links_resolve_as_the_kernel_resolves_them() {
        assert_eq!(resolve("/usr/sbin/ip", "../bin/ip"), "/usr/bin/ip");
        assert_eq!(
            resolve("/usr/lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so"),
            "/usr/lib/x86_64-linux-gnu/ld.so"
        );
        assert_eq!(resolve("/usr/lib/a.so", "./b.so"), "/usr/lib/b.so");
    }

    #[test]
    fn only_packages_that_gave_something_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut pool = Pool::default();
        for (package, file) in [("one", "usr/bin/one"), ("two", "usr/bin/two")] {
            let deb = dir.path().join(package);
            write_deb(&deb, &[(file, b"#!/bin/sh"), ("usr/lib/real.so", b"library")]);
            pool.add(package, &deb, &BTreeSet::from(["/usr/bin/one", "/usr/bin/two"])).expect("reads");
        }
        let closure = pool.closure(["/usr/bin/one"].into_iter()).expect("no libraries needed");
        assert_eq!(closure, BTreeSet::from(["/usr/bin/one".to_owned()]));
        assert_eq!(pool.packages_used(), BTreeSet::from(["one".to_owned()]));
        assert_eq!(pool.followed("/usr/lib/link.so").expect("followed"), b"library");
    }

    #[test]
    fn a_file_no_package_has_comes_with_the_mend() {
        let message = format!("{:#}", Pool::default().data("/usr/bin/nowhere").expect_err("missing"));
        assert!(message.contains("/usr/bin/nowhere") && message.contains("image lock --update"), "{message}");
    }
}
