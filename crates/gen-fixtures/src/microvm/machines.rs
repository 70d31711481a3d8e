//! The machinery behind the manager of pools: each operation on a microVM, done with drives, TAPs, a VMM and an agent.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fixture::contract::event::What;
use fixture::contract::vm::{CreateStep, VmEvent};
use fixture::pool::{Identity, Liveness, Operation, Paths, Runtime, SnapshotCompression, State};
use fixture::scenario::{Course, Pool, Scenario};

use super::backend::{Accelerator, Backend, Boot, Spec, console};
use super::choice::{Found, linked_apart};
use super::health::HEALTH;
use super::image::Image;
use super::injection::Exits;
use super::link::Link;
use super::tap::Tap;
use super::{accel, drives, initramfs, leftover, snapshot};
use crate::agent::config::Config;
use crate::agent::protocol::{Ask, Tell};
use crate::child::Daemon;
use crate::clock;
use crate::events::Events;
use crate::netns::Namespace;
use crate::plan::WORK;
use crate::pools::Machines;
use crate::scene::Scene;
use crate::tools::SOON;
use crate::work;

/// How long a microVM may take until its agent answers: minutes where a translator runs in a translator.
const READY: Duration = Duration::from_secs(300);

/// What the VMM of a microVM that has gone silent may take to end by itself.
const MOMENT: Duration = Duration::from_millis(100);

/// What the kernel of a microVM is told besides what its back end has to say. Calibrating against timers that it has
/// not would cost it more than all else; it ends by a restart, since without a power button nothing else ends a VMM.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable lpj=4000000 \
    cryptomgr.notests random.trust_cpu=on init_on_alloc=0 rodata=off nokaslr \
    initcall_blacklist=jent_mod_init,btf_vmlinux_init,load_system_certificate_list,bpf_tcp_ca_kfunc_init,\
init_msg_buckets,init_user_buckets,trace_eval_init,init_kprobe_trace,ftrace_check_for_weak_functions,\
cmos_init,i8042_init";

/// What is currently true of a microVM with a VMM.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) vmm: Daemon,
    pub(super) link: Link,
    pub(super) runtime: Runtime,
    /// Whether its processor stands still, so that its agent cannot answer.
    pub(super) paused: bool,
}

/// Everything that microVMs are made with.
#[derive(Debug)]
pub struct Machinery<'a> {
    pub(super) scenario: &'a Scenario,
    scene: &'a Scene,
    seed: u64,
    pub(super) events: Events,
    pub(super) backend: Box<dyn Backend>,
    accelerator: Accelerator,
    _exits: Option<Exits>,
    boot: Boot,
    pub(super) live: BTreeMap<String, Live>,
    /// Why those that are not alive are not, until that is told.
    pub(super) words: BTreeMap<String, String>,
    /// When scenario time 0 is, and what happens then, once it is known.
    pub(super) traffic: Option<(u64, Course)>,
}

impl<'a> Machinery<'a> {
    /// The folder of all microVMs.
    pub fn folder() -> PathBuf {
        Path::new(WORK).join("microvm")
    }

    /// Tries the accelerator and makes what all microVMs boot from. `root` is the guest's own root: device and file
    /// system.
    pub fn new(
        scenario: &'a Scenario,
        seed: u64,
        scene: &'a Scene,
        root: Option<&(String, String)>,
        events: &Events,
    ) -> Result<Self> {
        let image = Image::of_guest(root)?;
        let (kvm, exits) = match accel::try_kvm(&image.kvm_modules)? {
            Ok(exits) => (Ok(()), exits),
            Err(error) => (Err(format!("{error:#}")), None),
        };
        let choice = Found::look().choose(kvm, linked_apart(scenario))?;
        events.note(choice.to_string());
        let (backend, accelerator) = choice.into_backend();
        let folder = Self::folder();
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let initramfs = work::scratch("microvm.initramfs");
        initramfs::write(Path::new("/proc/self/exe"), &image.node_modules, &initramfs)?;
        let boot = Boot {
            cmdline: format!("{CMDLINE} {}{}", backend.words(), image.words()),
            kernel: image.kernel,
            initramfs,
            root: image.root,
        };
        let (live, words, traffic) = Default::default();
        let events = events.clone();
        let _exits = exits;
        Ok(Self { scenario, scene, seed, events, backend, accelerator, _exits, boot, live, words, traffic })
    }

