//! A home of its own for each test: runs of the real program in it, and what must be left of them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::project::{command, root, said};

/// No wait in these tests is longer; none is ever meant to be so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_fixture-vm");

/// The small scenario.
pub const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/small.yaml");

/// The manifest of the smallest set: one that lists nothing.
const FORMER_SET: &str = r#"{
  "contract": 1, "fixture_vm": "0", "scenario": "former", "clock": "virtual", "seed": 1, "window_ns": [0, 1],
  "files": {}, "closure": { "digest": "", "input": "", "image": "", "qemu": "", "qemu_sha256": "",
    "firmware": {}, "accelerator": "tcg", "machine": [] },
  "guest": { "kind": "debian", "kernel": "", "tools": {}, "exit_status": 0 },
  "run": { "nonce": "", "started_ns": 0, "took_ns": 0 }
}"#;

/// Where all tests share downloads and images.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// The folder of the Debian guest image, built once for all tests.
pub fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let output =
            command(PROGRAM).args(["image", "build"]).env("XDG_CACHE_HOME", cache()).output().unwrap();
        assert!(output.status.success(), "image build:\n{}", said(&output));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// A copy of the image whose files can be changed; its descriptor says what they are then.
pub fn image_copy(lab: &Lab) -> PathBuf {
    let copy = lab.path("image");
    fs::create_dir(&copy).unwrap();
    for name in ["vmlinux", "initramfs", "root.img", "image.json"] {
        fs::copy(image().join(name), copy.join(name)).unwrap();
        fs::set_permissions(copy.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    copy
}

/// Gives the guest program in an initramfs another name than the one the kernel starts.
///
/// The archive's member keeps its length. A name follows 110 bytes after the magic of its header (cpio's newc
/// format).
pub fn rename_program(initramfs: &mut [u8], to: &[u8; 4]) {
    let is_init =
        |at: &usize| initramfs[*at..].starts_with(b"070701") && initramfs[at + 110..].starts_with(b"init\0");
    let name = (0..initramfs.len() - 115).find(is_init).unwrap() + 110;
    initramfs[name..name + 4].copy_from_slice(to);
}

/// Puts an initramfs into an image, and its size and digest into the descriptor.
pub fn replace_initramfs(image: &Path, initramfs: &[u8]) {
    fs::write(image.join("initramfs"), initramfs).unwrap();
    let output = command("sha256sum").arg(image.join("initramfs")).output().unwrap();
    let text = fs::read_to_string(image.join("image.json")).unwrap();
    let mut descriptor: serde_json::Value = serde_json::from_str(&text).unwrap();
    descriptor["files"]["initramfs"]["sha256"] = String::from_utf8(output.stdout).unwrap()[..64].into();
    descriptor["files"]["initramfs"]["size"] = initramfs.len().into();
    fs::write(image.join("image.json"), descriptor.to_string()).unwrap();
}

/// A home: run folders, output and all else of one test.
pub struct Lab {
    home: TempDir,
}

impl Lab {
    /// A new home, with the image built.
    pub fn new() -> Self {
        image();
        Self::without_image()
    }

    /// A new home for what starts no guest.
    pub fn without_image() -> Self {
        let home = tempfile::Builder::new().prefix("fixture-vm lab, ").tempdir().unwrap();
        fs::create_dir(home.path().join("runtime")).unwrap();
        Self { home }
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A copy of the small scenario, so that what belongs to a scenario can lie beside it.
    pub fn small(&self) -> PathBuf {
        let path = self.path("small.yaml");
        fs::copy(SMALL, &path).unwrap();
        path
    }

    /// Where sets go.
    pub fn out(&self) -> PathBuf {
        self.path("set")
    }

    /// The program, with this home's folders.
    pub fn program(&self, args: &[&str]) -> Command {
        let mut command = command(PROGRAM);
        command.args(args).env("XDG_CACHE_HOME", cache()).env("XDG_RUNTIME_DIR", self.path("runtime"));
        command.env("XDG_DATA_HOME", self.path("data")).env("XDG_STATE_HOME", self.path("state"));
        command.env("HOME", self.home.path()).stdin(Stdio::null());
        command
    }

    /// `fixture-vm run` of the small scenario into this home's set.
    pub fn run(&self, args: &[&str]) -> Command {
        let mut command = self.program(&["run", SMALL, "--guest"]);
        command.arg(image()).arg("--out").arg(self.out()).args(args);
        command
    }

    /// Puts a former set in place.
    pub fn put_former_set(&self) {
        fs::create_dir_all(self.out()).unwrap();
        fs::write(self.out().join("manifest.json"), FORMER_SET).unwrap();
    }

    /// The former set is there, whole and alone.
    pub fn assert_former_set(&self) {
        let names: Vec<_> =
            fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["manifest.json"], "the former set is not what it was");
        assert_eq!(fs::read_to_string(self.out().join("manifest.json")).unwrap(), FORMER_SET);
    }

    /// No process, run folder or staging folder of this home is left.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new(), "processes are left");
        assert_eq!(self.run_folders(), Vec::<PathBuf>::new(), "run folders are left");
        let staging = fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().path());
        let staging: Vec<_> = staging.filter(|path| name(path).starts_with(".set")).collect();
        assert_eq!(staging, Vec::<PathBuf>::new(), "staging folders are left");
    }

    /// The run folders that are there.
    pub fn run_folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("runtime/fixture-vm")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| name(path).starts_with("run-")).collect()
    }

    /// Command lines of processes that name this home.
    pub fn processes(&self) -> Vec<String> {
        // QEMU's options double the commas of a path.
        let home = self.home.path().display().to_string().replace(',', ",,");
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(cmdline) = fs::read(entry.path().join("cmdline")) else { continue };
            let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
            if cmdline.contains(&home) && cmdline.contains("qemu") {
                found.push(cmdline);
            }
        }
        found
    }

    /// Waits until a condition holds.
    pub fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A run that goes on while the test looks at its events.
