//! The report of a real run: its pictures, the page in a browser, and every number counted again from the set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use fixture::pcapng::{Block, Reader};
use roxmltree::Document;
use serde_json::Value;

use crate::lab::{Lab, ends_with, image, skip};
use crate::project::{command, find, root, said};

/// The pictures that a set of tsn-three-node has, in the order of the page.
const PICTURES: [&str; 8] = [
    "topology-declared",
    "topology-seen",
    "gates-sw-p2",
    "gptp-offset",
    "frames-by-stream",
    "capture-points",
    "timeline-stages",
    "timeline-steps",
];

/// Frames of a capture: of each capture point, of each stream there, and of each priority there of streams.
#[derive(Default)]
struct Counted {
    points: BTreeMap<String, u64>,
    streams: BTreeMap<(String, u32), u64>,
    priorities: BTreeMap<(String, u8), u64>,
}

/// Counts with nothing but offsets into frames: tagged ones with the streams' magic behind the EtherType.
fn count(capture: &Path) -> Counted {
    let mut reader = Reader::new(fs::File::open(capture).unwrap());
    let (mut names, mut counted) = (Vec::new(), Counted::default());
    while let Some(raw) = reader.next_block().unwrap() {
        match Block::decode(&raw, 0).unwrap() {
            Block::Interface(interface) => names.push(interface.name().unwrap().to_owned()),
            Block::Packet(packet) => {
                let at = names[packet.interface as usize].clone();
                *counted.points.entry(at.clone()).or_default() += 1;
                let data = packet.data;
                if data.get(12..14) == Some(&[0x81, 0x00]) && data.get(18..22) == Some(b"fxvm") {
                    let stream = u32::from_be_bytes(data[22..26].try_into().unwrap());
                    *counted.streams.entry((at.clone(), stream)).or_default() += 1;
                    *counted.priorities.entry((at, data[14] >> 5)).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    counted
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The text of a page from `begin` to the next `end`.
fn part<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
    let from = page.find(begin).unwrap_or_else(|| panic!("{begin} is not on the page"));
    let length = page[from..].find(end).unwrap() + end.len();
    &page[from..from + length]
}

/// The cells of a table of the page.
fn table(page: &str, of: &str) -> Vec<Vec<String>> {
    let text = part(page, &format!("<table data-of=\"{of}\">"), "</table>").replace("<br>", " ");
    let document = Document::parse(&text).unwrap();
    let body = document.descendants().find(|node| node.has_tag_name("tbody")).unwrap();
    let cell = |cell: roxmltree::Node<'_, '_>| {
        let words = cell.descendants().filter(roxmltree::Node::is_text).filter_map(|text| text.text());
        words.collect::<String>()
    };
    let rows = body.children().filter(roxmltree::Node::is_element);
    rows.map(|row| row.children().filter(roxmltree::Node::is_element).map(cell).collect()).collect()
}

/// A picture of the page, as XML.
fn picture<'a>(page: &'a str, name: &str) -> Document<'a> {
    let begin = page.find(&format!("id=\"{name}\"")).unwrap_or_else(|| panic!("no picture {name}"));
    let begin = page[..begin].rfind("<svg").unwrap();
    Document::parse(part(&page[begin..], "<svg", "</svg>")).unwrap()
}

/// What belongs to one thing in a picture: `data-stream`, `data-port` and the like say to which.
fn group<'a>(picture: &'a Document<'_>, of: &str, name: &str) -> roxmltree::Node<'a, 'a> {
    picture
        .descendants()
        .find(|node| node.attribute(of) == Some(name))
        .unwrap_or_else(|| panic!("{of} {name}"))
}

fn how_many(node: roxmltree::Node<'_, '_>, tag: &str) -> usize {
    node.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", tag))).count()
}

fn texts(node: roxmltree::Node<'_, '_>) -> Vec<String> {
    node.descendants()
        .filter(roxmltree::Node::is_text)
        .filter_map(|node| node.text())
        .map(str::to_owned)
        .collect()
}

/// Headless Chromium, told to leave the network alone.
struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    /// The browser of this machine, if it has one.
    fn find() -> Option<Self> {
        Some(Self { program: find("chromium")?, profile: tempfile::tempdir().unwrap() })
    }

    fn open(&self, page: &Path, args: &[&str]) -> Output {
        let mut browser = command(&self.program);
        browser
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--enable-logging=stderr", "--timeout=60000"])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .args(args)
            .arg(format!("file://{}", page.display()));
        let output = browser.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("CONSOLE"), "the page has console messages:\n{text}");
        output
    }

    /// The page as the browser understood it.
    fn dom(&self, page: &Path) -> String {
        String::from_utf8(self.open(page, &["--dump-dom"]).stdout).unwrap()
    }

    /// The page as it looks at a width, in light or dark.
    fn screenshot(&self, page: &Path, width: u32, is_dark: bool) -> Vec<u8> {
        let file = self.profile.path().join("shot.png");
        let scheme = if is_dark { 0 } else { 1 };
        let (file_arg, size, scheme) = (
            format!("--screenshot={}", file.display()),
            format!("--window-size={width},900"),
            format!("--blink-settings=preferredColorScheme={scheme}"),
        );
        self.open(page, &[&file_arg, &size, &scheme]);
        let image = fs::read(&file).unwrap();
        assert_eq!(&image[1..4], b"PNG");
        assert_eq!(image[16..20], width.to_be_bytes(), "the width in the PNG's header");
        image
    }
}

