//! The Firecracker back end: a process for each microVM, which is told over its API socket what to be.

mod api;
#[cfg(test)]
mod real;
mod requests;
#[cfg(test)]
mod tests;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixture::pool::Paths;

use self::api::{Api, Request};
use super::backend::{Backend, Spec, console};
use super::line::Line;
use super::snapshot;
use super::tap::{self, Tap};
use crate::child::Daemon;
use crate::clock;
use crate::netns::Namespace;

/// How long Firecracker may take until its API answers.
const STARTED: Duration = Duration::from_secs(60);

/// Versions whose vsock, when a microVM goes on, waits for the guest to answer a reset, which only a snapshot sends
/// (pull request 6100 of Firecracker): without one between pause and going on, no agent would be heard of again.
const DEAF: [&str; 2] = ["1.16.0", "1.16.1"];

/// Firecracker. It has no translator: KVM runs its guests.
#[derive(Debug)]
pub struct Firecracker {
    /// The program.
    pub program: String,
}

impl Backend for Firecracker {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn words(&self) -> String {
        // To the VMM a reset by the keyboard controller is an end, a triple fault a failure.
        format!("reboot=k pci=off fixture.agent=vsock:{}", requests::AGENT_PORT)
    }

    fn line(&self, paths: &Paths) -> Line {
        Line { socket: paths.agent.clone(), port: Some(requests::AGENT_PORT) }
    }

    fn tap<'a>(&self, node: &'a Namespace, port: &'a str) -> Result<Tap<'a>> {
        tap::find(node, port)
    }

    fn start(&self, spec: Spec<'_>) -> Result<Daemon> {
        let (daemon, mut api) = self.run(&spec)?;
        let taps: Vec<&str> = spec.taps.iter().map(|tap| tap.port).collect();
        for request in requests::create(&spec, &taps) {
            api.ask(&request)?;
        }
        Ok(daemon)
    }

    fn pause(&self, paths: &Paths) -> Result<()> {
        let mut api = connect(paths)?;
        let is = api.ask(&Request::get("/"))?;
        api.ask(&requests::state("Paused"))?;
        if DEAF.iter().any(|version| is["vmm_version"] == *version) {
            let discarded = Paths { snapshot: paths.folder.join("discarded"), ..paths.clone() };
            api.ask(&requests::save(&discarded))?;
            snapshot::remove(&discarded)?;
        }
        Ok(())
    }

    fn resume(&self, paths: &Paths) -> Result<()> {
        let mut api = connect(paths)?;
        // One that runs is not told to go on: to the versions above that is the same as after a pause.
        if api.ask(&Request::get("/"))?["state"] == "Paused" {
            api.ask(&requests::state("Resumed"))?;
        }
        Ok(())
    }

    fn save(&self, paths: &Paths) -> Result<()> {
        connect(paths)?.ask(&requests::save(paths))?;
        Ok(())
    }

    fn restore(&self, spec: Spec<'_>) -> Result<Daemon> {
        let (daemon, mut api) = self.run(&spec)?;
        api.ask(&requests::load(spec.paths))?;
        Ok(daemon)
    }

    fn answers(&self, paths: &Paths) -> bool {
        connect(paths).is_ok_and(|mut api| api.ask(&Request::get("/")).is_ok())
    }
}

fn connect(paths: &Paths) -> Result<Api> {
    Api::connect(&paths.control).with_context(|| format!("connecting to {}", paths.control.display()))
}

impl Firecracker {
    /// Starts a process that knows of no microVM yet, in the namespaces where its TAPs are: it opens them by name.
    fn run(&self, spec: &Spec<'_>) -> Result<(Daemon, Api)> {
        let paths = spec.paths;
        for socket in [&paths.control, &paths.agent] {
            // A VMM that was killed has left its own behind, and no other may be bound over it.
            let _ = fs::remove_file(socket);
        }
        let [program, control, log] =
            [self.program.clone(), paths.control.display().to_string(), paths.log.display().to_string()];
        let argv = [program, "--api-sock".into(), control, "--log-path".into(), log]
            .into_iter()
            .chain(["--level".into(), "Warning".into()]);
        let argv: Vec<String> = argv.collect();
        // The first serial port is its standard output.
        let start = || Daemon::start_writing(&argv, &console(paths), &paths.log);
        let mut daemon = match spec.taps.split_first() {
            None => start()?,
            Some((first, rest)) => {
                let apart = rest.iter().find(|tap| tap.node.name() != first.node.name());
                ensure!(
                    apart.is_none(),
                    "Firecracker opens its TAPs in one namespace, and {} is linked to more than one node",
                    spec.identity.name
                );
                first.node.enter(start)?
            }
        };
        let api = clock::wait_until(STARTED, Duration::from_millis(5), || {
            daemon.check()?;
            Ok(Api::connect(&paths.control).map_err(|error| format!("Firecracker's API socket: {error}")))
        })?;
        Ok((daemon, api))
    }
}