    /// Where its files are.
    pub fn paths(&self, vm: &Identity) -> Paths {
        Paths::new(&Self::folder(), &vm.name)
    }

    pub(super) fn live(&mut self, name: &str) -> Result<&mut Live> {
        self.live.get_mut(name).with_context(|| format!("{name} has no VMM"))
    }

    /// Its VMM.
    pub fn vmm(&mut self, vm: &Identity) -> Result<&mut Daemon> {
        self.live(&vm.name).map(|live| &mut live.vmm)
    }

    fn prepare(&self, vm: &Identity) -> Result<()> {
        let paths = self.paths(vm);
        let config = Config { seed: self.seed, node: vm.name.clone(), scenario: self.scenario.clone() };
        drives::config(&config, &paths)?;
        drives::data(&work::scratch("microvm.seeds"), self.seed_of(vm), vm.resources.data_disk_mib, &paths)
    }

    fn pool(&self, vm: &Identity) -> Option<&'a Pool> {
        self.scenario.pool(&vm.instance.as_ref()?.0)
    }

    /// What its data is cloned from.
    fn seed_of<'v>(&self, vm: &'v Identity) -> &'v str
    where
        'a: 'v,
    {
        self.pool(vm).map_or(vm.name.as_str(), |pool| pool.seed())
    }

    /// From nothing to an agent that answers, told step by step.
    fn start(&mut self, vm: &Identity) -> Result<()> {
        let (name, begun) = (vm.name.clone(), clock::monotonic());
        let backend = self.backend.name().to_owned();
        let accelerator = self.accelerator.name().to_owned();
        self.tell(VmEvent::CreateStarted { vm: name.clone(), backend, accelerator });
        let mut step = CreateStep::Drives;
        let started = self.start_by_steps(vm, &mut step);
        match &started {
            Ok(()) => {
                let took_ns = clock::monotonic() - begun;
                self.tell(VmEvent::CreateCompleted { vm: name, took_ns });
            }
            Err(error) => {
                self.end(vm)?;
                self.tell(VmEvent::CreateFailed { vm: name, step, message: format!("{error:#}") });
            }
        }
        started
    }

    fn start_by_steps(&mut self, vm: &Identity, step: &mut CreateStep) -> Result<()> {
        let (name, paths) = (vm.name.clone(), self.paths(vm));
        drives::secrets(&paths)?;
        *step = CreateStep::Tap;
        let begun = clock::monotonic();
        let (taps, ports) = self.taps(vm)?;
        let attached = clock::monotonic();
        self.tell(VmEvent::TapCreated { vm: name.clone(), took_ns: attached - begun });
        *step = CreateStep::Vmm;
        let vmm = self.backend.start(self.spec(vm, &paths, taps))?;
        let runs = clock::monotonic();
        self.tell(VmEvent::VmmStarted { vm: name.clone(), took_ns: runs - attached });
        *step = CreateStep::Agent;
        self.take_up(vm, &paths, vmm, ports, false)?;
        let Live { vmm, link, .. } = self.live(&name)?;
        let ready = link.wait_until_ready(&name, READY, || {
            leftover::last_words(vmm, &paths).map_or(Ok(()), |words| bail!("its VMM is gone: {words}"))
        })?;
        let took_ns = clock::monotonic() - runs;
        self.tell(VmEvent::AgentReady { vm: name.clone(), took_ns });
        ensure!(ready.secrets, "its agent was given no secrets");
        if let Some(data) = ready.data {
            ensure!(data.seed == self.seed_of(vm), "its data is of the seed {}", data.seed);
            self.events.note(format!("{name}: its data is a clone of the seed {}", data.seed));
        }
        let wall_ns = clock::realtime();
        self.live(&name)?.link.command(Ask::Start { wall_ns }, SOON)?;
        self.talk(&name)
    }

    fn restore(&mut self, vm: &Identity) -> Result<()> {
        let paths = self.paths(vm);
        snapshot::unpack(&paths).context("unpacking what it was saved to")?;
        // Those that it was given went with its VMM; it has read them, but its new VMM wants the drive.
        drives::secrets(&paths)?;
        let (taps, ports) = self.taps(vm)?;
        let vmm = self.backend.restore(self.spec(vm, &paths, taps))?;
        self.take_up(vm, &paths, vmm, ports, true)?;
        snapshot::remove(&paths)
    }

    fn pause(&mut self, vm: &Identity) -> Result<()> {
        self.backend.pause(&self.paths(vm))?;
        self.live(&vm.name)?.paused = true;
        Ok(())
    }

    /// Lets it go on, and waits until its agent knows; what time it is in the scenario, its own clock does not.
    fn go_on(&mut self, vm: &Identity) -> Result<()> {
        self.backend.resume(&self.paths(vm))?;
        let live = self.live(&vm.name)?;
        live.paused = false;
        live.link.command(Ask::Woken, SOON)?;
        self.talk(&vm.name)
    }

    fn sleep(&mut self, vm: &Identity) -> Result<()> {
        let paths = self.paths(vm);
        self.backend.save(&paths)?;
        self.end(vm)?;
        let how = self.pool(vm).map_or(SnapshotCompression::None, |pool| pool.snapshot_compression);
        if let Err(error) = snapshot::pack(&paths, how) {
            self.events.note(format!("{}: what it was saved to is not packed: {error:#}", vm.name));
        }
        let file = snapshot::file(&paths);
        let size = fs::metadata(&file).with_context(|| format!("looking at {}", file.display()))?.len();
        self.events.note(format!("{}: asleep in {} KiB, compression {}", vm.name, size >> 10, how.name()));
        Ok(())
    }

    /// Asks it to shut down, and ends its VMM when it has or its time is up.
    fn stop(&mut self, vm: &Identity, grace: Duration) -> Result<()> {
        let paths = self.paths(vm);
        if let Some(live) = self.live.get_mut(&vm.name).filter(|_| !grace.is_zero()) {
            // A paused one must go on to shut down.
            let asked = self.backend.resume(&paths).and_then(|()| live.link.command(Ask::Shutdown, grace));
            // A VMM that ends may take the answer with it.
            let ended = match asked {
                Ok(()) => live.vmm.end(grace).map(drop),
                Err(error) => live.vmm.end(MOMENT).map(drop).map_err(|_| error),
            };
            if let Err(error) = ended {
                self.events.note(format!("{}: ended, since it does not shut down: {error:#}", vm.name));
            }
        }
        self.end(vm)?;
        snapshot::remove(&paths)
    }

    /// Ends its VMM, whatever it is doing and whoever started it, and removes what is true of it no more.
    fn end(&mut self, vm: &Identity) -> Result<()> {
        let paths = self.paths(vm);
        if self.live.remove(&vm.name).is_none() {
            leftover::end(&paths)?;
        }
        for (log, kind) in [(&console(&paths), "console"), (&paths.log, "vmm")] {
            // Evidence; one that was never started has none.
            let _ = work::raw(&format!("microvm/{}.{kind}.log", vm.name)).map(|to| fs::copy(log, to));
        }
        for file in [&paths.runtime, &paths.control, &paths.agent, &paths.secrets] {
            let _ = fs::remove_file(file);
        }
        Ok(())
    }

    fn spec<'s>(&'s self, vm: &'s Identity, paths: &'s Paths, taps: Vec<Tap<'s>>) -> Spec<'s> {
        Spec { identity: vm, paths, boot: &self.boot, taps }
    }

    /// The other end of each of its links: the node, and its TAP.
    pub fn far_ends(&self, vm: &Identity) -> Result<Vec<(&'a Namespace, &'a str)>> {
        let node = self.scenario.nodes.iter().find(|node| node.name == vm.name);
        let node = node.with_context(|| format!("the scenario has no {}", vm.name))?;
        let far = |port: &'a fixture::scenario::Port| {
            let far = self.scenario.peer(&port.name).context("a port without a link")?;
            let (at, far) = self.scenario.port(far).context("a link to nowhere")?;
            Ok((self.scene.node(&at.name), far.name.as_str()))
        };
        node.ports.iter().map(far).collect()
    }

    /// The TAP at the other end of each of its links, ready for a VMM, and the names of all.
    fn taps(&self, vm: &Identity) -> Result<(Vec<Tap<'a>>, Vec<String>)> {
        let ends = self.far_ends(vm)?.into_iter();
        let taps = ends.map(|(node, port)| self.backend.tap(node, port)).collect::<Result<Vec<_>>>()?;
        let names = taps.iter().map(|tap| tap.port.to_owned()).collect();
        Ok((taps, names))
    }

    /// Writes down what is true of it now, and opens the line to its agent.
    fn take_up(
        &mut self,
        vm: &Identity,
        paths: &Paths,
        vmm: Daemon,
        taps: Vec<String>,
        paused: bool,
    ) -> Result<()> {
        let pid = vmm.pid();
        let start_ticks = leftover::start_ticks(pid).context("its VMM has ended already")?;
        let runtime = Runtime { pid, start_ticks, taps };
        let text = serde_json::to_vec(&runtime).context("writing what is true of it")?;
        fs::write(&paths.runtime, text).with_context(|| format!("writing {}", paths.runtime.display()))?;
        let link = Link::connect(self.backend.line(paths))?;
        self.live.insert(vm.name.clone(), Live { vmm, link, runtime, paused });
        Ok(())
    }
}

