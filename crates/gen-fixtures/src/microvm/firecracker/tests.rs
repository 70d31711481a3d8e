//! Against a conversation that was held with a real Firecracker.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use fixture::pool::{Identity, Resources};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::super::backend::Boot;
use super::api::ApiError;
use super::*;

/// What was asked of which version, step by step, and what it answered.
#[derive(Deserialize)]
pub struct Conversation {
    pub firecracker: String,
    pub start: Vec<Exchange>,
    answers: Vec<Exchange>,
    pub pause: Vec<Exchange>,
    pub save: Vec<Exchange>,
    pub restore: Vec<Exchange>,
    pub resume: Vec<Exchange>,
}

#[derive(Clone, Deserialize)]
pub struct Exchange {
    method: String,
    path: String,
    body: Option<Value>,
    status: u16,
    says: Option<Value>,
    #[serde(default)]
    pub refused: Vec<Refusal>,
}

/// What else was answered to the same request.
#[derive(Clone, Deserialize)]
pub struct Refusal {
    when: String,
    status: u16,
    says: Value,
    /// Whether a Firecracker that nothing was said to answers so, where no file is.
    pub bare: bool,
}

impl Exchange {
    pub fn asks(&self, request: &Request) -> bool {
        (self.method.as_str(), &self.path, &self.body) == (request.method, &request.path, &request.body)
    }

    fn is_of_a_tap(&self) -> bool {
        self.path.starts_with("/network-interfaces/")
    }

    fn refused_as(&self, refusal: &Refusal) -> Self {
        Self { status: refusal.status, says: Some(refusal.says.clone()), ..self.clone() }
    }

    /// The answer, as Firecracker's own server writes it.
    fn bytes(&self) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 {} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n", self.status);
        let said = self.says.as_ref().map(Value::to_string).unwrap_or_default();
        let length = match said.len() {
            0 => String::new(),
            length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        format!("{head}{length}\r\n{said}").into_bytes()
    }
}

/// A place like that of the conversation, and the microVM that it is about.
pub struct World {
    dir: TempDir,
    identity: Identity,
    pub paths: Paths,
    pub boot: Boot,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("microvm"), "gm");
        fs::create_dir_all(&paths.folder).unwrap();
        let identity = Identity {
            name: "gm".into(),
            instance: None,
            macs: vec!["02:00:00:00:00:01".parse().unwrap()],
            resources: Resources { mem_mib: 128, data_disk_mib: 4, ..Resources::default() },
        };
        let boot = Boot {
            kernel: dir.path().join("vmlinux"),
            initramfs: dir.path().join("microvm.initramfs"),
            root: dir.path().join("root"),
            cmdline: "console=ttyS0 quiet".into(),
        };
        Self { dir, identity, paths, boot }
    }

    pub fn spec(&self) -> Spec<'_> {
        Spec { identity: &self.identity, paths: &self.paths, boot: &self.boot, taps: vec![] }
    }

    pub fn conversation(&self) -> Conversation {
        let here = self.dir.path().to_str().unwrap();
        let text = include_str!("conversation.json");
        let text = text.replace("/run/fixture-vm", here).replace("/usr/lib/fixture-vm", here);
        serde_json::from_str(&text).unwrap()
    }
}

/// What answers in Firecracker's place: these exchanges, in this order, and no other.
struct StandIn {
    socket: PathBuf,
    thread: JoinHandle<usize>,
}

impl StandIn {
    fn new(world: &World, exchanges: impl IntoIterator<Item = Exchange>) -> (Self, Firecracker) {
        let socket = world.dir.path().join("server.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut left: VecDeque<Exchange> = exchanges.into_iter().collect();
        let thread = thread::spawn(move || {
            while let Some(stream) = listener.accept().ok().map(|(stream, _)| stream) {
                if serve(stream, &mut left) {
                    break;
                }
            }
            left.len()
        });
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/src/microvm/firecracker/stand-in").to_owned();
        (Self { socket, thread }, Firecracker { program })
    }

    /// In the place of one that runs already.
    fn started(world: &World, exchanges: impl IntoIterator<Item = Exchange>) -> (Self, Firecracker) {
        let (stand_in, firecracker) = Self::new(world, exchanges);
        let _ = fs::remove_file(&world.paths.control);
        std::os::unix::fs::symlink(&stand_in.socket, &world.paths.control).unwrap();
        (stand_in, firecracker)
    }

    /// Nothing was asked but that, byte for byte, and all of it was.
    fn ends(self) {
        UnixStream::connect(&self.socket).unwrap().write_all(b"end\r\n").unwrap();
        assert_eq!(
            self.thread.join().expect("a request that was not to come"),
            0,
            "not everything was asked"
        );
    }
}

/// One connection; says whether it was the last.
fn serve(stream: UnixStream, left: &mut VecDeque<Exchange>) -> bool {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(1..) if head == "end\r\n" => return true,
                Ok(1..) => {}
                _ => return false,
            }
            if let Some((_, value)) = head.split_once("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let Some(Exchange { method, path, .. }) = left.front() else {
            panic!("nothing was to follow: {head}")
        };
        let typed = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        let typed = if length > 0 { typed.as_str() } else { "" };
        let expected =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n{typed}\r\n");
        assert_eq!(head, expected);
        let body = (length > 0).then(|| serde_json::from_slice(&body).unwrap());
        let exchange = left.pop_front().unwrap();
        assert_eq!(body, exchange.body, "{head}");
        if reader.get_mut().write_all(&exchange.bytes()).is_err() {
            return false;
        }
    }
}

