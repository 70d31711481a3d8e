//! The host harness: plan, image, boot, wait, collect, verify, publish.
//!
//! Reading order: [`cli`] is what a user types, [`run`] the story of a run, [`qemu`] the machine it boots,
//! [`image`] where the guest comes from, [`verify`] what makes a set trusted, [`exit`] how it all ends.

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
mod progress;
mod qemu;
mod remove;
mod replay;
mod report;
mod run;
mod shell;
mod snapshot;
mod store;
mod test;
mod trace;
mod verify;
mod warm;
mod xdg;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use exit::Code;
use interrupt::Interrupt;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match carry_out(cli) {
        Ok(code) => code.into(),
        Err(error) if reader_went_away(&error) => Code::Success.into(),
        Err(error) => {
            // Nobody may be there to read it; the exit code still tells.
            writeln!(std::io::stderr(), "fixture-vm: {error:#}").ok();
            exit::code_of(&error).into()
        }
    }
}

fn carry_out(cli: Cli) -> Result<Code> {
    let done = |()| Code::Success;
    match (cli.verify, cli.command) {
        (Some(flag), _) => verify::run(verify::VerifyArgs::of(flag.paths)),
        (None, Some(Command::Verify(args))) => verify::run(args),
        (None, Some(Command::Run(args))) => run::run(&args, &Interrupt::install()?),
        (None, Some(Command::Test(args))) => test::run(&args, &Interrupt::install()?),
        (None, Some(Command::Diff(args))) => diff::run(&args),
        (None, Some(Command::Replay(args))) => replay::run(&args, &Interrupt::install()?).map(done),
        (None, Some(Command::Review(args))) => snapshot::review::run(&args),
        (None, Some(Command::Image(command))) => image::cli::run(command, &Interrupt::install()?).map(done),
        (None, Some(Command::Store(command))) => store::cli::run(command),
        (None, Some(Command::Events(command))) => events::cli::run(command).map(done),
        (None, Some(Command::Shell(args))) => shell::run(&args, &Interrupt::install()?),
        (None, Some(Command::Runs(args))) => events::cli::runs(&args).map(done),
        (None, Some(Command::Timeline(args))) => events::cli::timeline(&args).map(done),
        (None, Some(Command::Report(args))) => report::cli::run(&args).map(done),
        (None, Some(Command::Doctor(args))) => doctor::run(&args),
        (None, Some(Command::Trace(args))) => trace::run(&args).map(done),
        (None, Some(Command::Completions { shell })) => {
            clap_complete::generate(shell, &mut Cli::command(), "fixture-vm", &mut std::io::stdout());
            Ok(Code::Success)
        }
        (None, Some(Command::Man)) => {
            clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
            Ok(Code::Success)
        }
        // clap shows the help instead.
        (None, None) => Ok(Code::Usage),
    }
}

/// `fixture-vm ... | head` is no error.
fn reader_went_away(error: &anyhow::Error) -> bool {
    let broken = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref::<std::io::Error>().is_some_and(broken)
}
