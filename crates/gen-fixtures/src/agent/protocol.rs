//! What the guest and the agent in a microVM say to each other: one question, any number of pieces, one last answer.

use fixture::gptp::ClockIdentity;
use fixture::scenario::Course;
use fixture::value::PortName;
use serde::{Deserialize, Serialize};

use super::breakage::Breakage;
use super::bytes::Bytes;

/// Version of this protocol. Both sides are one program in one image, but a microVM that was put to sleep may be
/// woken by another.
pub const VERSION: u32 = 1;

/// A question of the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Whatever answers it carries the same number.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What the guest asks of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Who is there? [`Tell::Ready`].
    Hello,
    /// Set the clock as far from the guest's as the scenario says, and start the daemons. [`Tell::Done`].
    Start {
        /// CLOCK_REALTIME of the guest, in nanoseconds since 1970.
        wall_ns: u64,
    },
    /// Send the node's streams, from now on as told here. [`Tell::Done`] at once.
    Talk {
        /// What time it is in the scenario, in nanoseconds; negative before traffic begins. Frames whose time
        /// is past are left out.
        scenario_ns: i64,
        /// What happens in the network: its streams. A microVM may be up before it is known.
        course: Box<Course>,
    },
    /// Begin no other stream. [`Tell::Done`] at once; [`Health::talk`] says when those begun are finished.
    Drain,
    /// Streams may begin again. [`Tell::Done`].
    Undrain,
    /// How is it? [`Tell::Health`].
    Health,
    /// What have the daemons seen? [`Tell::Seen`].
    Observe,
    /// Run a program. [`Tell::Output`] as it comes, then [`Tell::Ended`].
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
        /// How long it may take, in nanoseconds; then it is killed with all that it started.
        within_ns: u64,
    },
    /// It was paused or asleep and runs again; its streams stand until the next [`Ask::Talk`]. [`Tell::Done`].
    Woken,
    /// Break, for tests of the manager; no answer.
    Break {
        /// How.
        how: Breakage,
    },
    /// Hand over what tools said, as files. [`Tell::File`] for each piece, then [`Tell::Done`]. The sessions that
    /// watch the daemons end with it.
    Results,
    /// End the daemons, write everything back and restart, which ends the VMM. [`Tell::Done`] before the last.
    Shutdown,
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question it answers; none: it speaks by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What it says.
    #[serde(flatten)]
    pub tell: Tell,
}

/// What an agent tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum Tell {
    /// It is up. Said when it is, and to [`Ask::Hello`].
    Ready(Ready),
    /// What was asked is done.
    Done,
    /// How it is.
    Health(Health),
    /// What its daemons have seen.
    Seen(Seen),
    /// What a program wrote, piece by piece.
    Output {
        /// Where it wrote.
        stream: Stream,
        /// What.
        bytes: Bytes,
    },
    /// A program has ended. Its output is told before.
    Ended(Ended),
    /// A piece of a file.
    File {
        /// Its path below the evidence of a set.
        path: String,
        /// What follows on the pieces before; a path's first piece begins the file anew.
        bytes: Bytes,
        /// Whether it is the first.
        first: bool,
    },
    /// Something worth knowing.
    Note {
        /// What.
        text: String,
    },
    /// What was asked failed, or, without a question, the agent itself.
    Failed {
        /// The chain of causes, outermost first.
        message: String,
    },
}

impl Tell {
    /// Whether nothing follows to the same question.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Output { .. } | Self::File { .. } | Self::Note { .. })
    }
}

/// Who an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// [`VERSION`].
    pub protocol: u32,
    /// Name of the node.
    pub node: String,
    /// Kernel release, as uname(2) gives it.
    pub kernel: String,
    /// How long its kernel runs, in nanoseconds.
    pub mono_ns: u64,
    /// Its data drive, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// Whether it was given secrets.
    pub secrets: bool,
}

/// A data drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The device.
    pub device: String,
    /// The seed that it was cloned from, as the drive itself says.
    pub seed: String,
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// CLOCK_MONOTONIC of the microVM, in nanoseconds.
    pub mono_ns: u64,
    /// CLOCK_REALTIME of the microVM, in nanoseconds since 1970: its own, as far off as it is.
    pub wall_ns: u64,
    /// How often it was woken.
    pub wakes: u32,
    /// How many daemons run.
    pub daemons: u32,
    /// The first that has ended although it should not, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Its streams.
    pub talk: Talk,
}

/// How far a node is with its streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talk {
    /// Streams that have begun and not ended.
    pub begun: u32,
    /// Streams that are still to begin; none while it drains.
    pub waiting: u32,
    /// Frames sent.
    pub sent: u64,
}

impl Talk {
    /// Whether nothing is left to be sent.
    pub fn is_idle(&self) -> bool {
        self.begun == 0 && self.waiting == 0
    }
}

/// What the daemons of a node have seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Each port that follows a grandmaster.
    pub followers: Vec<Follows>,
    /// Each neighbour that LLDP knows.
    pub neighbours: Vec<Hears>,
}

/// A port that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// The port.
    pub port: PortName,
    /// The grandmaster that it follows now; none: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grandmaster: Option<ClockIdentity>,
    /// How often it has measured its offset from that one.
    pub samples: u32,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hears {
    /// The port that hears.
    pub port: String,
    /// System name of who is heard; none: it sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Identifier of the port that is heard.
    pub peer_port: String,
}

/// Where a program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Ended {
    /// By itself.
    Exited {
        /// Its exit status.
        code: i32,
    },
    /// By a signal.
    Signalled {
        /// Which, signal(7).
        signal: i32,
    },
    /// It was killed, as its time was up.
    TimedOut,
}
