//! The one node that a microVM is: its clock, interfaces, daemons and streams.

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use fixture::contract::RAW;
use fixture::scenario::Course;
use fixture::value::Offset;

use super::config::Config;
use super::interfaces;
use super::own_clock;
use super::protocol::{Data, Follows, Health, Hears, Ready, Seen, Talk, VERSION};
use super::serve::Work;
use crate::clock;
use crate::daemons::Daemons;
use crate::gptp::{Follower, POLL};
use crate::plan::Plan;
use crate::plan::perturb::Perturbation;
use crate::scene::{self, Scene};
use crate::talk::{Progress, Talkers};
use crate::tools::{Tool, Tools};
use crate::work;

/// The node.
#[derive(Debug)]
pub struct Node {
    config: Config,
    plan: Plan,
    tools: Arc<Tools>,
    scene: Arc<Scene>,
    ready: Ready,
    daemons: Option<Daemons>,
    followers: Watched,
    progress: Arc<Progress>,
    /// Why a thread has ended that should not have.
    broken: Arc<Mutex<Option<String>>>,
    wakes: u32,
}

/// The pmc sessions, which a thread asks for samples again and again.
type Watched = Arc<Mutex<Vec<Follower>>>;

impl Node {
    /// Builds what the scenario says of the node's ports. Its clock is not set and no daemon runs yet.
    pub fn build(
        config: Config,
        tools: Tools,
        kernel: String,
        data: Option<Data>,
        secrets: bool,
    ) -> Result<Self> {
        work::create()?;
        let plan = Plan::of_microvm(&config.scenario, config.node(), config.seed);
        let renames = interfaces::renames(config.node())?;
        scene::batch(&tools, Tool::Ip, "names", &renames)?;
        let scene = Scene::own(&plan.nodes[0], &tools)?;
        let node = config.node.clone();
        let ready = Ready { protocol: VERSION, node, kernel, mono_ns: clock::monotonic(), data, secrets };
        Ok(Self {
            config,
            plan,
            tools: Arc::new(tools),
            scene: Arc::new(scene),
            ready,
            daemons: None,
            followers: Watched::default(),
            progress: Arc::default(),
            broken: Arc::default(),
            wakes: 0,
        })
    }

    /// Does something in a thread of its own; how it fails is said in [`Health`].
    fn beside(&self, name: &str, act: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        let broken = self.broken.clone();
        let act = move || {
            if let Err(error) = act() {
                lock(&broken).get_or_insert(format!("{error:#}"));
            }
        };
        thread::Builder::new().name(name.into()).spawn(act).context("a thread")?;
        Ok(())
    }

    /// Lets the streams stand. Nothing of them is under way or held up then.
    fn stand(&mut self) {
        self.progress.stopped.store(true, SeqCst);
        let sent = self.progress.sent.load(SeqCst).into();
        self.progress = Arc::new(Progress { sent, ..Progress::default() });
    }

    fn daemons(&mut self) -> Result<&mut Daemons> {
        self.daemons.as_mut().context("the daemons are not started")
    }
}

impl Work for Node {
    fn ready(&self) -> Ready {
        Ready { mono_ns: clock::monotonic(), ..self.ready.clone() }
    }

    fn start(&mut self, guest_wall_ns: u64) -> Result<()> {
        ensure!(self.daemons.is_none(), "the daemons are started already");
        let clock = self.config.node().clock.unwrap_or_default();
        let drawn = self.plan.perturbation.microvm(&self.config.node).map_or(Offset(0), |drawn| drawn.clock);
        own_clock::set(clock, guest_wall_ns.saturating_add_signed(drawn.0))?;
        let daemons = self.daemons.insert(Daemons::start(&self.plan, &self.scene, &self.tools)?);
        *lock(&self.followers) = daemons.watch(&self.config.scenario, &self.tools)?;
        let followers = self.followers.clone();
        self.beside("samples", move || {
            let mut next = clock::monotonic();
            while !lock(&followers).is_empty() {
                lock(&followers).iter_mut().try_for_each(Follower::ask)?;
                next = (next + POLL.as_nanos() as u64).max(clock::monotonic());
                clock::sleep_until(next);
            }
            Ok(())
        })
    }

    fn talk(&mut self, scenario_ns: i64, course: Course) -> Result<()> {
        let start = clock::monotonic() as i64 - scenario_ns;
        let scenario = self.config.scenario.clone().with_course(course);
        let late = Perturbation::of(&scenario, self.config.seed).streams;
        self.stand();
        let (scene, progress) = (self.scene.clone(), self.progress.clone());
        self.beside("streams", move || {
            let talkers = Talkers::open(&scenario, &late, &scene)?;
            talkers.run(start, &progress).map(drop)
        })
    }

    fn drain(&mut self, drain: bool) {
        self.progress.draining.store(drain, SeqCst);
    }

    fn woken(&mut self) {
        self.wakes += 1;
        self.stand();
    }

    fn health(&mut self) -> Health {
        let ended = self.daemons.as_mut().and_then(|daemons| daemons.check().err());
        let broken = lock(&self.broken).clone();
        let Progress { draining, begun, waiting, sent, .. } = &*self.progress;
        let waiting = if draining.load(SeqCst) { 0 } else { waiting.load(SeqCst) };
        Health {
            mono_ns: clock::monotonic(),
            wall_ns: clock::realtime(),
            wakes: self.wakes,
            daemons: self.daemons.as_ref().map_or(0, Daemons::count) as u32,
            failed: ended.map(|error| format!("{error:#}")).or(broken),
            talk: Talk { begun: begun.load(SeqCst), waiting, sent: sent.load(SeqCst) },
        }
    }

    fn observe(&mut self) -> Result<Seen> {
        let tools = self.tools.clone();
        let followers = lock(&self.followers).iter().map(follows).collect::<Result<_>>()?;
        let heard = self.daemons()?.heard(&tools)?.into_iter().map(|neighbour| Hears {
            port: neighbour.interface,
            peer: neighbour.chassis.name,
            peer_port: neighbour.port.id.value,
        });
        Ok(Seen { followers, neighbours: heard.collect() })
    }

    fn results(&mut self) -> Result<PathBuf> {
        // The thread that asks for samples ends when there is nobody to ask.
        let followers = std::mem::take(&mut *lock(&self.followers));
        followers.into_iter().try_for_each(|mut follower| follower.finish())?;
        let tools = self.tools.clone();
        self.daemons()?.heard(&tools)?;
        Ok(work::set().join(RAW))
    }

    fn stop(&mut self) -> Result<()> {
        lock(&self.followers).clear();
        self.daemons = None;
        Ok(())
    }
}

fn follows(follower: &Follower) -> Result<Follows> {
    let measured = follower.measured()?;
    Ok(Follows {
        port: follower.port().clone(),
        grandmaster: measured.as_ref().map(|(grandmaster, _)| *grandmaster),
        samples: measured.map_or(0, |(_, samples)| samples.len()) as u32,
    })
}

/// A panic ends the microVM, so nobody sees what it left half done.
fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
