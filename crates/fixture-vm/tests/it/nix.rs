//! The flake and the NixOS guest: what holds, and that breaking it is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::project::{Copy, command, find, passes, program, root, said, script, skip};

#[test]
fn the_flake_and_its_modules_hold() {
    passes("tools/ci/nix-check", &[]);
}

/// The image that the image script makes of a stand-in for a NixOS system; it boots nothing.
fn image() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let output = command(root().join("tools/ci/nix-check"))
        .arg("image")
        .env("NIX_CHECK_IMAGE", folder.path())
        .output()
        .unwrap();
    if !folder.path().join("image.json").exists() {
        skip(said(&output).lines().last().unwrap());
        return None;
    }
    Some(folder)
}

#[test]
fn the_harness_takes_the_image_that_the_script_makes() {
    let Some(image) = image() else { return };
    let output =
        command(env!("CARGO_BIN_EXE_fixture-vm")).args(["image", "show"]).arg(image.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("\"kind\": \"nixos\""), "{}", said(&output));
}

/// Plans a run on the NixOS guest with the `nix` of a folder as the only one.
fn plan(nix: &Path, cache: &Path) -> Option<Output> {
    let Some(qemu) = find("qemu-system-x86_64") else {
        skip("a run is planned with QEMU, which is not here");
        return None;
    };
    let output = command(env!("CARGO_BIN_EXE_fixture-vm"))
        .args(["run", "scenarios/tsn-three-node.yaml", "--guest", "nixos", "--dry-run", "--out"])
        .arg(cache.join("out"))
        .env("PATH", nix)
        .env("FIXTURE_VM_QEMU", qemu)
        .env("XDG_CACHE_HOME", cache)
        .env_remove("FIXTURE_VM_NIXOS_IMAGE")
        .output()
        .unwrap();
    Some(output)
}

#[test]
fn without_nix_the_default_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let Some(output) = plan(empty.path(), empty.path()) else { return };
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("there is no `nix` on PATH"), "{}", said(&output));
    assert!(said(&output).contains("--guest debian"), "{}", said(&output));
}

#[test]
fn nix_builds_the_guest_with_the_lock_as_it_is() {
    let (Some(image), cache) = (image(), tempfile::tempdir().unwrap()) else { return };
    let log = cache.path().join("log");
    // Answers as `nix build --out-link LINK` does.
    let text = format!(
        "echo \"$@\" >'{}'\nwhile [ \"$1\" != --out-link ]; do shift; done\n/bin/ln -sfn '{}' \"$2\"",
        log.display(),
        image.path().display()
    );
    let nix = program("nix", &text);
    let Some(output) = plan(nix.path(), cache.path()) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("init=/init"), "{}", said(&output));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("build --no-update-lock-file"), "{log}");
    assert!(log.trim_end().ends_with("#guest-image"), "{log}");
}

#[test]
fn a_build_that_fails_is_told_with_the_mend() {
    let cache = tempfile::tempdir().unwrap();
    let nix = program("nix", "echo 'error: cannot write modified lock file' >&2; exit 1");
    let Some(output) = plan(nix.path(), cache.path()) else { return };
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    for told in ["cannot write modified lock file", "git checkout flake.nix flake.lock", "nix ended with"] {
        assert!(said(&output).contains(told), "{told:?} is not in:\n{}", said(&output));
    }
}

/// Breaks one file of a copy and runs one part of the check on it.
fn refused(part: &str, file: &str, from: &str, to: &str, told: &[&str]) {
    let copy = Copy::of(&["flake.nix", "flake.lock", "Cargo.toml", "Cargo.lock", "crates", "tools"]);
    copy.replace(file, from, to);
    let Some(output) = script(copy.root(), "tools/ci/nix-check", &[part]) else { return };
    let text = said(&output);
    assert!(!output.status.success(), "{file} with {to:?} for {from:?} was taken:\n{text}");
    for told in told {
        assert!(text.contains(told), "{told:?} is not in:\n{text}");
    }
}

#[test]
fn a_missing_lock_is_told_with_the_mend() {
    let copy = Copy::of(&["flake.nix", "tools"]);
    let Some(output) = script(copy.root(), "tools/ci/nix-check", &["lock"]) else { return };
    assert!(!output.status.success());
    assert!(said(&output).contains("flake.lock is missing"), "{}", said(&output));
    assert!(said(&output).contains("git checkout flake.lock"), "{}", said(&output));
}

#[test]
fn a_stale_lock_is_told_with_the_mend() {
    let told = ["flake.lock does not answer flake.nix", "git checkout flake.nix flake.lock"];
    refused("lock", "flake.nix", "nixpkgs/nixos-26.05", "nixpkgs/nixos-25.11", &told);
    refused("lock", "flake.lock", "\"nixos-26.05\"", "\"nixos-unstable\"", &told);
}

#[test]
fn a_lock_without_full_pins_is_told() {
    let hash = "\"narHash\": \"sha256-QvnceIGTBeDvDd9oCn+GvdsnkquliuwbVgpiRH68qaQ=\",";
    refused("lock", "flake.lock", hash, "", &["no full revision or no hash"]);
    let told = ["flake.lock does not answer flake.nix"];
    refused("lock", "flake.lock", "02e08985a27c65ffd33d434eeb2e660a2e4dc84d", "02e08985", &told);
    refused("lock", "flake.lock", "{", "not JSON {", &told);
}

