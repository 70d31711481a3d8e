//! Keeps microVMs as their pools want them: reconciles, does what is to be done, keeps records, tells.
//!
//! What a microVM takes is behind [`Machines`]; here is only what follows from the scenario, from the records and
//! from what the machines answer.

mod observe;
mod records;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use fixture::contract::vm::VmEvent;
use fixture::pool::{
    Action, Counts, Identity, Liveness, Operation, Plan, PoolRole, Reason, Record, Report, State, Wanted,
    reconcile,
};
use fixture::scenario::{Node, Scenario};

use self::records::Records;

/// How often microVMs are asked whether they are alive.
const HEALTH_NS: u64 = 1_000_000_000;

/// How often a draining one is asked whether it has finished.
const DRAIN_NS: u64 = 100_000_000;

/// Whoever can run microVMs, and the clock they live by. Every call returns when it is done.
pub trait Machines {
    /// CLOCK_MONOTONIC in nanoseconds.
    fn now_ns(&self) -> u64;
    /// Sleeps until [`Machines::now_ns`] is this.
    fn sleep_until(&mut self, at_ns: u64);
    /// Does an operation other than `Create`. A microVM whose `Wake` or `Restore` failed has no VMM any more and
    /// its snapshot is of no use; after any other failure it is as it was.
    fn carry_out(&mut self, vm: &Identity, operation: Operation, grace: Duration) -> Result<()>;
    /// Whether one that drains has finished what it had begun.
    fn is_idle(&mut self, vm: &Identity) -> Result<bool>;
    /// Whether one with a VMM is alive; the agent of a paused one is not asked.
    fn liveness(&mut self, vm: &Identity, state: State) -> Liveness;
    /// What is known of how one that is not alive came to be so.
    fn last_words(&mut self, vm: &Identity) -> Option<String>;
    /// Tells the host.
    fn tell(&mut self, event: VmEvent);
}

/// All microVMs of a scenario.
pub struct Manager<'a, M> {
    scenario: &'a Scenario,
    machines: M,
    records: Records,
    wanted: Vec<Wanted>,
    vms: BTreeMap<Key, Vm>,
    /// What was told to be deferred, so that it is told once.
    deferred: BTreeSet<(Key, Operation, Reason)>,
    /// Of each pool that has not come to rest what was done since it last did.
    restless: BTreeMap<String, Report>,
}

/// Pool and index; a microVM of no pool is number 0 of one by its own name.
type Key = (String, u32);

#[derive(Debug)]
struct Vm {
    record: Record,
    idle: bool,
    failures: u32,
    last_error: String,
}

impl<'a, M: Machines> Manager<'a, M> {
    /// Takes over what is there: microVMs that an earlier manager left alive go on, all others are torn down.
    pub fn new(scenario: &'a Scenario, machines: M, folder: &Path) -> Result<Self> {
        let pools = scenario.pools.iter().map(|pool| pool.wanted(pool.desired_counts));
        let single = scenario.microvms().filter(|node| node.instance.is_none()).map(alone);
        let mut manager = Self {
            scenario,
            machines,
            records: Records::new(folder),
            wanted: single.chain(pools).collect(),
            vms: BTreeMap::new(),
            deferred: BTreeSet::new(),
            restless: BTreeMap::new(),
        };
        manager.rediscover()?;
        for wanted in manager.wanted.clone() {
            manager.wish(&wanted.pool_id, wanted.counts);
        }
        Ok(manager)
    }

    /// The machines of a manager that is no more; all that it knew is in the records.
    pub fn into_machines(self) -> M {
        self.machines
    }

    /// The machines, for what is no operation.
    pub fn machines(&mut self) -> &mut M {
        &mut self.machines
    }

    /// Brings every pool to its counts, within a span beyond what policies grant.
    pub fn settle(&mut self, within: Duration) -> Result<()> {
        let deadline =
            self.machines.now_ns() + (within + self.scenario.settling().duration()).as_nanos() as u64;
        loop {
            let plan = self.pass()?;
            if plan.is_settled() {
                return Ok(());
            }
            let until = self.next_look(&plan);
            self.wait(&plan, until, deadline)?;
        }
    }

    /// From scenario time 0 at `start`, takes each step of the scenario at its time; ends when `duration` is over
    /// and every pool has its last counts, within a span beyond what policies grant.
    pub fn run(&mut self, start_ns: u64, duration: Duration, within: Duration) -> Result<()> {
        self.machines.sleep_until(start_ns);
        self.machines.tell(VmEvent::Traffic);
        let mut steps: Vec<_> = self.scenario.steps.iter().collect();
        steps.sort_by_key(|step| step.at);
        let mut steps = steps.into_iter().peekable();
        let end = start_ns + duration.as_nanos() as u64;
        let deadline = end + (within + self.scenario.settling().duration()).as_nanos() as u64;
        loop {
            let now = self.machines.now_ns();
            while let Some(step) = steps.next_if(|step| start_ns + step.at.0 <= now) {
                let wanted = self.wanted.iter().find(|wanted| wanted.pool_id == step.pool_id);
                let counts = wanted.map_or(Counts::default(), |wanted| step.applied_to(wanted.counts));
                self.wish(&step.pool_id, counts);
            }
            let plan = self.pass()?;
            let next = steps.peek().map_or(end, |step| start_ns + step.at.0);
            if plan.is_settled() && self.machines.now_ns() >= end && steps.peek().is_none() {
                return Ok(());
            }
            let look = self.next_look(&plan);
            self.wait(&plan, if next > now { look.min(next) } else { look }, deadline)?;
        }
    }

