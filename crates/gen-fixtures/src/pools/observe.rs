//! What is true of the microVMs now: after a restart, and whenever the manager looks.

use std::time::Duration;

use anyhow::Result;
use fixture::contract::vm::VmEvent;
use fixture::pool::{Liveness, Observed, Operation, Record, State};

use super::{Key, Machines, Manager, Vm, key_of};

impl<M: Machines> Manager<'_, M> {
    /// Every microVM as the reconciler needs it.
    pub(super) fn observed(&self) -> Vec<Observed> {
        let observe = |((pool_id, index), vm): (&Key, &Vm)| Observed {
            pool_id: pool_id.clone(),
            index: *index,
            state: vm.record.state,
            since_ns: vm.record.since_ns,
            draining_since_ns: vm.record.draining_since_ns,
            idle: vm.idle,
            failures: vm.failures,
        };
        self.vms.iter().map(observe).collect()
    }

    /// Takes up the records of an earlier manager. One that is alive and in no middle of anything goes on; what
    /// else has a VMM is stopped; what the scenario does not have is removed.
    pub(super) fn rediscover(&mut self) -> Result<()> {
        for record in self.records.read_all()? {
            let node = self.scenario.microvms().find(|node| node.name == record.identity.name);
            let Some(node) = node else {
                self.machines.carry_out(&record.identity, Operation::Destroy, Duration::ZERO)?;
                self.records.remove(&record.identity.name)?;
                continue;
            };
            let key = key_of(node);
            let was = record.clone();
            self.vms.insert(key.clone(), Vm::from(record));
            if was.intent.is_some() && was.state != State::Created || was.state.has_vmm() {
                self.check(&key, was.intent.is_some())?;
            }
        }
        Ok(())
    }

    /// Looks after every microVM that has a VMM, and asks those that drain whether they have finished.
    pub(super) fn look(&mut self) -> Result<()> {
        let with_vmm = self.vms.iter().filter(|(_, vm)| vm.record.state.has_vmm());
        let keys: Vec<Key> = with_vmm.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.check(&key, false)?;
            let vm = self.vms.get_mut(&key).expect("it was there");
            if vm.record.draining_since_ns.is_some() {
                // One that cannot say is not idle; that it does not answer is found by its liveness.
                vm.idle = self.machines.is_idle(&vm.record.identity).unwrap_or(false);
            }
        }
        Ok(())
    }

    /// Stops what is not alive, or was left in the middle of something.
    fn check(&mut self, key: &Key, in_the_middle: bool) -> Result<()> {
        let vm = &self.vms[key];
        let (identity, state) = (vm.record.identity.clone(), vm.record.state);
        let message = match self.machines.liveness(&identity, state) {
            Liveness::Alive if !in_the_middle => return Ok(()),
            Liveness::Alive => "the manager ended in the middle of an operation",
            Liveness::Hung => "it does not answer",
            Liveness::Cut => "its TAP is gone",
            Liveness::Gone => "its VMM is gone",
        };
        let words = self.machines.last_words(&identity);
        let message = words.map_or(message.to_owned(), |words| format!("{message}: {words}"));
        let begun = self.machines.now_ns();
        self.machines.carry_out(&identity, Operation::Stop, Duration::ZERO)?;
        let left = if state.is_live() { State::Stopped } else { state };
        let failed = VmEvent::Failed { vm: identity.name, operation: None, state: left, message };
        self.machines.tell(failed);
        let vm = self.vms.get_mut(key).expect("it was there");
        vm.record.intent = None;
        if left == state { self.records.write(&vm.record) } else { self.enter(key, left, None, begun) }
    }
}

impl From<Record> for Vm {
    fn from(record: Record) -> Self {
        Self { record, idle: false, failures: 0, last_error: String::new() }
    }
}
