//! The agent and the guest on a socket pair: what is asked is answered, whatever else is on the line.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, bail};
use fixture::scenario::Course;

use super::files::Taken;
use super::protocol::{Ask, Ended, Health, Ready, Seen, Stream, Talk, Tell, VERSION};
use super::serve::{Work, serve};
use super::voice::Voice;
use crate::microvm::link::Link;
use crate::plan::tests::shipped;

const LONG: Duration = Duration::from_secs(60);

/// A node without a machine: it says what it was asked.
#[derive(Default)]
pub struct Paper {
    asked: Vec<String>,
    folder: PathBuf,
    wakes: u32,
    mute: bool,
}

impl Work for Paper {
    fn ready(&self) -> Ready {
        Ready {
            protocol: VERSION,
            node: "paper".into(),
            kernel: "6.12".into(),
            mono_ns: 7,
            data: None,
            secrets: false,
        }
    }

    fn start(&mut self, guest_wall_ns: u64) -> Result<()> {
        anyhow::ensure!(guest_wall_ns > 0);
        if self.asked.contains(&"start".into()) {
            bail!("started already");
        }
        self.asked.push("start".into());
        Ok(())
    }

    fn talk(&mut self, scenario_ns: i64, course: Course) -> Result<()> {
        self.asked.push(format!("talk {scenario_ns} {}", course.name));
        Ok(())
    }

    fn drain(&mut self, drain: bool) {
        self.asked.push(format!("drain {drain}"));
    }

    fn woken(&mut self) {
        self.wakes += 1;
    }

    fn health(&mut self) -> Health {
        if self.mute {
            loop {
                thread::park();
            }
        }
        Health { mono_ns: 1, wall_ns: 2, wakes: self.wakes, daemons: 0, failed: None, talk: Talk::default() }
    }

    fn observe(&mut self) -> Result<Seen> {
        Ok(Seen::default())
    }

    fn results(&mut self) -> Result<PathBuf> {
        Ok(self.folder.clone())
    }

    fn stop(&mut self) -> Result<()> {
        self.asked.push("stop".into());
        Ok(())
    }
}

/// An agent in a thread, and the guest's end of its line.
/// An agent that serves, and the guest's end of its line.
pub fn serving(mut paper: Paper) -> (UnixStream, JoinHandle<Paper>) {
    let (inside, outside) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        let voice = Voice::new(inside.try_clone().unwrap());
        let _ = serve(inside, &voice, &mut paper);
        paper
    });
    (outside, thread)
}

#[test]
fn a_life_from_ready_to_shutdown() {
    let (line, thread) = serving(Paper::default());
    let mut link = Link::on(line).unwrap();
    link.wait_until_ready("paper", LONG, || Ok(())).unwrap();
    link.command(Ask::Start { wall_ns: 1 }, LONG).unwrap();
    let again = link.command(Ask::Start { wall_ns: 1 }, LONG).unwrap_err();
    assert_eq!(again.to_string(), "its agent: started already");
    let course = Box::new(shipped("tsn-three-node.yaml").parted().1);
    link.command(Ask::Talk { scenario_ns: -5, course }, LONG).unwrap();
    link.command(Ask::Drain, LONG).unwrap();
    link.command(Ask::Undrain, LONG).unwrap();
    link.command(Ask::Woken, LONG).unwrap();
    let Tell::Health(health) = link.ask(Ask::Health, LONG).unwrap() else { panic!() };
    assert_eq!(health.wakes, 1);
    assert_eq!(link.ask(Ask::Observe, LONG).unwrap(), Tell::Seen(Seen::default()));
    link.command(Ask::Shutdown, LONG).unwrap();
    let asked = ["start", "talk -5 tsn-three-node", "drain true", "drain false", "stop"];
    assert_eq!(thread.join().unwrap().asked, asked);
    assert!(link.ask(Ask::Health, LONG).is_err());
}

#[test]
fn programs_run_beside_and_their_output_comes_through() {
    let (line, _thread) = serving(Paper::default());
    let mut link = Link::on(line).unwrap();
    let mut exec = |argv: &[&str], within: Duration| {
        let (mut out, mut err) = (String::new(), String::new());
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let ask = Ask::Exec { argv, within_ns: within.as_nanos() as u64 };
        let last = link.ask_for(ask, LONG, |tell| {
            let Tell::Output { stream, bytes } = tell else { panic!("{tell:?}") };
            let to = if stream == Stream::Stdout { &mut out } else { &mut err };
            to.push_str(&String::from_utf8_lossy(&bytes.0));
            Ok(())
        });
        (last, out, err)
    };
    let (last, out, err) = exec(&["/bin/sh", "-c", "echo here; echo there >&2; exit 9"], LONG);
    assert_eq!(last.unwrap(), Tell::Ended(Ended::Exited { code: 9 }));
    assert_eq!((out.as_str(), err.as_str()), ("here\n", "there\n"));
    // Escape characters take six bytes each in JSON.
    let (last, out, _) = exec(&["/bin/sh", "-c", "head -c 200000 /dev/zero | tr '\\0' '\\033'"], LONG);
    assert_eq!((last.unwrap(), out.len()), (Tell::Ended(Ended::Exited { code: 0 }), 200_000));
    let (last, ..) = exec(&["sleep", "1000"], Duration::from_millis(100));
    assert_eq!(last.unwrap(), Tell::Ended(Ended::TimedOut));
    let (missing, ..) = exec(&["/no/such/tool"], LONG);
    assert!(missing.unwrap_err().to_string().contains("could not be started"));
    assert!(link.ask(Ask::Health, LONG).is_ok());
}

#[test]
fn garbage_on_the_line_costs_no_question() {
    let (mut line, _thread) = serving(Paper::default());
    let mut link = Link::on(line.try_clone().unwrap()).unwrap();
    link.wait_until_ready("paper", LONG, || Ok(())).unwrap();
    line.write_all(b"\n{\"id\":1,\"ask\":\"hea").unwrap();
    assert!(link.ask(Ask::Health, LONG).is_ok());
}

#[test]
fn an_agent_that_hangs_is_not_waited_for() {
    let (line, _thread) = serving(Paper { mute: true, ..Paper::default() });
    let mut link = Link::on(line).unwrap();
    link.wait_until_ready("paper", LONG, || Ok(())).unwrap();
    let error = link.ask(Ask::Health, Duration::from_millis(50)).unwrap_err().to_string();
    assert_eq!(error, "its agent does not answer (waited 50ms)");
}

#[test]
fn results_come_over_as_files() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(from.path().join("lldp")).unwrap();
    std::fs::write(from.path().join("lldp/paper.json0"), "{}").unwrap();
    let (line, _thread) = serving(Paper { folder: from.path().to_owned(), ..Paper::default() });
    let mut taken = Taken::into(to.path());
    let mut link = Link::on(line).unwrap();
    let last = link.ask_for(Ask::Results, LONG, |tell| {
        let Tell::File { path, bytes, first } = tell else { panic!("{tell:?}") };
        taken.take(&path, &bytes, first)
    });
    assert_eq!(last.unwrap(), Tell::Done);
    assert_eq!(std::fs::read_to_string(to.path().join("lldp/paper.json0")).unwrap(), "{}");
}
