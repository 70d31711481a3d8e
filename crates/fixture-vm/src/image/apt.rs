//! apt as a library: the machine's mirrors, and packages resolved for another release, in a
//! state directory of our own, so that neither root nor a change to the machine is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::lock::{Archive, Package};
use super::progress::Progress;
use super::tool;

/// The program of apt that fetches files the way apt does: proxies, credentials, resumption.
pub const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// Keyrings of Debian's archives; which one a machine has depends on its release.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Where this machine fetches each of Debian's archives from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    bases: BTreeMap<Archive, String>,
}

impl Mirrors {
    /// Reads the machine's apt configuration.
    pub fn of_this_machine(progress: &Progress) -> Result<Self> {
        let empty = tempfile::tempdir().context("making a folder for apt")?;
        let uris = tool::output("apt-get", progress, |apt| {
            // With no lists at hand apt prints the URI of every release file it is told to use.
            apt.arg("-o").arg(option("Dir::State::Lists", empty.path()));
            apt.args(["--print-uris", "update"])
        })
        .context("asking apt where this machine's Debian packages come from")?;
        Self::from_release_uris(&uris)
    }

    /// Both archives under one base: `BASE/debian` and `BASE/debian-security`.
    pub fn under(base: &str) -> Self {
        let at = |archive: Archive| (archive, format!("{}/{}", base.trim_end_matches('/'), archive.name()));
        Self { bases: Archive::ALL.map(at).into() }
    }

    fn from_release_uris(printed: &str) -> Result<Self> {
        let mut bases = BTreeMap::new();
        for line in printed.lines() {
            let Some(uri) = line.strip_prefix('\'').and_then(|rest| rest.split('\'').next()) else {
                continue;
            };
            let Some((base, suite)) =
                uri.strip_suffix("/InRelease").and_then(|uri| uri.rsplit_once("/dists/"))
            else {
                continue;
            };
            if let Some(archive) = archive_of_suite(suite) {
                bases.entry(archive).or_insert_with(|| base.to_owned());
            }
        }
        for archive in Archive::ALL {
            ensure!(
                bases.contains_key(&archive),
                "apt on this machine has no source of the archive {}; add one to /etc/apt/sources.list.d, \
                 or name a mirror that holds both archives with --mirror",
                archive.name()
            );
        }
        Ok(Self { bases })
    }

    /// Where a package is fetched from.
    pub fn uri(&self, package: &Package) -> String {
        // apt itself writes a `+` of a file name this way, and some mirrors insist on it.
        format!("{}/{}", self.bases[&package.archive], package.path.replace('+', "%2b"))
    }

    fn archive_and_path<'a>(&self, uri: &'a str) -> Option<(Archive, &'a str)> {
        self.bases
            .iter()
            .find_map(|(archive, base)| Some((*archive, uri.strip_prefix(base)?.strip_prefix('/')?)))
    }
}

/// Which archive has a suite such as `bookworm`, `stable-updates` or `trixie-security`.
fn archive_of_suite(suite: &str) -> Option<Archive> {
    const RELEASES: [&str; 7] = ["bookworm", "trixie", "forky", "oldstable", "stable", "testing", "sid"];
    let release = suite.split(['-', '/']).next()?;
    if !RELEASES.contains(&release) {
        return None;
    }
    let of_security = suite[release.len()..].starts_with("-security") || suite.ends_with("/updates");
    Some(if of_security { Archive::Security } else { Archive::Debian })
}

/// An apt of our own for one Debian release: its lists and nothing installed.
pub struct PrivateApt<'a> {
    config: PathBuf,
    mirrors: Mirrors,
    progress: &'a Progress,
}

