//! The run itself: streams are sent, synchronisation is sampled, until all that must be seen was captured.

use std::time::Duration;

use anyhow::{Context, Result};
use fixture::scenario::{Scenario, defaults};

use crate::capture::Capture;
use crate::clock;
use crate::daemons::Daemons;
use crate::events::Events;
use crate::gptp::{Follower, POLL};
use crate::microvm::MicroVms;
use crate::talk::{Progress, Talkers};

/// From the decision to talk until the first frame: the talker is then asleep in its first wait.
const HEAD_START: Duration = Duration::from_millis(20);

/// The same where microVMs talk: each of their agents must be told before.
const HEAD_START_OF_MICROVMS: Duration = Duration::from_secs(1);

/// How long dumpcap lets frames wait in the kernel's buffer: the read time-out it asks for.
const READ_TIMEOUT: Duration = Duration::from_millis(250);

const PANIC: &str = "a panic ends the guest by its hook, not here";

/// How long frames may stay in the captures' buffers and on the way.
const DRAIN: Duration = Duration::from_secs(10);

/// Sends every stream and watches for the scenario's duration, and longer if streams or samples need it.
/// Gives the number of frames sent.
pub fn run(
    scenario: &Scenario,
    talkers: &Talkers,
    daemons: &mut Daemons,
    mut microvms: Option<&mut MicroVms>,
    captures: &[Capture],
    events: &Events,
) -> Result<u64> {
    let head_start = if microvms.is_some() { HEAD_START_OF_MICROVMS } else { HEAD_START };
    let start = clock::monotonic() + head_start.as_nanos() as u64;
    if let Some(microvms) = &mut microvms {
        microvms.tell_course(start, scenario)?;
    }
    let sent = std::thread::scope(|scope| {
        let talking = scope.spawn(|| talkers.run(start as i64, &Progress::default()));
        let living = microvms.as_deref_mut().map(|microvms| scope.spawn(|| microvms.live(start, scenario)));
        sample_until(start + scenario.duration.0, daemons)?;
        living.map_or(Ok(()), |living| living.join().expect(PANIC))?;
        talking.join().expect(PANIC)
    })?;
    events.note(format!("{sent} frames sent"));
    wait_for_samples(scenario, &mut daemons.followers)?;
    if let Some(microvms) = microvms {
        microvms.wait_for_samples(least_samples(scenario))?;
    }
    drain(scenario, captures)?;
    clock::sleep(on_the_way(scenario));
    events.note("the captures hold what they must");
    daemons.check()?;
    Ok(sent)
}

fn sample_until(end: u64, daemons: &mut Daemons) -> Result<()> {
    let mut next = clock::monotonic();
    while next < end {
        clock::sleep_until(next);
        daemons.followers.iter_mut().try_for_each(Follower::ask)?;
        next += POLL.as_nanos() as u64;
    }
    clock::sleep_until(end);
    Ok(())
}

fn least_samples(scenario: &Scenario) -> u32 {
    scenario.expect.gptp.as_ref().map_or_else(defaults::min_samples, |gptp| gptp.min_samples)
}

fn wait_for_samples(scenario: &Scenario, followers: &mut [Follower]) -> Result<()> {
    let least = least_samples(scenario) as usize;
    clock::wait_until(scenario.convergence_timeout.duration(), POLL, || {
        let mut missing = Vec::new();
        for follower in followers.iter_mut() {
            let have = follower.measured()?.map_or(0, |(_, samples)| samples.len());
            if have < least {
                missing.push(format!("{} has {have} of {least} samples", follower.port()));
                follower.ask()?;
            }
        }
        Ok(if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) })
    })
}

/// Waits until each capture holds the frames it must. What never arrives is told by name.
fn drain(scenario: &Scenario, captures: &[Capture]) -> Result<()> {
    for capture in captures {
        let expected = expected_at(scenario, capture.port());
        clock::wait_until(DRAIN, Duration::from_millis(50), || {
            let frames = capture.frames_of_streams()?;
            let short = expected.iter().filter_map(|(stream, name, least)| {
                let have = frames.get(stream).copied().unwrap_or_default();
                (have < *least).then(|| format!("{have} of {least} frames of {name}"))
            });
            let short: Vec<_> = short.collect();
            let missing = || format!("captured at {} only {}", capture.port(), short.join(", "));
            Ok(if short.is_empty() { Ok(()) } else { Err(missing()) })
        })
        .context("waiting for the last frames")?;
    }
    Ok(())
}

/// How long frames may still be on the way that nothing waits for by number, since links lose some of them: all
/// delays, and twice the read time-out of dumpcap. Without such links nothing.
fn on_the_way(scenario: &Scenario) -> Duration {
    let netems = || scenario.links.iter().filter_map(|link| link.netem.as_ref());
    if netems().all(|netem| netem.loss_permille == 0) {
        return Duration::ZERO;
    }
    let delays = netems().map(|netem| netem.delay.duration() + netem.jitter.duration());
    delays.sum::<Duration>() + 2 * READ_TIMEOUT
}

/// The fewest frames of each stream that this capture point must see: index, name, number. The scenario's
/// `expect` goes before what follows from the stream's way.
fn expected_at<'a>(scenario: &'a Scenario, port: &str) -> Vec<(u32, &'a str, u32)> {
    let all = scenario.streams.iter().enumerate().filter_map(|(index, stream)| {
        let said = scenario.expect.streams.iter().find(|e| e.stream == stream.name && e.at.as_str() == port);
        let passes = || scenario.seen_at(stream).iter().any(|at| at.as_str() == port);
        let least = said.map(|e| e.min_frames).or_else(|| passes().then_some(stream.count))?;
        Some((index as u32, stream.name.as_str(), least))
    });
    all.collect()
}
