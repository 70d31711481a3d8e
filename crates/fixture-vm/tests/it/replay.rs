//! Recording and replaying, for real: the same words again, the same failure again, and backwards in a debugger.

use std::cell::RefCell;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::lab::{Lab, ends_with};

fn replay(lab: &Lab, args: &[&str]) -> std::process::Command {
    let mut replay = lab.program(&["replay"]);
    replay.arg(lab.out()).args(args);
    replay
}

#[test]
fn a_recorded_run_is_replayed_word_for_word_and_backwards() {
    let lab = Lab::new();
    let missing = ends_with(2, replay(&lab, &[]));
    assert!(missing.contains("`fixture-vm run --record` makes one"), "{missing}");

    ends_with(0, lab.run(&["--record"]));
    let replayed = ends_with(0, replay(&lab, &[]));
    assert!(
        replayed.contains("frames of 1 streams") && replayed.contains("the same as recorded"),
        "{replayed}"
    );

    // The set is the one that any other run makes: it answers for the same inputs.
    let again = ends_with(0, lab.run(&[]));
    assert!(again.contains("from the store"), "{again}");

    goes_backwards(&lab);

    let events = lab.path("set.replay/guest-events.jsonl");
    let text = fs::read_to_string(&events).unwrap();
    assert!(text.contains("20 frames sent"));
    fs::write(&events, text.replace("20 frames sent", "21 frames sent")).unwrap();
    let other = ends_with(7, replay(&lab, &[]));
    assert!(other.contains("20 frames sent"), "{other}");
    lab.assert_nothing_left();
}

#[test]
fn a_run_that_fails_is_replayed_to_its_failure() {
    let lab = Lab::new();
    ends_with(4, lab.run(&["--record", "--fault", "panic@topology"]));
    let replayed = ends_with(0, replay(&lab, &[]));
    assert!(replayed.contains("topology FAILED") && replayed.contains("the same as recorded"), "{replayed}");
    lab.assert_nothing_left();
}

/// Steps forward and back again with a debugger's protocol.
fn goes_backwards(lab: &Lab) {
    // The path of a socket has no comma, the lab's home has.
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("gdb");
    let mut replay = replay(lab, &["--gdb", socket.to_str().unwrap()]);
    let replay = Ended(replay.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    // The socket is there a moment before somebody listens.
    let connection = RefCell::new(None);
    lab.wait_until("the debugger's socket", || {
        *connection.borrow_mut() = UnixStream::connect(&socket).ok();
        connection.borrow().is_some()
    });

    let mut gdb = Debugger::of(connection.take().unwrap());
    let support = gdb.ask("qSupported:xmlRegisters=i386");
    assert!(support.contains("ReverseStep+"), "{support}");
    let mut seen = vec![gdb.registers()];
    for _ in 0..4 {
        gdb.ask("s");
        seen.push(gdb.registers());
    }
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "the guest does not move");
    seen.pop();
    gdb.ask("bs");
    assert_eq!(Some(&gdb.registers()), seen.last(), "one step back");
    drop(replay);
}

/// A replay that is interrupted when it is dropped, whatever became of the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.0.wait().unwrap();
    }
}

/// The client's side of GDB's remote protocol (GDB's manual, appendix E), as far as the test needs it.
struct Debugger {
    socket: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Debugger {
    fn of(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        Self { answers: BufReader::new(socket.try_clone().unwrap()), socket }
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.socket, "${packet}#{sum:02x}").unwrap();
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        while self.byte() != b'$' {}
        let mut answer = Vec::new();
        loop {
            match self.byte() {
                b'#' => break,
                byte => answer.push(byte),
            }
        }
        let _sum = [self.byte(), self.byte()];
        self.socket.write_all(b"+").unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn registers(&mut self) -> String {
        self.ask("g")
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.answers.read_exact(&mut byte).unwrap();
        byte[0]
    }
}
