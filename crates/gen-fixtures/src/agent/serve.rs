//! Answers the guest's questions, one after the other; programs run beside.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Error, Result};
use fixture::scenario::Course;

use super::exec::Programs;
use super::files;
use super::frame::Messages;
use super::protocol::{Ask, Health, Question, Ready, Seen, Tell};
use super::voice::Voice;

/// What an agent is asked for beyond running programs.
pub trait Work {
    /// Who it is.
    fn ready(&self) -> Ready;
    /// Sets the clock and starts the daemons.
    fn start(&mut self, guest_wall_ns: u64) -> Result<()>;
    /// Sends the streams; it is now `scenario_ns` in the scenario.
    fn talk(&mut self, scenario_ns: i64, course: Course) -> Result<()>;
    /// Whether more streams may begin.
    fn drain(&mut self, drain: bool);
    /// It was woken.
    fn woken(&mut self);
    /// How it is.
    fn health(&mut self) -> Health;
    /// What the daemons have seen.
    fn observe(&mut self) -> Result<Seen>;
    /// Ends the sessions that watch the daemons; gives the folder of what tools said.
    fn results(&mut self) -> Result<PathBuf>;
    /// Ends the daemons.
    fn stop(&mut self) -> Result<()>;
}

/// Answers until it is told to shut down or the channel fails.
pub fn serve(from: impl Read, voice: &Voice, work: &mut impl Work) -> Result<()> {
    voice.tell(None, Tell::Ready(work.ready()));
    let mut messages = Messages::new(from);
    let programs = Programs::default();
    loop {
        let Question { id, ask } = match messages.next() {
            Ok(question) => question,
            Err(error) if error.is_passing() => {
                voice.tell(None, Tell::Failed { message: error.to_string() });
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let last = ask == Ask::Shutdown;
        match answer(id, ask, voice, work, &programs) {
            Ok(Some(tell)) => voice.tell(Some(id), tell),
            Ok(None) => {}
            Err(error) => voice.tell(Some(id), failed(&error)),
        }
        if last {
            return Ok(());
        }
    }
}

/// The last answer; none: a thread gives it later.
fn answer(
    id: u64,
    ask: Ask,
    voice: &Voice,
    work: &mut impl Work,
    programs: &Programs,
) -> Result<Option<Tell>> {
    match ask {
        Ask::Hello => return Ok(Some(Tell::Ready(work.ready()))),
        Ask::Health => return Ok(Some(Tell::Health(work.health()))),
        Ask::Observe => return Ok(Some(Tell::Seen(work.observe()?))),
        Ask::Exec { argv, within_ns } => {
            programs.start(id, argv, Duration::from_nanos(within_ns), voice)?;
            return Ok(None);
        }
        Ask::Start { wall_ns } => work.start(wall_ns)?,
        Ask::Talk { scenario_ns, course } => work.talk(scenario_ns, *course)?,
        Ask::Drain => work.drain(true),
        Ask::Undrain => work.drain(false),
        Ask::Woken => work.woken(),
        Ask::Break { how } => how.strike()?,
        Ask::Results => files::tell(&work.results()?, |file| voice.tell(Some(id), file))?,
        Ask::Shutdown => work.stop()?,
    }
    Ok(Some(Tell::Done))
}

fn failed(error: &Error) -> Tell {
    Tell::Failed { message: format!("{error:#}") }
}
