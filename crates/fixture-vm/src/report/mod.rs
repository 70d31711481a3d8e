//! `fixture-vm report`: a set or a run as one page that people look at, with its pictures as SVG.
//!
//! [`material`] reads, everything else only draws: [`page`] puts the sections together, each of which is a
//! file: [`topology`], [`gates`], [`offset`], [`streams`], [`gantt`] with [`lives`], [`verdict`], [`origin`]. A set
//! that lacks what a section is about has no such section.

pub mod cli;
mod figure;
mod gantt;
mod gates;
mod layout;
mod links;
mod lives;
mod material;
mod offset;
mod origin;
mod page;
mod spans;
mod streams;
mod style;
mod svg;
mod topology;
mod verdict;

#[cfg(test)]
mod tests;
