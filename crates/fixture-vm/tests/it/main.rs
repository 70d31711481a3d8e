//! fixture-vm as its users meet it: the program, the scripts and the files of the project.

mod check;
mod conformance;
mod diff;
mod doctor;
mod events;
mod faults;
mod image;
mod lab;
mod microvm;
mod microvm_faults;
mod microvm_policies;
mod nix;
mod pools;
mod project;
mod readme;
mod replay;
mod report;
mod review;
mod run;
mod runner;
mod seeds;
mod shell;
mod tidy;
mod trace;
mod warm;
mod workflows;
