//! The one way out for text: what goes to standard output and standard error is printable, and whoever reads it may
//! leave.
//!
//! A reader that goes away loses the text and changes nothing else. Any other failure of standard output is
//! remembered, and ends the command with its reason by [`finish`]. Nobody can be told that standard error failed.
#![expect(clippy::disallowed_methods, reason = "this is the one door to standard output and standard error")]

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Mutex;

use anyhow::{Context, Result};
use fixture::printable;

/// How many bytes are put together before they are written.
const CHUNK: usize = 32 << 10;

/// The colours of our own reports, the only sequences that a terminal gets.
const COLOURS: [&str; 12] = [
    "\x1b[0m",
    "\x1b[1m",
    "\x1b[2m",
    "\x1b[4m",
    "\x1b[31m",
    "\x1b[32m",
    "\x1b[33m",
    "\x1b[1;31m",
    "\x1b[1;32m",
    "\x1b[1;33m",
    "\x1b[36m",
    "\x1b[1;36m",
];

/// What became of standard output.
static STDOUT: Mutex<State> = Mutex::new(State::Open);

enum State {
    Open,
    ReaderGone,
    Failed(io::Error),
}

/// How text is made printable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Escaped as `\x1b`.
    Text,
    /// The same, and our own colours pass: who writes has made what others wrote printable.
    Painted,
    /// Escaped as `\u001b`, so that it stays JSON.
    Json,
    /// As it is.
    Raw,
}

/// Standard output. Writing to it never fails; what was written is out when it is flushed or dropped.
pub struct Out {
    form: Form,
    waiting: Vec<u8>,
}

/// Standard output for people.
pub fn text() -> Out {
    Out { form: Form::Text, waiting: Vec::new() }
}

/// Standard output for JSON.
pub fn json() -> Out {
    Out { form: Form::Json, waiting: Vec::new() }
}

/// Standard output for people, for reports with colours of ours; see [`Out::colour`].
pub fn painted() -> Out {
    let mut out = text();
    if is_painted(io::stdout().is_terminal()) {
        out.form = Form::Painted;
    }
    out
}

/// Standard output for what is meant for it byte by byte: the terminal of a guest's shell.
pub fn raw() -> Out {
    Out { form: Form::Raw, waiting: Vec::new() }
}

/// A line on standard output.
pub fn line(line: impl Display) {
    put(&mut text(), line);
}

/// A line of JSON on standard output.
pub fn json_line(line: impl Display) {
    put(&mut json(), line);
}

fn put(out: &mut Out, line: impl Display) {
    // One piece: lines of several threads do not mix.
    out.take(format!("{line}\n").as_bytes());
}

/// A line on standard error.
pub fn tell(line: impl Display) {
    let line = format!("{line}\n");
    io::stderr().write_all(printable::text(&line).as_bytes()).ok();
}

/// An error as the last word of a command. Lines after the first are set in, since others may have written them.
pub fn error(error: &anyhow::Error) {
    tell(format!("fixture-vm: {error:#}").trim_end().replace('\n', "\n  "));
}

/// Whether standard error is a terminal.
pub fn tells_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard error takes colours.
pub fn tells_painted() -> bool {
    is_painted(tells_terminal())
}

fn is_painted(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none()
}

/// The end of standard output: an error if it could not take everything, and somebody was there to take it.
pub fn finish() -> Result<()> {
    write(&[]);
    match std::mem::replace(&mut *state(), State::ReaderGone) {
        State::Open | State::ReaderGone => Ok(()),
        State::Failed(error) => Err(error).context("writing to standard output"),
    }
}

/// What the arguments of the command line come to, if that is no command: help, the version, or what is wrong.
pub fn usage(error: &clap::Error) {
    let rendered = error.render();
    if !error.use_stderr() {
        let mut out = painted();
        let text = if out.colour() { rendered.ansi().to_string() } else { rendered.to_string() };
        out.take(text.as_bytes());
    } else if tells_painted() {
        io::stderr().write_all(in_colours(&rendered.ansi().to_string()).as_bytes()).ok();
    } else {
        io::stderr().write_all(printable::text(&rendered.to_string()).as_bytes()).ok();
    }
}

impl Out {
    /// Whether it takes colours.
    pub fn colour(&self) -> bool {
        self.form == Form::Painted
    }

    fn take(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= CHUNK {
            self.pass_on(false);
        }
    }

    /// Writes what is waiting; the beginning of a character waits on, unless this is the end.
    fn pass_on(&mut self, is_end: bool) {
        let bytes = std::mem::take(&mut self.waiting);
        if self.form == Form::Raw {
            return write(&bytes);
        }
        let mut end = bytes.len();
        if let Err(error) = std::str::from_utf8(&bytes) {
            if error.error_len().is_none() && !is_end {
                end = error.valid_up_to();
            }
        }
        self.waiting.extend_from_slice(&bytes[end..]);
        let text = String::from_utf8_lossy(&bytes[..end]);
        write(self.form.shown(&text).as_bytes());
    }
}

impl Form {
    fn shown(self, text: &str) -> Cow<'_, str> {
        match self {
            Form::Text => printable::text(text),
            Form::Painted => in_colours(text).into(),
            Form::Json => printable::json(text),
            Form::Raw => text.into(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on(false);
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.pass_on(true);
    }
}

/// Printable text in which colours stay as they are.
fn in_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, part) in text.split('\x1b').enumerate() {
        let whole = format!("\x1b{part}");
        let colour = COLOURS.iter().find(|colour| index > 0 && whole.starts_with(**colour));
        match colour {
            Some(colour) => {
                out.push_str(colour);
                out.push_str(&printable::text(&whole[colour.len()..]));
            }
            None if index > 0 => out.push_str(&printable::text(&whole)),
            None => out.push_str(&printable::text(part)),
        }
    }
    out
}

fn state() -> std::sync::MutexGuard<'static, State> {
    STDOUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write(bytes: &[u8]) {
    let mut state = state();
    if !matches!(*state, State::Open) {
        return;
    }
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        *state = match error.kind() {
            ErrorKind::BrokenPipe => State::ReaderGone,
            _ => State::Failed(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_of_ours_pass_and_only_in_reports() {
        let given = "\x1b[1;31merror\x1b[0m \x1b[2J\x1b]0;title\x07 \x1b[8m \x1b";
        let shown = in_colours(given);
        assert_eq!(shown, "\x1b[1;31merror\x1b[0m \\x1b[2J\\x1b]0;title\\x07 \\x1b[8m \\x1b");
        assert!(!Form::Text.shown(given).contains('\x1b'));
        assert_eq!(Form::Json.shown("[\"\u{9b}\"]"), "[\"\\u009b\"]");
    }

    #[test]
    fn a_character_in_two_pieces_is_one() {
        let mut out = Out { form: Form::Raw, waiting: Vec::new() };
        out.form = Form::Text;
        out.waiting.extend_from_slice(&"ä".as_bytes()[..1]);
        out.pass_on(false);
        assert_eq!(out.waiting.len(), 1, "it waits for the rest");
        out.waiting.clear();
    }
}
