//! What the virtual clock refuses: whatever would let something in that the inputs of a run do not decide.

use fixture::scenario::Clock;

use crate::accel::Choice;
use crate::cli::{Keep, RunArgs};
use crate::exit::Usage;

/// Refuses options that would break the promise of the clock, and says why.
pub fn check(args: &RunArgs, clock: Clock) -> Result<(), Usage> {
    let refusal = match clock {
        Clock::Virtual if args.accel == Choice::Kvm => {
            "the virtual clock counts instructions, which KVM cannot do; drop --accel kvm, or use --clock real"
        }
        Clock::Virtual if args.cpus != 1 => {
            "the virtual clock counts the instructions of one CPU; use --cpus 1, or --clock real"
        }
        _ if args.record && args.keep != Keep::None => {
            "a recorded guest is looked into by `fixture-vm replay --gdb`; drop --keep or --record"
        }
        Clock::Real if args.record => {
            "on the real clock no log holds all that reaches the guest; drop --record, or use --clock virtual"
        }
        _ => return Ok(()),
    };
    Err(Usage(refusal.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn refusal(clock: Clock, options: &[&str]) -> Option<String> {
        let words = ["fixture-vm", "run", "s.yaml", "--out", "o"].iter().chain(options);
        let Some(Command::Run(args)) = Cli::parse_from(words).command else { panic!("it is a run") };
        check(&args, clock).err().map(|Usage(text)| text)
    }

    #[test]
    fn what_cannot_be_counted_is_refused_on_the_virtual_clock_only() {
        for options in [&["--accel", "kvm"][..], &["--cpus", "2"]] {
            let text = refusal(Clock::Virtual, options).expect("a refusal");
            assert!(text.contains("the virtual clock counts") && text.contains("--clock real"), "{text}");
            assert_eq!(refusal(Clock::Real, options), None);
        }
        assert_eq!(refusal(Clock::Virtual, &["--accel", "tcg", "--record"]), None);
    }

    #[test]
    fn what_cannot_be_replayed_is_not_recorded() {
        let text = refusal(Clock::Real, &["--record"]).expect("a refusal");
        assert!(text.contains("--clock virtual"), "{text}");
    }
}
