//! The lies, and how each has to end.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use serde_json::json;

use super::stand_in::Guest;

/// A terabyte, which a sparse file has for nothing.
const TERABYTE: u64 = 1 << 40;

/// A lie and its end.
pub struct Lie {
    /// Its name.
    pub name: &'static str,
    /// What the guest does.
    pub tell: fn(&mut Guest),
    /// More arguments for the run.
    pub args: &'static [&'static str],
    /// The exit code that it ends with.
    pub code: i32,
    /// Words of the message.
    pub says: &'static str,
}

const fn lie(name: &'static str, code: i32, says: &'static str, tell: fn(&mut Guest)) -> Lie {
    Lie { name, tell, args: &[], code, says }
}

const fn slow_lie(name: &'static str, code: i32, says: &'static str, tell: fn(&mut Guest)) -> Lie {
    Lie { name, tell, args: &["--silence", "3s"], code, says }
}

/// All of them.
pub const LIES: &[Lie] = &[
    // Ways out of the share.
    lie("the set is a link, and it failed", 4, "failed on purpose", |guest| {
        fs::remove_dir(guest.out("")).unwrap();
        symlink(&guest.secret, guest.share.join("out")).unwrap();
        guest.fail();
    }),
    lie("a folder is a link, and it failed", 4, "failed on purpose", |guest| {
        symlink(&guest.secret, guest.out("raw")).unwrap();
        guest.fail();
    }),
    lie("the set is a link", 4, "on the share: E", |guest| {
        guest.set();
        fs::rename(guest.out(""), guest.share.join("elsewhere")).unwrap();
        symlink("elsewhere", guest.share.join("out")).unwrap();
        guest.hand_over();
    }),
    lie("a folder in the middle is a link", 4, "out/raw/s/file on the share: E", |guest| {
        guest.set();
        symlink(&guest.secret, guest.out("raw/s")).unwrap();
        guest.list("raw/s/file", super::SECRET);
        guest.hand_over();
    }),
    lie("a file is a link", 4, "out/lldp.json on the share: it is a symbolic link", |guest| {
        guest.set();
        fs::remove_file(guest.out("lldp.json")).unwrap();
        symlink(guest.secret.join("file"), guest.out("lldp.json")).unwrap();
        guest.hand_over();
    }),
    lie("the status is a link", 4, "no status is on the share", |guest| {
        symlink(guest.secret.join("file"), guest.share.join("status.json")).unwrap();
        guest.done();
    }),
    lie("a file of the host with a second name", 4, "it has several names", |guest| {
        guest.set();
        fs::hard_link(guest.secret.join("file"), guest.out("raw/file")).unwrap();
        guest.list("raw/file", super::SECRET);
        guest.hand_over();
    }),
    // What is no file.
    lie("a file is a FIFO", 4, "it is a FIFO", |guest| {
        guest.set();
        nix::unistd::mkfifo(&guest.out("raw/x"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        guest.list("raw/x", "x");
        guest.hand_over();
    }),
    lie("the status is a FIFO", 4, "no status is on the share", |guest| {
        nix::unistd::mkfifo(&guest.share.join("status.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        guest.done();
    }),
    lie("a file is a socket", 4, "it is a socket", |guest| {
        guest.set();
        UnixListener::bind(guest.out("raw/x")).unwrap();
        guest.list("raw/x", "x");
        guest.hand_over();
    }),
    lie("a file is a folder", 4, "it is a folder", |guest| {
        guest.set();
        guest.list("raw/tc", "x");
        guest.hand_over();
    }),
    // Modes count for nothing: what was handed over is taken, and judged by its content.
    lie("modes that forbid everything", 6, "capture.pcapng", |guest| {
        guest.set();
        for name in ["raw/tc/a.json", "raw/tc", "raw", ""] {
            fs::set_permissions(guest.out(name), Permissions::from_mode(0o0)).unwrap();
        }
        guest.hand_over();
    }),
    // Names.
    lie("a name with a way out", 4, "a file with the name \"raw/../../nonce\"", |guest| {
        guest.list("raw/../../nonce", "x");
        guest.hand_over();
    }),
    lie("a name of the host's", 4, "a file with the name \"manifest.json\"", |guest| {
        guest.put("manifest.json", "x");
        guest.hand_over();
    }),
    lie("a name written in two ways", 4, "a file with the name \"raw//tc/a.json\"", |guest| {
        guest.set();
        guest.list("raw//tc/a.json", "x");
        guest.hand_over();
    }),
    lie(
        "a name with a line and an escape sequence",
        4,
        r#"the name "raw/\u{1b}[31m\nfixture-vm: ok""#,
        |guest| {
            guest.put("raw/\x1b[31m\nfixture-vm: ok", "x");
            guest.hand_over();
        },
    ),
    lie("names that nobody can print, and it failed", 4, "failed on purpose", |guest| {
        fs::write(guest.out("a\nb"), "x").unwrap();
        fs::write(guest.out("").join(std::ffi::OsStr::from_bytes(b"\xff\x1b[2J")), "x").unwrap();
        guest.fail();
    }),
    lie("names of QEMU's notes", 4, "a file with the name \"raw/.virtfs_metadata/x\"", |guest| {
        guest.put("raw/.virtfs_metadata/x", "x");
        guest.hand_over();
    }),
    lie("files like QEMU's notes, and it failed", 4, "failed on purpose", |guest| {
        guest.put(".virtfs_metadata/x", "x");
        guest.fail();
    }),
    // The status.
    lie("no status", 4, "no status is on the share", |guest| {
        guest.set();
        guest.done();
    }),
    lie("the nonce of another run", 4, "it is not fresh", |guest| {
        guest.set();
        let mut status = guest.status();
        status["nonce"] = "n".repeat(100_000).into();
        guest.hand_over_with(status.to_string().as_bytes());
    }),
    lie("an old contract", 4, "the status is of contract 0", |guest| {
        guest.set();
        let mut status = guest.status();
        status["contract"] = 0.into();
        guest.hand_over_with(status.to_string().as_bytes());
    }),
    lie("a status without end", 4, "the guest's status has more than 4194304 bytes", |guest| {
        guest.hand_over_with(" ".repeat(5 << 20).as_bytes());
    }),
    lie("a status that is no JSON", 4, "the guest's status is not readable", |guest| {
        guest.hand_over_with(b"all is well");
    }),
    lie("a status that is no text", 4, "the guest's status is not readable", |guest| {
        guest.hand_over_with(b"{\"nonce\":\"\xff\xfe\"}");
    }),
    lie("a status of a million levels", 4, "the guest's status is not readable", |guest| {
        guest.hand_over_with("[".repeat(1_000_000).as_bytes());
    }),
    lie("another content", 4, "lldp.json did not come over whole: 1 bytes", |guest| {
        guest.set();
        guest.list("lldp.json", "y");
        guest.hand_over();
    }),
    lie("another size", 4, "lldp.json did not come over whole: 1 bytes", |guest| {
        guest.set();
        guest.list_as("lldp.json", "\x1b[31m", u64::MAX);
        guest.hand_over();
    }),
    lie("a smaller size", 4, "lldp.json did not come over whole: it has more than the 0 bytes", |guest| {
        guest.set();
        guest.list("lldp.json", "");
        guest.hand_over();
    }),
    lie("a fixture is missing", 4, "the guest handed over no gptp.json", |guest| {
        guest.set();
        guest.forget("gptp.json");
        guest.hand_over();
    }),
    // Too much.
    lie("a terabyte that is handed over", 4, "files of 10995116", |guest| {
        guest.set();
        File::create(guest.out("raw/big")).unwrap().set_len(TERABYTE).unwrap();
        guest.list_as("raw/big", "0", TERABYTE);
        guest.hand_over();
    }),
    lie("a terabyte beside the set", 4, "files of 10995116", |guest| {
        guest.set();
        File::create(guest.share.join("big")).unwrap().set_len(TERABYTE).unwrap();
        guest.hand_over();
    }),
    lie("a sparse file that is kept, and it failed", 4, "failed on purpose", |guest| {
        File::create(guest.out("big")).unwrap().set_len(200 << 20).unwrap();
        guest.fail();
    }),
    lie("30,000 files", 4, "more than 20000 files and folders", |guest| {
        for i in 0..30_000 {
            if File::create(guest.out(&i.to_string())).is_err() {
                return;
            }
        }
        guest.hand_over();
    }),
    lie("folders without end", 4, "more than 16 levels of folders", |guest| {
        std::env::set_current_dir(guest.out("")).unwrap();
        for _ in 0..3000 {
            if fs::create_dir("d").is_err() || std::env::set_current_dir("d").is_err() {
                return;
            }
        }
        guest.fail();
    }),
    slow_lie("a file that grows for ever", 4, "the guest wrote more to its share than it may", |guest| {
        let file = File::create(guest.out("grows")).unwrap();
        for size in 0.. {
            guest.event(json!({ "event": "heartbeat", "step": "hand-over" }));
            file.set_len(size << 30).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }),
    lie("a console without end", 4, "bytes on its console; 16777216 are the limit", |guest| {
        let noise = "A".repeat(1 << 20);
        while guest.console.write_all(noise.as_bytes()).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }),
    slow_lie("an event without end", 4, "an event of more than 65536 bytes", |guest| {
        for _ in 0..10 {
            guest.events.write_all("A".repeat(1 << 20).as_bytes()).ok();
        }
        std::thread::sleep(Duration::from_secs(600));
    }),
    lie("events without end", 4, "more than 50000 events, which is the limit", |guest| {
        for _ in 0..51_000 {
            guest.event(json!({ "event": "heartbeat", "step": "hand-over" }));
        }
        guest.done();
    }),
    lie("long events without end", 4, "bytes of events", |guest| {
        let text = "\u{1b}]0;x\u{7}".repeat(2000);
        for _ in 0..3000 {
            guest.event(json!({ "event": "note", "step": "hand-over", "text": text }));
        }
        guest.done();
    }),
    // Events that are none.
    lie("an event that is no JSON", 4, "the guest sent no event", |guest| {
        writeln!(guest.events, "all is well {}", "x".repeat(60_000)).unwrap();
        guest.done();
    }),
    lie("an event of a million levels", 4, "the guest sent no event", |guest| {
        writeln!(guest.events, "{}", "[".repeat(60_000)).unwrap();
        guest.done();
    }),
    lie("events out of order", 4, "are lost", |guest| {
        let event = json!({ "event": "done", "seq": u64::MAX, "mono_ns": u64::MAX, "wall_ns": u64::MAX });
        writeln!(guest.events, "{event}").unwrap();
    }),
    lie("a failure with escape sequences", 4, "the guest failed in step hand-over", |guest| {
        let text = "\u{1b}[31m\u{1b}]0;x\u{7}";
        let command = json!({ "argv": ["a", text], "ended": text, "stderr": text });
        guest.event(json!({ "event": "failed", "step": "hand-over", "message": text, "command": command }));
    }),
    // No end.
    slow_lie("it never ends", 5, "the guest has been silent for 3s in step hand-over", |guest| {
        guest.set();
        guest.hand_over();
        std::thread::sleep(Duration::from_secs(600));
    }),
    slow_lie("it goes on writing after its last word", 5, "silent for 3s in step hand-over", |guest| {
        guest.set();
        guest.hand_over();
        while fs::write(guest.out("raw/late"), "late").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }),
];
