//! `fixture-vm review`: shows what pending snapshots would change, and accepts or rejects them one by one.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fixture::printable;
use fixture::snapshot::compare;

use super::{file, in_words};
use crate::exit::{Code, Usage};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  fixture-vm review
  fixture-vm review --list scenarios
  fixture-vm review --accept scenarios/tsn-three-node.snap.new";

/// Shows what pending snapshots would change, and accepts or rejects them one by one
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ReviewArgs {
    /// Pending snapshots, or folders that are searched for them
    #[arg(default_value = ".", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Accept all of them, without asking
    #[arg(long, conflicts_with_all = ["reject", "list"])]
    accept: bool,
    /// Reject all of them, without asking
    #[arg(long, conflicts_with = "list")]
    reject: bool,
    /// Show them only; exits with 10 if there is one
    #[arg(long)]
    list: bool,
}

/// What becomes of a pending snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accept,
    Reject,
    Skip,
    Quit,
}

/// Reviews what the arguments name.
pub fn run(args: &ReviewArgs) -> Result<Code> {
    let pending = found(&args.paths)?;
    let mut out = output::text();
    if pending.is_empty() {
        writeln!(out, "nothing to review")?;
        return Ok(Code::Success);
    }
    let asks = !(args.accept || args.reject || args.list);
    // On CI nobody answers, whatever standard input is.
    if asks && (super::on_ci() || !io::stdin().is_terminal()) {
        let message = format!(
            "{} pending, and nobody to ask: standard input is no terminal, or CI is set; \
             use --list, --accept or --reject",
            many(pending.len())
        );
        return Err(Usage(message).into());
    }
    let mut left = 0;
    let mut input = io::stdin().lock();
    for (index, path) in pending.iter().enumerate() {
        let snapshot = file::reviewed(path).context("only pending snapshots are looked for")?;
        writeln!(out, "{} of {}: {}", index + 1, pending.len(), snapshot.display())?;
        write!(out, "{}", shown(&snapshot, path)?)?;
        let answer = match (args.accept, args.reject, args.list) {
            (true, _, _) => Answer::Accept,
            (_, true, _) => Answer::Reject,
            (_, _, true) => Answer::Skip,
            _ => ask(&mut input, &mut out)?,
        };
        match answer {
            Answer::Accept => {
                fs::rename(path, &snapshot).with_context(|| format!("accepting {}", path.display()))?;
                writeln!(out, "  accepted")?;
            }
            Answer::Reject => {
                file::remove(path)?;
                writeln!(out, "  rejected")?;
            }
            Answer::Skip => left += 1,
            Answer::Quit => {
                left += pending.len() - index;
                break;
            }
        }
    }
    if left > 0 {
        writeln!(out, "{} still to review", many(left))?;
        return Ok(Code::Unreviewed);
    }
    Ok(Code::Success)
}

fn many(count: usize) -> String {
    if count == 1 { "1 snapshot".into() } else { format!("{count} snapshots") }
}

/// What accepting would change, for people.
fn shown(snapshot: &Path, pending: &Path) -> Result<String> {
    let gone = || format!("{} went away meanwhile", pending.display());
    let seen = file::read(pending)?.with_context(gone)?;
    let Some(expected) = file::read(snapshot)? else {
        let text = fixture::file::read_text(pending, fixture::file::DOCUMENT).with_context(gone)?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        return Ok(lines.fold("  a new snapshot:\n".to_owned(), |text, line| {
            format!("{text}  + {}\n", printable::line(line))
        }));
    };
    Ok(match compare(&expected, &seen) {
        Ok(changes) if changes.is_empty() => {
            "  nothing but measurements within their tolerances, and where they are from\n".into()
        }
        Ok(changes) => in_words(&changes),
        Err(other) => format!("  {other}\n"),
    })
}

fn ask(input: &mut impl BufRead, out: &mut impl Write) -> Result<Answer> {
    loop {
        write!(out, "  (a)ccept, (r)eject, (s)kip or (q)uit? ")?;
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line).context("reading your answer")? == 0 {
            writeln!(out)?;
            return Ok(Answer::Quit);
        }
        match line.trim() {
            "a" | "accept" => return Ok(Answer::Accept),
            "r" | "reject" => return Ok(Answer::Reject),
            "s" | "skip" | "" => return Ok(Answer::Skip),
            "q" | "quit" => return Ok(Answer::Quit),
            _ => {}
        }
    }
}

/// Every pending snapshot that the paths name or hold, in order.
fn found(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, &mut found)?;
        } else if path.is_file() && file::reviewed(path).is_some() {
            found.push(path.clone());
        } else {
            let message =
                format!("{} is neither a folder nor a pending snapshot (*.snap.new)", path.display());
            return Err(Usage(message).into());
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Looks through a folder and those below it, but no hidden one, no `target`, and no link.
fn search(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let kind = entry.file_type().with_context(context)?;
        let name = entry.file_name();
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            search(&entry.path(), found)?;
        } else if kind.is_file() && file::reviewed(&entry.path()).is_some() {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_until_it_understands() {
        let answer = |text: &str| ask(&mut text.as_bytes(), &mut Vec::new()).unwrap();
        assert_eq!(answer("what?\na\n"), Answer::Accept);
        assert_eq!(answer("r\n"), Answer::Reject);
        assert_eq!(answer("\n"), Answer::Skip);
        assert_eq!(answer(""), Answer::Quit, "the end of the input");
    }
}
