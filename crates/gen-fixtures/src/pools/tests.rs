//! The manager over machines that only pretend: what it tells, what it survives, what it gives up.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::ensure;
use fixture::scenario::read::from_yaml;
use tempfile::TempDir;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// What the machines are like, shared with the test.
#[derive(Default)]
struct World {
    now_ns: u64,
    vmms: BTreeSet<String>,
    story: Vec<String>,
    /// Operations that fail from now on.
    broken: Vec<(String, Operation)>,
    /// Those that hang.
    hung: BTreeSet<String>,
    /// How long what drains takes to finish.
    work_ns: u64,
    draining: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
struct Pretended(Rc<RefCell<World>>);

impl Machines for Pretended {
    fn now_ns(&self) -> u64 {
        self.0.borrow().now_ns
    }

    fn sleep_until(&mut self, at_ns: u64) {
        let mut world = self.0.borrow_mut();
        world.now_ns = world.now_ns.max(at_ns);
    }

    fn carry_out(&mut self, vm: &Identity, operation: Operation, _: Duration) -> Result<()> {
        let mut world = self.0.borrow_mut();
        world.now_ns += SECOND / 100;
        let broken = (vm.name.clone(), operation);
        ensure!(!world.broken.contains(&broken), "no room");
        match operation {
            Operation::Start | Operation::Wake | Operation::Restore => {
                let fresh = world.vmms.insert(vm.name.clone());
                ensure!(fresh, "there is one already");
            }
            Operation::Stop | Operation::Sleep | Operation::Destroy => {
                world.vmms.remove(&vm.name);
                world.hung.remove(&vm.name);
            }
            Operation::Drain => {
                let until = world.now_ns + world.work_ns;
                world.draining.insert(vm.name.clone(), until);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_idle(&mut self, vm: &Identity) -> Result<bool> {
        let world = self.0.borrow();
        Ok(world.draining.get(&vm.name).is_some_and(|until| *until <= world.now_ns))
    }

    fn liveness(&mut self, vm: &Identity, _: State) -> Liveness {
        let world = self.0.borrow();
        match (world.vmms.contains(&vm.name), world.hung.contains(&vm.name)) {
            (true, false) => Liveness::Alive,
            (true, true) => Liveness::Hung,
            (false, _) => Liveness::Gone,
        }
    }

    fn last_words(&mut self, _: &Identity) -> Option<String> {
        None
    }

    fn tell(&mut self, event: VmEvent) {
        let mut world = self.0.borrow_mut();
        let line = format!("{:>7.2} {event}", world.now_ns as f64 / SECOND as f64);
        world.story.push(line);
    }
}

const SCENARIO: &str = "\
version: 1
name: pool
duration: 5min
nodes:
  - name: sw
    role: bridge
    ports: [{ name: sw-p1, mac: 02:00:00:00:00:01 }, { name: sw-p2, mac: 02:00:00:00:00:03 }]
  - name: sink
    role: end-station
    ports: [{ name: sink-p1, mac: 02:00:00:00:00:02 }]
  - name: own
    kind: microvm
    role: end-station
    ports: [{ name: own-p1, mac: 02:00:00:00:00:04 }]
links: [{ ends: [sw-p1, sink-p1] }, { ends: [sw-p2, own-p1] }]
pools:
  - { pool_id: worker, attach: sw, desired_counts: { running: 1 } }
  - { pool_id: gate, role: gateway, attach: sw, desired_counts: { running: 1 } }
steps:
  - { at: 10s, pool_id: worker, running: 2 }
  - { at: 90s, pool_id: worker, running: 1, sleeping: 1 }
  - { at: 240s, pool_id: worker, running: 2, sleeping: 0 }
captures: [{ port: sw-p1 }]
expect: { empty: [lldp, tsn, gptp] }
";

fn scenario() -> Scenario {
    from_yaml("pool.yaml", SCENARIO).unwrap_or_else(|error| panic!("{error}"))
}

const WITHIN: Duration = Duration::from_secs(60);

fn manager<'a>(scenario: &'a Scenario, machines: &Pretended, at: &TempDir) -> Manager<'a, Pretended> {
    Manager::new(scenario, machines.clone(), at.path()).unwrap()
}

fn story(machines: &Pretended) -> String {
    std::mem::take(&mut machines.0.borrow_mut().story).join("\n")
}

#[test]
fn a_scenario_with_steps_is_told_from_begin_to_end() {
    let (scenario, machines, at) = (scenario(), Pretended::default(), tempfile::tempdir().unwrap());
    machines.0.borrow_mut().work_ns = 5 * SECOND;
    let mut manager = manager(&scenario, &machines, &at);
    manager.settle(WITHIN).unwrap();
    let start = machines.now_ns() + SECOND;
    manager.run(start, scenario.duration.duration(), WITHIN).unwrap();
    manager.tear_down().unwrap();
    insta::assert_snapshot!(story(&machines));
    assert!(machines.0.borrow().vmms.is_empty());
    assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 0, "nothing is left on disk");
}

#[test]
fn a_vmm_that_dies_and_one_that_hangs_are_told_and_replaced() {
    let (scenario, machines, at) = (scenario(), Pretended::default(), tempfile::tempdir().unwrap());
    let mut manager = manager(&scenario, &machines, &at);
    manager.settle(WITHIN).unwrap();
    story(&machines);
    machines.0.borrow_mut().vmms.remove("worker-0");
    machines.0.borrow_mut().hung.insert("own".into());
    manager.settle(WITHIN).unwrap();
    insta::assert_snapshot!(story(&machines));
    assert_eq!(machines.0.borrow().vmms.len(), 3);
}

#[test]
fn a_snapshot_that_cannot_be_restored_leaves_a_microvm_that_is_started_cold() {
    let (scenario, machines, at) = (scenario(), Pretended::default(), tempfile::tempdir().unwrap());
    let mut manager = manager(&scenario, &machines, &at);
    manager.wish("worker", Counts { running: 1, warm: 0, sleeping: 1 });
    manager.settle(WITHIN).unwrap();
    story(&machines);
    machines.0.borrow_mut().broken.push(("worker-1".into(), Operation::Wake));
    manager.wish("worker", Counts { running: 2, warm: 0, sleeping: 0 });
    manager.settle(WITHIN).unwrap();
    insta::assert_snapshot!(story(&machines));
}

#[test]
fn what_fails_again_and_again_fails_the_run_by_name_and_operation() {
    let (scenario, machines, at) = (scenario(), Pretended::default(), tempfile::tempdir().unwrap());
    machines.0.borrow_mut().broken.push(("worker-0".into(), Operation::Start));
    let error = manager(&scenario, &machines, &at).settle(WITHIN).unwrap_err();
    insta::assert_snapshot!(format!("{error:#}"), @"worker-0: start failed 3 times, the last time: no room");
}

#[test]
fn a_manager_that_comes_after_a_crash_takes_over_what_is_alive_and_stops_the_rest() {
    let (scenario, machines, at) = (scenario(), Pretended::default(), tempfile::tempdir().unwrap());
    manager(&scenario, &machines, &at).settle(WITHIN).unwrap();
    story(&machines);
    // The first was in the middle of pausing one; another died meanwhile; a third is of an older scenario.
    let records = Records::new(at.path());
    let mut all = records.read_all().unwrap();
    for record in &mut all {
        if record.identity.name == "worker-0" {
            record.intent = Some(State::Warm);
            records.write(record).unwrap();
        }
    }
    all[0].identity.name = "stranger".into();
    records.write(&all[0]).unwrap();
    machines.0.borrow_mut().vmms.insert("stranger".into());
    machines.0.borrow_mut().vmms.remove("gate-0");
    let mut second = manager(&scenario, &machines, &at);
    second.settle(WITHIN).unwrap();
    insta::assert_snapshot!(story(&machines));
    let vmms: Vec<_> = machines.0.borrow().vmms.iter().cloned().collect();
    assert_eq!(vmms, ["gate-0", "own", "worker-0"]);
}

#[test]
fn pools_that_do_not_come_to_rest_in_time_are_told_with_what_is_open() {
    let (mut scenario, machines, at) = (scenario(), Pretended::default(), tempfile::tempdir().unwrap());
    // A policy that changes under the manager: more time than was reckoned with.
    scenario.pools[0].desired_counts = Counts { running: 0, warm: 1, sleeping: 0 };
    let mut manager = manager(&scenario, &machines, &at);
    for wanted in &mut manager.wanted {
        wanted.policy.min_running.0 = 10_000 * SECOND;
    }
    let error = manager.settle(WITHIN).unwrap_err();
    insta::assert_snapshot!(format!("{error:#}"), @"pools have not come to rest: worker-0: drain deferred: min-running");
}
