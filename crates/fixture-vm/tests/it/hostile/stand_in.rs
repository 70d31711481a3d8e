//! A stand-in for QEMU that plays a guest: it answers the monitor, and writes what a lie has it write.
//!
//! The program under test starts a script, which starts this test binary once more, with QEMU's arguments in the
//! environment and the monitor's socket as standard input.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::lies::LIES;

/// The test that is the stand-in.
pub const TEST: &str = "hostile::stand_in::play";

/// QEMU's arguments, one a line.
pub const ARGUMENTS: &str = "FIXTURE_VM_TEST_QEMU";

/// The name of the lie to tell.
pub const LIE: &str = "FIXTURE_VM_TEST_LIE";

/// A folder of the host with a file in it.
pub const SECRET: &str = "FIXTURE_VM_TEST_SECRET";

/// The four fixtures, whose content is of no matter here.
const FIXTURES: [&str; 4] = ["capture.pcapng", "lldp.json", "qcc-yang.json", "gptp.json"];

/// What a guest writes to.
pub struct Guest {
    /// The share.
    pub share: PathBuf,
    /// The console.
    pub console: File,
    /// The events.
    pub events: File,
    /// A folder of the host.
    pub secret: PathBuf,
    seq: u64,
    files: BTreeMap<String, Value>,
}

impl Guest {
    /// A path below the set.
    pub fn out(&self, name: &str) -> PathBuf {
        self.share.join("out").join(name)
    }

    /// Sends an event.
    pub fn event(&mut self, mut event: Value) {
        event["seq"] = self.seq.into();
        event["mono_ns"] = (self.seq * 1000).into();
        event["wall_ns"] = (1_767_225_600_000_000_000 + self.seq).into();
        self.seq += 1;
        // The host may have ended the run, and the file is gone.
        writeln!(self.events, "{event}").ok();
    }

    /// Says that it failed.
    pub fn fail(&mut self) {
        self.event(json!({ "event": "failed", "step": "hand-over", "message": "failed on purpose" }));
    }

    /// Says that all is handed over.
    pub fn done(&mut self) {
        self.event(json!({ "event": "done" }));
    }

    /// Writes a file of the set, and lists it.
    pub fn put(&mut self, name: &str, text: &str) {
        let path = self.out(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.list(name, text);
    }

    /// Lists a file as one with this content.
    pub fn list(&mut self, name: &str, text: &str) {
        self.files.insert(name.into(), json!({ "sha256": sha256(text), "size": text.len() }));
    }

    /// Lists a file as it likes.
    pub fn list_as(&mut self, name: &str, sha256: &str, size: u64) {
        self.files.insert(name.into(), json!({ "sha256": sha256, "size": size }));
    }

    /// Writes a set of which only the content is wrong.
    pub fn set(&mut self) {
        FIXTURES.iter().for_each(|name| self.put(name, "x"));
        self.put("raw/tc/a.json", "x");
    }

    /// Lists a file no more.
    pub fn forget(&mut self, name: &str) {
        self.files.remove(name);
    }

    /// The status of what is listed.
    pub fn status(&self) -> Value {
        let nonce = fs::read_to_string(self.share.join("nonce")).unwrap();
        json!({ "contract": 1, "nonce": nonce, "kernel": "6.12", "tools": {}, "window_ns": [1, 2], "files": self.files })
    }

    /// Writes the status, and says that it is done.
    pub fn hand_over(&mut self) {
        let status = self.status();
        self.hand_over_with(status.to_string().as_bytes());
    }

    /// The same, with another status.
    pub fn hand_over_with(&mut self, status: &[u8]) {
        fs::write(self.share.join("status.json"), status).unwrap();
        self.done();
    }
}

/// SHA-256 of a text, as a status has it.
pub fn sha256(text: &str) -> String {
    use std::process::Stdio;
    let mut sum = crate::project::command("sha256sum");
    let mut sum = sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap()[..64].to_owned()
}

#[test]
#[ignore = "it is what the program under test starts as QEMU"]
fn play() {
    let arguments = std::env::var(ARGUMENTS).unwrap();
    let path = |before: &str| {
        let after = arguments.lines().find_map(|word| word.strip_prefix(before)).unwrap();
        PathBuf::from(after.replace(",,", ","))
    };
    answer_the_monitor();
    let append = |path: &Path| File::options().append(true).open(path).unwrap();
    let mut guest = Guest {
        share: path("local,id=share,security_model=mapped-file,multidevs=remap,path="),
        console: append(&path("file,id=console,append=on,path=")),
        events: append(&path("file,id=events,append=on,path=")),
        secret: std::env::var_os(SECRET).unwrap().into(),
        seq: 0,
        files: BTreeMap::new(),
    };
    writeln!(guest.console, "a guest that lies").unwrap();
    guest.event(json!({ "event": "hello", "contract": 1, "program": "0.1.0", "kernel": "6.12" }));
    guest.event(json!({ "event": "step-started", "step": "boot" }));
    guest.event(json!({ "event": "ready" }));
    guest.event(json!({ "event": "converged" }));
    guest.event(json!({ "event": "step-started", "step": "hand-over" }));
    fs::create_dir(guest.share.join("out")).unwrap();
    let name = std::env::var(LIE).unwrap();
    let lie = LIES.iter().find(|lie| lie.name == name).unwrap();
    (lie.tell)(&mut guest);
}

/// Greets, waits for the first command, and answers this and all others until the socket closes.
fn answer_the_monitor() {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let version = json!({ "qemu": { "micro": 2, "minor": 0, "major": 10 }, "package": "" });
    writeln!(socket, "{}", json!({ "QMP": { "version": version, "capabilities": [] } })).unwrap();
    let mut commands = BufReader::new(socket.try_clone().unwrap());
    let mut answer = move || -> std::io::Result<bool> {
        let mut line = String::new();
        if commands.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let command: Value = serde_json::from_str(&line)?;
        let mut answer = match command["execute"].as_str() {
            Some("query-version") => json!({ "return": version }),
            Some("query-status") => json!({ "return": { "running": true, "status": "running" } }),
            _ => json!({ "return": {} }),
        };
        if let Some(id) = command.get("id") {
            answer["id"] = id.clone();
        }
        writeln!(socket, "{answer}").map(|()| true)
    };
    assert!(answer().unwrap());
    std::thread::spawn(move || while answer().unwrap_or(false) {});
}