pub struct Live {
    /// The harness.
    pub child: Child,
    events: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Live {
    /// Starts a run that prints JSON.
    pub fn start(mut run: Command) -> Self {
        let mut child = run.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, events: BufReader::new(stdout), stderr }
    }

    /// Reads events up to one that holds this text.
    pub fn until(&mut self, text: &str) {
        let mut seen = String::new();
        loop {
            let begin = seen.len();
            let n = self.events.read_line(&mut seen).unwrap();
            if n == 0 {
                let mut stderr = String::new();
                self.stderr.read_to_string(&mut stderr).unwrap();
                panic!("the run ended before {text}:\n{seen}\n{stderr}");
            }
            if seen[begin..].contains(text) {
                return;
            }
        }
    }

    /// Sends the harness a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for the end; gives exit code (none if a signal ended it) and standard error.
    pub fn end(mut self) -> (Option<i32>, String) {
        // Both pipes are drained, or the program could wait for us.
        let events = std::thread::spawn(move || std::io::copy(&mut self.events, &mut std::io::sink()));
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).unwrap();
        events.join().unwrap().unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

/// Runs to the end; the exit code must be this. Gives both outputs as one text.
pub fn ends_with(code: i32, mut run: Command) -> String {
    let output = end(run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// Waits for a program's end. One that goes on for longer than [`PATIENCE`] is asked to end, then made to: the test
/// fails, and those after it run.
pub fn end(child: Child) -> Output {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (ended, waits) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        for (patience, signal) in [(PATIENCE, Signal::SIGTERM), (PATIENCE / 10, Signal::SIGKILL)] {
            if waits.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            nix::sys::signal::kill(pid, signal).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    output
}

/// Says that a test cannot run here, and why; `tools/test` counts and shows it.
pub fn skip(test: &str, reason: &str) {
    eprintln!("{test} skipped: {reason}");
    if let Some(list) = std::env::var_os("FIXTURE_VM_SKIPS") {
        use std::io::Write;
        let mut list = fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        writeln!(list, "{test}: {reason}").unwrap();
    }
}

/// A scenario of the tests.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name).with_extension("yaml")
}

/// A scenario that is shipped.
pub fn shipped(name: &str) -> PathBuf {
    root().join("scenarios").join(name).with_extension("yaml")
}
