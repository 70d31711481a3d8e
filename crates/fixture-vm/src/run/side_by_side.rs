//! Jobs side by side, as many at once as asked for; their results are taken one by one as they come.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Does the jobs 0 to `jobs`, at most `at_once` at a time. `take` gets each result on the calling thread; when
/// it breaks, no more jobs are begun, and the results of those under way are dropped.
///
/// A job stays on one thread from its begin to its end, as the kernel asks of who starts children that are to
/// die with their parent (PR_SET_PDEATHSIG(2const)).
pub fn side_by_side<T: Send>(
    jobs: usize,
    at_once: usize,
    job: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> ControlFlow<()>,
) {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (results, taken) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, jobs.max(1)) {
            let results = results.clone();
            scope.spawn(|| {
                let results = results;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Nobody takes results any more after a break.
                    results.send((number, job(number))).ok();
                }
            });
        }
        drop(results);
        for (number, result) in taken {
            if take(number, result).is_break() {
                stop.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn every_job_is_done_once_and_as_many_at_once_as_asked_for() {
        let (mut seen, meeting) = (vec![0; 9], Barrier::new(3));
        let job = |number| {
            // Only three jobs at once get past this.
            meeting.wait();
            number * 10
        };
        side_by_side(9, 3, job, |number, result| {
            assert_eq!(result, number * 10);
            seen[number] += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(seen, [1; 9]);
        side_by_side(0, 3, |_| (), |_, ()| panic!("there is no job"));
    }

    #[test]
    fn after_a_break_no_job_is_begun() {
        let begun = AtomicUsize::new(0);
        let mut taken = 0;
        let job = |_| begun.fetch_add(1, Ordering::Relaxed);
        side_by_side(1_000_000, 2, job, |_, _| {
            taken += 1;
            ControlFlow::Break(())
        });
        assert_eq!(taken, 1);
        assert!(begun.load(Ordering::Relaxed) < 1_000_000);
    }
}
