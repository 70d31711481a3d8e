//! The guest's events as lines, as they come, and no more of them than a guest may send.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixture::contract::event::GuestEvent;
use fixture::printable;

use super::limits::{ALL_EVENTS_BYTES, EVENT_BYTES, EVENTS};
use crate::exit::GuestFailed;

/// How much of a line that is no event is shown, in characters.
const SHOWN: usize = 200;

/// Reads whole lines of a file that grows.
pub struct Lines {
    file: BufReader<File>,
    partial: Vec<u8>,
    lines: u64,
    bytes: u64,
}

impl Lines {
    /// Of the file with the guest's events.
    pub fn open(events: &Path) -> Result<Self> {
        let file = File::open(events).with_context(|| format!("opening {}", events.display()))?;
        Ok(Self { file: BufReader::new(file), partial: Vec::new(), lines: 0, bytes: 0 })
    }

    /// The next event, if its whole line is there.
    pub fn next(&mut self) -> Result<Option<GuestEvent>> {
        let room = (EVENT_BYTES + 1).saturating_sub(self.partial.len());
        let read = (&mut self.file).take(room as u64).read_until(b'\n', &mut self.partial);
        self.bytes += read.context("reading the guest's events")? as u64;
        ensure!(
            self.partial.len() <= EVENT_BYTES,
            GuestFailed(format!(
                "the guest sent an event of more than {EVENT_BYTES} bytes, which is the limit"
            ))
        );
        ensure!(
            self.bytes <= ALL_EVENTS_BYTES,
            GuestFailed(format!(
                "the guest sent more than {ALL_EVENTS_BYTES} bytes of events, which is the limit"
            ))
        );
        if self.partial.last() != Some(&b'\n') {
            return Ok(None);
        }
        self.lines += 1;
        ensure!(
            self.lines <= EVENTS,
            GuestFailed(format!("the guest sent more than {EVENTS} events, which is the limit"))
        );
        let line = std::mem::take(&mut self.partial);
        serde_json::from_slice(&line).map(Some).map_err(|error| {
            let text = String::from_utf8_lossy(&line);
            let text: String = text.trim().chars().take(SHOWN).collect();
            GuestFailed(format!("the guest sent no event: {error}: {}", printable::line(&text))).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lines_are_whole_and_bounded() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("events");
        let event = |text: &str| {
            format!(r#"{{"seq":0,"mono_ns":1,"wall_ns":2,"event":"note","step":"boot","text":"{text}"}}"#)
        };
        let (first, cut) = (event("first") + "\n", event("cut"));
        fs::write(&path, format!("{first}{}", &cut[..30])).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        assert!(lines.next().unwrap().is_some());
        assert!(lines.next().unwrap().is_none());
        fs::write(&path, format!("{first}{cut}\n")).unwrap();
        assert!(lines.next().unwrap().is_some(), "what came later ends the line");

        let refused = |text: String| {
            fs::write(&path, text).unwrap();
            let mut lines = Lines::open(&path).unwrap();
            let error = loop {
                match lines.next() {
                    Ok(event) => assert!(event.is_some(), "nothing is refused"),
                    Err(error) => break error,
                }
            };
            assert!(error.is::<GuestFailed>(), "{error:#}");
            format!("{error:#}")
        };
        assert!(refused("x".repeat(EVENT_BYTES + 1)).contains("an event of more than 65536 bytes"));
        assert!(refused(event("") + &"y\n".repeat(9000)).len() < 300, "a wrong line is shown in part");
        assert!(refused((event("") + "\n").repeat(EVENTS as usize + 1)).contains("more than 50000 events"));
        assert!(
            refused((event(&"z".repeat(60_000)) + "\n").repeat(400))
                .contains("more than 20971520 bytes of events")
        );
    }
}
