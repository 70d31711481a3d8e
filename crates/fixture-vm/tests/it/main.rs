//! fixture-vm as its users meet it: the program, the scripts and the files of the project.

mod diff;
mod nix;
mod project;
mod trace;
mod workflows;
