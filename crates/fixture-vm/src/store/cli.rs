//! `fixture-vm store`: list, show, verify, collect.

use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::{Store, Stored};
use crate::exit::{Code, Usage};
use crate::output;

/// Look after the store of finished sets
#[derive(Debug, Args)]
pub struct Command {
    /// The store [default: $FIXTURE_VM_STORE, else fixture-vm/store in the user's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the stored sets, last used first
    List,
    /// Show what decided a set's bytes, what is in it, and where it lies
    Show {
        /// The closure digest, or its beginning; the last used set if absent
        closure: Option<String>,
    },
    /// Compare every file of the stored sets with its digest
    Verify {
        /// The closure digest of one set, or its beginning; all sets if absent
        closure: Option<String>,
    },
    /// Remove the sets that were not used lately, and damaged ones
    Gc {
        /// How many of the last used sets stay
        #[arg(long, default_value_t = 100, value_name = "N")]
        keep: usize,
        /// Only tell what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Does what the arguments ask for.
pub fn run(command: Command) -> Result<Code> {
    let store = Store::find(command.store.as_deref())?;
    let mut out = output::text();
    match command.action {
        Action::List => list(&store, &mut out),
        Action::Show { closure } => show(&store, closure.as_deref(), &mut out),
        Action::Verify { closure } => verify(&store, closure.as_deref(), &mut out),
        Action::Gc { keep, dry_run } => collect(&store, keep, dry_run, &mut out),
    }
}

fn list(store: &Store, out: &mut impl Write) -> Result<Code> {
    for stored in store.list()? {
        write!(
            out,
            "{:.16}  {:>8} KiB  {:>6} ago  ",
            stored.closure,
            stored.size().div_ceil(1024),
            age(&stored)
        )?;
        match stored.check()? {
            Ok(manifest) => {
                let (kind, qemu) = (&manifest.guest.kind, &manifest.closure.qemu);
                writeln!(out, "{}, seed {}, {kind} guest, {qemu}", manifest.scenario, manifest.seed)?;
            }
            Err(damaged) => writeln!(out, "damaged: {damaged}")?,
        }
    }
    Ok(Code::Success)
}

fn show(store: &Store, closure: Option<&str>, out: &mut impl Write) -> Result<Code> {
    let stored = named(store, closure)?.into_iter().next().context("the store is empty")?;
    match stored.check()? {
        Ok(manifest) => {
            writeln!(out, "{}", stored.set().display())?;
            serde_json::to_writer_pretty(&mut *out, &manifest).map_err(std::io::Error::from)?;
            writeln!(out)?;
            Ok(Code::Success)
        }
        Err(damaged) => {
            writeln!(out, "{} is damaged: {damaged}", stored.closure)?;
            Ok(Code::Verification)
        }
    }
}

fn verify(store: &Store, closure: Option<&str>, out: &mut impl Write) -> Result<Code> {
    let sets = named(store, closure)?;
    let mut code = Code::Success;
    for stored in &sets {
        if let Err(damaged) = stored.check()? {
            writeln!(out, "{} is damaged: {damaged}; the next run makes it again", stored.closure)?;
            code = Code::Verification;
        }
    }
    if code == Code::Success {
        writeln!(out, "{} sets are whole", sets.len())?;
    }
    Ok(code)
}

fn collect(store: &Store, keep: usize, dry_run: bool, out: &mut impl Write) -> Result<Code> {
    let mut gone = Vec::new();
    let mut kept = 0;
    for stored in store.list()? {
        let why = match stored.check()? {
            Err(damaged) => format!("damaged: {damaged}"),
            Ok(_) if kept == keep => format!("not among the {keep} last used"),
            Ok(_) => {
                kept += 1;
                continue;
            }
        };
        writeln!(out, "{} {:.16}, {why}", if dry_run { "would remove" } else { "removed" }, stored.closure)?;
        gone.push(stored);
    }
    if !dry_run {
        store.remove(&gone)?;
    }
    Ok(Code::Success)
}

/// The sets whose digest begins so; all if nothing is given.
fn named(store: &Store, closure: Option<&str>) -> Result<Vec<Stored>> {
    let mut sets = store.list()?;
    let Some(prefix) = closure else { return Ok(sets) };
    sets.retain(|stored| stored.closure.starts_with(prefix));
    match sets.len() {
        1 => Ok(sets),
        0 => Err(Usage(format!("the store has no set {prefix}; `fixture-vm store list` lists all")).into()),
        n => Err(Usage(format!("{n} sets begin with {prefix}; give more digits")).into()),
    }
}

fn age(stored: &Stored) -> String {
    let seconds = SystemTime::now().duration_since(stored.used).map_or(0, |age| age.as_secs());
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", seconds / 60),
        6_000..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
