//! What verification says of the set: its files, and every broken rule with a link to what it asks for.

use fixture::verify::{FileReport, Finding, Report, Severity};
use maud::{Markup, html};

use super::figure::{Section, Table};
use super::svg::count;

/// Where the rules are explained.
const RULES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/rules.md");

/// The verdict in a word or two, and whether all is well.
pub fn verdict(report: &Report) -> (String, bool) {
    match (report.valid, report.count(Severity::Error), report.count(Severity::Warning)) {
        (true, _, 0) => ("valid".into(), true),
        (true, _, warnings) => (format!("valid, {}", many(warnings, "warning")), true),
        (false, errors, _) => (format!("not valid: {}", many(errors, "error")), false),
    }
}

/// The section.
pub fn section(report: &Report) -> Section {
    let (verdict, is_good) = verdict(report);
    let files = Table {
        head: vec![
            ("File", false),
            ("Verdict", false),
            ("Bytes", true),
            ("Holds", false),
            ("Rewritten", false),
            ("SHA-256", false),
        ],
        rows: report.files.iter().map(|file| row(report, file)).collect(),
    };
    let lead = html! {
        p {
            span .verdict .good[is_good] .bad[!is_good] { (verdict) } ". "
            "Each file was read whole and rewritten, and the files were checked against each other"
            @if let Some(scenario) = &report.scenario { " and against the scenario " (scenario) }
            ". " a href=(RULES) { "Every rule" } " says what it asks for and what to do where it is broken."
        }
    };
    let rest = html! {
        (files.render("verify"))
        @if report.findings.is_empty() { p { "No rule is broken." } }
        @else { h3 { "Broken rules" } (findings(&report.findings).render("findings")) }
    };
    Section { id: "verify", title: "Verification", lead, figures: Vec::new(), rest }
}

fn row(report: &Report, file: &FileReport) -> Vec<Markup> {
    let worst =
        report.findings.iter().filter(|finding| finding.file == file.name).map(|finding| finding.severity);
    let holds: Vec<String> =
        file.holds.iter().map(|(what, number)| format!("{} {what}", count(*number))).collect();
    vec![
        html! { (file.name) },
        severity(worst.max()),
        html! { (count(file.size)) },
        html! { (holds.join(", ")) },
        html! { (file.round_trip) },
        html! { span .mono.digest { (file.sha256) } },
    ]
}

fn severity(severity: Option<Severity>) -> Markup {
    match severity {
        None => html! { span .verdict.good { "right" } },
        Some(Severity::Note) => html! { "note" },
        Some(Severity::Warning) => html! { strong { "warning" } },
        Some(Severity::Error) => html! { strong .bad-text { "error" } },
    }
}

fn findings(findings: &[Finding]) -> Table {
    let row = |finding: &Finding| {
        let rule = finding.rule;
        vec![
            html! { a href={ (RULES) "#" (rule.id) } { (rule.id) } },
            severity(Some(finding.severity)),
            html! {
                (finding.file)
                @if let Some(place) = &finding.place { ", " span .mono { (place) } }
            },
            html! {
                (finding.message)
                @if finding.more > 0 { ", and " (count(finding.more)) " more" }
            },
            html! { (rule.mend) },
        ]
    };
    let head =
        vec![("Rule", false), ("Severity", false), ("Where", false), ("What", false), ("What to do", false)];
    Table { head, rows: findings.iter().map(row).collect() }
}

fn many(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
