//! What a guest's console says at its end, for messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use fixture::printable;

/// How many lines of the console a failure shows.
const LINES: usize = 12;

/// How long a line is shown, in characters: a terminal's few.
const WIDTH: usize = 400;

/// How much of a console's end is read, in bytes: a panic's report is about 5 KiB.
const END: u64 = 64 << 10;

/// The text, and the console's last lines.
pub fn with_console(text: String, console: &Path) -> String {
    let shown = end(console);
    let lines: Vec<_> = shown.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].iter();
    let last: Vec<String> = last.map(|line| line.chars().take(WIDTH).collect()).collect();
    if last.is_empty() {
        return format!("{text}\nthe console is empty");
    }
    format!("{text}\nthe console's last lines:\n{}", printable::quoted(&last.join("\n")))
}

/// Why the kernel says it panicked, if it could still say so.
pub fn panic_line(console: &Path) -> Option<String> {
    let text = end(console);
    let line = text.lines().find(|line| line.contains("Kernel panic - not syncing: "))?;
    line.split_once("not syncing").map(|(_, why)| printable::line(why).into_owned())
}

fn end(console: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(console)?;
        let from = file.metadata()?.len().saturating_sub(END);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(END).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // A console that cannot be read is as good as an empty one to somebody who is told of a failure.
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
