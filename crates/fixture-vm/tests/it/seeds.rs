//! What a seed varies, for real: another seed is another network, the same seed the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::{Lab, ends_with, image, shipped};

/// What the seed decides: the network that was drawn, and what happened in it.
const DECIDED: [&str; 3] = ["raw/plan/perturbation", "raw/plan/listener.tc", "capture.pcapng"];

/// Runs the shipped search with one seed; gives its set.
fn run(lab: &Lab, seed: u64, name: &str) -> PathBuf {
    let set = lab.path(name);
    let mut run = lab.program(&["run", "--no-cache", "--seed", &seed.to_string()]);
    run.arg(shipped("seed-search")).arg("--guest").arg(image()).arg("--out").arg(&set);
    let text = ends_with(0, run);
    assert!(text.contains("valid: no errors"), "{text}");
    set
}

fn read(set: &Path, file: &str) -> Vec<u8> {
    fs::read(set.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn seeds_differ_and_each_repeats() {
    let lab = Lab::new();
    let (one, two) = (run(&lab, 1, "seed 1"), run(&lab, 2, "seed 2"));
    let again = run(&lab, 1, "seed 1 again");
    for file in DECIDED.into_iter().chain(["lldp.json"]) {
        assert!(read(&one, file) == read(&again, file), "{file} of seed 1 is not the same twice");
    }
    for file in DECIDED {
        assert!(read(&one, file) != read(&two, file), "{file} is the same for two seeds");
    }
    lab.assert_nothing_left();
}
