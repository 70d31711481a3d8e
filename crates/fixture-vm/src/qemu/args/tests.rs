//! QEMU's arguments as tests see them: each kind of machine, option by option.

use super::*;

fn machine(clock: Clock) -> Machine {
    Machine {
        clock,
        accelerator: Accelerator::Tcg,
        memory_mib: 512,
        cpus: 1,
        cmdline: "quiet fixture.rootfstype=erofs".into(),
        root_size: 32 << 20,
        microvms: false,
        fault: None,
    }
}

/// One option a line.
fn shown(args: &[OsString]) -> String {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    words.join(" ").replace(" -", "\n-")
}

#[test]
fn the_virtual_clock_lets_nothing_asynchronous_in() {
    insta::assert_snapshot!(shown(&arguments(&machine(Clock::Virtual), &Files::named())));
}

#[test]
fn the_real_clock_has_a_disk_with_an_overlay() {
    insta::assert_snapshot!(shown(&arguments(&machine(Clock::Real), &Files::named())));
}

#[test]
fn a_saved_guest_is_continued_on_the_same_machine() {
    let saved = |over: Option<&str>, resume| Files {
        saved: Some(Saved { disk: "<saved>".into(), over: over.map(PathBuf::from), resume }),
        ..Files::named()
    };
    let cold = arguments(&machine(Clock::Virtual), &Files::named());
    let saving = arguments(&machine(Clock::Virtual), &saved(None, None));
    let warm = arguments(&machine(Clock::Virtual), &saved(None, Some(SAVED_AS)));
    assert!(saving.starts_with(&cold) && warm.starts_with(&saving));
    let over = arguments(&machine(Clock::Virtual), &saved(Some("<warm, kept>"), Some(SAVED_AS)));
    assert!(over.starts_with(&cold));
    let differ = [&warm, &over].map(|args| shown(&args[cold.len()..]));
    insta::assert_snapshot!(differ.join("\n\n"));
}

#[test]
fn a_replay_differs_in_the_log_alone() {
    let saved = Some(Saved { disk: "<saved>".into(), over: None, resume: None });
    let with = |log| {
        shown(&arguments(&machine(Clock::Virtual), &Files { saved: saved.clone(), log, ..Files::named() }))
    };
    let kept = with(Log::Kept("<log>".into()));
    let replayed = with(Log::Replayed { log: "<log>".into(), debugger: Some("unix:<gdb>,server=on".into()) });
    let only = |of: &str, in_other: &str| {
        of.lines().filter(|line| !in_other.lines().any(|other| other == *line)).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(format!("{}\n\n{}", only(&kept, &replayed), only(&replayed, &kept)));
}

#[test]
fn every_device_of_the_virtual_clock_is_known_to_be_synchronous_or_unused_until_the_hand_over() {
    let words = arguments(&machine(Clock::Virtual), &Files::named());
    let after = |flag: &'static str| {
        words
            .windows(2)
            .filter(move |pair| pair[0] == flag)
            .map(|pair| pair[1].to_string_lossy().into_owned())
    };
    let devices: Vec<_> = after("-device").map(|words| words.split(',').next().unwrap().to_owned()).collect();
    assert_eq!(devices, ["nvdimm", "pvpanic", "virtio-9p-pci"].map(String::from).to_vec());
    for flag in ["-netdev", "-nic", "-drive", "-blockdev", "-monitor"] {
        assert_eq!(after(flag).next(), None);
    }
    assert!(after("-chardev").all(|words| words.starts_with("file,") || words.contains("id=qmp")));
}

#[test]
fn only_a_guest_with_microvms_has_a_processor_that_nests() {
    let with = Machine { microvms: true, ..machine(Clock::Virtual) };
    let shown = shown(&arguments(&with, &Files::named()));
    assert!(shown.contains("-cpu EPYC,+svm") && shown.contains("mitigations=off"), "{shown}");
    let kvm = Machine { accelerator: Accelerator::Kvm, ..with };
    assert!(arguments(&kvm, &Files::named()).iter().any(|word| word == "host"));
}

#[test]
fn commas_in_paths_stay_in_paths() {
    let files = Files { share: "/a,b/share, of one".into(), ..Files::named() };
    let args = arguments(&machine(Clock::Real), &files);
    let share = args.iter().find(|arg| arg.to_string_lossy().contains("/a")).unwrap();
    assert!(share.to_string_lossy().ends_with("path=/a,,b/share,, of one"), "{share:?}");
}
