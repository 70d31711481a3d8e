//! The host harness: plan, image, boot, wait, collect, verify, publish.
//!
//! Reading order: [`cli`] is what a user types, [`run`] the story of a run, [`qemu`] the machine it boots,
//! [`image`] where the guest comes from, [`verify`] what makes a set trusted, [`exit`] how it all ends.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod accel;
mod beneath;
mod child;
mod cli;
mod diff;
mod digest;
mod doctor;
mod events;
mod exit;
mod guest;
mod image;
mod interrupt;
mod kept;
mod output;
mod progress;
mod qemu;
mod remove;
mod replay;
mod report;
mod room;
mod run;
mod shell;
mod snapshot;
mod store;
mod test;
mod trace;
mod verify;
mod warm;
mod xdg;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use exit::Code;
use interrupt::Interrupt;

fn main() -> ExitCode {
    let ended = Interrupt::install().and_then(|interrupt| {
        let cli = match Cli::try_parse() {
            Ok(cli) => cli,
            Err(error) => return Ok(shown(&error)),
        };
        carry_out(cli, &interrupt).map_err(|error| interrupt.or(error))
    });
    let code = ended.unwrap_or_else(|error| told(&error));
    // The text may have found no room; the command is not done then, whatever it came to.
    output::finish().map_or_else(|error| told(&error), |()| code).into()
}

/// Tells an error, and gives its code.
fn told(error: &anyhow::Error) -> Code {
    output::error(error);
    exit::code_of(error)
}

/// Shows what was asked for by --help or --version, or what is wrong with the arguments.
fn shown(error: &clap::Error) -> Code {
    output::usage(error);
    if error.use_stderr() { Code::Usage } else { Code::Success }
}

fn carry_out(cli: Cli, interrupt: &Interrupt) -> Result<Code> {
    let done = |()| Code::Success;
    match (cli.verify, cli.command) {
        (Some(flag), _) => verify::run(verify::VerifyArgs::of(flag.paths)),
        (None, Some(Command::Verify(args))) => verify::run(args),
        (None, Some(Command::Run(args))) => run::run(&args, interrupt),
        (None, Some(Command::Test(args))) => test::run(&args, interrupt),
        (None, Some(Command::Diff(args))) => diff::run(&args),
        (None, Some(Command::Replay(args))) => replay::run(&args, interrupt).map(done),
        (None, Some(Command::Review(args))) => snapshot::review::run(&args),
        (None, Some(Command::Image(command))) => image::cli::run(command, interrupt).map(done),
        (None, Some(Command::Store(command))) => store::cli::run(command),
        (None, Some(Command::Events(command))) => events::cli::run(command).map(done),
        (None, Some(Command::Shell(args))) => shell::run(&args, interrupt),
        (None, Some(Command::Runs(args))) => events::cli::runs(&args).map(done),
        (None, Some(Command::Timeline(args))) => events::cli::timeline(&args).map(done),
        (None, Some(Command::Report(args))) => report::cli::run(&args).map(done),
        (None, Some(Command::Doctor(args))) => doctor::run(&args, interrupt),
        (None, Some(Command::Trace(args))) => trace::run(&args).map(done),
        (None, Some(Command::Completions { shell })) => {
            clap_complete::generate(shell, &mut Cli::command(), "fixture-vm", &mut output::text());
            Ok(Code::Success)
        }
        (None, Some(Command::Man)) => {
            clap_mangen::Man::new(Cli::command()).render(&mut output::text())?;
            Ok(Code::Success)
        }
        // clap shows the help instead.
        (None, None) => Ok(Code::Usage),
    }
}
