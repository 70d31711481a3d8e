//! What publishing replaces, and what it leaves alone whatever happens.

use fixture::contract;

use super::super::ours::tests::manifest;
use super::*;

#[test]
fn a_former_set_is_replaced_whole_and_nothing_stays_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(&home.path().join("runs")).unwrap();
    let out = home.path().join("a set, with a comma");
    fs::create_dir(&out).unwrap();
    fs::write(out.join(contract::MANIFEST), manifest(&["stale"])).unwrap();
    fs::write(out.join("stale"), "old").unwrap();
    let mut staging = Target::new(&out).unwrap().stage(Kind::Set, &run).unwrap();
    fs::write(staging.path().join(contract::MANIFEST), "new").unwrap();
    staging.sync().unwrap();
    staging.publish().unwrap();
    assert_eq!(fs::read_to_string(staging.path().join("stale")).unwrap(), "old", "until it is dropped");
    drop(staging);
    assert_eq!(fs::read_to_string(out.join(contract::MANIFEST)).unwrap(), "new");
    assert!(!out.join("stale").exists());
    let beside = fs::read_dir(home.path()).unwrap().count();
    assert_eq!(beside, 2, "the set and the runs");
}

#[test]
fn what_came_into_a_set_during_the_run_is_kept_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(&home.path().join("runs")).unwrap();
    let out = home.path().join("set");
    let mut staging = Target::new(&out).unwrap().stage(Kind::Set, &run).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "years").unwrap();
    fs::write(staging.path().join(contract::MANIFEST), "new").unwrap();
    staging.publish().unwrap();
    drop(staging);
    assert_eq!(fs::read_to_string(out.join(contract::MANIFEST)).unwrap(), "new");
    let names = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside = names.filter(|path| path.to_string_lossy().contains("set.former-run-"));
    let aside: Vec<_> = aside.map(|path| fs::read_to_string(path.join("thesis.tex")).unwrap()).collect();
    assert_eq!(aside, ["years"]);
}

#[test]
fn a_staging_that_is_given_up_leaves_the_place_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(&home.path().join("runs")).unwrap();
    let out = home.path().join("set");
    drop(Target::new(&out).unwrap().stage(Kind::Failed, &run).unwrap());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "the runs");
}

/// A place that must be refused, what the refusal says, and how the place becomes so.
type Case = (&'static str, &'static str, fn(&Path));

#[test]
fn what_no_run_put_there_is_refused_before_anything_is_touched() {
    let cases: [Case; 12] = [
        ("set", "thesis.tex", |out| {
            fs::create_dir(out).unwrap();
            fs::write(out.join("thesis.tex"), "").unwrap();
        }),
        ("set", "is not fixture-vm's", |out| {
            fs::create_dir(out).unwrap();
            fs::write(out.join("manifest.json"), r#"{ "name": "a web project" }"#).unwrap();
        }),
        ("set", "notes.txt", |out| ours::tests::put_set(out, &["notes.txt"])),
        ("set", "raw/mine", |out| ours::tests::put_set(out, &["raw/mine"])),
        ("set", "it is a symbolic link", |out| std::os::unix::fs::symlink("/usr", out).unwrap()),
        ("set", "it is no folder", |out| fs::write(out, "").unwrap()),
        ("set", "thesis.tex", |out| {
            fs::create_dir(out.with_extension("failed")).unwrap();
            fs::write(out.with_extension("failed").join("thesis.tex"), "").unwrap();
        }),
        ("set", "has no failed.json", |out| {
            fs::create_dir(out.with_extension("failed")).unwrap();
            fs::write(out.with_extension("failed").join("events.jsonl"), "").unwrap();
        }),
        ("file/set", "is no folder", |out| fs::write(out.parent().unwrap(), "").unwrap()),
        ("link/set", "is no folder", |out| {
            std::os::unix::fs::symlink("nowhere", out.parent().unwrap()).unwrap();
        }),
        ("other/set", "it is in the fixture set", |out| ours::tests::put_set(out.parent().unwrap(), &[])),
        ("x/..", "names no folder", |_| {}),
    ];
    for (place, says, make) in cases {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join(place);
        make(&out);
        let before = set_files::Contents::of(home.path()).unwrap().files;
        let error = Target::new(&out).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains(says), "{place}, {says}: {error:#}");
        assert_eq!(set_files::Contents::of(home.path()).unwrap().files, before, "{says}");
    }
}

#[test]
fn neither_the_current_folder_nor_what_holds_it_nor_a_mount_point_is_replaced() {
    let here = std::env::current_dir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let link = home.path().join("link");
    std::os::unix::fs::symlink(here.parent().unwrap(), &link).unwrap();
    let other = link.join(here.file_name().unwrap());
    for place in [Path::new("."), &here, here.parent().unwrap(), &other] {
        let error = Target::new(place).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("current folder"), "{error:#}");
    }
    for place in ["/", "..", ""] {
        assert!(Target::new(Path::new(place)).unwrap_err().is::<Usage>(), "{place}");
    }
    let error = Target::new(Path::new("/proc")).unwrap_err();
    assert!(error.is::<Usage>() && error.to_string().contains("mounted there"), "{error:#}");
    let long = home.path().join("x".repeat(250));
    assert!(Target::new(&long).unwrap_err().to_string().contains("the name has 250 bytes"));
}

#[test]
fn nothing_that_a_run_needs_is_in_the_place_of_its_set() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("set");
    let held = |other: &Path| place::must_not_hold(&out, "the store", other).is_err();
    assert!(held(&out) && held(&out.join("a/store")) && held(&home.path().join("x/../set/store")));
    assert!(!held(&home.path().join("set.store")) && !held(home.path()));
}
