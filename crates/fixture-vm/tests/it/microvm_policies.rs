//! What policies of pools do, for real: pools that differ in one fare differently on the same way.

use std::collections::BTreeMap;
use std::fs;

use fixture::contract::event::{GuestEvent, What};
use fixture::contract::vm::VmEvent;
use fixture::pool::{Operation, Reason, State};

use crate::lab::{Lab, data, ends_with, image};

const SECOND: u64 = 1_000_000_000;

/// Between a moment and the event that tells of it.
const TELLING: u64 = SECOND;

/// What the guest told of microVMs and pools, each with its time.
struct Story(Vec<(u64, VmEvent)>);

impl Story {
    fn read(lab: &Lab) -> Self {
        let text = fs::read_to_string(lab.out().join("raw/pool/events.jsonl")).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<GuestEvent>(line).unwrap());
        Self(
            events
                .filter_map(|event| match event.what {
                    What::Vm(what) => Some((event.mono_ns, what)),
                    _ => None,
                })
                .collect(),
        )
    }

    /// When the first event that is one comes.
    fn at(&self, is: impl Fn(&VmEvent) -> bool) -> u64 {
        self.0.iter().find(|(_, event)| is(event)).expect("the story has it").0
    }

    /// When a microVM was brought to a state, and how long that took.
    fn entered(&self, name: &str, state: State, by: Operation) -> (u64, u64) {
        let entered = self.0.iter().find_map(|(at, event)| match event {
            VmEvent::State { vm, to, operation, took_ns, .. }
                if vm == name && *to == state && *operation == Some(by) =>
            {
                Some((*at, *took_ns))
            }
            _ => None,
        });
        entered.unwrap_or_else(|| panic!("{name} was not brought to {state} by {by}"))
    }

    fn drain_begins(&self, name: &str) -> u64 {
        self.at(|event| matches!(event, VmEvent::DrainStarted { vm } if vm == name))
    }

    /// How long it drained, and whether it had finished.
    fn drained(&self, name: &str) -> (u64, bool) {
        let drained = self.0.iter().find_map(|(_, event)| match event {
            VmEvent::DrainCompleted { vm, took_ns, idle } if vm == name => Some((*took_ns, *idle)),
            _ => None,
        });
        drained.unwrap_or_else(|| panic!("{name} was not drained"))
    }

    /// The reasons for which something of a pool was put off.
    fn deferred(&self, pool: &str) -> Vec<Reason> {
        let of_pool = self.0.iter().filter_map(|(_, event)| match event {
            VmEvent::Deferred(deferred) if deferred.pool_id == pool => Some(deferred.reason),
            _ => None,
        });
        of_pool.collect()
    }
}

/// The guest's notes that hold this, what follows it in each by what is before.
fn noted(lab: &Lab, words: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(lab.out().join("timeline.txt")).unwrap();
    let noted = text.lines().filter_map(|line| line.split_once(words));
    noted
        .map(|(before, after)| {
            (before.rsplit(' ').next().unwrap().trim_end_matches(':').to_owned(), after.to_owned())
        })
        .collect()
}

