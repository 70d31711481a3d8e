//! Scenarios with pools of microVMs, as a user meets them before anything starts.

use crate::lab::{Lab, ends_with, image, shipped};

#[test]
fn what_its_microvms_need_is_shown_where_memory_is_too_little() {
    let lab = Lab::new();
    let mut run = lab.program(&["run", "--memory", "600"]);
    run.arg(shipped("microvm-pool")).arg("--guest").arg(image()).arg("--out").arg(lab.out());
    let text = ends_with(2, run);
    assert!(
        text.contains(
            "--memory 600 is too little; the guest needs 960 MiB, as it adds up: 384 for the guest + \
             gate (96 + 96) + 2 x worker (96 + 96) = 960 MiB"
        ),
        "{text}"
    );
    lab.assert_nothing_left();
}