impl Machines for Machinery<'_> {
    fn now_ns(&self) -> u64 {
        clock::monotonic()
    }

    fn sleep_until(&mut self, at_ns: u64) {
        clock::sleep_until(at_ns);
    }

    fn carry_out(&mut self, vm: &Identity, operation: Operation, grace: Duration) -> Result<()> {
        match operation {
            Operation::Create => Ok(()),
            Operation::Prepare => self.prepare(vm),
            Operation::Start => self.start(vm),
            Operation::Pause => self.pause(vm),
            Operation::Resume => self.go_on(vm),
            Operation::Restore => self.restore(vm).inspect_err(|_| self.end_of_no_use(vm)),
            Operation::Wake => {
                let woken = self.restore(vm).and_then(|()| self.go_on(vm));
                woken.inspect_err(|_| self.end_of_no_use(vm))
            }
            Operation::Drain => self.live(&vm.name)?.link.command(Ask::Drain, SOON),
            Operation::Undrain => self.live(&vm.name)?.link.command(Ask::Undrain, SOON),
            Operation::Sleep => self.sleep(vm),
            Operation::Stop => self.stop(vm, grace),
            Operation::Destroy => {
                self.end(vm)?;
                snapshot::remove(&self.paths(vm))
            }
        }
    }

    fn is_idle(&mut self, vm: &Identity) -> Result<bool> {
        match self.live(&vm.name)?.link.ask(Ask::Health, HEALTH)? {
            Tell::Health(health) => Ok(health.talk.is_idle()),
            other => bail!("{}: its agent answers {other:?} to how it is", vm.name),
        }
    }

    fn liveness(&mut self, vm: &Identity, state: State) -> Liveness {
        self.look_after(vm, state)
    }

    fn last_words(&mut self, vm: &Identity) -> Option<String> {
        self.words.remove(&vm.name)
    }

    fn tell(&mut self, event: VmEvent) {
        self.events.send(What::Vm(event));
    }
}

impl Machinery<'_> {
    fn end_of_no_use(&mut self, vm: &Identity) {
        let _ = self.end(vm);
        let _ = snapshot::remove(&self.paths(vm));
    }
}
