//! What a scenario says arrives on the wire as it says it: domain, base time, frames of access ports, texts.

use fixture::scenario::read::from_yaml;
use fixture::survey::Survey;

use crate::lab::{Lab, data, ends_with, image};

/// Streams of the scenario by their index.
const UP: u32 = 0;
const DOWN: u32 = 1;

/// Bytes of 20 frames of 100 bytes with their tag, and without.
const TAGGED: u64 = 20 * 100;
const UNTAGGED: u64 = 20 * 96;

#[test]
fn what_the_scenario_says_is_what_the_wire_shows() {
    let lab = Lab::new();
    let mut run = lab.program(&["run", "--guest"]);
    run.arg(image()).arg(data("wire")).arg("--out").arg(lab.out());
    let said = ends_with(0, run);
    assert!(said.contains("valid: no errors"), "{said}");
    let survey = Survey::of(&lab.out()).unwrap();

    assert_eq!(survey.gptp.as_ref().unwrap().domain, Some(127));

    let bytes = |point: &str, stream| survey.point(point).unwrap().streams[&stream].bytes;
    for (point, expected) in [("gm1", UNTAGGED), ("sw1", UNTAGGED), ("sw2", TAGGED)] {
        assert_eq!([bytes(point, UP), bytes(point, DOWN)], [expected; 2], "at {point}");
    }

    // An untagged frame keeps its class up to the access port and has none behind it.
    for (point, priority, class) in [("sw1", 7, 1), ("sw2", 0, 0)] {
        let departures = survey.point(point).unwrap().departures.as_ref().unwrap();
        let departing = departures.by_pcp.get(&priority).unwrap_or_else(|| panic!("{point}: {departures:?}"));
        assert_eq!((departing.class, departing.frames), (class, 20), "at {point}");
    }

    let scenario = from_yaml("wire", &std::fs::read_to_string(data("wire")).unwrap()).unwrap();
    for neighbour in survey.neighbours.as_ref().unwrap() {
        let node =
            scenario.nodes.iter().find(|node| Some(&node.name) == neighbour.chassis.name.as_ref()).unwrap();
        let heard = neighbour.chassis.other.get("descr").map_or("", |text| text.as_str().unwrap());
        let lldp = node.lldp.as_ref().unwrap();
        assert_eq!(Some(heard), lldp.description.as_deref(), "from {}", node.name);
        assert_eq!(neighbour.port.other["ttl"], lldp.ttl().to_string(), "from {}", node.name);
    }
}
