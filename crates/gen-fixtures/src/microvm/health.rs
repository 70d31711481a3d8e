//! Whether microVMs are alive, how those ended that are not, and that nothing is left of them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixture::pool::{Identity, Liveness, Probe, State, liveness};

use super::link::Link;
use super::machines::Machinery;
use super::{leaks, leftover, tap};
use crate::agent::breakage::Breakage;
use crate::agent::protocol::{Ask, Tell};
use crate::clock;

/// How long an agent may take to say how it is.
pub const HEALTH: Duration = Duration::from_secs(5);

/// How long an agent may take until it has begun to break.
const BROKEN: Duration = Duration::from_secs(1);

/// How long the end of a microVM that breaks may take.
const ENDED: Duration = Duration::from_secs(300);

impl Machinery<'_> {
    /// Whether one is alive. Why it is not is kept for [`crate::pools::Machines::last_words`].
    pub(super) fn look_after(&mut self, vm: &Identity, state: State) -> Liveness {
        let paths = self.paths(vm);
        let vmm_answers = self.backend.answers(&paths);
        let linked = self.is_linked(vm);
        let Some(live) = self.live.get_mut(&vm.name) else {
            let runtime = leftover::runtime(&paths);
            let start_ticks = runtime.as_ref().and_then(|runtime| leftover::start_ticks(runtime.pid));
            if start_ticks.is_some() {
                let words = "the line to its agent ended with the manager that had started it";
                self.words.insert(vm.name.clone(), words.into());
            }
            let probe = Probe { start_ticks, vmm_answers, agent_answers: Some(false), linked };
            return liveness(runtime.as_ref(), &probe);
        };
        let ended = leftover::last_words(&mut live.vmm, &paths);
        let start_ticks = leftover::start_ticks(live.runtime.pid).filter(|_| ended.is_none());
        let asked = (state == State::Running && ended.is_none()).then(|| health(&mut live.link));
        let unwell = asked.as_ref().and_then(|asked| asked.as_ref().err().map(|error| format!("{error:#}")));
        let silent = (!vmm_answers).then(|| "nor does its VMM".to_owned());
        let probe =
            Probe { start_ticks, vmm_answers, agent_answers: asked.map(|asked| asked.is_ok()), linked };
        match ended.or(silent).or(unwell) {
            Some(words) => _ = self.words.insert(vm.name.clone(), words),
            None => _ = self.words.remove(&vm.name),
        }
        liveness(Some(&live.runtime), &probe)
    }

    fn is_linked(&self, vm: &Identity) -> bool {
        self.far_ends(vm).is_ok_and(|ends| ends.iter().all(|(node, port)| tap::is_there(node, port)))
    }

    /// What is left of microVMs that have no VMM, in words.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let mut left = leaks::own_taps()?;
        for node in self.scenario.microvms().filter(|node| !self.live.contains_key(&node.name)) {
            let vm = node.identity();
            left.extend(leaks::of(&vm, &self.paths(&vm), &self.far_ends(&vm)?)?);
        }
        Ok(left)
    }

    /// Fails if anything is left of any microVM, now that all are destroyed.
    pub fn assert_nothing_left(&self) -> Result<()> {
        let mut left = self.leaks()?;
        for entry in fs::read_dir(Self::folder()).context("listing what is left of microVMs")? {
            left.push(format!("the folder {}", entry.context("listing what is left")?.path().display()));
        }
        ensure!(left.is_empty(), "left of microVMs that are gone: {}", left.join("; "));
        self.events.note("nothing is left of the microVMs: no process, socket, TAP or file");
        Ok(())
    }

    /// Tells what each VMM takes of the guest's memory.
    pub fn tell_memory(&self) {
        for (name, live) in &self.live {
            if let Some(kib) = proportional_kib(live.runtime.pid) {
                self.events.note(format!("{name}: its VMM holds {kib} KiB"));
            }
        }
    }

    /// Forgets all that is true of microVMs, as a manager does that is killed: their VMMs go on.
    pub fn forget(&mut self) {
        std::mem::take(&mut self.live).into_values().for_each(|live| std::mem::forget(live.vmm));
    }

    /// Breaks one on purpose; one whose kernel is to end has ended then.
    pub fn break_agent(&mut self, vm: &Identity, how: Breakage) -> Result<()> {
        let live = self.live(&vm.name)?;
        // It does not say that it is broken.
        let _ = live.link.ask(Ask::Break { how }, BROKEN);
        if how == Breakage::Hang {
            return Ok(());
        }
        clock::wait_until(ENDED, Duration::from_millis(50), || {
            Ok(live.vmm.check().err().map(drop).ok_or_else(|| format!("{} goes on", vm.name)))
        })
    }
}

/// Whether an agent answers, and nothing of its node has ended.
fn health(link: &mut Link) -> Result<()> {
    match link.ask(Ask::Health, HEALTH)? {
        Tell::Health(health) => health.failed.map_or(Ok(()), |failed| Err(anyhow::Error::msg(failed))),
        other => anyhow::bail!("its agent answers {other:?} to how it is"),
    }
}

/// What a process takes of memory, shared pages in part (proc_pid_smaps(5)).
fn proportional_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_whitespace().next()?.parse().ok()
}
