//! The contract as a guest must keep it, whoever made the guest: run on the Debian guest, or on the image whose
//! folder `FIXTURE_VM_TEST_GUEST` names (`tools/ci/conformance GUEST` sets it).

use std::fs;
use std::path::{Path, PathBuf};

use fixture::contract::event::{GuestEvent, Step, What};
use fixture::contract::manifest::Manifest;
use fixture::contract::{self, FIXTURES};
use serde_json::Value;

use crate::lab::{Lab, SMALL, ends_with, image, image_copy, rename_program, replace_initramfs, shipped};
use crate::project::{command, find, said, skip};

/// Longest time between two words of a guest, in nanoseconds of its own clock.
const LONGEST_SILENCE_NS: u64 = 5_000_000_000;

fn guest() -> PathBuf {
    std::env::var_os("FIXTURE_VM_TEST_GUEST").map_or_else(|| image().to_owned(), PathBuf::from)
}

fn run(lab: &Lab, args: &[&str]) -> std::process::Command {
    let mut run = lab.program(&["run", SMALL, "--guest"]);
    run.arg(guest()).arg("--out").arg(lab.out()).args(args);
    run
}

/// What the guest said, in order.
fn told(folder: &Path) -> Vec<GuestEvent> {
    let text = fs::read_to_string(folder.join(contract::EVENTS)).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter_map(|mut event| Some(event.get_mut("guest")?.take())).map(from_json).collect()
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_guest_tells_every_step_and_hands_over_all_that_it_promises() {
    let lab = Lab::new();
    let said = ends_with(0, run(&lab, &["--clock", "real"]));
    assert!(said.contains("valid: no errors"), "{said}");

    let events = told(&lab.out());
    assert!(
        matches!(&events[0].what, What::Hello { contract, .. } if *contract == contract::VERSION),
        "{:?}",
        events[0]
    );
    assert!(matches!(events.last().unwrap().what, What::Done), "{:?}", events.last());
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event.seq, number as u64, "an event was lost");
    }
    for pair in events.windows(2) {
        let gap = pair[1].mono_ns - pair[0].mono_ns;
        assert!(gap <= LONGEST_SILENCE_NS, "silent for {gap} ns after {:?}", pair[0]);
    }

    let done = |event: &GuestEvent| match event.what {
        What::StepDone { step, .. } => Some(step),
        _ => None,
    };
    let steps: Vec<Step> = events.iter().filter_map(done).collect();
    assert!(steps.is_sorted(), "steps out of order: {steps:?}");
    assert_eq!((steps.first(), steps.last()), (Some(&Step::Boot), Some(&Step::HandOver)));
    let ready =
        events.iter().position(|event| matches!(event.what, What::Ready)).expect("the guest is ready");
    let input = events.iter().position(|event| done(event) == Some(Step::Input)).expect("the input is read");
    assert!(ready < input, "the scenario was read before the guest was ready");

    let text = fs::read_to_string(lab.out().join(contract::MANIFEST)).unwrap();
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest.contract, contract::VERSION);
    assert_eq!(manifest.guest.exit_status, 0);
    for tool in ["ip", "lldpd", "ptp4l", "dumpcap"] {
        assert!(manifest.guest.tools.contains_key(tool), "no version of {tool}: {:?}", manifest.guest.tools);
    }
    for fixture in FIXTURES {
        assert!(manifest.files.contains_key(fixture), "{fixture} is not in the manifest");
        assert!(lab.out().join(fixture).is_file(), "{fixture} is not in the set");
    }
    assert!(manifest.files.keys().any(|file| file.starts_with("raw/")), "no raw evidence");
    assert!(!fs::read(lab.out().join(contract::CONSOLE)).unwrap().is_empty(), "the console is silent");
}

