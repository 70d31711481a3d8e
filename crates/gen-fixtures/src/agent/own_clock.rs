//! A microVM's own CLOCK_REALTIME: set as far from the guest's, and as fast, as the scenario says.

use anyhow::{Context, Result};
use fixture::scenario::NodeClock;
use nix::errno::Errno;
use nix::time::{ClockId, clock_settime};
use std::time::Duration;

/// Sets time and rate. The rate is an error of the clock that ptp4l, which reads it when it starts, has to find out
/// and to steer against; of a clock that nobody steers it stays.
pub fn set(clock: NodeClock, guest_wall_ns: u64) -> Result<()> {
    let time = Duration::from_nanos(guest_wall_ns.saturating_add_signed(clock.offset.0));
    clock_settime(ClockId::CLOCK_REALTIME, time.into()).context("clock_settime(2)")?;
    set_rate(clock.drift_ppm).context("adjtimex(2)")
}

/// The unit of `timex.freq`: a millionth, with a fraction of 16 bits (adjtimex(2)).
fn scaled(drift_ppm: i32) -> i64 {
    i64::from(drift_ppm) << 16
}

fn set_rate(drift_ppm: i32) -> nix::Result<()> {
    #[expect(
        unsafe_code,
        reason = "nix has no adjtimex(2), which reads one timex: integers only, zero is valid"
    )]
    let result = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        timex.modes = libc::ADJ_FREQUENCY;
        timex.freq = scaled(drift_ppm);
        libc::adjtimex(&raw mut timex)
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_sixteen_bits_of_fraction() {
        assert_eq!(scaled(500), 32_768_000);
        assert_eq!(scaled(-1), -65_536);
    }
}
