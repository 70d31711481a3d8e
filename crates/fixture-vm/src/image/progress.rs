//! Progress of an image build: a bar on a terminal, plain lines in a pipe; and whether to go on.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt::Interrupt;
use crate::output;

/// How often the sizes of growing files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where progress goes, standard error or nowhere, and what ends it early.
pub struct Progress {
    shown: bool,
    interrupt: Interrupt,
}

impl Progress {
    /// Shown on standard error, until interrupted.
    pub fn shown(interrupt: &Interrupt) -> Self {
        Self { shown: true, interrupt: interrupt.clone() }
    }

    /// Shown nowhere.
    #[cfg(test)]
    pub fn silent() -> Self {
        Self { shown: false, interrupt: Interrupt::never() }
    }

    /// An error once the user has interrupted.
    pub fn go_on(&self) -> Result<()> {
        Ok(self.interrupt.check()?)
    }

    /// Tells one step in a line of its own.
    pub fn step(&self, what: &str) {
        if self.shown {
            output::tell(format_args!("image: {what}"));
        }
    }

    /// Starts a meter of `total` bytes; its title is also the line that a pipe gets.
    pub fn bytes(&self, title: &str, total: u64) -> Meter {
        self.step(&format!("{title} ({:.1} MB)", total as f64 / 1e6));
        let target = if self.shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        bar.set_style(style.expect("the template is well-formed"));
        Meter { bar }
    }
}

/// A count of bytes that moves.
pub struct Meter {
    bar: ProgressBar,
}

impl Meter {
    /// Runs `work` and shows meanwhile how far the files it writes have grown, after `before` bytes.
    pub fn while_growing<T>(&self, files: &[PathBuf], before: u64, work: impl FnOnce() -> T) -> T {
        let grown =
            || files.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum::<u64>();
        let (done, is_done) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Dropping the sender ends the wait at once.
                while is_done.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                    self.bar.set_position(before + grown());
                }
            });
            let result = work();
            drop(done);
            result
        })
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