#[test]
fn a_guest_that_fails_says_why_and_powers_off() {
    let lab = Lab::new();
    let said = ends_with(4, run(&lab, &["--clock", "real", "--fault", "fail@topology"]));
    assert!(said.contains("the guest failed in step topology"), "{said}");
    let events = told(&lab.path("set.failed"));
    assert!(
        matches!(&events.last().unwrap().what, What::Failed(failure) if failure.step == Step::Topology),
        "{:?}",
        events.last()
    );
    lab.assert_nothing_left();
}

#[test]
fn a_guest_runs_from_memory_on_the_virtual_clock() {
    let lab = Lab::new();
    let said = ends_with(0, run(&lab, &["--clock", "virtual"]));
    assert!(said.contains("valid: no errors"), "{said}");
}

/// An init as systemd is one for the guest program: it sets the machine up, starts the program as one child of
/// many with the tools' folders in its environment, and does not end with it.
const INIT: &str = r#"#!/busybox sh
b=/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read -r module; do $b insmod "/modules/$module"; done </modules/order
for word in $($b cat /proc/cmdline); do
  case $word in fixture.root=*) root=${word#fixture.root=} ;; esac
done
until [ -b "$root" ]; do $b usleep 10000; done
$b mount -t erofs -o ro "$root" /sysroot
for folder in run tmp var; do $b mount -t tmpfs tmpfs "/sysroot/$folder"; done
$b ln -s /run /sysroot/var/run
modules=/sysroot/usr/lib/fixture-vm/modules
while read -r module; do $b insmod "$modules/$module"; done <"$modules/order"
for folder in dev proc sys; do $b mount --move "/$folder" "/sysroot/$folder"; done
$b cp /unit /busybox /sysroot/run/
export FIXTURE_VM_TOOLS=/usr/sbin:/usr/bin
exec $b switch_root /sysroot /run/busybox sh -c '/run/unit; while :; do /run/busybox sleep 1; done'
"#;

#[test]
fn the_program_does_the_same_as_a_unit_of_another_init() {
    let Some(busybox) = find("busybox").filter(|path| is_static(path)) else {
        return skip("the init of this test is a static busybox, which is not here");
    };
    let lab = Lab::new();
    let unit = image_copy(&lab);
    let mut initramfs = fs::read(unit.join("initramfs")).unwrap();
    rename_program(&mut initramfs, b"unit");
    for (number, (name, data)) in
        [("init", INIT.as_bytes().to_vec()), ("busybox", fs::read(busybox).unwrap())].iter().enumerate()
    {
        let member = cpio::newc::Builder::new(name).mode(0o100_755).nlink(1).ino(number as u32 + 1000);
        let mut writer = member.write(&mut initramfs, data.len() as u32);
        std::io::Write::write_all(&mut writer, data).unwrap();
        writer.finish().unwrap();
    }
    cpio::newc::trailer(&mut initramfs).unwrap();
    replace_initramfs(&unit, &initramfs);

    for (clock, scenario) in [("real", PathBuf::from(SMALL)), ("virtual", shipped("tsn-three-node"))] {
        let mut run = lab.program(&["run", "--clock", clock]);
        run.arg(scenario).arg("--guest").arg(&unit).arg("--out").arg(lab.path(clock));
        let said = ends_with(0, run);
        assert!(said.contains("valid: no errors"), "{said}");
        assert!(!said.contains("the root is"), "a unit leaves the root to its init:\n{said}");
    }
    let mut run = lab.program(&["run", SMALL, "--clock", "real", "--fault", "fail@traffic", "--guest"]);
    run.arg(&unit).arg("--out").arg(lab.out());
    let said = ends_with(4, run);
    assert!(said.contains("the guest failed in step traffic"), "{said}");
    lab.assert_nothing_left();
}

/// Whether a program names no loader.
fn is_static(program: &Path) -> bool {
    let output = command("readelf").arg("--program-headers").arg(program).output();
    output.is_ok_and(|output| output.status.success() && !said(&output).contains("INTERP"))
}