impl<'a> PrivateApt<'a> {
    /// Writes the configuration into `dir` and fetches the release's package lists, whose
    /// signatures apt checks.
    pub fn update(dir: &Path, mirrors: Mirrors, suite: &str, progress: &'a Progress) -> Result<Self> {
        for sub in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(dir.join(sub)).with_context(|| format!("making {}", dir.display()))?;
        }
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists()).context(
            "this machine has no keyring of the Debian archive; install the package debian-archive-keyring",
        )?;
        let source = |archive: Archive| {
            let suite = match archive {
                Archive::Debian => suite.to_owned(),
                Archive::Security => format!("{suite}-security"),
            };
            format!("deb [arch=amd64 signed-by={keyring}] {} {suite} main\n", mirrors.bases[&archive])
        };
        write(&dir.join("sources.list"), &Archive::ALL.map(source).concat())?;
        write(&dir.join("status"), "")?;
        let config = dir.join("apt.conf");
        write(&config, &configuration(dir))?;

        let apt = Self { config, mirrors, progress };
        apt.run("apt-get", &["update"]).with_context(|| {
            format!("fetching the package lists of {suite}; they are signed with a key in {keyring}")
        })?;
        Ok(apt)
    }

    /// The packages named and all that they depend on, in the newest version the release has.
    pub fn resolve(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut arguments = vec!["install", "--print-uris", "--yes", "--no-install-recommends"];
        arguments.extend(names);
        let printed = self.run("apt-get", &arguments).context("resolving the packages of the image")?;
        let packages = printed
            .lines()
            .filter(|line| line.starts_with('\''))
            .map(|line| self.package(line).with_context(|| format!("apt printed `{line}`")))
            .collect::<Result<Vec<_>>>()?;
        ensure!(!packages.is_empty(), "apt resolved the packages {names:?} to nothing");
        Ok(packages)
    }

    /// Reads `'URI' name_version_arch.deb SIZE SHA256:HEX`.
    fn package(&self, line: &str) -> Result<Package> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [uri, file, size, hash] = fields[..] else { bail!("not the four fields of a package") };
        let uri = unquoted(uri.trim_matches('\''));
        let (archive, path) = self.mirrors.archive_and_path(&uri).context("not from one of our archives")?;
        let stem = file.strip_suffix(".deb").context("not a .deb")?;
        let parts: Vec<&str> = stem.split('_').collect();
        let [name, version, architecture] = parts[..] else { bail!("`{file}` is not name_version_arch.deb") };
        Ok(Package {
            name: name.to_owned(),
            version: unquoted(version),
            architecture: architecture.to_owned(),
            archive,
            size: size.parse().context("the size")?,
            sha256: hash.strip_prefix("SHA256:").context("apt told no SHA-256")?.to_owned(),
            path: path.to_owned(),
        })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        tool::output(program, self.progress, |apt| apt.arg("-c").arg(&self.config).args(arguments))
    }
}

/// apt reads this after the machine's own configuration, which keeps its proxies and credentials.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "\
Dir::State \"{dir}\";
Dir::State::Lists \"{dir}/lists\";
Dir::State::status \"{dir}/status\";
Dir::Cache \"{dir}/cache\";
Dir::Etc::sourcelist \"{dir}/sources.list\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
APT::Architecture \"amd64\";
APT::Default-Release \"\";
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User \"root\";
Acquire::Languages \"none\";
Acquire::ForceHash \"SHA256\";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
Acquire::IndexTargets::deb::CNF::DefaultEnabled \"false\";
"
    )
}

/// `Name=path`, as apt's option -o takes it.
fn option(name: &str, value: &Path) -> String {
    format!("{name}={}", value.display())
}

/// Undoes apt's percent-encoding.
fn unquoted(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                rest = &after[2..];
            }
            _ => {
                plain.push('%');
                rest = after;
            }
        }
    }
    plain + rest
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
'http://mirror.example/x/dists/nodistro/InRelease' a 0
'http://mirror.example/debian/dists/bookworm-backports/InRelease' b 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' c 0
'http://mirror.example/sec/dists/bookworm-security/InRelease' d 0
";

    #[test]
    fn mirrors_are_read_from_the_uris_of_release_files() {
        let mirrors = Mirrors::from_release_uris(PRINTED).expect("both archives are there");
        assert_eq!(mirrors.bases[&Archive::Debian], "http://mirror.example/debian");
        assert_eq!(mirrors.bases[&Archive::Security], "http://mirror.example/sec");
    }

    #[test]
    fn a_machine_without_security_updates_is_told_so() {
        let printed = PRINTED.replace("bookworm-security", "elsewhere");
        let message = Mirrors::from_release_uris(&printed).expect_err("no security").to_string();
        assert!(message.contains("debian-security") && message.contains("--mirror"), "{message}");
    }

    #[test]
    fn a_line_of_apt_becomes_a_line_of_the_lock() {
        let mirrors = Mirrors::under("http://m.example");
        let progress = Progress::silent();
        let apt = PrivateApt { config: PathBuf::new(), mirrors, progress: &progress };
        let hash = "0".repeat(64);
        let line = format!(
            "'http://m.example/debian/pool/main/l/lib_2%2bb1_amd64.deb' lib_1%3a2+b1_amd64.deb 12 SHA256:{hash}"
        );
        let package = apt.package(&line).expect("a package");
        assert_eq!((package.version.as_str(), package.size), ("1:2+b1", 12));
        assert_eq!(package.path, "pool/main/l/lib_2+b1_amd64.deb");
        assert_eq!(apt.mirrors.uri(&package), "http://m.example/debian/pool/main/l/lib_2%2bb1_amd64.deb");
    }
}
