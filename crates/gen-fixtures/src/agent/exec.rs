//! Runs a program for the guest: output as it comes, how it ended, and no longer than it may.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bytes::Bytes;
use super::frame::PIECE;
use super::protocol::{Ended, Stream, Tell};
use super::voice::Voice;
use crate::child::{self, Pipe};

/// How many programs may run at once: a guest that asks for more has lost count.
const MOST: u32 = 8;

/// The programs that run now.
#[derive(Debug, Clone, Default)]
pub struct Programs(Arc<AtomicU32>);

impl Programs {
    /// Starts a program; a thread tells of it until it has ended.
    pub fn start(&self, id: u64, argv: Vec<String>, within: Duration, voice: &Voice) -> Result<()> {
        ensure!(!argv.is_empty(), "no program named");
        let running = self.0.load(Ordering::SeqCst);
        ensure!(running < MOST, "{running} programs run already; wait for one to end");
        self.0.fetch_add(1, Ordering::SeqCst);
        let (count, voice) = (self.0.clone(), voice.clone());
        let run = move || {
            let last = run(&argv, within, |stream, bytes| {
                voice.tell(Some(id), Tell::Output { stream, bytes: Bytes(bytes.to_vec()) });
            });
            count.fetch_sub(1, Ordering::SeqCst);
            voice.tell(Some(id), last);
        };
        thread::Builder::new().name("exec".into()).spawn(run).context("a thread")?;
        Ok(())
    }
}

fn run(argv: &[String], within: Duration, mut tell: impl FnMut(Stream, &[u8])) -> Tell {
    let status = child::stream(argv, within, |pipe, bytes| {
        let stream = match pipe {
            Pipe::Stdout => Stream::Stdout,
            Pipe::Stderr => Stream::Stderr,
        };
        bytes.chunks(PIECE).for_each(|piece| tell(stream, piece));
    });
    match status {
        Ok(Some(status)) => Tell::Ended(ended(status)),
        Ok(None) => Tell::Ended(Ended::TimedOut),
        Err(error) => Tell::Failed { message: error.to_string() },
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited { code },
        (None, signal) => Ended::Signalled { signal: signal.unwrap_or_default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(script: &str, within: Duration) -> (String, String, Tell) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let argv = ["/bin/sh", "-c", script].map(String::from);
        let last = run(&argv, within, |stream, bytes| {
            assert!(bytes.len() <= PIECE);
            let to = if stream == Stream::Stdout { &mut out } else { &mut err };
            to.extend_from_slice(bytes);
        });
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err), last)
    }

    #[test]
    fn output_exit_status_and_signal_are_told() {
        let (out, err, last) = sh("echo to; echo err >&2; exit 3", LONG);
        assert_eq!(
            (out.as_str(), err.as_str(), last),
            ("to\n", "err\n", Tell::Ended(Ended::Exited { code: 3 }))
        );
        assert_eq!(sh("kill -15 $$", LONG).2, Tell::Ended(Ended::Signalled { signal: 15 }));
        assert_eq!(sh("head -c 100000 /dev/zero", LONG).0.len(), 100_000);
    }

    #[test]
    fn a_program_whose_time_is_up_is_killed_and_its_output_kept() {
        let (out, _, last) = sh("echo begun; sleep 1000", Duration::from_millis(500));
        assert_eq!((out.as_str(), last), ("begun\n", Tell::Ended(Ended::TimedOut)));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let last = run(&["/no/such/tool".into()], LONG, |_, _| ());
        let Tell::Failed { message } = last else { panic!("{last:?}") };
        assert!(message.starts_with("`/no/such/tool`: could not be started"), "{message}");
    }
}