#[test]
fn a_report_opens_in_a_browser_with_the_numbers_of_its_set() {
    let lab = Lab::new();
    let (set, page, pictures) = (lab.path("tsn"), lab.path("page.html"), lab.path("pictures"));
    let mut run = lab.program(&["run", "scenarios/tsn-three-node.yaml", "--guest"]);
    run.arg(image()).arg("--out").arg(&set);
    ends_with(0, run);
    let mut report = lab.program(&["report"]);
    report.arg(&set).arg("--out").arg(&page).arg("--svg").arg(&pictures);
    let told = ends_with(0, report);
    let files = told.lines().filter_map(|line| Path::new(line).file_stem()?.to_str()).skip(1);
    assert_eq!(files.collect::<Vec<_>>(), PICTURES);
    for name in PICTURES {
        let text = fs::read_to_string(pictures.join(name).with_extension("svg")).unwrap();
        Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    the_readme_has_such_a_picture(&pictures);
    a_run_is_told_from_the_database(&lab, &set);

    let Some(browser) = Browser::find() else {
        return skip("a_report_opens_in_a_browser_with_the_numbers_of_its_set", "there is no chromium here");
    };
    let dom = browser.dom(&page);
    the_page_can_be_used_by_all(&dom);
    the_numbers_are_those_of_the_set(&dom, &set);
    let mut shots = Vec::new();
    for width in [390, 1280] {
        for is_dark in [false, true] {
            shots.push(browser.screenshot(&page, width, is_dark));
        }
    }
    for (index, shot) in shots.iter().enumerate() {
        assert!(!shots[..index].contains(shot), "two sizes or schemes look the same");
    }
}

/// The picture of the README says what the same picture of a new run says.
fn the_readme_has_such_a_picture(pictures: &Path) {
    let said = |path: PathBuf| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let document = Document::parse(&text).unwrap();
        let words = document.descendants().filter(|node| ["title", "desc"].contains(&node.tag_name().name()));
        words.filter_map(|node| node.text()).map(str::to_owned).collect()
    };
    assert_eq!(said(root().join("docs/gates.svg")), said(pictures.join("gates-sw-p2.svg")));
}

/// A run is reported by its id, with its set as long as that is there.
fn a_run_is_told_from_the_database(lab: &Lab, set: &Path) {
    let whole = ends_with(0, lab.program(&["report", "last"]));
    for text in ["id=\"gates-sw-p2\"", "id=\"timeline-stages\"", "publish done in", "id=\"origin\""] {
        assert!(whole.contains(text), "{text} is not in the report of the run");
    }
    let aside = lab.path("aside");
    fs::rename(set, &aside).unwrap();
    let events = ends_with(0, lab.program(&["report", "last"]));
    fs::rename(&aside, set).unwrap();
    assert!(events.contains("is no longer in") && events.contains("id=\"timeline-stages\""), "{events}");
    assert!(!events.contains("id=\"gates-sw-p2\""), "{events}");
    let wrong = ends_with(2, lab.program(&["report", "nowhere"]));
    assert!(wrong.contains("nowhere is no folder, so it must name a run"), "{wrong}");
}

