//! Jobs side by side: an agenda says which may begin; their results are taken one by one as they come.

use std::ops::{ControlFlow, Range};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

/// What may be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This job begins.
    Begin(usize),
    /// Nothing before one of the jobs under way has ended.
    Wait,
    /// Nothing any more.
    End,
}

/// Decides which job begins, and when.
pub trait Agenda<T>: Send {
    /// What may be done now; a job that is named has begun.
    fn next(&mut self) -> Next;
    /// A job has ended.
    fn ended(&mut self, job: usize, result: &T);
}

/// Equal jobs, one after the other.
impl<T> Agenda<T> for Range<usize> {
    fn next(&mut self) -> Next {
        Iterator::next(self).map_or(Next::End, Next::Begin)
    }
    fn ended(&mut self, _job: usize, _result: &T) {}
}

/// Does the jobs of an agenda, at most `at_once` at a time. `take` gets each result on the calling thread; when
/// it breaks, no more jobs are begun, and the results of those under way are dropped.
///
/// A job stays on one thread from its begin to its end, as the kernel asks of who starts children that are to
/// die with their parent (PR_SET_PDEATHSIG(2const)).
pub fn side_by_side<T: Send>(
    agenda: &mut impl Agenda<T>,
    at_once: usize,
    job: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> ControlFlow<()>,
) {
    let desk = Desk { agenda: Mutex::new((agenda, false)), changed: Condvar::new() };
    let (results, taken) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            let results = results.clone();
            let (desk, job) = (&desk, &job);
            scope.spawn(move || {
                while let Some(number) = desk.begin() {
                    let result = job(number);
                    desk.end(number, &result);
                    // Nobody takes results any more after a break.
                    results.send((number, result)).ok();
                }
            });
        }
        drop(results);
        for (number, result) in taken {
            if take(number, result).is_break() {
                desk.close();
                break;
            }
        }
    });
}

/// The agenda as the threads share it, and whether it was closed.
struct Desk<'a, A> {
    agenda: Mutex<(&'a mut A, bool)>,
    changed: Condvar,
}

impl<'a, A> Desk<'a, A> {
    /// Waits for a job that may begin; nothing if there is none any more.
    fn begin<T>(&self) -> Option<usize>
    where
        A: Agenda<T>,
    {
        let mut agenda = self.lock();
        loop {
            match if agenda.1 { Next::End } else { agenda.0.next() } {
                Next::Begin(number) => return Some(number),
                Next::End => return None,
                Next::Wait => {
                    agenda = self.changed.wait(agenda).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn end<T>(&self, number: usize, result: &T)
    where
        A: Agenda<T>,
    {
        self.lock().0.ended(number, result);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().1 = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, (&'a mut A, bool)> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_job_is_done_once_and_as_many_at_once_as_asked_for() {
        let (mut seen, meeting) = (vec![0; 9], Barrier::new(3));
        let job = |number| {
            // Only three jobs at once get past this.
            meeting.wait();
            number * 10
        };
        side_by_side(&mut (0..9), 3, job, |number, result| {
            assert_eq!(result, number * 10);
            seen[number] += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(seen, [1; 9]);
        side_by_side(&mut (0..0), 3, |_| (), |_, ()| panic!("there is no job"));
    }

    #[test]
    fn after_a_break_no_job_is_begun() {
        let begun = AtomicUsize::new(0);
        let mut taken = 0;
        let job = |_| begun.fetch_add(1, Ordering::Relaxed);
        side_by_side(&mut (0..1_000_000), 2, job, |_, _| {
            taken += 1;
            ControlFlow::Break(())
        });
        assert_eq!(taken, 1);
        assert!(begun.load(Ordering::Relaxed) < 1_000_000);
    }

    /// Each job after the one before has ended.
    struct Chain {
        begun: usize,
        ended: usize,
    }

    impl Agenda<usize> for Chain {
        fn next(&mut self) -> Next {
            match (self.begun, self.ended) {
                (5, _) => Next::End,
                (begun, ended) if begun > ended => Next::Wait,
                (begun, _) => {
                    self.begun += 1;
                    Next::Begin(begun)
                }
            }
        }
        fn ended(&mut self, job: usize, result: &usize) {
            assert_eq!((job, *result), (self.ended, job), "in their order");
            self.ended += 1;
        }
    }

    #[test]
    fn an_agenda_may_let_jobs_wait_for_others() {
        let mut chain = Chain { begun: 0, ended: 0 };
        let mut taken = 0;
        side_by_side(
            &mut chain,
            4,
            |number| number,
            |_, _| {
                taken += 1;
                ControlFlow::Continue(())
            },
        );
        assert_eq!((taken, chain.ended), (5, 5));
    }
}
