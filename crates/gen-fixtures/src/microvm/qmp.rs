//! QEMU's control socket: one command, one answer, and what it tells in between is passed over (QEMU's QMP
//! reference).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer a command that it carries out at once.
const ANSWER: Duration = Duration::from_secs(60);

/// A session.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and leaves the negotiation that every session begins with.
    pub fn connect(socket: &Path) -> Result<Self> {
        Self::connect_within(socket, ANSWER)
    }

    /// The same, with a time limit for each answer.
    pub fn connect_within(socket: &Path, answer: Duration) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
        stream.set_read_timeout(Some(answer)).context("a time limit for QEMU's answers")?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            bail!("no greeting from QEMU, but {greeting}");
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Has a command carried out.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes()).with_context(|| format!("asking for {command}"))?;
        loop {
            let mut answer = self.read().with_context(|| format!("waiting for the answer to {command}"))?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("{command}: {}", error["desc"].as_str().unwrap_or("QEMU does not say why"));
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("reading from QEMU")? == 0 {
            bail!("QEMU has closed its control socket");
        }
        serde_json::from_str(&line).with_context(|| format!("reading what QEMU says: {}", line.trim()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A QEMU that says these lines, each after a line that it was asked.
    fn with_answers<T>(answers: &'static [&'static str], act: impl FnOnce(Result<Qmp>) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"{\"QMP\":{}}\n").unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for answer in answers {
                    lines.next().unwrap().unwrap();
                    writeln!(stream, "{answer}").unwrap();
                }
                // One that is asked more than it has answers to goes away without a word.
                let _ = lines.next();
            });
            act(Qmp::connect(&socket))
        })
    }

    #[test]
    fn events_between_question_and_answer_are_passed_over() {
        let answers = &[
            "{\"return\":{}}",
            "{\"event\":\"STOP\",\"timestamp\":{}}\n{\"return\":{\"status\":\"paused\"}}",
        ];
        let status = with_answers(answers, |qmp| qmp?.execute("query-status", &json!({})));
        assert_eq!(status.unwrap()["status"], "paused");
    }

    #[test]
    fn an_error_says_which_command_and_why() {
        let answers =
            &["{\"return\":{}}", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such file\"}}"];
        let error = with_answers(answers, |qmp| qmp?.execute("migrate-incoming", &json!({})));
        assert_eq!(error.unwrap_err().to_string(), "migrate-incoming: no such file");
        let closed = with_answers(&[], |qmp| qmp.unwrap_err());
        assert!(format!("{closed:#}").contains("QEMU has closed its control socket"), "{closed:#}");
    }
}
