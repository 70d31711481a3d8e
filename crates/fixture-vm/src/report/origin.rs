//! Where the set comes from: its manifest, and the closure that decides its bytes.

use fixture::contract::manifest::{Closure, Manifest};
use maud::{Markup, html};

use super::figure::{Section, Table};
use super::svg::count;

/// The section.
pub fn section(manifest: &Manifest) -> Section {
    let files = Table {
        head: vec![("File", false), ("Bytes", true), ("SHA-256", false)],
        rows: manifest
            .files
            .iter()
            .map(|(name, file)| {
                vec![
                    html! { (name) },
                    html! { (count(file.size)) },
                    html! { span .mono.digest { (file.sha256) } },
                ]
            })
            .collect(),
    };
    let guest = &manifest.guest;
    let rest = html! {
        (closure(&manifest.closure))
        h3 { "The guest" }
        dl .pairs {
            (pair("Kind", html! { (guest.kind) }))
            (pair("Kernel", html! { (guest.kernel) }))
            @for (tool, version) in &guest.tools { (pair(tool, html! { (version) })) }
        }
        h3 { "Files" }
        details {
            summary { (manifest.files.len()) " files with their digests" }
            (files.render("manifest"))
        }
    };
    let lead = html! {
        p { "The closure decides the bytes of a set that is made on the virtual clock: with the same closure, any machine \
             makes the same set." }
    };
    Section { id: "origin", title: "Manifest and closure", lead, figures: Vec::new(), rest }
}

fn closure(closure: &Closure) -> Markup {
    let digest = |text: &str| html! { span .mono { (text) } };
    html! {
        dl .pairs {
            (pair("Closure", digest(&closure.digest)))
            (pair("Input", digest(&closure.input)))
            (pair("Guest image", digest(&closure.image)))
            @if let Some(program) = &closure.program { (pair("Guest program", digest(program))) }
            (pair("QEMU", html! { (closure.qemu) br; (digest(&closure.qemu_sha256)) }))
            (pair("Accelerator", html! { (closure.accelerator) }))
            @for (name, sha256) in &closure.firmware { (pair(name, digest(sha256))) }
        }
        details {
            summary { "Machine and processor options" }
            pre tabindex="0" { (options(&closure.machine)) }
        }
    }
}

fn pair(name: &str, value: Markup) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

/// One option a line, with its value.
fn options(machine: &[String]) -> String {
    let mut text = String::new();
    for (index, word) in machine.iter().enumerate() {
        let is_option = word.starts_with('-');
        text.push_str(if index == 0 {
            ""
        } else if is_option {
            "\n"
        } else {
            " "
        });
        text.push_str(word);
    }
    text
}