#[test]
fn what_is_asked_for_a_start_is_what_was_asked() {
    let world = World::new();
    let asked = requests::create(&world.spec(), &["sw-gm"]);
    let recorded = world.conversation().start;
    assert_eq!(asked.len(), recorded.len());
    for (request, exchange) in asked.iter().zip(&recorded) {
        assert!(exchange.asks(request), "{request:?} is not {} {}", exchange.method, exchange.path);
    }
}

#[test]
fn a_whole_life_is_the_recorded_conversation() {
    let world = World::new();
    let Conversation { start, answers, pause, save, restore, resume, .. } = world.conversation();
    // A TAP takes a namespace, which takes root.
    let start = start.into_iter().filter(|exchange| !exchange.is_of_a_tap());
    let all =
        start.chain(answers.clone()).chain(pause).chain(save).chain(restore).chain(resume).chain(answers);
    let (stand_in, firecracker) = StandIn::new(&world, all);
    let vmm = firecracker.start(world.spec()).unwrap();
    assert!(firecracker.answers(&world.paths));
    firecracker.pause(&world.paths).unwrap();
    firecracker.save(&world.paths).unwrap();
    drop(vmm);
    let mut vmm = firecracker.restore(world.spec()).unwrap();
    firecracker.resume(&world.paths).unwrap();
    assert!(firecracker.answers(&world.paths));
    vmm.check().unwrap();
    stand_in.ends();
    assert!(!firecracker.answers(&world.paths), "nobody answers any more");
}

/// The error of a step whose request is refused.
pub fn refused(error: &anyhow::Error, exchange: &Exchange, refusal: &Refusal) {
    let Some(ApiError::Refused { method, path, status, fault }) = error.downcast_ref() else {
        panic!("{} {}: {error:?}", exchange.path, refusal.when)
    };
    assert_eq!((*method, path, *status), (exchange.method.as_str(), &exchange.path, refusal.status));
    assert_eq!(fault, refusal.says["fault_message"].as_str().unwrap());
    let step = format!("{method} {path}: status {status}: {fault}");
    assert_eq!(error.to_string(), step);
}

#[test]
fn a_start_that_is_refused_names_its_step() {
    let world = World::new();
    let start = world.conversation().start;
    let mut steps = 0;
    for (at, exchange) in start.iter().enumerate() {
        for refusal in &exchange.refused {
            let until = start[..at].iter().cloned().chain([exchange.refused_as(refusal)]);
            let error = if exchange.is_of_a_tap() {
                let (stand_in, _) = StandIn::new(&world, until);
                let mut api = Api::connect(&stand_in.socket).unwrap();
                let asked = requests::create(&world.spec(), &["sw-gm"]);
                let error = asked.iter().find_map(|request| api.ask(request).err()).unwrap();
                drop(api);
                stand_in.ends();
                error.into()
            } else {
                let until = until.filter(|exchange| !exchange.is_of_a_tap());
                let (stand_in, firecracker) = StandIn::new(&world, until);
                let error = firecracker.start(world.spec()).unwrap_err();
                stand_in.ends();
                error
            };
            refused(&error, exchange, refusal);
            steps += 1;
        }
    }
    assert_eq!(steps, start.len(), "every step of a start can be refused");
}

#[test]
fn what_is_refused_of_a_microvm_that_is_there_names_its_step() {
    let world = World::new();
    let Conversation { pause, save, restore, resume, .. } = world.conversation();
    type Step = fn(&Firecracker, &World) -> Result<()>;
    let steps: [(&[Exchange], Step); 4] = [
        (&pause, |firecracker, world| firecracker.pause(&world.paths)),
        (&resume, |firecracker, world| firecracker.resume(&world.paths)),
        (&save, |firecracker, world| firecracker.save(&world.paths)),
        (&restore, |firecracker, world| firecracker.restore(world.spec()).map(drop)),
    ];
    for (exchanges, step) in steps {
        for (at, exchange) in exchanges.iter().enumerate() {
            for refusal in &exchange.refused {
                let until = exchanges[..at].iter().cloned().chain([exchange.refused_as(refusal)]);
                let (stand_in, firecracker) = StandIn::started(&world, until);
                refused(&step(&firecracker, &world).unwrap_err(), exchange, refusal);
                stand_in.ends();
            }
        }
    }
    assert_eq!(restore[0].refused.len(), 2, "one that is not there, and a torn one");
}

#[test]
fn what_runs_is_not_told_to_go_on_and_a_vsock_that_would_be_deaf_is_reset() {
    let world = World::new();
    let Conversation { answers, pause, .. } = world.conversation();
    let (stand_in, firecracker) = StandIn::started(&world, answers);
    firecracker.resume(&world.paths).unwrap();
    stand_in.ends();

    // A version that forgets nothing is only paused.
    let text = pause[0].says.as_ref().unwrap().to_string().replace("1.16.1", "1.15.1");
    let older = Exchange { says: serde_json::from_str(&text).unwrap(), ..pause[0].clone() };
    let (stand_in, firecracker) = StandIn::started(&world, [older, pause[1].clone()]);
    firecracker.pause(&world.paths).unwrap();
    stand_in.ends();
    assert!(pause[2].asks(&requests::save(&Paths {
        snapshot: world.paths.folder.join("discarded"),
        ..world.paths.clone()
    })));
}

#[test]
fn a_firecracker_that_ends_at_once_is_told_with_what_it_says() {
    let world = World::new();
    let error = Firecracker { program: "/bin/false".into() }.start(world.spec()).unwrap_err().to_string();
    assert!(error.contains("--api-sock") && error.ends_with("ended early, exit status 1"), "{error}");
    let error = Firecracker { program: "/bin/false".into() }.pause(&world.paths).unwrap_err().to_string();
    assert!(error.starts_with("connecting to ") && error.ends_with("control.sock"), "{error}");
}
