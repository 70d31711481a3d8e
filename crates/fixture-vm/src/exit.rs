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
    /// The command line, or a file that it names, is wrong. Nothing was started.
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

    /// The words of every table: the README's, that of `docs/exit-codes.md`, and the help's.
    const MEANINGS: [(Code, &str); 12] = [
        (Code::Success, "all is well"),
        (Code::Differ, "`diff`: the two differ"),
        (Code::Usage, "the command line, or a file that it names, is wrong; nothing was started"),
        (Code::Environment, "something is missing here: QEMU, an image, disk room, a writable folder"),
        (Code::Guest, "the guest failed, panicked, stopped or died"),
        (Code::TimedOut, "a stage passed its deadline, or the guest fell silent"),
        (Code::Verification, "the fixtures are not right"),
        (Code::NotReproducible, "equal inputs gave other bytes, or a golden's are others"),
        (Code::UnknownGolden, "the golden does not know these inputs; nothing was compared"),
        (Code::TestsFailed, "`test`: tests failed"),
        (Code::Unreviewed, "the fixtures mean something that nobody has reviewed yet"),
        (Code::Interrupted, "interrupted"),
    ];

    #[test]
    fn every_table_has_the_same_codes_with_the_same_meanings() {
        let page = |name: &str| {
            let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            std::fs::read_to_string(top.join(name)).unwrap()
        };
        let tables = [
            ("README.md", page("README.md"), "| "),
            ("docs/exit-codes.md", page("docs/exit-codes.md"), "| "),
            ("--help", crate::cli::EXAMPLES.to_owned(), " "),
        ];
        for (name, text, begin) in tables {
            let row = |line: &str| -> Option<(u8, String)> {
                let row = line.strip_prefix(begin)?.trim_start();
                let (code, meaning) = row.split_once(|c: char| !c.is_ascii_digit())?;
                let meaning = meaning.trim_matches([' ', '|']);
                // Where to read more.
                let meaning = meaning.split(" (see ").next().unwrap_or(meaning);
                Some((code.parse().ok()?, meaning.to_owned()))
            };
            let rows: Vec<_> = text.lines().filter_map(row).collect();
            let expected: Vec<_> =
                MEANINGS.iter().map(|(code, meaning)| (*code as u8, (*meaning).to_owned())).collect();
            assert_eq!(rows, expected, "{name}");
        }
    }

    #[test]
    fn every_kind_of_error_has_its_code() {
        let text = String::new;
        let errors: [(anyhow::Error, Code); 9] = [
            (Usage(text()).into(), Code::Usage),
            (anyhow!("no such file"), Code::Environment),
            (GuestFailed(text()).into(), Code::Guest),
            (TimedOut(text()).into(), Code::TimedOut),
            (VerificationFailed(text(), Vec::new()).into(), Code::Verification),
            (NotReproducible(text()).into(), Code::NotReproducible),
            (UnknownGolden(text()).into(), Code::UnknownGolden),
            (Unreviewed(text()).into(), Code::Unreviewed),
            (Interrupted.into(), Code::Interrupted),
        ];
        for (error, code) in errors {
            assert_eq!(code_of(&error.context("a").context("b")), code);
        }
    }

    #[test]
    fn codes_are_found_below_contexts() {
        let deep = Err::<(), _>(TimedOut("boot".into())).context("booting the guest").context("running x");
        assert_eq!(code_of(&deep.unwrap_err()), Code::TimedOut);
        assert_eq!(code_of(&anyhow!("no such file")), Code::Environment);
        assert_eq!(code_of(&Interrupted.into()) as u8, 130);
    }
}
