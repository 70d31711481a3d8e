//! What a microVM's own kernel has counted, asked of a program that runs in it.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::link::Link;
use crate::agent::protocol::{Ask, Ended, Stream, Tell};
use crate::tools::{SOON, find_program};
use crate::work;

/// Keeps what ip(8) says of the node's interfaces. The microVM has the guest's root, and so the guest's tools.
pub fn interfaces(name: &str, link: &mut Link) -> Result<()> {
    let ip = find_program("ip").context("the guest has no ip(8)")?;
    let counted = run(link, &[&ip, "-statistics", "link", "show"], SOON)?;
    work::write_raw(&format!("microvm/{name}.interfaces"), counted).map(drop)
}

/// Runs a program in a microVM and gives its standard output; anything but exit status 0 is an error.
fn run(link: &mut Link, argv: &[&str], within: Duration) -> Result<Vec<u8>> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ask = Ask::Exec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        within_ns: within.as_nanos() as u64,
    };
    // It is killed in the microVM when its time is up; the answer to that takes a moment more.
    let last = link.ask_for(ask, within * 2, |tell| {
        if let Tell::Output { stream, bytes } = tell {
            let to = if stream == Stream::Stdout { &mut out } else { &mut err };
            to.extend(bytes.0);
        }
        Ok(())
    })?;
    match last {
        Tell::Ended(Ended::Exited { code: 0 }) => Ok(out),
        Tell::Ended(ended) => {
            bail!("`{}` in it: {ended:?}: {}", argv.join(" "), String::from_utf8_lossy(&err).trim())
        }
        other => bail!("its agent answers {other:?} to `{}`", argv.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::{Paper, serving};

    #[test]
    fn a_program_in_a_microvm_gives_its_output_or_how_it_failed() {
        let (line, _thread) = serving(Paper::default());
        let mut link = Link::on(line).unwrap();
        let mut sh = |script: &str| run(&mut link, &["/bin/sh", "-c", script], Duration::from_secs(60));
        assert_eq!(sh("echo counted; echo noise >&2").unwrap(), b"counted\n");
        let error = sh("echo no such device >&2; exit 3").unwrap_err().to_string();
        let told = "`/bin/sh -c echo no such device >&2; exit 3` in it: Exited { code: 3 }: no such device";
        assert_eq!(error, told);
        let late = run(&mut link, &["sleep", "1000"], Duration::from_millis(100)).unwrap_err();
        assert_eq!(late.to_string(), "`sleep 1000` in it: TimedOut: ");
    }
}
