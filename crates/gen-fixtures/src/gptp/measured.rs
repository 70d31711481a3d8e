//! Which of pmc's answers are measurements: those since the node follows its present grandmaster, and of these
//! only what ptp4l has computed.

use fixture::gptp::pmc::{self, Clock, PmcError, Response};
use fixture::gptp::{ClockIdentity, Sample};

/// The grandmaster that the last answer names, and the measurements against it; nothing if the node follows
/// none.
///
/// When a port begins to follow, ptp4l forgets the path delay until the next Pdelay exchange, and in the
/// meantime reports when a Sync arrived with an offset that it has not set: zero. On an even clock zero is a
/// result as well, so zeros at the beginning count only after two Pdelay intervals (`pdelay_ns` each).
///
/// A clock that is `steered` is set in between; its samples are stamped with the time of the grandmaster.
pub fn measured(
    answers: &[Response],
    pdelay_ns: u64,
    steered: bool,
) -> Result<Option<(ClockIdentity, Vec<Sample>)>, PmcError> {
    let mut since_change = Vec::new();
    let mut grandmaster = None;
    for answer in answers.iter().filter(|answer| answer.data_set == "TIME_STATUS_NP") {
        let status = answer.time_status()?;
        let follows = status.gm_present.then_some(status.gm_identity);
        if follows != grandmaster {
            since_change.clear();
            grandmaster = follows;
        }
        since_change.push(answer.clone());
    }
    let Some(grandmaster) = grandmaster else { return Ok(None) };
    let clock = if steered { Clock::Master } else { Clock::Slave };
    let mut samples = pmc::samples(&since_change, clock)?;
    let known = samples.first().map_or(0, |first| first.timestamp_ns + 2 * pdelay_ns);
    let unset = |sample: &&Sample| sample.sync_error_ns == 0 && sample.timestamp_ns < known;
    let unset = samples.iter().take_while(unset).count();
    samples.drain(..unset);
    Ok(Some((grandmaster, samples)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// What pmc prints for (tenths of a second, offset, whether a grandmaster is there, its last octet).
    fn measure(rows: &[(u64, i64, bool, u8)]) -> Option<(u8, Vec<u64>)> {
        let text: String = (rows.iter().enumerate())
            .map(|(seq, (tenths, offset, present, last))| {
                format!(
                    "\t020000.fffe.000301-0 seq {seq} RESPONSE MANAGEMENT TIME_STATUS_NP \n\
                     \t\tmaster_offset {offset}\n\t\tingress_time {}\n\t\tgmPresent {present}\n\
                     \t\tgmIdentity 020000.fffe.0001{last:02x}\n",
                    10 * SECOND + tenths * SECOND / 10
                )
            })
            .collect();
        let measured = measured(&pmc::read(&text).unwrap(), SECOND, false).unwrap();
        measured.map(|(id, samples)| (id.0[7], samples.iter().map(|sample| sample.sync_error_ns).collect()))
    }

    #[test]
    fn zeros_before_the_path_delay_is_known_are_no_measurements() {
        assert_eq!(
            measure(&[(0, 0, true, 1), (1, 0, true, 1), (2, -40, true, 1), (3, 0, true, 1)]),
            Some((1, vec![40, 0]))
        );
    }

    #[test]
    fn an_even_clock_measures_zero() {
        let rows: Vec<_> = (0..25).map(|tenths| (tenths, 0, true, 1)).collect();
        assert_eq!(measure(&rows), Some((1, vec![0; 5])));
    }

    #[test]
    fn only_the_present_grandmaster_counts() {
        assert_eq!(measure(&[(0, 7, true, 2), (1, 8, true, 2), (2, 9, true, 1)]), Some((1, vec![9])));
        assert_eq!(measure(&[(0, 7, true, 2), (1, 8, false, 3)]), None);
        assert_eq!(measure(&[]), None);
    }
}
