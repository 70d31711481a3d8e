//! Messages on a serial line: one JSON value a line, at most [`MAX_LINE`] bytes, found again after any garbage.
//!
//! A message has a newline before it as well as behind it, and JSON has none inside: a line that was torn, as when
//! a microVM is restored to an earlier moment, costs no message but its own. Empty lines say nothing.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line, without its newline.
pub const MAX_LINE: usize = 64 * 1024;

/// How many bytes of a program's output or of a file go into one message: as JSON they may be six times as long.
pub const PIECE: usize = 8 * 1024;

/// How much of an unreadable line is told.
const EXCERPT: usize = 80;

/// Why no message came or went.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A line that is no message. The next may be one.
    #[error("not a message: {reason}: {excerpt:?}")]
    Unreadable {
        /// Why it is none.
        reason: String,
        /// How it begins.
        excerpt: String,
    },
    /// A line without an end, or a message that would be one. The next may be shorter.
    #[error("a line of more than {MAX_LINE} bytes")]
    TooLong,
    /// The other side has gone.
    #[error("the line is closed")]
    Closed,
    /// The line itself failed; a read that has waited long enough is `WouldBlock` or `TimedOut`.
    #[error("the line: {0}")]
    Io(#[from] io::Error),
}

impl FrameError {
    /// Whether the next line may be read all the same.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::TooLong)
    }

    /// Whether nothing has come yet.
    pub fn is_time_out(&self) -> bool {
        let waited = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        matches!(self, Self::Io(error) if waited.contains(&error.kind()))
    }
}

/// Writes a message in one piece, so that no other writer's comes between.
///
/// # Errors
/// [`FrameError::TooLong`] before anything is written, or [`FrameError::Io`].
pub fn write(to: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, message).map_err(io::Error::from)?;
    if line.len() > MAX_LINE {
        return Err(FrameError::TooLong);
    }
    line.push(b'\n');
    to.write_all(&line)?;
    Ok(to.flush()?)
}

/// The messages that come in.
#[derive(Debug)]
pub struct Messages<R> {
    from: R,
    /// What was read and not given yet.
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
    /// The rest of a line that was too long is still to be passed over.
    too_long: bool,
}

impl<R: Read> Messages<R> {
    /// Of this line.
    pub fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), searched: 0, too_long: false }
    }

    /// The next message.
    ///
    /// # Errors
    /// [`FrameError`]; after one that [passes](FrameError::is_passing), and after a time-out, it can be called again.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        loop {
            match self.line()? {
                line if line.iter().all(u8::is_ascii_whitespace) => {}
                line => return serde_json::from_slice(&line).map_err(|error| unreadable(&line, &error)),
            }
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, FrameError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                line.pop();
                self.searched = 0;
                if std::mem::take(&mut self.too_long) || line.len() > MAX_LINE {
                    return Err(FrameError::TooLong);
                }
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE {
                self.too_long = true;
                self.buffer.clear();
                self.searched = 0;
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), FrameError> {
        let mut some = [0; 4096];
        match self.from.read(&mut some) {
            Ok(0) => Err(FrameError::Closed),
            Ok(n) => {
                self.buffer.extend_from_slice(&some[..n]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn unreadable(line: &[u8], error: &serde_json::Error) -> FrameError {
    let begin = &line[..line.len().min(EXCERPT)];
    FrameError::Unreadable { reason: error.to_string(), excerpt: String::from_utf8_lossy(begin).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Ask, Question};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn question(id: u64) -> Question {
        Question { id, ask: Ask::Exec { argv: vec!["/bin/echo".into(), "a\nb".into()], within_ns: 5 } }
    }

    /// Everything that comes in until the end, and how many lines were none.
    fn all(bytes: &[u8]) -> (Vec<Question>, usize) {
        let mut messages = Messages::new(bytes);
        let (mut read, mut passed) = (Vec::new(), 0);
        loop {
            match messages.next() {
                Ok(message) => read.push(message),
                Err(error) if error.is_passing() => passed += 1,
                Err(FrameError::Closed) => return (read, passed),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_message_is_a_line_of_its_own() {
        let mut line = Vec::new();
        write(&mut line, &question(7)).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "\n{\"id\":7,\"ask\":\"exec\",\"argv\":[\"/bin/echo\",\"a\\nb\"],\"within_ns\":5}\n"
        );
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_kept() {
        let mut line = Vec::new();
        let long = Question { id: 1, ask: Ask::Exec { argv: vec!["x".repeat(MAX_LINE)], within_ns: 1 } };
        assert!(matches!(write(&mut line, &long), Err(FrameError::TooLong)));
        assert!(line.is_empty());

        let mut noise = vec![b'x'; 3 * MAX_LINE];
        write(&mut noise, &question(2)).unwrap();
        assert_eq!(all(&noise), (vec![question(2)], 1));
    }

    #[test]
    fn a_line_that_is_no_message_says_how_it_begins() {
        let error = Messages::new(&b"{\"id\":1,\"ask\":\"fly\"}\n"[..]).next::<Question>().unwrap_err();
        assert!(error.to_string().starts_with("not a message: unknown variant `fly`"), "{error}");
    }

    proptest! {
        #[test]
        fn every_message_comes_through_whatever_is_between(noise in vec(vec(any::<u8>(), 0..200), 1..8)) {
            let mut line = Vec::new();
            for (id, noise) in noise.iter().enumerate() {
                line.extend_from_slice(noise);
                write(&mut line, &question(id as u64)).unwrap();
            }
            let expected: Vec<_> = (0..noise.len() as u64).map(question).collect();
            prop_assert_eq!(all(&line).0, expected);
        }

        #[test]
        fn a_torn_message_costs_only_itself(cut in 2usize..50) {
            let (mut line, mut torn) = (Vec::new(), Vec::new());
            write(&mut torn, &question(1)).unwrap();
            line.extend_from_slice(&torn[..cut]);
            write(&mut line, &question(2)).unwrap();
            prop_assert_eq!(all(&line), (vec![question(2)], 1));
        }
    }
}