    /// Tears everything down in the reverse order of roles: what is needed most last.
    pub fn tear_down(&mut self) -> Result<()> {
        self.wanted.clear();
        loop {
            let mut plan = reconcile(&[], &self.observed(), self.machines.now_ns());
            plan.actions.sort_by_key(|action| Reverse(self.role(&action.pool_id)));
            if plan.actions.is_empty() {
                return Ok(());
            }
            for action in &plan.actions {
                self.act(action)?;
            }
        }
    }

    /// A microVM of no pool is there for all others.
    fn role(&self, pool_id: &str) -> PoolRole {
        self.scenario.pool(pool_id).map_or(PoolRole::Gateway, |pool| pool.role.clone())
    }

    /// A pool is to have these counts from now on.
    fn wish(&mut self, pool_id: &str, counts: Counts) {
        if let Some(wanted) = self.wanted.iter_mut().find(|wanted| wanted.pool_id == pool_id) {
            wanted.counts = counts;
        }
        self.restless.entry(pool_id.to_owned()).or_default();
        if self.scenario.pool(pool_id).is_some() {
            self.machines.tell(VmEvent::Desired { pool_id: pool_id.to_owned(), desired_counts: counts });
        }
    }

    /// Looks once, and does what is to be done now.
    fn pass(&mut self) -> Result<Plan> {
        self.look()?;
        let plan = reconcile(&self.wanted, &self.observed(), self.machines.now_ns());
        for action in &plan.actions {
            self.act(action)?;
        }
        self.tell_deferred(&plan);
        self.tell_rest(&plan);
        if let Some(deferred) = plan.deferred.iter().find(|deferred| deferred.reason == Reason::GaveUp) {
            let vm = &self.vms[&(deferred.pool_id.clone(), deferred.index)];
            let name = &vm.record.identity.name;
            bail!(
                "{name}: {} failed {} times, the last time: {}",
                deferred.operation,
                vm.failures,
                vm.last_error
            );
        }
        Ok(plan)
    }

    /// When to look again, if nothing else comes before.
    fn next_look(&self, plan: &Plan) -> u64 {
        let now = self.machines.now_ns();
        let draining = self.vms.values().any(|vm| vm.record.draining_since_ns.is_some());
        let look = now + if draining { DRAIN_NS } else { HEALTH_NS };
        plan.next_ns().map_or(look, |next| next.clamp(now, look))
    }

    /// Waits, unless there is more to do at once.
    fn wait(&mut self, plan: &Plan, until: u64, deadline: u64) -> Result<()> {
        if self.machines.now_ns() >= deadline {
            let open = plan.deferred.iter().map(|deferred| {
                format!("{}: {} deferred: {}", deferred.name(), deferred.operation, deferred.reason.name())
            });
            let open = open
                .chain(plan.actions.iter().map(|action| format!("{}: {}", action.name(), action.operation)));
            bail!("pools have not come to rest: {}", open.collect::<Vec<_>>().join("; "));
        }
        if plan.actions.is_empty() {
            self.machines.sleep_until(until);
        }
        Ok(())
    }

    /// Does an operation: what is intended is on record before, what came of it after. A failure of the machine is
    /// told and counted, not an error here.
    fn act(&mut self, action: &Action) -> Result<()> {
        let key = (action.pool_id.clone(), action.index);
        let operation = action.operation;
        let begun = self.machines.now_ns();
        if operation == Operation::Create {
            return self.create(&key, action);
        }
        let Some(vm) = self.vms.get_mut(&key) else { bail!("{} is not there to {operation}", action.name()) };
        let (identity, from) = (vm.record.identity.clone(), vm.record.state);
        let name = identity.name.clone();
        if let Some(since) = vm.record.draining_since_ns.filter(|_| operation != Operation::Undrain) {
            let (took_ns, idle) = (begun - since, vm.idle);
            self.machines.tell(VmEvent::DrainCompleted { vm: name.clone(), took_ns, idle });
        }
        let vm = self.vms.get_mut(&key).expect("it was there");
        vm.record.intent = operation.leads_to();
        self.records.write(&vm.record)?;
        let grace = self.scenario.pool(&action.pool_id).map(|pool| pool.runtime_policy).unwrap_or_default();
        let result = self.machines.carry_out(&identity, operation, grace.graceful_shutdown.duration());
        let vm = self.vms.get_mut(&key).expect("it was there");
        vm.record.intent = None;
        let report = self.restless.entry(action.pool_id.clone()).or_default();
        if let Err(error) = result {
            vm.failures += 1;
            vm.last_error = format!("{error:#}");
            report.failed(action, vm.last_error.clone());
            let of_no_use = matches!(operation, Operation::Wake | Operation::Restore);
            let (state, message) = (if of_no_use { State::Stopped } else { from }, vm.last_error.clone());
            self.records.write(&vm.record)?;
            self.machines.tell(VmEvent::Failed { vm: name, operation: Some(operation), state, message });
            return if of_no_use { self.enter(&key, State::Stopped, None, begun) } else { Ok(()) };
        }
        vm.failures = 0;
        report.done(action);
        match operation {
            Operation::Drain => {
                vm.record.draining_since_ns = Some(begun);
                vm.idle = false;
                self.records.write(&vm.record)?;
                self.machines.tell(VmEvent::DrainStarted { vm: name });
                Ok(())
            }
            Operation::Undrain => {
                vm.record.draining_since_ns = None;
                self.records.write(&vm.record)?;
                self.machines.tell(VmEvent::DrainCancelled { vm: name });
                Ok(())
            }
            _ => {
                let to = operation.leads_to().expect("all but draining lead to a state");
                self.enter(&key, to, Some(operation), begun)
            }
        }
    }

