//! Reports of a session: for people, for programs, for CI systems.

pub mod github;
pub mod human;
pub mod json;
pub mod junit;

#[cfg(test)]
mod tests;