#[test]
fn every_policy_makes_the_difference() {
    let lab = Lab::new();
    // A loaded machine may let a nested guest wait for long.
    let mut run = lab.program(&["run", "--cold", "--no-cache", "--silence", "300s"]);
    run.arg(data("microvm-policies")).arg("--guest").arg(image()).arg("--out").arg(lab.out());
    let text = ends_with(0, run);
    // What the scenario expects of each pool, deferrals among it, is verified.
    assert!(text.contains("valid: no errors"), "{text}");
    let story = Story::read(&lab);
    let running = |name, by| story.entered(name, State::Running, by).0;

    // The order of roles, against that of names: up, and down.
    assert!(running("zone-0", Operation::Start) < running("base-0", Operation::Start));
    let (base_paused, _) = story.entered("base-0", State::Warm, Operation::Pause);
    assert!(base_paused <= story.drain_begins("fast-0"), "base goes before fast may");
    assert!(
        running("fast-0", Operation::Start) < running("slow-0", Operation::Start),
        "equal roles, by name"
    );

    // And at the end, of which only the timeline tells: the lives in the set are those of the scenario.
    let timeline = fs::read_to_string(lab.out().join("timeline.txt")).unwrap();
    let stopped = |name: &str| {
        let is_it = |line: &str| line.contains(&format!(" {name}: ")) && line.contains(" to stopped");
        timeline.lines().position(is_it).unwrap_or_else(|| panic!("{name} is not stopped: {timeline}"))
    };
    assert!(stopped("base-0") < stopped("fast-0") && stopped("fast-0") < stopped("zone-0"));

    // min_running: slow came up after fast and may not go with it.
    let ran = |name| story.drain_begins(name) - running(name, Operation::Start);
    assert!(ran("slow-0") >= 20 * SECOND - TELLING, "{}", ran("slow-0"));
    assert!(!story.deferred("fast").contains(&Reason::MinRunning));

    // drain: the stream of each is under way; slow's goes on for as long as it may.
    let (slow, fast) = (story.drained("slow-0"), story.drained("fast-0"));
    assert!(slow.0 >= 8 * SECOND && fast.0 < 8 * SECOND, "{slow:?} {fast:?}");
    assert!(!slow.1 && !story.deferred("fast").contains(&Reason::Draining));

    // min_warm: between pause and sleep.
    let warm = |name| {
        let (asleep, took) = story.entered(name, State::Sleeping, Operation::Sleep);
        asleep - took - story.entered(name, State::Warm, Operation::Pause).0
    };
    assert!(warm("slow-0") >= 10 * SECOND - TELLING, "{}", warm("slow-0"));
    assert!(!story.deferred("fast").contains(&Reason::MinWarm));

    // snapshot_compression: what they sleep in.
    let asleep = noted(&lab, " asleep in ");
    let kib = |name: &str, how: &str| {
        let (size, rest) = asleep[name].split_once(' ').unwrap();
        assert_eq!(rest, format!("KiB, compression {how}"));
        size.parse::<u64>().unwrap()
    };
    assert!(kib("slow-0", "zstd") * 2 < kib("fast-0", "none"), "{asleep:?}");

    // pinned and critical: nothing is wanted of base and zone any more, and still they are there.
    let never = |name: &str, states: &[State]| {
        let goes = |event: &VmEvent| matches!(event, VmEvent::State { vm, to, .. } if vm == name && states.contains(to));
        assert!(!story.0.iter().any(|(_, event)| goes(event)), "{name}");
    };
    never("base-0", &[State::Sleeping, State::Stopped]);
    never("zone-0", &[State::Warm, State::Sleeping, State::Stopped]);

    // desired_counts: spare was warm when scenario time began, and its stream is whole all the same.
    let (paused, _) = story.entered("spare-0", State::Warm, Operation::Pause);
    let begins = story.at(|event| matches!(event, VmEvent::Traffic));
    assert!(paused < begins && begins < running("spare-0", Operation::Resume));

    // template: slow shares the seed of base, fast has its own.
    let seeds = noted(&lab, " its data is a clone of the seed ");
    assert_eq!((&*seeds["base-0"], &*seeds["slow-0"], &*seeds["fast-0"]), ("common", "common", "fast"));

    // graceful_shutdown: both were running at the end; only the one that was granted time shut down itself.
    let console =
        |name: &str| fs::read_to_string(lab.out().join(format!("raw/microvm/{name}.console.log"))).unwrap();
    assert!(console("slow-0").contains("reboot: Restarting system"), "{}", console("slow-0"));
    assert!(!console("fast-0").contains("reboot:"), "{}", console("fast-0"));
    lab.assert_nothing_left();
}
