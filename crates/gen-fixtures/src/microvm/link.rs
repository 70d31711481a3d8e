//! The guest's end of the line to an agent: one question after the other, each with a time limit.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::line::Line;
use crate::agent::frame::{self, FrameError, Messages};
use crate::agent::protocol::{Answer, Ask, Question, Ready, Tell, VERSION};
use crate::clock;

/// How long one question may go unanswered before an agent that is only coming up is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// A link to an agent.
#[derive(Debug)]
pub struct Link {
    line: Line,
    /// None: the line has to be opened before the next question.
    open: Option<Open>,
    next: u64,
}

/// A line that is open.
#[derive(Debug)]
struct Open {
    stream: UnixStream,
    messages: Messages<UnixStream>,
}

impl Open {
    fn on(stream: UnixStream) -> Result<Self> {
        let messages = Messages::new(stream.try_clone().context("sharing the line to its agent")?);
        Ok(Self { stream, messages })
    }
}

impl Link {
    /// Connects to the VMM's end of the line if it can be without the agent, which need not be up.
    pub fn connect(line: Line) -> Result<Self> {
        let open = if line.is_always_open() { Some(Open::on(line.dial(AGAIN)?)?) } else { None };
        Ok(Self { line, open, next: 1 })
    }

    /// The link over this stream.
    #[cfg(test)]
    pub fn on(stream: UnixStream) -> Result<Self> {
        let line = Line { socket: "/no/such/socket".into(), port: None };
        Ok(Self { line, open: Some(Open::on(stream)?), next: 1 })
    }

    /// Waits until an agent is up and speaks this program's language, and gives who it is. `alive` says in its error why there will be
    /// none.
    pub fn wait_until_ready(
        &mut self,
        node: &str,
        within: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Ready> {
        let deadline = clock::monotonic() + within.as_nanos() as u64;
        loop {
            match self.ask(Ask::Hello, AGAIN) {
                Ok(Tell::Ready(ready)) => {
                    ensure!(ready.protocol == VERSION, "its agent speaks protocol {}", ready.protocol);
                    ensure!(ready.node == node, "its agent says that it is {}", ready.node);
                    return Ok(ready);
                }
                Ok(other) => bail!("its agent answers {other:?} to a greeting"),
                Err(error) => {
                    alive()?;
                    if clock::monotonic() > deadline {
                        return Err(error.context(format!("its agent was not up after {within:?}")));
                    }
                }
            }
        }
    }

    /// Asks and waits for the last answer; what comes before it is dropped.
    pub fn ask(&mut self, ask: Ask, within: Duration) -> Result<Tell> {
        self.ask_for(ask, within, |_| Ok(()))
    }

    /// The same, for a question that is answered by nothing but that it is done.
    pub fn command(&mut self, ask: Ask, within: Duration) -> Result<()> {
        match self.ask(ask, within)? {
            Tell::Done => Ok(()),
            other => bail!("its agent answers {other:?} where it should be done"),
        }
    }

    /// Asks, gives each piece of the answer to `take`, and waits for the last.
    pub fn ask_for(
        &mut self,
        ask: Ask,
        within: Duration,
        mut take: impl FnMut(Tell) -> Result<()>,
    ) -> Result<Tell> {
        let id = self.next;
        self.next += 1;
        let deadline = clock::monotonic() + within.as_nanos() as u64;
        let Open { stream, messages } = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(Open::on(self.line.dial(within)?)?),
        };
        stream.set_write_timeout(Some(within)).context("a time limit for a question")?;
        if let Err(error) = frame::write(stream, &Question { id, ask }) {
            self.open = None;
            return Err(error).context("asking its agent");
        }
        loop {
            let left = Duration::from_nanos(deadline.saturating_sub(clock::monotonic()));
            ensure!(!left.is_zero(), "its agent does not answer (waited {within:?})");
            stream.set_read_timeout(Some(left)).context("a time limit for an answer")?;
            match messages.next::<Answer>() {
                Ok(Answer { id: Some(of), tell }) if of == id => match tell {
                    Tell::Failed { message } => bail!("its agent: {message}"),
                    last if last.is_last() => return Ok(last),
                    piece => take(piece)?,
                },
                // Said by itself, or an answer that nobody waits for any more.
                Ok(_) => {}
                Err(error) if error.is_passing() || error.is_time_out() => {}
                Err(error) => {
                    self.open = None;
                    return match error {
                        FrameError::Closed => Err(anyhow!("the line to its agent is closed")),
                        error => Err(error).context("listening to its agent"),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// An agent that gives these answers to each question, after having ignored some.
    fn with_agent<T>(ignored: usize, tells: &[Tell], act: impl FnOnce(Link) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut messages = Messages::new(stream.try_clone().unwrap());
                for asked in 0.. {
                    let Ok(question) = messages.next::<Question>() else { return };
                    if asked < ignored {
                        continue;
                    }
                    let unasked = Answer { id: None, tell: Tell::Note { text: "unasked".into() } };
                    frame::write(&mut stream, &unasked).unwrap();
                    for tell in tells {
                        let answer = Answer { id: Some(question.id), tell: tell.clone() };
                        frame::write(&mut stream, &answer).unwrap();
                    }
                }
            });
            act(Link::connect(Line { socket, port: None }).unwrap())
        })
    }

    fn ready(node: &str) -> Tell {
        let (node, kernel) = (node.to_owned(), "6.12".into());
        Tell::Ready(Ready { protocol: VERSION, node, kernel, mono_ns: 1, data: None, secrets: true })
    }

    #[test]
    fn an_agent_that_comes_up_late_is_greeted_again() {
        with_agent(2, &[ready("gm")], |mut link| link.wait_until_ready("gm", LONG, || Ok(()))).unwrap();
    }

    #[test]
    fn another_node_s_agent_is_not_taken_for_it() {
        let error = with_agent(0, &[ready("other")], |mut link| {
            let mut seen = Ok(());
            let result = link.wait_until_ready("gm", LONG, || std::mem::replace(&mut seen, Ok(())));
            result.unwrap_err()
        });
        assert_eq!(error.to_string(), "its agent says that it is other");
    }

    #[test]
    fn a_failure_and_a_silence_are_errors() {
        let failed = Tell::Failed { message: "no such file".into() };
        let error = with_agent(0, &[failed], |mut link| link.command(Ask::Drain, LONG).unwrap_err());
        assert_eq!(error.to_string(), "its agent: no such file");
        let error =
            with_agent(9, &[], |mut link| link.command(Ask::Drain, Duration::from_millis(30)).unwrap_err());
        assert_eq!(error.to_string(), "its agent does not answer (waited 30ms)");
    }
}
