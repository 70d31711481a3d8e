//! What running nodes are told of the scenario's course, and what they have seen of it.

use anyhow::{Context, Result, bail};
use fixture::contract::RAW;
use fixture::scenario::Course;

use super::evidence;
use super::machines::Machinery;
use crate::agent::files::Taken;
use crate::agent::protocol::{Ask, Seen, Tell};
use crate::clock;
use crate::tools::SOON;
use crate::work;

impl Machinery<'_> {
    /// Tells every agent when scenario time 0 is and what happens then; those that come up or go on later are told
    /// then.
    pub fn traffic(&mut self, start_ns: u64, course: Course) -> Result<()> {
        self.traffic = Some((start_ns, course));
        let awake = self.live.iter().filter(|(_, live)| !live.paused);
        let names: Vec<String> = awake.map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.talk(name))
    }

    /// What the daemons of a running node have seen.
    pub fn seen(&mut self, name: &str) -> Result<Seen> {
        match self.live(name)?.link.ask(Ask::Observe, SOON).with_context(|| name.to_owned())? {
            Tell::Seen(seen) => Ok(seen),
            other => bail!("{name}: its agent answers {other:?} to what its daemons have seen"),
        }
    }

    /// Has every running node hand over what its tools said; gives their names. What a paused one has seen stays in
    /// it.
    pub fn results(&mut self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for (name, live) in self.live.iter_mut().filter(|(_, live)| !live.paused) {
            let evidence = work::set().join(RAW);
            let mut taken = Taken::into(&evidence);
            let last = live.link.ask_for(Ask::Results, SOON, |tell| match tell {
                Tell::File { path, bytes, first } => taken.take(&path, &bytes, first),
                _ => Ok(()),
            });
            last.with_context(|| format!("{name}: asking for what it has seen"))?;
            evidence::interfaces(name, &mut live.link).with_context(|| name.clone())?;
            names.push(name.clone());
        }
        Ok(names)
    }

    /// Has its agent send the streams of its node, as far as they are known and not past.
    pub(super) fn talk(&mut self, name: &str) -> Result<()> {
        let Some((start, course)) = self.traffic.clone() else { return Ok(()) };
        let scenario_ns = clock::monotonic() as i64 - start as i64;
        let talk = Ask::Talk { scenario_ns, course: Box::new(course) };
        self.live(name)?.link.command(talk, SOON).with_context(|| format!("{name}: its streams"))
    }
}
