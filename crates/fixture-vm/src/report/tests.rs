//! Reports of a small set: what is drawn, what is said of it, and what is absent.

use fixture::survey::{Departing, Departures, Point, StreamFrames, Survey};
use fixture::{gptp::Gptp, lldp, scenario, tsn::Qcc};

use super::figure::Section;
use super::material::Material;
use super::{gantt, gates, offset, page, streams, topology};
use crate::run::events::{HostEvent, Record, Source, Stage, TestEvent};
use fixture::contract::event::{Failure, GuestEvent, Step, What};
use fixture::contract::vm::VmEvent;
use fixture::pool::State;

const SCENARIO: &str = r#"
version: 1
name: small
duration: 1s
nodes:
  - name: a
    role: grandmaster
    lldp: {}
    gptp: {}
    ports: [{ name: a1, mac: "02:00:00:00:01:01", tagged: [10] }]
  - name: b
    role: bridge
    lldp: {}
    gptp: {}
    ports:
      - name: b1
        mac: "02:00:00:00:02:01"
        tagged: [10]
      - name: b2
        mac: "02:00:00:00:02:02"
        tagged: [10]
        priority_map: [0, 0, 0, 0, 1, 1, 1, 1]
        taprio: { gates: [{ states: "0x02", interval: 250us }, { states: "0x01", interval: 250us }] }
  - name: c
    role: end-station
    lldp: {}
    ports: [{ name: c1, mac: "02:00:00:00:03:01", tagged: [10] }]
links: [{ ends: [a1, b1] }, { ends: [b2, c1] }]
streams:
  - { name: fast, from: a1, to: c1, vlan: 10, pcp: 5, size: 100, interval: 1ms, count: 8 }
captures: [{ port: b2 }]
expect: { gptp: { max_sync_error: 1us } }
"#;

/// a and b see each other; c hears nobody, and b hears a node d that is not declared at the port of c.
const LLDP: &str = r#"{"lldp":{"interface":[
  {"a1":{"chassis":{"b":{"id":{"type":"mac","value":"02:00:00:00:02:01"}}},"port":{"id":{"type":"ifname","value":"b1"}}}},
  {"b1":{"chassis":{"a":{"id":{"type":"mac","value":"02:00:00:00:01:01"}}},"port":{"id":{"type":"mac","value":"02:00:00:00:01:01"}}}},
  {"b2":{"chassis":{"d <&>":{"id":{"type":"local","value":"d"}}},"port":{"id":{"type":"ifname","value":"d1"}}}}]}}"#;

fn survey() -> Survey {
    let departing = |class, late, bins: &[(u32, u64)]| Departing {
        class,
        frames: bins.iter().map(|(_, frames)| frames).sum(),
        bins: bins.iter().copied().collect(),
        late,
        latest_ns: late * 4_000,
    };
    let by_pcp = [(0, departing(0, 0, &[(200, 1), (399, 2)])), (5, departing(1, 1, &[(1, 6), (201, 1)]))];
    let point = Point {
        name: "b2".into(),
        frames: 13,
        lldp: 2,
        gptp: 1,
        streams: [(0, StreamFrames { frames: 7, bytes: 700 })].into(),
        departures: Some(Departures { cycle_ns: 500_000, by_pcp: by_pcp.into() }),
    };
    let tsn = br#"{"interfaces":[{"name":"b2","tsn":{"gate-control-list":[
        {"gate-states-value":2,"time-interval-value":250000},{"gate-states-value":1,"time-interval-value":250000}]}}]}"#;
    let gptp =
        br#"{"gptp":{"grandmaster":"02:00:00:ff:fe:00:01:01","domain":0,"ports":[{"name":"b1","samples":[
        {"timestamp_ns":1000000000,"sync_error_ns":900},{"timestamp_ns":1125000000,"sync_error_ns":30}]}]}}"#;
    Survey {
        scenario: Some(scenario::read::from_yaml("small.yaml", SCENARIO).unwrap()),
        points: Some(vec![point]),
        neighbours: Some(lldp::read(LLDP.as_bytes()).unwrap()),
        tsn: Some(Qcc::read(tsn).unwrap()),
        gptp: Some(Gptp::read(gptp).unwrap()),
        ..Survey::default()
    }
}

fn records() -> Vec<Record> {
    let at = |ms: u64, source| Record { mono_ns: ms * 1_000_000, wall_ns: 0, source };
    let host = |ms, event| at(ms, Source::Host(event));
    let guest = |ms, what| at(ms, Source::Guest(GuestEvent { seq: 0, mono_ns: ms, wall_ns: 0, what }));
    let failure = Failure { step: Step::Topology, message: "no <bridge>".into(), command: None };
    vec![
        host(0, HostEvent::StageStarted { stage: Stage::Plan }),
        host(5, HostEvent::StageDone { stage: Stage::Plan, took_ns: 5_000_000, detail: "small".into() }),
        host(6, HostEvent::StageStarted { stage: Stage::Scenario }),
        guest(100, What::StepStarted { step: Step::Topology }),
        guest(400, What::Note { step: Step::Topology, text: "links are up".into() }),
        guest(900, What::Failed(failure)),
        host(950, HostEvent::Failed { message: "the guest failed".into() }),
    ]
}

