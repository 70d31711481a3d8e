//! The page: one HTML file that needs nothing else.

use fixture::contract::manifest::Manifest;
use fixture::printable;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figure::Section;
use super::material::Material;
use super::style;
use super::svg::{Picture, duration};
use super::{gantt, gates, offset, origin, streams, topology, verdict};

/// The subjects that the material has something to say on, in the order of the page.
pub fn sections(material: &Material) -> Vec<Section> {
    let survey = material.survey.as_ref();
    let sections = [
        survey.and_then(topology::section),
        survey.and_then(gates::section),
        survey.and_then(offset::section),
        survey.and_then(streams::section),
        gantt::section(&material.records),
        material.verification.as_ref().map(verdict::section),
        survey.and_then(|survey| survey.manifest.as_ref()).map(origin::section),
    ];
    sections.into_iter().flatten().collect()
}

/// The pictures of all sections.
pub fn pictures(sections: &[Section]) -> impl Iterator<Item = &Picture> {
    sections
        .iter()
        .flat_map(|section| &section.figures)
        .flat_map(|(_, group)| group)
        .map(|figure| &figure.picture)
}

/// The page's text.
pub fn page(material: &Material, sections: &[Section]) -> String {
    printable::text(&markup(material, sections).into_string()).into_owned()
}

fn markup(material: &Material, sections: &[Section]) -> Markup {
    let survey = material.survey.as_ref();
    let scenario = survey.and_then(|survey| survey.scenario.as_ref());
    let manifest = survey.and_then(|survey| survey.manifest.as_ref());
    let name = scenario
        .map(|scenario| scenario.name.as_str())
        .or(manifest.map(|manifest| manifest.scenario.as_str()))
        .unwrap_or(&material.subject);
    let description = scenario.and_then(|scenario| scenario.description.as_deref());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is loaded and nothing runs: the page is whole as it is.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="color-scheme" content="light dark";
                title { (name) " · fixture-vm report" }
                style { (PreEscaped(style::page())) }
            }
            body {
                a .skip href="#content" { "Skip to the content" }
                div .wide {
                    header {
                        p .kicker { "fixture-vm report" }
                        h1 { (name) }
                        @if let Some(description) = description { p .lead { (description) } }
                        (facts(material, manifest))
                        @for remark in &material.remarks { p .remark { (remark) } }
                    }
                    nav aria-label="Sections" {
                        ul { @for section in sections { li { a href={ "#" (section.id) } { (section.title) } } } }
                    }
                    main id="content" tabindex="-1" { @for section in sections { (section.render()) } }
                    footer {
                        "Made of " code { (material.subject) } " by fixture-vm " (env!("CARGO_PKG_VERSION")) ". "
                        "What no tool reported is not here."
                    }
                }
            }
        }
    }
}

fn facts(material: &Material, manifest: Option<&Manifest>) -> Markup {
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    html! {
        dl .facts {
            @if let Some(report) = &material.verification {
                @let (verdict, is_good) = verdict::verdict(report);
                (fact("Verification", html! { span .verdict .good[is_good] .bad[!is_good] { (verdict) } }))
            }
            @if let Some(manifest) = manifest {
                (fact("Clock", html! { (manifest.clock.name()) }))
                (fact("Seed", html! { (manifest.seed) }))
                (fact("Guest", html! { (manifest.guest.kind) }))
                (fact("Kernel", html! { (manifest.guest.kernel) }))
                (fact("Captured for", html! { (duration(manifest.window_ns.1.saturating_sub(manifest.window_ns.0))) }))
                (fact("The run took", html! { (duration(manifest.run.took_ns)) }))
                (fact("Closure", html! { span .mono { (format!("{:.12}", manifest.closure.digest)) } }))
                @if manifest.answered.is_some() { (fact("Answered", html! { "from the store" })) }
            }
        }
    }
}
