//! The commands of README and docs are run as they stand there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::lab::{Lab, PROGRAM, image};
use crate::project::{command, root, said};

/// The lines of every shell block of a page.
pub fn commands(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside && !line.is_empty() => found.push(line.to_owned()),
            _ => {}
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.extend([root().join("README.md"), root().join("ARCHITECTURE.md")]);
    pages.sort();
    pages
}

#[test]
fn scripts_that_pages_name_are_there() {
    for page in pages() {
        for line in commands(&page) {
            let program = line.split(' ').next().unwrap();
            if program.starts_with("tools/") {
                let mode = fs::metadata(root().join(program))
                    .unwrap_or_else(|_| panic!("{line}"))
                    .permissions()
                    .mode();
                assert!(mode & 0o111 != 0, "{program} in {} cannot be run", page.display());
            }
        }
    }
}

#[test]
fn the_commands_of_readme_reproducible_and_report_work_in_their_order() {
    let lab = Lab::new();
    // The image is built already; the folder stands for a checkout in which `out/` is free.
    let here = lab.path("here");
    fs::create_dir(&here).unwrap();
    fs::create_dir(here.join("scenarios")).unwrap();
    for entry in fs::read_dir(root().join("scenarios")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), here.join("scenarios").join(entry.file_name())).unwrap();
    }
    let mut lines = commands(&root().join("README.md"));
    lines.extend(commands(&root().join("docs/reproducible.md")));
    lines.extend(commands(&root().join("docs/report.md")));
    lines.extend(commands(&root().join("docs/review.md")));
    let lines: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("fixture-vm ")).collect();
    assert!(lines.iter().any(|line| line.starts_with("run ")), "{lines:?}");
    for line in lines {
        let mut run = lab.program(&line.split(' ').collect::<Vec<_>>());
        if line.starts_with("run ") {
            run.arg("--guest").arg(image());
        }
        let output = run.current_dir(&here).output().unwrap();
        assert!(output.status.success(), "fixture-vm {line}\n{}", said(&output));
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") {
                assert!(page.parent().unwrap().join(path).exists(), "{link} in {}", page.display());
            }
        }
    }
}

#[test]
fn help_readme_and_page_have_the_same_exit_codes() {
    let numbers = |text: &str| -> Vec<u8> {
        let first = |line: &str| line.trim_matches(['|', ' ']).split([' ', '|']).next().unwrap().parse().ok();
        text.lines().filter_map(first).collect()
    };
    let help = said(&command(PROGRAM).arg("--help").output().unwrap());
    let codes = numbers(help.split("Exit codes:").nth(1).unwrap());
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130]);
    for page in ["README.md", "docs/exit-codes.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let table = text.split("| code | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
        assert_eq!(numbers(table), codes, "{page}");
    }
}

#[test]
fn completions_and_manual_page_come_from_the_same_definitions() {
    let man = said(&command(PROGRAM).arg("man").output().unwrap());
    assert!(man.contains(".TH fixture-vm") && man.contains("doctor"), "{man}");
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&command(PROGRAM).args(["completions", shell]).output().unwrap());
        assert!(script.contains("fixture-vm") && script.contains("doctor"), "{shell}: {script}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let line = format!("{PROGRAM} man | head -n 1; echo ${{PIPESTATUS[0]}}");
    let text = said(&command("bash").args(["-c", &line]).output().unwrap());
    assert!(text.trim_end().ends_with("\n0") && !text.contains("panicked"), "{text}");
}
