//! Which test may begin: as processors and memory, groups, set-ups and tear-downs allow. Pure; the clock and the
//! guests are elsewhere.

use crate::run::budget::Budget;
use crate::run::side_by_side::Next;

/// What the schedule knows of a test.
#[derive(Debug, Clone)]
pub struct Job {
    /// What its guest takes.
    pub cost: Budget,
    /// Groups whose limits hold for it.
    pub groups: Vec<usize>,
    /// Jobs that must have passed before.
    pub set_ups: Vec<usize>,
    /// Jobs that must have come to their end before, of which one must have begun. A job with any is a tear-down.
    pub follows: Vec<usize>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Passed,
    Failed,
    /// Will never begin.
    Left(Why),
}

/// Why a job did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A set-up did not pass.
    SetUp(usize),
    /// A test failed, and no more were to begin.
    FailFast,
    /// A tear-down of what did not begin.
    NothingToTearDown,
    /// The user has interrupted.
    Interrupted,
}

/// The jobs in the order of their urgency, and what is free.
pub struct Schedule {
    jobs: Vec<Job>,
    states: Vec<State>,
    budget: Budget,
    limits: Vec<usize>,
}

impl Schedule {
    /// Nothing has begun. `limits` holds for each group how many of its jobs may run at once.
    pub fn new(jobs: Vec<Job>, budget: Budget, limits: &[Option<usize>]) -> Self {
        let limits = limits.iter().map(|limit| limit.unwrap_or(usize::MAX)).collect();
        Self { states: vec![State::Waiting; jobs.len()], jobs, budget, limits }
    }

    /// What may be done now.
    pub fn next(&mut self) -> Next {
        self.leave_the_hopeless();
        let Some(job) = (0..self.jobs.len()).find(|job| self.may_begin(*job)) else {
            return if self.running().next().is_some() { Next::Wait } else { Next::End };
        };
        self.states[job] = State::Running;
        Next::Begin(job)
    }

    /// A job has ended.
    pub fn ended(&mut self, job: usize, passed: bool) {
        self.states[job] = if passed { State::Passed } else { State::Failed };
    }

    /// No test begins any more; tear-downs still do, unless the user has interrupted.
    pub fn stop(&mut self, why: Why) {
        for (job, state) in self.states.iter_mut().enumerate() {
            let is_test = self.jobs[job].follows.is_empty();
            if *state == State::Waiting && (is_test || why == Why::Interrupted) {
                *state = State::Left(why);
            }
        }
    }

