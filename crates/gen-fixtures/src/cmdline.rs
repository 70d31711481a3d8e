//! The kernel command line, as far as it is for the guest program: words that begin with `fixture.`.
//!
//! | word | meaning |
//! |---|---|
//! | `fixture.root=/dev/pmem0` | the block device that holds the root; without it the guest stays where it is |
//! | `fixture.rootfstype=erofs` | its file system |
//! | `fixture.agent=/dev/vport0p1` | the machine is a microVM, and the program its node agent, which speaks with the guest through this device or, as `vsock:1024`, this port: see [`crate::agent`] |
//! | `fixture.tools=FOLDER:FOLDER` | the microVM's root is a Nix store, and these folders in it have the tools |
//! | `fixture.fault=KIND@STEP` | for tests of the host: break, see [`crate::fault`] |
//! | `fixture.fault=KIND@NAME,...` | for tests of the host: break microVMs, see `microvm/fault.rs` |

use anyhow::{Context, Result, bail};

use crate::fault::Fault;
use crate::microvm;

/// What the command line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Root device and its file system.
    pub root: Option<(String, String)>,
    /// What the agent of a microVM speaks through; none: this is no microVM.
    pub agent: Option<String>,
    /// Where the tools of a microVM are whose root is a Nix store; none: it is a root.
    pub tools: Option<String>,
    /// Where to break.
    pub fault: Option<Fault>,
    /// Which microVMs to break.
    pub microvm_faults: Vec<microvm::Fault>,
}

impl CommandLine {
    /// Reads the kernel's command line; /proc must be mounted.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/cmdline").context("reading the kernel command line")?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut line = Self::default();
        let (mut root, mut kind) = (None, "erofs");
        for (word, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            match word {
                "fixture.root" => root = Some(value),
                "fixture.rootfstype" => kind = value,
                "fixture.agent" => line.agent = Some(value.to_owned()),
                "fixture.tools" => line.tools = Some(value.to_owned()),
                "fixture.fault" => {
                    let read = || format!("{word}={value}");
                    match microvm::Fault::list(value) {
                        Some(faults) => line.microvm_faults = faults.with_context(read)?,
                        None => line.fault = Some(value.parse().with_context(read)?),
                    }
                }
                _ if word.starts_with("fixture.") => {
                    bail!(
                        "the kernel command line has {word}={value}, which this guest program does not know"
                    );
                }
                _ => {}
            }
        }
        line.root = root.map(|root| (root.to_owned(), kind.to_owned()));
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_passed_over_and_unknown_ones_of_ours_are_not() {
        let line = CommandLine::parse("console=ttyS0 quiet fixture.root=/dev/vda\n").unwrap();
        assert_eq!(line.root, Some(("/dev/vda".into(), "erofs".into())));
        let agent = CommandLine::parse("fixture.agent=/dev/vport0p1").unwrap().agent;
        assert_eq!((line.agent, agent.as_deref()), (None, Some("/dev/vport0p1")));
        assert_eq!(CommandLine::parse("quiet").unwrap(), CommandLine::default());
        assert!(CommandLine::parse("fixture.rot=/dev/vda").unwrap_err().to_string().contains("fixture.rot"));
    }
}
