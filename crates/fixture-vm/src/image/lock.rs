//! The lock: exactly which packages a Debian guest is made of, one line each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

/// `tools/debian/debian.lock`, compiled in beside the recipe.
pub const BUILT_IN: &str = include_str!("../../../../tools/debian/debian.lock");

const HEADER: &str = "\
# The packages of the Debian guest image: every package that gives a file to it, none besides.
# Written by `fixture-vm image lock --update`; builds only read it.
# package version architecture archive size sha256 pool-path
";

/// Which of Debian's archives a package comes from; the machine's apt sources say where each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Archive {
    /// The main archive.
    Debian,
    /// The archive of security updates.
    Security,
}

impl Archive {
    /// Both, in the order apt should see them.
    pub const ALL: [Self; 2] = [Self::Debian, Self::Security];

    /// The archive's name in the lock.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Security => "debian-security",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|archive| archive.name() == name)
            .with_context(|| format!("`{name}` is not an archive (debian or debian-security)"))
    }
}

/// One line of the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Binary package name.
    pub name: String,
    /// Debian version, with its epoch.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Where it is fetched from.
    pub archive: Archive,
    /// Size of the .deb in bytes.
    pub size: u64,
    /// SHA-256 of the .deb, in hexadecimal.
    pub sha256: String,
    /// Path of the .deb under the archive's base, e.g. `pool/main/l/lldpd/lldpd_1.0_amd64.deb`.
    pub path: String,
}

/// All packages of an image, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    packages: Vec<Package>,
}

impl Lock {
    /// A lock of these packages, whatever their order.
    pub fn new(mut packages: Vec<Package>) -> Self {
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Self { packages }
    }

    /// The packages, sorted by name.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Reads a lock; an error names the line and the field.
    pub fn parse(text: &str) -> Result<Self> {
        let mut packages: Vec<Package> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let package = parse_line(line).with_context(|| format!("image lock, line {}", index + 1))?;
            if let Some(before) = packages.last() {
                ensure!(
                    before.name < package.name,
                    "image lock, line {}: {} stands after {}; packages are sorted, each once",
                    index + 1,
                    package.name,
                    before.name
                );
            }
            packages.push(package);
        }
        ensure!(
            !packages.is_empty(),
            "the image lock names no package; `fixture-vm image lock --update` makes it"
        );
        Ok(Self { packages })
    }

    /// The text form, which [`Lock::parse`] reads back to the same lock.
    pub fn to_text(&self) -> String {
        let mut text = HEADER.to_owned();
        for p in &self.packages {
            let (archive, arch) = (p.archive.name(), &p.architecture);
            writeln!(text, "{} {} {arch} {archive} {} {} {}", p.name, p.version, p.size, p.sha256, p.path)
                .expect("a String takes every write");
        }
        text
    }

    /// What changed since `before`, one line a package: `+ name version`, `- name version`,
    /// `~ name old -> new`; empty when nothing did.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let by_name = |lock: &Self| {
            lock.packages.iter().map(|p| (p.name.clone(), p.clone())).collect::<BTreeMap<_, _>>()
        };
        let (old, new) = (by_name(before), by_name(self));
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        let describe = |name: &String| match (old.get(name), new.get(name)) {
            (None, Some(added)) => Some(format!("+ {name} {}", added.version)),
            (Some(gone), None) => Some(format!("- {name} {}", gone.version)),
            (Some(a), Some(b)) if a.version != b.version => {
                Some(format!("~ {name} {} -> {}", a.version, b.version))
            }
            (Some(a), Some(b)) if a != b => {
                Some(format!("~ {name} {} (same version, another file)", a.version))
            }
            _ => None,
        };
        names.into_iter().filter_map(describe).collect()
    }
}

fn parse_line(line: &str) -> Result<Package> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, version, architecture, archive, size, sha256, path] = fields[..] else {
        bail!("has {} fields, not the seven that the header names", fields.len());
    };
    ensure!(
        sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        "`{sha256}` is not a sha256"
    );
    ensure!(
        path.starts_with("pool/") && path.ends_with(".deb") && !path.split('/').any(|part| part == ".."),
        "`{path}` is not a path of a package in the archive's pool"
    );
    Ok(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        archive: Archive::from_name(archive)?,
        size: size.parse().with_context(|| format!("size `{size}`"))?,
        sha256: sha256.to_owned(),
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            archive: Archive::Security,
            size: 42,
            sha256: "ab".repeat(32),
            path: format!("pool/main/x/{name}_{version}_amd64.deb"),
        }
    }

    #[test]
    fn the_committed_lock_reads_back_as_it_was_written() {
        let lock = Lock::parse(BUILT_IN).expect("the committed lock parses");
        assert_eq!(lock.to_text(), BUILT_IN);
        assert!(lock.packages().iter().any(|p| p.name.starts_with("linux-image-")));
    }

    #[test]
    fn changes_tell_added_gone_and_moved() {
        let before = Lock::new(vec![package("a", "1"), package("b", "1"), package("c", "1")]);
        let mut other_file = package("c", "1");
        other_file.size += 1;
        let after = Lock::new(vec![package("d", "1"), package("b", "2"), other_file]);
        let changes = after.changes_since(&before);
        assert_eq!(changes, ["- a 1", "~ b 1 -> 2", "~ c 1 (same version, another file)", "+ d 1"]);
        assert!(after.changes_since(&after).is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        let good = Lock::new(vec![package("a", "1"), package("b", "1")]).to_text();
        let cases = [
            (good.replace("ab", "zz"), "line 4: `zzzz"),
            (good.replace(" 42 ", " many "), "line 4: size `many`"),
            (good.replace("pool/", "../pool/"), "line 4: `../pool/main"),
            (good.replace("debian-security", "backports"), "line 4: `backports` is not an archive"),
            (good.replace("b 1 amd64", "a 1 amd64"), "line 5: a stands after a"),
            (HEADER.to_owned(), "names no package"),
        ];
        for (text, expected) in cases {
            let message = format!("{:#}", Lock::parse(&text).expect_err(expected));
            assert!(message.contains(expected), "{message}");
        }
    }
}
