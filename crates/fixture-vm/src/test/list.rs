//! `--list` and `--no-run`: what would run, for people and for programs.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::catalogue::{Catalogue, Chosen, Part, Test};
use super::cli::Form;
use super::filter::role_name;
use crate::exit::Code;
use crate::output;

/// Prints the tests in the order of their names.
pub fn show(catalogue: &Catalogue, chosen: &[Chosen], form: Form) -> Result<Code> {
    let mut tests: Vec<&Test> = chosen.iter().map(|one| &catalogue.tests[one.test]).collect();
    tests.sort_by_key(|test| test.name());
    let text = match form {
        Form::Human => human(catalogue, &tests) + &format!("{}\n", super::many(chosen)),
        Form::Json | Form::Junit | Form::Github => machine(catalogue, &tests),
    };
    let mut out = if form == Form::Human { output::text() } else { output::json() };
    out.write_all(text.as_bytes())?;
    Ok(Code::Success)
}

fn roles(test: &Test) -> Vec<String> {
    let mut roles: Vec<_> = test.scenario.nodes.iter().map(|node| role_name(node.role)).collect();
    roles.sort();
    roles.dedup();
    roles
}

fn groups<'a>(catalogue: &'a Catalogue, test: &Test) -> Vec<&'a str> {
    let name = |group: &usize| catalogue.project.says.groups[*group].name.get_ref().as_str();
    test.groups.iter().map(name).collect()
}

fn human(catalogue: &Catalogue, tests: &[&Test]) -> String {
    let mut text = String::new();
    for test in tests {
        text += &format!("{}: {}\n", test.name(), test.file.display());
        let mut told =
            vec![format!("{} clock", test.clock.name()), format!("roles {}", roles(test).join(", "))];
        if !test.scenario.tags.is_empty() {
            told.push(format!("tags {}", test.scenario.tags.join(", ")));
        }
        match groups(catalogue, test).as_slice() {
            [] => {}
            groups => told.push(format!("groups {}", groups.join(", "))),
        }
        match test.part {
            Part::Test => {}
            Part::SetUp => told.push("a set-up".into()),
            Part::TearDown => told.push("a tear-down".into()),
        }
        text += &format!("    {}\n", told.join("; "));
    }
    text
}

fn machine(catalogue: &Catalogue, tests: &[&Test]) -> String {
    let lines = tests.iter().map(|test| {
        let line = json!({
            "test": test.name(), "file": test.file, "clock": test.clock.name(), "roles": roles(test),
            "tags": test.scenario.tags, "groups": groups(catalogue, test), "part": test.part,
        });
        format!("{line}\n")
    });
    lines.collect()
}