/// What is drawn, with what is said of it and the numbers behind it.
fn shown(section: &Section) -> String {
    let figures = section.figures.iter().flat_map(|(_, group)| group);
    let figure = |figure: &super::figure::Figure| {
        let picture = &figure.picture;
        roxmltree::Document::parse(&picture.alone()).unwrap_or_else(|e| panic!("{}: {e}", picture.name));
        let lines = |html: String| html.replace("><", ">\n<");
        format!(
            "{}\n{}\n\n{}\n\n{}\n\n{}\n\n",
            picture.title,
            picture.description,
            lines(picture.body.0.clone()),
            figure.caption.0,
            lines(figure.table.render(&picture.name).0)
        )
    };
    format!("{}\n\n{}", section.lead.0, figures.map(figure).collect::<String>())
}

#[test]
fn what_lldp_saw_stands_beside_what_was_declared_with_the_differences_marked() {
    insta::assert_snapshot!(shown(&topology::section(&survey()).unwrap()));
}

#[test]
fn frames_stand_over_the_windows_of_their_gates() {
    insta::assert_snapshot!(shown(&gates::section(&survey()).unwrap()));
}

#[test]
fn offsets_are_points_over_time() {
    insta::assert_snapshot!(shown(&offset::section(&survey()).unwrap()));
}

#[test]
fn a_lost_frame_shows() {
    insta::assert_snapshot!(shown(&streams::section(&survey()).unwrap()));
}

#[test]
fn stages_and_steps_are_bars_and_what_failed_is_told() {
    insta::assert_snapshot!(shown(&gantt::section(&records()).unwrap()));
}

#[test]
fn tests_and_lives_of_microvms_are_rows() {
    let at = |ms: u64, source| Record { mono_ns: ms * 1_000_000, wall_ns: 0, source };
    let started = |ms, test: &str, attempt| {
        at(ms, Source::Test(TestEvent::Started { test: test.into(), attempt, of: 2 }))
    };
    let ended = |ms, test: &str, attempt, passed| {
        let (test, message) = (test.to_owned(), if passed { "" } else { "frames are missing" }.to_owned());
        at(ms, Source::Test(TestEvent::AttemptEnded { test, attempt, passed, took_ns: 0, message }))
    };
    // By the guest's clock microVMs take a hundred times as long.
    let guest = |ms: u64, what| {
        let mono_ns = ms * 100_000_000;
        at(ms, Source::Guest(GuestEvent { seq: 0, mono_ns, wall_ns: 0, what: What::Vm(what) }))
    };
    let state = |ms, from, to| {
        guest(ms, VmEvent::State { vm: "worker-0".into(), from, to, operation: None, took_ns: 0 })
    };
    let records = [
        started(0, "ring", 1),
        started(1, "trunk", 1),
        state(5, None, State::Created),
        ended(20, "ring", 1, false),
        started(21, "ring", 2),
        state(25, Some(State::Created), State::Running),
        guest(28, VmEvent::Traffic),
        ended(30, "trunk", 1, true),
        state(35, Some(State::Running), State::Stopped),
        state(38, Some(State::Stopped), State::Destroyed),
        ended(40, "ring", 2, true),
    ];
    insta::assert_snapshot!(shown(&gantt::section(&records).unwrap()));
}

#[test]
fn what_a_set_does_not_have_is_no_section() {
    let ids = |survey: Survey| -> Vec<&str> {
        let material = Material { survey: Some(survey), ..Material::default() };
        page::sections(&material).iter().map(|section| section.id).collect()
    };
    assert_eq!(ids(Survey::default()), Vec::<&str>::new());
    assert_eq!(ids(survey()), ["topology", "gates", "offset", "streams"]);
    let without = Survey { tsn: Some(Qcc::default()), gptp: Some(Gptp::default()), points: None, ..survey() };
    assert_eq!(ids(without), ["topology"], "documents that hold nothing");
    let not_captured = Survey { points: None, ..survey() };
    let gates = gates::section(&not_captured).unwrap();
    assert!(shown(&gates).contains("only the windows are known"));
}

#[test]
fn nothing_on_the_page_is_fetched_or_run() {
    let material = Material { survey: Some(survey()), records: records(), ..Material::default() };
    let page = page::page(&material, &page::sections(&material));
    for absent in ["<script", "<link", "src=", "url(", "@import", "onclick"] {
        assert!(!page.contains(absent), "{absent}");
    }
    assert!(page.contains("d &lt;&amp;&gt;") && !page.contains("d <&>"), "names are escaped");
}
