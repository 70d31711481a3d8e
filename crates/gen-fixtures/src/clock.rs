//! The guest's clocks, sleeping to a moment, and waiting for a condition.

use std::time::Duration;

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// CLOCK_MONOTONIC in nanoseconds: since the kernel started.
pub fn monotonic() -> u64 {
    now(ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_REALTIME in nanoseconds since 1970: what captures and gPTP samples are stamped with.
pub fn realtime() -> u64 {
    now(ClockId::CLOCK_REALTIME)
}

fn now(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).expect("Linux has this clock");
    Duration::from(now).as_nanos() as u64
}

/// Sleeps until CLOCK_MONOTONIC shows `at`: a sequence of such sleeps does not drift.
pub fn sleep_until(at: u64) {
    let at = Duration::from_nanos(at).into();
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &at)
        == Err(Errno::EINTR)
    {}
}

/// Sleeps for a span of guest time.
pub fn sleep(span: Duration) {
    sleep_until(monotonic() + span.as_nanos() as u64);
}

/// Asks `met` every so often until it gives a value; after `within` fails with what was waited for.
///
/// `met` says in its `Err` what is still missing; that is not a failure until the time is up.
pub fn wait_until<T>(
    within: Duration,
    every: Duration,
    mut met: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let deadline = monotonic() + within.as_nanos() as u64;
    loop {
        match met()? {
            Ok(value) => return Ok(value),
            Err(missing) if monotonic() >= deadline => bail!("{missing} (waited {within:?})"),
            Err(_) => sleep(every),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missing_last_is_what_the_error_says() {
        let mut asked = 0;
        let error = wait_until::<()>(Duration::from_millis(20), Duration::from_millis(1), || {
            asked += 1;
            Ok(Err(format!("no answer to question {asked}")))
        })
        .unwrap_err();
        assert!(asked > 1);
        assert!(error.to_string().starts_with(&format!("no answer to question {asked} (waited")), "{error}");
    }
}
