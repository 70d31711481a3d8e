//! What leaves the program: a reader that goes away, a disk that is full, text that would drive a terminal.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::lab::{Lab, SMALL, end, image};
use crate::project::{root, said};

/// Every command that writes to standard output without a guest, with the exit code it has here.
fn commands(lab: &Lab) -> Vec<(Command, i32)> {
    let put = |name: &str, text: &str| fs::write(lab.path(name), text).unwrap();
    put("bad.json", "{");
    put("a.json", "{\"gptp\":1}");
    put("b.json", "{\"gptp\":2}");
    fs::create_dir(lab.path("empty")).unwrap();
    let in_root = |line: &str| {
        let mut command = lab.program(&line.split_whitespace().collect::<Vec<_>>());
        command.current_dir(root());
        command
    };
    let at_home = |line: &str| {
        let mut command = in_root(line);
        command.current_dir(lab.path(""));
        command
    };
    let mut dry_run = lab.program(&["run", SMALL, "--dry-run", "--guest"]);
    dry_run.arg(image()).arg("--out").arg(lab.out());
    // A run that fails leaves a story to tell.
    let mut failed = lab.program(&["run", SMALL, "--guest", "/nonexistent", "--out"]);
    failed.arg(lab.out());
    assert!(!failed.output().unwrap().status.success());
    vec![
        (at_home("verify bad.json"), 6),
        (at_home("--verify bad.json"), 6),
        (at_home("verify bad.json --format json"), 6),
        (at_home("verify bad.json --format junit"), 6),
        (at_home("diff a.json b.json"), 1),
        (at_home("diff a.json b.json --json"), 1),
        (at_home("diff a.json a.json"), 0),
        (dry_run, 0),
        (at_home("doctor --json"), 0),
        (at_home("review empty"), 0),
        (at_home("events"), 0),
        (at_home("events --format jsonl"), 0),
        (at_home("events export jsonl"), 0),
        (at_home("timeline last"), 0),
        (at_home("runs"), 0),
        (at_home("report last"), 0),
        (in_root("trace report"), 0),
        (in_root("test --project scenarios --list"), 0),
        (at_home("image lock"), 0),
        (at_home("completions bash"), 0),
        (at_home("man"), 0),
        (at_home("--help"), 0),
        (at_home("--version"), 0),
    ]
}

fn run(command: &mut Command, stdout: impl Into<Stdio>) -> Output {
    end(command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap())
}

/// The words alone: how long each took is another thing each time.
fn without_times(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[test]
fn a_reader_that_goes_away_loses_the_text_and_nothing_else() {
    let lab = Lab::new();
    for (mut command, code) in commands(&lab) {
        let read = run(&mut command, Stdio::piped());
        assert_eq!(read.status.code(), Some(code), "{command:?}: {}", said(&read));
        assert!(!read.stdout.is_empty(), "{command:?} writes something");
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let left = run(&mut command, std::os::fd::OwnedFd::from(ours));
        assert_eq!(left.status.code(), Some(code), "{command:?}: {}", said(&left));
        assert_eq!(without_times(&left.stderr), without_times(&read.stderr));
    }
}

#[test]
fn a_disk_that_is_full_is_the_reason() {
    let lab = Lab::new();
    for (mut command, _) in commands(&lab) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = run(&mut command, full);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {}", said(&output));
        let told = "fixture-vm: writing to standard output: No space left on device";
        assert_eq!(said(&output).matches(told).count(), 1, "{command:?}: {}", said(&output));
    }
}

/// No character that drives a terminal or reorders text, but ends of lines and tabs.
fn assert_printable(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let printable = |c: char| c == '\n' || c == '\t' || fixture::printable::is_printable(c);
    assert!(text.chars().all(printable), "{what}: {text:?}");
}

#[test]
fn text_of_others_is_printable_wherever_it_is_shown() {
    const WILD: &str = "\u{1b}[2J\u{9b}1m\u{202e}\u{7f}\u{2028}\u{7}";
    let lab = Lab::new();
    let name = format!("x{WILD}");
    let scenario = lab.path(&format!("{name}.yaml"));
    fs::write(&scenario, format!("name: {name}\nnodes: [{name}]\n")).unwrap();
    let value =
        |n: u8| format!(r#"{{"gptp":{{"grandmaster":"02:00:00:ff:fe:00:00:01","domain":{n},"ports":[]}}}}"#);
    let [a, b] = [0, 1].map(|n| {
        let set = lab.path(&format!("{n}{name}"));
        fs::create_dir(&set).unwrap();
        fs::write(set.join("gptp.json"), value(n)).unwrap();
        fs::write(set.join(&name), "junk").unwrap();
        set
    });
    let show = |args: &[&dyn AsRef<Path>]| {
        let mut command = lab.program(&[]);
        command.args(args.iter().map(|arg| arg.as_ref()));
        run(&mut command, Stdio::piped())
    };
    let out = lab.out();
    let each: [&[&dyn AsRef<Path>]; 10] = [
        &[&"run", &scenario, &"--out", &out],
        &[&"run", &SMALL, &"--guest", &image(), &"--dry-run", &"--out", &lab.path(&format!("o{name}"))],
        &[&"verify", &a],
        &[&"verify", &a, &"--format", &"json"],
        &[&"verify", &a, &"--format", &"sarif"],
        &[&"verify", &a, &"--format", &"junit"],
        &[&"verify", &a, &"--format", &"markdown"],
        &[&"diff", &a, &b],
        &[&"diff", &a, &b, &"--json"],
        &[&"diff", &a, &name],
    ];
    for args in each {
        let output = show(args);
        let what: Vec<_> = args.iter().map(|arg| arg.as_ref().display().to_string()).collect();
        assert_printable(&what.join(" "), &output.stdout);
        assert_printable(&what.join(" "), &output.stderr);
        let text = said(&output);
        // A URI has its own way to escape.
        assert!(
            text.contains("[2J") || text.contains("%1B%5B2J"),
            "the name is shown, escaped: {what:?}: {text}"
        );
    }
    let json: serde_json::Value = serde_json::from_slice(&show(each[8]).stdout).unwrap();
    assert_eq!(json["a"], a.to_str().unwrap(), "it means what it meant");
}
