//! The tools the guest works with: found once, by absolute path, so that no unit's PATH matters later.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::child;

/// Where they are searched if `FIXTURE_VM_TOOLS` does not say: a list of folders, `:` between them.
const FOLDERS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a tool that answers at once may take on a slow machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A tool of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// ip(8)
    Ip,
    /// bridge(8)
    Bridge,
    /// tc(8)
    Tc,
    /// lldpd(8)
    Lldpd,
    /// lldpcli(8)
    Lldpcli,
    /// ptp4l(8)
    Ptp4l,
    /// pmc(8)
    Pmc,
    /// dumpcap(1)
    Dumpcap,
}

impl Tool {
    const ALL: [Self; 8] =
        [Self::Ip, Self::Bridge, Self::Tc, Self::Lldpd, Self::Lldpcli, Self::Ptp4l, Self::Pmc, Self::Dumpcap];

    /// The name of its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Bridge => "bridge",
            Self::Tc => "tc",
            Self::Lldpd => "lldpd",
            Self::Lldpcli => "lldpcli",
            Self::Ptp4l => "ptp4l",
            Self::Pmc => "pmc",
            Self::Dumpcap => "dumpcap",
        }
    }
}

/// The program of this name, if the guest has it: for what not every guest has.
pub fn find_program(name: &str) -> Option<String> {
    find_among(&folders(), name)
}

fn folders() -> String {
    std::env::var("FIXTURE_VM_TOOLS").unwrap_or_else(|_| FOLDERS.into())
}

fn find_among(folders: &str, name: &str) -> Option<String> {
    let place = folders.split(':').map(|dir| PathBuf::from(dir).join(name)).find(|path| path.is_file());
    place.map(|path| path.to_string_lossy().into_owned())
}

/// Every tool's place.
#[derive(Debug)]
pub struct Tools(BTreeMap<Tool, String>);

impl Tools {
    /// Finds them all; the error names each that is missing and where it was searched.
    pub fn find() -> Result<Self> {
        Self::find_in(&folders())
    }

    /// The same, in these folders, with `:` between them.
    pub fn find_in(folders: &str) -> Result<Self> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for tool in Tool::ALL {
            match find_among(folders, tool.name()) {
                Some(path) => _ = found.insert(tool, path),
                None => missing.push(tool.name()),
            }
        }
        if !missing.is_empty() {
            bail!("the guest image lacks {} (searched {folders}); build the image again", missing.join(", "));
        }
        Ok(Self(found))
    }

    /// A command line of a tool.
    pub fn command<S: AsRef<str>>(&self, tool: Tool, args: impl IntoIterator<Item = S>) -> Vec<String> {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        std::iter::once(self.0[&tool].clone()).chain(args).collect()
    }

    /// What each tool says of its own version, on its first line. bridge and tc come with ip, lldpcli with
    /// lldpd, pmc with ptp4l.
    pub fn versions(&self) -> Result<BTreeMap<String, String>> {
        let flags = [(Tool::Ip, "-V"), (Tool::Lldpd, "-v"), (Tool::Ptp4l, "-v"), (Tool::Dumpcap, "-v")];
        let ask = |(tool, flag): (Tool, &str)| {
            let said = child::run(&self.command(tool, [flag]), SOON)?;
            let said = String::from_utf8_lossy(&said);
            let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Ok((tool.name().to_owned(), first.trim().to_owned()))
        };
        flags.into_iter().map(ask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_tool_is_named() {
        let error = Tools::find_in("/no/such/folder:/nor/this").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"the guest image lacks ip, bridge, tc, lldpd, lldpcli, ptp4l, pmc, dumpcap (searched /no/such/folder:/nor/this); build the image again");
    }
}