#[test]
fn a_module_that_loses_a_value_is_told() {
    for (file, from, to, told) in [
        ("kernel.nix", "\"9pnet_virtio\"", "", "the initrd has 9p over virtio"),
        ("kernel.nix", "\"virtio_blk\"", "", "the initrd finds a virtio disk"),
        ("console.nix", "console=ttyS0", "console=tty0", "the last console is the first serial port"),
        ("root.nix", "\"ro\"", "\"ro\" \"nofail\"", "no mount is nofail"),
        (
            "unit.nix",
            "FailureAction = \"poweroff-force\"",
            "FailureAction = \"none\"",
            "power-off on failure",
        ),
        ("minimal.nix", "systemd.network.wait-online.enable = false;", "", "nothing waits for a network"),
        ("tools.nix", "\"${lib.getBin package}/bin/${name}\"", "name", "every tool is an absolute path"),
        (
            "tools.nix",
            "from packages.firecracker [ \"firecracker\" ]",
            "{ }",
            "every tool of a scene is there",
        ),
        (
            "unit.nix",
            "by-label/${cfg.storeLabel}",
            "by-id/none",
            "the program is told what microVMs boot and share",
        ),
    ] {
        refused("modules", &format!("tools/nixos/{file}"), from, to, &[told]);
    }
}

#[test]
fn a_rule_that_no_longer_refuses_is_told() {
    for (from, to, told) in [
        ("lib.elem \"nofail\"", "lib.elem \"never\"", "refused: nofail-mount: no assertion fails"),
        ("mount.fsType == \"9p\"", "mount.fsType == \"never\"", "refused: share-mounted-by-system"),
        ("lib.last consoles == ", "lib.last consoles != ", "no assertion of the guest fails"),
    ] {
        refused("modules", "tools/nixos/asserts.nix", from, to, &[told]);
    }
}

#[test]
fn an_unknown_option_is_told() {
    let told = ["no such option: services.nscd.enabled", "minimal.nix"];
    refused("modules", "tools/nixos/minimal.nix", "services.nscd.enable", "services.nscd.enabled", &told);
}

#[test]
fn unformatted_and_dead_code_are_told() {
    refused("format", "tools/nixos/root.nix", "{ config, ... }:", "{config, ...}:", &["nixfmt"]);
    refused("format", "tools/nixos/root.nix", "{ config, ... }:", "{ config, lib, ... }:", &["nothing uses"]);
}

#[test]
fn what_is_compiled_in_is_among_the_sources_of_the_flake() {
    let given = std::fs::read_to_string(root().join("tools/nixos/packages.nix")).unwrap();
    for (file, text) in sources() {
        for included in text.split("include_str!(\"").chain(text.split("include_bytes!(\"")).skip(1) {
            let path = included.split('"').next().unwrap();
            let target = file.parent().unwrap().join(path);
            let Ok(target) = target.canonicalize() else { continue };
            let from_top = target.strip_prefix(root()).unwrap();
            let top: std::path::PathBuf = from_top.iter().take(2).collect();
            let top = top.to_str().unwrap();
            assert!(
                top.starts_with("crates/") || given.contains(&format!("../../{top}\n")),
                "{} includes {}, which tools/nixos/packages.nix does not give to the build",
                file.display(),
                from_top.display()
            );
        }
    }
}

/// Every Rust file of the crates, with its text.
fn sources() -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["fixture", "fixture-vm", "gen-fixtures"]
        .map(|name| root().join("crates").join(name).join("src"))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// Name to `rust-version` of each crate that the guest program is built from.
fn guest_closure() -> BTreeMap<String, Option<(u32, u32)>> {
    let cargo = |args: &[&str]| {
        let output = command(env!("CARGO")).args(args).arg("--locked").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    // The tree knows which features are on when the program is built alone; the metadata knows versions.
    let tree = ["tree", "--package=gen-fixtures", "--edges=normal,build", "--prefix=none", "--format={p}"];
    let mut built = BTreeSet::new();
    for line in cargo(&tree).lines() {
        let mut words = line.split_whitespace();
        built.insert((words.next().unwrap().to_owned(), words.next().unwrap()[1..].to_owned()));
    }
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1"])).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let crates = metadata["packages"].as_array().unwrap().iter();
    let crates =
        crates.filter(|package| built.contains(&(text(&package["name"]), text(&package["version"]))));
    crates.map(|package| (text(&package["name"]), package["rust_version"].as_str().map(release))).collect()
}

/// Major and minor of a version.
fn release(text: &str) -> (u32, u32) {
    let mut parts = text.trim().split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

#[test]
fn the_pinned_rustc_builds_every_crate_of_the_guest_program() {
    // What the pinned channel has; tools/ci/nix-flake-check compares it with the channel itself.
    let pinned = release(&std::fs::read_to_string(root().join("tools/nixos/rustc-version")).unwrap());
    let too_new: Vec<_> = guest_closure()
        .into_iter()
        .filter(|(_, needed)| needed.is_some_and(|needed| needed > pinned))
        .collect();
    assert!(too_new.is_empty(), "the pinned rustc is {pinned:?}; newer is asked for by {too_new:?}");
}

#[test]
fn the_guest_program_is_made_of_few_crates_and_needs_no_foreign_tools() {
    let closure = guest_closure();
    assert!((10..=40).contains(&closure.len()), "{} crates: {:?}", closure.len(), closure.keys());
    for foreign in ["bindgen", "cc", "clang-sys", "cmake", "openssl-sys", "pkg-config"] {
        assert!(!closure.contains_key(foreign), "the guest program needs {foreign}");
    }
}