/// Headings in order, pictures with words, links that lead somewhere, everything reachable.
fn the_page_can_be_used_by_all(dom: &str) {
    assert_eq!(dom.matches("<svg").count(), PICTURES.len());
    assert_eq!(dom.matches("<h1").count(), 1);
    for name in PICTURES {
        let picture = picture(dom, name);
        let svg = picture.root_element();
        assert_eq!(svg.attribute("role"), Some("img"), "{name}");
        for (attribute, tag) in [("aria-labelledby", "title"), ("aria-describedby", "desc")] {
            let id = svg.attribute(attribute).unwrap();
            let words = svg.children().find(|child| child.attribute("id") == Some(id)).unwrap();
            assert_eq!(words.tag_name().name(), tag, "{name}");
            assert!(words.text().is_some_and(|text| text.len() > 5), "{name} has no {tag}");
        }
        assert!(!table(dom, name).is_empty(), "no numbers behind {name}");
    }
    let mut ids = BTreeSet::new();
    for id in dom.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.insert(id), "{id} is the id of two elements");
    }
    let anchors = dom.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
    let anchors: Vec<&str> = anchors.collect();
    assert!(anchors.contains(&"content") && anchors.len() > 5, "{anchors:?}");
    for anchor in anchors {
        assert!(ids.contains(anchor), "nothing is at #{anchor}");
    }
}

fn the_numbers_are_those_of_the_set(dom: &str, set: &Path) {
    let counted = count(&set.join("capture.pcapng"));
    let scenario = json(&set.join("scenario.json"));
    // Frames by stream and point, in the table and as the picture writes them.
    let mut streams = Vec::new();
    for (index, stream) in scenario["streams"].as_array().unwrap().iter().enumerate() {
        for point in counted.points.keys() {
            let frames = counted.streams[&(point.clone(), index as u32)];
            streams.push([stream["name"].as_str().unwrap().into(), point.clone(), frames.to_string()]);
        }
    }
    let shown: Vec<_> =
        table(dom, "frames-by-stream").iter().map(|row| [0, 1, 2].map(|cell| row[cell].clone())).collect();
    assert_eq!(shown, streams);
    let drawn = picture(dom, "frames-by-stream");
    for [stream, point, frames] in &streams {
        let texts = texts(group(&drawn, "data-stream", stream));
        assert!(texts.contains(point) && texts.contains(frames), "{stream}: {texts:?}");
    }
    // All frames of each point.
    for row in table(dom, "capture-points") {
        assert_eq!(row[5], counted.points[&row[0]].to_string(), "{row:?}");
    }
    // Frames of each class: priorities 6, 5 and 0 of the streams are in classes 2, 1 and 0.
    let classes: Vec<_> =
        table(dom, "gates-sw-p2").iter().map(|row| [row[0].clone(), row[3].clone()]).collect();
    let class =
        |class: &str, pcp| [class.to_owned(), counted.priorities[&("sw-p2".to_owned(), pcp)].to_string()];
    assert_eq!(classes, [class("0", 0), class("1", 5), class("2", 6)]);
    let gates = picture(dom, "gates-sw-p2");
    assert_eq!(texts(gates.root_element()).iter().filter(|text| text.starts_with("0x0")).count(), 3);
    assert!(how_many(group(&gates, "data-class", "2"), "rect") > 2, "the ground, a window, and frames");
    // One point for each measurement.
    let gptp = json(&set.join("gptp.json"));
    let drawn = picture(dom, "gptp-offset");
    for port in gptp["gptp"]["ports"].as_array().unwrap() {
        let (name, samples) = (port["name"].as_str().unwrap(), port["samples"].as_array().unwrap().len());
        assert_eq!(how_many(group(&drawn, "data-port", name), "circle"), samples, "{name}");
        let rows = table(dom, "gptp-offset");
        let row = rows.iter().find(|row| row[0] == name).unwrap();
        assert_eq!(row[1], samples.to_string());
    }
    // Both links, each seen from both ends.
    let links = table(dom, "topology-seen");
    assert_eq!(links.len(), scenario["links"].as_array().unwrap().len());
    assert!(links.iter().all(|row| row[4] == "2 of 2" && row[5] == "as declared"), "{links:?}");
    assert_eq!(
        group(&picture(dom, "topology-seen"), "data-link", "gm sw").attribute("data-verdict"),
        Some("as declared")
    );
    // Every stage that the set's events tell of, and the four fixtures with their digests.
    let events = fs::read_to_string(set.join("events.jsonl")).unwrap();
    assert_eq!(table(dom, "timeline-stages").len(), events.matches("\"stage-started\"").count());
    assert_eq!(table(dom, "timeline-steps").len(), events.matches("\"step-started\"").count());
    let manifest = json(&set.join("manifest.json"));
    let files = table(dom, "verify");
    assert_eq!(files.len(), 4);
    for row in files {
        assert_eq!(
            (row[1].as_str(), &row[5]),
            ("right", &manifest["files"][&row[0]]["sha256"].as_str().unwrap().to_owned())
        );
    }
    assert_eq!(table(dom, "manifest").len(), manifest["files"].as_object().unwrap().len());
}
