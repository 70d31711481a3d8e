//! The event database: what harness, QEMU, guests and tests did, of every run of this user, in one SQLite file.
//!
//! A run writes each event as it happens ([`Recorder`]), in the words of `events.jsonl`. Whatever is wrong with
//! the database is told once and changes no run: the run's own files have the whole story.

mod about;
pub mod cli;
mod database;
mod query;
mod recorder;
mod retention;
mod runner;
mod sql;
mod story;
mod told;

pub use self::about::{About, Outcome};
pub use self::database::Place;
pub use self::recorder::Recorder;
pub use self::runner::RunnerLog;
pub use self::told::{ToldRun, ids_of_last, told};

#[cfg(test)]
mod tests;