    fn create(&mut self, key: &Key, action: &Action) -> Result<()> {
        let Some(identity) = self.identity(key) else { bail!("the scenario has no {}", action.name()) };
        let now = self.machines.now_ns();
        let record = Record {
            identity: identity.clone(),
            state: State::Created,
            since_ns: now,
            intent: None,
            draining_since_ns: None,
        };
        self.records.write(&record)?;
        self.restless.entry(action.pool_id.clone()).or_default().done(action);
        self.vms.insert(key.clone(), Vm { record, idle: false, failures: 0, last_error: String::new() });
        self.machines.tell(VmEvent::State {
            vm: identity.name,
            from: None,
            to: State::Created,
            operation: Some(Operation::Create),
            took_ns: 0,
        });
        Ok(())
    }

    /// It is in another state now.
    fn enter(&mut self, key: &Key, to: State, operation: Option<Operation>, begun: u64) -> Result<()> {
        let now = self.machines.now_ns();
        let vm = self.vms.get_mut(key).expect("what enters a state is there");
        let (from, name) = (vm.record.state, vm.record.identity.name.clone());
        fixture::pool::validate_transition(from, to)?;
        (vm.record.state, vm.record.since_ns, vm.record.draining_since_ns) = (to, now, None);
        vm.idle = false;
        if to == State::Destroyed {
            self.vms.remove(key);
            self.records.remove(&name)?;
        } else {
            self.records.write(&vm.record)?;
        }
        let took_ns = now - begun;
        self.machines.tell(VmEvent::State { vm: name, from: Some(from), to, operation, took_ns });
        Ok(())
    }

    fn identity(&self, (pool_id, index): &Key) -> Option<Identity> {
        let node = self.scenario.microvms().find(|node| key_of(node) == (pool_id.clone(), *index))?;
        Some(node.identity())
    }

    fn tell_deferred(&mut self, plan: &Plan) {
        let mut now = BTreeSet::new();
        for deferred in &plan.deferred {
            let what = ((deferred.pool_id.clone(), deferred.index), deferred.operation, deferred.reason);
            if !self.deferred.contains(&what) {
                self.machines.tell(VmEvent::Deferred(deferred.clone()));
                self.restless.entry(deferred.pool_id.clone()).or_default().deferred.push(deferred.clone());
            }
            now.insert(what);
        }
        self.deferred = now;
    }

    /// Tells of every pool that has come to rest just now.
    fn tell_rest(&mut self, plan: &Plan) {
        let open = |pool_id: &str| {
            plan.actions.iter().any(|action| action.pool_id == pool_id)
                || plan.deferred.iter().any(|d| d.pool_id == pool_id && !d.reason.lasts())
        };
        let rested: Vec<String> = self.restless.keys().filter(|pool_id| !open(pool_id)).cloned().collect();
        for pool_id in rested {
            let report = Box::new(self.restless.remove(&pool_id).unwrap_or_default());
            let is = |state: State| {
                let all = self.vms.iter().filter(|(key, vm)| key.0 == pool_id && vm.record.state == state);
                all.count() as u32
            };
            let counts =
                Counts { running: is(State::Running), warm: is(State::Warm), sleeping: is(State::Sleeping) };
            self.machines.tell(VmEvent::Settled { pool_id, counts, report });
        }
    }
}

/// A microVM of no pool as the pool of itself that is always there.
fn alone(node: &Node) -> Wanted {
    Wanted {
        pool_id: node.name.clone(),
        role: PoolRole::Gateway,
        counts: Counts { running: 1, warm: 0, sleeping: 0 },
        policy: Default::default(),
        pinned: false,
        critical: true,
    }
}

fn key_of(node: &Node) -> Key {
    match &node.instance {
        Some(instance) => (instance.pool_id.clone(), instance.index),
        None => (node.name.clone(), 0),
    }
}
