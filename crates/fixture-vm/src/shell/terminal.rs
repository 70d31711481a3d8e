//! The terminal of whoever types: given to the guest's shell as it is, and put back afterwards.

use std::io::{IsTerminal, stdin};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// A terminal that passes every key on. Dropped, it is what it was.
pub struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Makes the terminal raw, if there is one.
    pub fn begin() -> Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Self { before: None });
        }
        let before = tcgetattr(stdin()).context("asking for the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("setting the terminal")?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may have gone away, and then needs nothing.
            tcsetattr(stdin(), SetArg::TCSADRAIN, before).ok();
        }
    }
}

/// Columns and rows; those of old where there is no terminal.
pub fn size() -> (u16, u16) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    #[expect(unsafe_code, reason = "ioctl(2) writes one winsize, which lives here")]
    let asked = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCGWINSZ, &mut size) };
    if asked == 0 && size.ws_col > 0 { (size.ws_col, size.ws_row) } else { (80, 24) }
}