    /// The jobs that will never begin, and why.
    pub fn left(&self) -> impl Iterator<Item = (usize, Why)> + '_ {
        let why = |state: &State| if let State::Left(why) = state { Some(*why) } else { None };
        self.states.iter().enumerate().filter_map(move |(job, state)| Some((job, why(state)?)))
    }

    fn may_begin(&self, job: usize) -> bool {
        let Job { cost, groups, set_ups, follows } = &self.jobs[job];
        let is_over = |job: &usize| !matches!(self.states[*job], State::Waiting | State::Running);
        self.states[job] == State::Waiting
            && set_ups.iter().all(|set_up| self.states[*set_up] == State::Passed)
            && follows.iter().all(is_over)
            && groups.iter().all(|group| self.running_in(*group) < self.limits[*group])
            // A guest larger than the whole budget is tried alone.
            && (self.free().fits(*cost) || self.running().next().is_none())
    }

    fn running(&self) -> impl Iterator<Item = &Job> {
        let is_running = |(_, state): &(&Job, &State)| **state == State::Running;
        self.jobs.iter().zip(&self.states).filter(is_running).map(|(job, _)| job)
    }

    fn running_in(&self, group: usize) -> usize {
        self.running().filter(|job| job.groups.contains(&group)).count()
    }

    fn free(&self) -> Budget {
        self.running().fold(self.budget, |free, job| free.without(job.cost))
    }

    /// Marks what waits for something that will not come.
    fn leave_the_hopeless(&mut self) {
        // Set-ups come before tests, and tests before tear-downs, in the order of the jobs: one pass is enough.
        for job in 0..self.jobs.len() {
            if self.states[job] != State::Waiting {
                continue;
            }
            let Job { set_ups, follows, .. } = &self.jobs[job];
            let failed = |job: &&usize| matches!(self.states[**job], State::Failed | State::Left(_));
            if let Some(set_up) = set_ups.iter().find(failed) {
                self.states[job] = State::Left(Why::SetUp(*set_up));
            } else if !follows.is_empty()
                && follows.iter().all(|job| matches!(self.states[*job], State::Left(_)))
            {
                self.states[job] = State::Left(Why::NothingToTearDown);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUEST: Budget = Budget { cpus: 1, memory_mib: 700 };

    fn job(groups: &[usize], set_ups: &[usize], follows: &[usize]) -> Job {
        Job { cost: GUEST, groups: groups.into(), set_ups: set_ups.into(), follows: follows.into() }
    }

    /// What became of a simulated schedule.
    struct Story {
        /// Begin and end of each job that began.
        times: Vec<Option<(u64, u64)>>,
        left: Vec<(usize, Why)>,
        end: u64,
    }

    /// Runs a schedule on a clock of its own: whatever may begin does, then the clock goes to the next end.
    fn simulate(mut schedule: Schedule, takes: &[u64], passes: impl Fn(usize) -> bool) -> Story {
        let mut times = vec![None; takes.len()];
        let mut running: Vec<(u64, usize)> = Vec::new();
        let mut now = 0;
        loop {
            match schedule.next() {
                Next::Begin(job) => {
                    assert_eq!(times[job], None, "job {job} begins twice");
                    times[job] = Some((now, now + takes[job]));
                    running.push((now + takes[job], job));
                }
                Next::Wait => {
                    running.sort();
                    let (end, job) = running.remove(0);
                    now = end;
                    schedule.ended(job, passes(job));
                }
                Next::End => {
                    assert!(running.is_empty(), "jobs are forgotten");
                    return Story { times, left: schedule.left().collect(), end: now };
                }
            }
        }
    }

    #[test]
    fn eight_equal_tests_on_two_processors_take_four_times_as_long_as_one() {
        let budget = Budget { cpus: 2, memory_mib: 16 << 10 };
        let story = simulate(Schedule::new(vec![job(&[], &[], &[]); 8], budget, &[]), &[10; 8], |_| true);
        assert_eq!(story.end, 40);
    }

    #[test]
    fn memory_bounds_as_processors_do_and_a_group_limits_its_own_only() {
        let tight = Budget { cpus: 8, memory_mib: 1500 };
        let story = simulate(Schedule::new(vec![job(&[], &[], &[]); 4], tight, &[]), &[10; 4], |_| true);
        assert_eq!(story.end, 20);
        let wide = Budget { cpus: 8, memory_mib: 16 << 10 };
        let jobs = [vec![job(&[0], &[], &[]); 3], vec![job(&[1], &[], &[]); 3]].concat();
        let story = simulate(Schedule::new(jobs, wide, &[Some(1), None]), &[10; 6], |_| true);
        assert_eq!(story.times.iter().map(|time| time.unwrap().0).collect::<Vec<_>>(), [0, 10, 20, 0, 0, 0]);
    }

    #[test]
    fn a_guest_larger_than_the_machine_runs_alone() {
        let mut jobs = vec![job(&[], &[], &[]); 3];
        jobs[1].cost.cpus = 64;
        let budget = Budget { cpus: 2, memory_mib: 16 << 10 };
        let story = simulate(Schedule::new(jobs, budget, &[]), &[10; 3], |_| true);
        assert_eq!(story.times, [Some((0, 10)), Some((10, 20)), Some((0, 10))]);
    }

    #[test]
    fn a_set_up_that_fails_keeps_its_tests_from_running_and_is_torn_down() {
        let jobs = || {
            vec![job(&[0], &[], &[]), job(&[0], &[0], &[]), job(&[0], &[0], &[]), job(&[0], &[], &[0, 1, 2])]
        };
        let budget = Budget { cpus: 4, memory_mib: 16 << 10 };
        let story = simulate(Schedule::new(jobs(), budget, &[None]), &[10; 4], |_| true);
        assert_eq!(story.times, [Some((0, 10)), Some((10, 20)), Some((10, 20)), Some((20, 30))]);
        let story = simulate(Schedule::new(jobs(), budget, &[None]), &[10; 4], |job| job != 0);
        assert_eq!(story.times, [Some((0, 10)), None, None, Some((10, 20))]);
        assert_eq!(story.left, [(1, Why::SetUp(0)), (2, Why::SetUp(0))]);
    }

    #[test]
    fn after_a_stop_only_tear_downs_begin_and_after_an_interrupt_nothing() {
        let budget = Budget { cpus: 1, memory_mib: 16 << 10 };
        let jobs = || vec![job(&[], &[], &[]), job(&[], &[], &[]), job(&[], &[], &[0, 1])];
        let mut schedule = Schedule::new(jobs(), budget, &[]);
        assert_eq!(schedule.next(), Next::Begin(0));
        schedule.stop(Why::FailFast);
        schedule.ended(0, false);
        assert_eq!(schedule.next(), Next::Begin(2));
        let mut schedule = Schedule::new(jobs(), budget, &[]);
        assert_eq!(schedule.next(), Next::Begin(0));
        schedule.stop(Why::Interrupted);
        schedule.ended(0, false);
        assert_eq!(schedule.next(), Next::End);
        assert_eq!(schedule.left().collect::<Vec<_>>(), [(1, Why::Interrupted), (2, Why::Interrupted)]);
        let mut nothing = Schedule::new(jobs(), budget, &[]);
        nothing.stop(Why::FailFast);
        assert_eq!((nothing.next(), nothing.left().last()), (Next::End, Some((2, Why::NothingToTearDown))));
    }

    /// Set-ups, then tests, then tear-downs, as a choice orders them; with what each takes.
    fn plans() -> impl Strategy<Value = (Vec<Job>, Vec<u64>, Vec<bool>)> {
        let one =
            (1_u64..5, 100_u64..3000, prop::collection::vec(0_usize..3, 0..3), 1_u64..50, any::<bool>());
        (0_usize..3, 0_usize..3, prop::collection::vec(one, 1..20), any::<u64>()).prop_map(
            |(ups, downs, ones, lots)| {
                let (count, mut jobs) = (ones.len(), Vec::new());
                let ups = ups.min(count);
                let tests = ups..count.saturating_sub(downs).max(ups);
                for (n, (cpus, memory_mib, groups, ..)) in ones.iter().enumerate() {
                    let lot = |other: usize| lots.rotate_left((n * 7 + other) as u32) & 1 == 1;
                    let is_test = tests.contains(&n);
                    let set_ups = (0..ups).filter(|up| is_test && lot(*up)).collect();
                    let follows: Vec<_> = tests.clone().filter(|test| n >= tests.end && lot(*test)).collect();
                    let cost = Budget { cpus: *cpus, memory_mib: *memory_mib };
                    jobs.push(Job { cost, groups: groups.clone(), set_ups, follows });
                }
                (jobs, ones.iter().map(|one| one.3).collect(), ones.iter().map(|one| one.4).collect())
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_planned_keeps_to_its_bounds_and_comes_to_an_end(
            (jobs, takes, passes) in plans(), cpus in 1_u64..8, memory_mib in 500_u64..8000,
        ) {
            let (budget, limits) = (Budget { cpus, memory_mib }, [Some(1), Some(2), None]);
            let story = simulate(Schedule::new(jobs.clone(), budget, &limits), &takes, |job| passes[job]);
            for (n, job) in jobs.iter().enumerate() {
                let left = story.left.iter().any(|(other, _)| *other == n);
                prop_assert_eq!(story.times[n].is_none(), left, "each begins or is left, job {}", n);
                let Some((begin, _)) = story.times[n] else { continue };
                for set_up in &job.set_ups {
                    prop_assert!(passes[*set_up] && story.times[*set_up].unwrap().1 <= begin);
                }
                for test in &job.follows {
                    prop_assert!(story.times[*test].is_none_or(|(_, end)| end <= begin));
                }
                // Whoever runs as this one begins fits together, or it runs alone.
                let beside: Vec<_> = (0..jobs.len())
                    .filter(|other| story.times[*other].is_some_and(|(from, to)| from <= begin && begin < to))
                    .collect();
                let cpus: u64 = beside.iter().map(|other| jobs[*other].cost.cpus).sum();
                let memory: u64 = beside.iter().map(|other| jobs[*other].cost.memory_mib).sum();
                prop_assert!(beside.len() == 1 || cpus <= budget.cpus && memory <= budget.memory_mib);
                for (group, limit) in limits.iter().enumerate() {
                    let inside = beside.iter().filter(|other| jobs[**other].groups.contains(&group)).count();
                    prop_assert!(limit.is_none_or(|limit| inside <= limit));
                }
            }
        }

        #[test]
        fn without_other_bounds_the_processors_are_kept_busy(takes in prop::collection::vec(1_u64..50, 1..20), cpus in 1_u64..6) {
            let budget = Budget { cpus, memory_mib: u64::MAX };
            let story = simulate(Schedule::new(vec![job(&[], &[], &[]); takes.len()], budget, &[]), &takes, |_| true);
            // Graham's bound of list scheduling: work over processors, and a rest of the longest job.
            let (work, longest) = (takes.iter().sum::<u64>(), takes.iter().max().unwrap());
            prop_assert!(story.end * cpus <= work + longest * (cpus - 1));
        }
    }
}
