//! fixture-vm as its users meet it: the program, the scripts and the files of the project.

mod check;
mod conformance;
mod diff;
mod doctor;
mod faults;
mod image;
mod lab;
mod nix;
mod project;
mod readme;
mod replay;
mod run;
mod seeds;
mod tidy;
mod trace;
mod warm;
mod workflows;
