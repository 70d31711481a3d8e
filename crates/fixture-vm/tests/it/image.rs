//! `fixture-vm image`: the same bytes from the same inputs, and every way that a build can be disturbed.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lab;
use crate::project::{Copy, command, root, said};

/// Long enough for a loaded machine; nothing waits for it where all is well.
const DEADLINE: Duration = Duration::from_secs(300);

/// The guest program, built once for all tests.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_program(&root()))
}

fn build_program(checkout: &Path) -> PathBuf {
    let output = command(checkout.join("tools/build-guest")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// What the image that all tests share was made from: the one thing that needs a mirror.
fn downloads() -> PathBuf {
    // <cache>/images/<digest>
    lab::image().ancestors().nth(2).unwrap().join("downloads")
}

/// A cache of its own in a folder with a name that is not easy.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("a, b c").tempdir().unwrap() }
    }

    /// One that need not download anything.
    fn with_downloads() -> Self {
        let home = Self::new();
        fs::create_dir(home.cache()).unwrap();
        std::os::unix::fs::symlink(downloads(), home.cache().join("downloads")).unwrap();
        home
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("fixture-vm")
    }

    fn image(&self, args: &[&str]) -> Command {
        let mut image = command(env!("CARGO_BIN_EXE_fixture-vm"));
        image.arg("image").args(args).env("XDG_CACHE_HOME", self.folder.path());
        image
    }

    /// Builds; the image's folder.
    fn build(&self, program: &Path) -> PathBuf {
        let output = self.image(&["build", "--program"]).arg(program).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    }

    fn build_from(&self, mirror: &Mirror) -> Command {
        let mut build = self.image(&["build", "--mirror", &mirror.uri(), "--program"]);
        build.arg(program());
        build
    }

    /// What unfinished work there is.
    fn unfinished(&self) -> Vec<PathBuf> {
        fs::read_dir(self.cache().join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// A mirror in a folder that has what the lock names, and can lose or spoil it.
struct Mirror {
    folder: TempDir,
}

impl Mirror {
    fn new() -> Self {
        let mirror = Self { folder: tempfile::tempdir().unwrap() };
        for line in locked() {
            let path = mirror.path(&line);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(downloads().join(&line[5]), path).unwrap();
        }
        mirror
    }

    fn uri(&self) -> String {
        format!("copy:{}", self.folder.path().display())
    }

    fn path(&self, line: &[String]) -> PathBuf {
        self.folder.path().join(&line[3]).join(&line[6])
    }

    /// Where it has a package.
    fn package(&self, name: &str) -> PathBuf {
        self.path(&locked().into_iter().find(|line| line[0] == name).unwrap())
    }
}

/// The fields of the committed lock's lines.
fn locked() -> Vec<Vec<String>> {
    let lock = fs::read_to_string(root().join("tools/debian/debian.lock")).unwrap();
    let lines = lock.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// The package that is fetched last.
fn last_locked() -> Vec<String> {
    locked().pop().unwrap()
}

/// Each file of an image with its bytes.
fn contents(image: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: &str| (name.to_owned(), fs::read(image.join(name)).unwrap());
    ["image.json", "initramfs", "root.img", "vmlinux"].map(read).into()
}

fn assert_same(one: &Path, other: &Path) {
    for ((name, a), (_, b)) in contents(one).into_iter().zip(contents(other)) {
        assert!(a == b, "{name} differs between {} and {}", one.display(), other.display());
    }
}

#[test]
fn two_builds_in_different_folders_give_the_same_bytes() {
    // The checkout, too, lies in another folder for the second: the guest program is part of the image.
    let copy =
        Copy::of(&["Cargo.toml", "Cargo.lock", "crates", "tools/build-guest", "tools/debian", "scenarios"]);
    let program_of_copy = build_program(copy.root());
    assert_ne!(program(), program_of_copy);
    assert!(fs::read(program()).unwrap() == fs::read(&program_of_copy).unwrap(), "the guest programs differ");

    let (one, other) = (Home::with_downloads(), Home::with_downloads());
    let (first, second) = (one.build(program()), other.build(&program_of_copy));
    assert_eq!(first.file_name(), second.file_name());
    assert_same(&first, &second);
    assert!(one.unfinished().is_empty(), "{:?}", one.unfinished());
}

#[test]
fn a_second_build_is_answered_from_the_cache() {
    let home = Home::with_downloads();
    let first = home.build(program());
    let made = fs::metadata(first.join("image.json")).unwrap().modified().unwrap();
    assert_eq!(home.build(program()), first);
    assert_eq!(fs::metadata(first.join("image.json")).unwrap().modified().unwrap(), made);
    let list = said(&home.image(&["list"]).output().unwrap());
    assert!(list.starts_with(&first.file_name().unwrap().to_string_lossy()[..16]), "{list}");
}

#[test]
fn a_corrupt_image_is_told_with_the_mend_and_replaced() {
    let home = Home::with_downloads();
    let image = home.build(program());
    let before = contents(&image);
    let root = image.join("root.img");
    fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut file = File::options().write(true).open(&root).unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(b"not what was built").unwrap();
    drop(file);

    let shown = home.image(&["show"]).output().unwrap();
    assert_eq!(shown.status.code(), Some(3), "{}", said(&shown));
    for told in ["root.img is corrupt", "`fixture-vm image build` replaces it"] {
        assert!(said(&shown).contains(told), "{told:?} is not in:\n{}", said(&shown));
    }
    assert_eq!(home.build(program()), image);
    assert!(contents(&image) == before, "the image was not built as it was before");
    assert!(home.image(&["show"]).output().unwrap().status.success());
}

#[test]
fn a_spoilt_download_is_refused_and_the_next_build_goes_on() {
    let (home, mirror) = (Home::new(), Mirror::new());
    let package = mirror.package("lldpd");
    let whole = fs::read_link(&package).unwrap();
    let mut spoilt = fs::read(&whole).unwrap();
    spoilt[1000] ^= 1;
    fs::remove_file(&package).unwrap();
    fs::write(&package, spoilt).unwrap();

    let output = home.build_from(&mirror).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    for told in ["lldpd 1.", "Hash Sum mismatch", "what was fetched is kept"] {
        assert!(said(&output).contains(told), "{told:?} is not in:\n{}", said(&output));
    }
    fs::remove_file(&package).unwrap();
    std::os::unix::fs::symlink(whole, &package).unwrap();
    let output = home.build_from(&mirror).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("fetching 1 packages"), "{}", said(&output));
}

#[test]
fn a_package_that_is_gone_is_named_with_the_mend() {
    let (home, mirror) = (Home::new(), Mirror::new());
    fs::remove_file(mirror.package("linuxptp")).unwrap();
    let output = home.build_from(&mirror).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    for told in ["linuxptp 4.2-1: the mirror does not have pool/", "fixture-vm image lock --update"] {
        assert!(said(&output).contains(told), "{told:?} is not in:\n{}", said(&output));
    }
    assert!(home.unfinished().is_empty(), "{:?}", home.unfinished());
}

/// Starts a build that hangs where it fetches the last package, and waits until it does.
fn hanging_build(home: &Home, mirror: &Mirror) -> Child {
    let last = mirror.path(&last_locked());
    fs::remove_file(&last).unwrap();
    nix::unistd::mkfifo(&last, Mode::S_IRWXU).unwrap();
    let child = home.build_from(mirror).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The package before the last in the lock.
    let lines = locked();
    let partial = home.cache().join("downloads/partial").join(&lines[lines.len() - 2][5]);
    wait_until(|| partial.metadata().is_ok_and(|file| file.len().to_string() == lines[lines.len() - 2][4]));
    child
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ended(mut child: Child) -> Option<i32> {
    wait_until(|| child.try_wait().unwrap().is_some());
    child.wait().unwrap().code()
}

/// Puts the last package back and takes the others away: they must not be asked for again.
fn only_the_last(mirror: &Mirror) {
    // A method of apt's that outlived its killed parent is let go: it reads to the end and finds nobody to tell.
    File::options().read(true).write(true).open(mirror.path(&last_locked())).unwrap();
    for line in locked() {
        fs::remove_file(mirror.path(&line)).unwrap();
        if line == last_locked() {
            std::os::unix::fs::symlink(downloads().join(&line[5]), mirror.path(&line)).unwrap();
        }
    }
}

#[test]
fn an_interrupted_build_leaves_no_half_image_and_goes_on() {
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let (home, mirror) = (Home::new(), Mirror::new());
        let child = hanging_build(&home, &mirror);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(ended(child), code);
        assert_eq!(fs::read_dir(home.cache().join("images")).unwrap().count(), 0);

        only_the_last(&mirror);
        let output = home.build_from(&mirror).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(home.unfinished().is_empty(), "{:?}", home.unfinished());
    }
}

#[test]
fn collection_spares_what_is_in_use() {
    let home = Home::with_downloads();
    let image = home.build(program());
    let descriptor = File::open(image.join("image.json")).unwrap();
    let in_use = Flock::lock(descriptor, FlockArg::LockShared).map_err(|(_, errno)| errno).unwrap();
    // The downloads are another's: only told.
    let collect =
        |args: &[&str]| -> Output { home.image(&["gc", "--keep", "0"]).args(args).output().unwrap() };
    fs::remove_file(home.cache().join("downloads")).unwrap();

    let output = collect(&[]);
    assert!(output.status.success() && said(&output).contains("a run is using it"), "{}", said(&output));
    assert!(image.join("vmlinux").exists());
    drop(in_use);
    let output = collect(&["--dry-run"]);
    assert!(said(&output).contains("would remove") && image.exists(), "{}", said(&output));
    let output = collect(&[]);
    assert!(output.status.success() && !image.exists(), "{}", said(&output));
}

#[test]
fn a_dynamic_guest_program_is_refused() {
    let home = Home::new();
    let dynamic = env!("CARGO_BIN_EXE_fixture-vm");
    let output = home.image(&["build", "--program", dynamic]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("it is not static"), "{}", said(&output));
}
