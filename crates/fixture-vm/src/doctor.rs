//! `doctor`: what this machine has and lacks for a run, each with its mend. Reads only.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::accel;
use crate::child;
use crate::cli::DoctorArgs;
use crate::exit::Code;
use crate::image::Cache;
use crate::interrupt::Interrupt;
use crate::output;
use crate::qemu::binary::{self, Qemu};
use crate::run::{folder, host};

/// Free space that an image, its download and a run need, in MiB.
const ROOM_MIB: u64 = 1024;

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

impl Finding {
    fn pass(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Pass, found: found.into(), mend: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), mend: Some(mend.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Runs every check; fails when one of them does.
pub fn run(args: &DoctorArgs, interrupt: &Interrupt) -> Result<Code> {
    interrupt.unwinds();
    let findings = examine(args.work_dir.as_deref())?;
    let mut out = if args.json { output::json() } else { output::text() };
    if args.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&findings).context("writing the findings as JSON")?
        )?;
    } else {
        for Finding { check, verdict, found, mend } in &findings {
            let verdict = format!("{verdict:?}").to_lowercase();
            writeln!(out, "{verdict:>4}  {check:<12} {found}")?;
            if let Some(mend) = mend {
                writeln!(out, "{:19} mend: {mend}", "")?;
            }
        }
    }
    let worst = findings.iter().map(|finding| finding.verdict).max();
    Ok(if worst == Some(Verdict::Fail) { Code::Environment } else { Code::Success })
}

fn examine(work_dir: Option<&Path>) -> Result<Vec<Finding>> {
    let scratch = tempfile::tempdir().context("making a folder for the checks")?;
    let base = folder::base(work_dir);
    let mut findings = Vec::new();
    match Qemu::find() {
        Ok(qemu) => {
            findings
                .push(Finding::pass("qemu", format!("{} ({})", qemu.identity.version, qemu.path.display())));
            findings.push(Finding::pass("firmware", qemu.firmware.display().to_string()));
            findings.push(accelerator(&qemu, scratch.path())?);
            findings.push(ninep(&qemu)?);
        }
        Err(error) => {
            findings.push(Finding::fail(
                "qemu",
                format!("{error:#}"),
                "install qemu-system-x86 (8.2 or later)",
            ));
        }
    }
    findings.push(match binary::qemu_img() {
        Ok(path) => Finding::pass("qemu-img", path.display().to_string()),
        Err(error) => Finding::fail("qemu-img", format!("{error:#}"), "install qemu-utils"),
    });
    let cache = Cache::of_user()?;
    findings.push(image(&cache));
    findings.push(room("cache room", &cache.images()));
    findings.push(room("work room", &base));
    findings.push(leftovers(&base));
    findings.push(user());
    Ok(findings)
}

fn accelerator(qemu: &Qemu, scratch: &Path) -> Result<Finding> {
    let check = "accelerator";
    Ok(match accel::kvm_works(&qemu.path, scratch)? {
        Ok(()) => Finding::pass(check, "KVM runs guest code"),
        Err(why) => {
            let mend = "none needed: TCG runs everything, and the virtual clock uses it anyway; --accel kvm will fail here";
            Finding::warn(check, format!("KVM does not work: {why}"), mend)
        }
    })
}

fn ninep(qemu: &Qemu) -> Result<Finding> {
    let mut command = child::command(&qemu.path);
    command.args(["-M", "none", "-device", "help"]);
    let output = child::output(command, Duration::from_secs(30))?;
    let devices = String::from_utf8_lossy(&output.stdout);
    Ok(if devices.contains("\"virtio-9p-pci\"") {
        Finding::pass("9p", "QEMU has virtio-9p-pci")
    } else {
        Finding::fail("9p", "QEMU has no virtio-9p-pci", "install a QEMU built with virtfs")
    })
}

fn image(cache: &Cache) -> Finding {
    let usable =
        cache.list().unwrap_or_default().into_iter().filter(|image| image.descriptor.is_ok()).count();
    match usable {
        0 => Finding::warn(
            "image",
            "no guest image is cached",
            "the first run builds one, or `fixture-vm image build`",
        ),
        n => Finding::pass("image", format!("{n} cached in {}", cache.images().display())),
    }
}

fn room(check: &'static str, path: &Path) -> Finding {
    // What is not there yet will be made in the nearest folder that is.
    let existing = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Err(errno) => Finding::fail(check, format!("{}: {errno}", existing.display()), "make it readable"),
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size() / (1 << 20);
            let found = format!("{free} MiB free at {}", existing.display());
            if free >= ROOM_MIB {
                Finding::pass(check, found)
            } else {
                Finding::warn(
                    check,
                    found,
                    format!("free some: {ROOM_MIB} MiB are enough for images and runs"),
                )
            }
        }
    }
}

fn leftovers(base: &Path) -> Finding {
    let check = "leftovers";
    let found = match folder::leftovers(base) {
        Ok(found) => found,
        Err(error) => {
            return Finding::fail(check, format!("{error:#}"), "name another folder with --work-dir");
        }
    };
    if found.is_empty() {
        return Finding::pass(check, format!("none of dead runs in {}", base.display()));
    }
    let names: Vec<_> = found.iter().map(|left| left.path.display().to_string()).collect();
    Finding::warn(
        check,
        format!("{} of dead runs: {}", names.len(), names.join(", ")),
        "the next run sweeps them: it ends their QEMU and removes their folders and half-made sets; what it cannot \
         remove stays, with a warning",
    )
}

fn user() -> Finding {
    let check = "user";
    if host::is_root() {
        Finding::warn(check, host::ROOT, "run fixture-vm as an ordinary user")
    } else {
        Finding::pass(check, "not root")
    }
}
