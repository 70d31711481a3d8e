//! Exit codes: the documented table, and the errors that have a code of their own.

use std::fmt;

use fixture::diff::DiffError;
use fixture::scenario::read::ScenarioError;
use fixture::verify::Finding;

/// Every code that fixture-vm exits with. The table is in the README, `docs/exit-codes.md` and `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// All is well.
    Success = 0,
    /// `diff`: the two differ.
    Differ = 1,
    /// The command line or the scenario is wrong. Nothing was started.
    Usage = 2,
    /// Something the run needs is missing here: QEMU, an image, room on the disk, a writable folder.
    Environment = 3,
    /// The guest said so, panicked, stopped or died.
    Guest = 4,
    /// A stage passed its deadline, or the guest fell silent.
    TimedOut = 5,
    /// The fixtures are there and not right.
    Verification = 6,
    /// Equal inputs gave other bytes.
    NotReproducible = 7,
    /// The golden does not know these inputs, so nothing was compared.
    UnknownGolden = 8,
    /// `test`: tests failed.
    TestsFailed = 9,
    /// The fixtures mean something that nobody has reviewed yet.
    Unreviewed = 10,
    /// SIGINT or SIGTERM.
    Interrupted = 130,
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

/// An error of the user's making: an option or a path that cannot be meant.
#[derive(Debug)]
pub struct Usage(pub String);

/// The guest failed; the text says how.
#[derive(Debug)]
pub struct GuestFailed(pub String);

/// A deadline passed; the text says which.
#[derive(Debug)]
pub struct TimedOut(pub String);

/// Something verified that is not right; the text says what, and the findings where there are any.
#[derive(Debug)]
pub struct VerificationFailed(pub String, pub Vec<Finding>);

/// Equal inputs gave other bytes; the text says where to look.
#[derive(Debug)]
pub struct NotReproducible(pub String);

/// A golden that says nothing of these inputs.
#[derive(Debug)]
pub struct UnknownGolden(pub String);

/// A snapshot that is not what the fixtures mean; the text says how.
#[derive(Debug)]
pub struct Unreviewed(pub String);

/// SIGINT or SIGTERM arrived.
#[derive(Debug)]
pub struct Interrupted;

macro_rules! errors {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::error::Error for $type {}
    )*};
}
errors!(Usage, GuestFailed, TimedOut, VerificationFailed, NotReproducible, UnknownGolden, Unreviewed);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; everything this run started has been ended and removed")
    }
}
impl std::error::Error for Interrupted {}

/// The code of an error: its type's, wherever in the chain that is, and `Environment` for any other.
pub fn code_of(error: &anyhow::Error) -> Code {
    let is = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    if is(|e| e.is::<Interrupted>()) {
        Code::Interrupted
    } else if is(|e| e.is::<Usage>() || e.is::<ScenarioError>() || e.is::<DiffError>()) {
        Code::Usage
    } else if is(|e| e.is::<GuestFailed>()) {
        Code::Guest
    } else if is(|e| e.is::<TimedOut>()) {
        Code::TimedOut
    } else if is(|e| e.is::<VerificationFailed>()) {
        Code::Verification
    } else if is(|e| e.is::<NotReproducible>()) {
        Code::NotReproducible
    } else if is(|e| e.is::<UnknownGolden>()) {
        Code::UnknownGolden
    } else if is(|e| e.is::<Unreviewed>()) {
        Code::Unreviewed
    } else {
        Code::Environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn codes_are_found_below_contexts() {
        let deep = Err::<(), _>(TimedOut("boot".into())).context("booting the guest").context("running x");
        assert_eq!(code_of(&deep.unwrap_err()), Code::TimedOut);
        assert_eq!(code_of(&anyhow!("no such file")), Code::Environment);
        assert_eq!(code_of(&Interrupted.into()) as u8, 130);
    }
}
