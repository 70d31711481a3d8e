//! Running the chosen tests side by side: plans and guests before, then each in its own guest, with retries.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fixture::scenario::Clock;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::catalogue::{Catalogue, Chosen, Test};
use super::cli::TestArgs;
use super::failure::Failure;
use super::outcome::{Golden, Outcome, Status, Summary, Try};
use super::schedule::{Job, Schedule, Why};
use crate::cli::{ClockArg, RunArgs};
use crate::events::{self, RunnerLog};
use crate::exit::{Code, Interrupted, UnknownGolden};
use crate::interrupt::Interrupt;
use crate::progress::Several;
use crate::run;
use crate::run::budget::Budget;
use crate::run::events::{Record, Source, TestEvent, TestResult};
use crate::run::golden::{self, Act};
use crate::run::host::Host;
use crate::run::made::{Attempt, Published};
use crate::run::plan::{self, OfTest, Plan};
use crate::run::settle;
use crate::run::side_by_side::{Agenda, Next, side_by_side};

/// The chosen tests with all that is decided before any guest starts.
pub struct Session<'a> {
    catalogue: &'a Catalogue,
    args: &'a TestArgs,
    chosen: &'a [Chosen],
    plans: Vec<Plan>,
    hosts: BTreeMap<HostKey, Host>,
    several: &'a Several,
    story: RunnerLog,
    interrupt: &'a Interrupt,
}

/// What decides which QEMU, accelerator and image a test needs: the guest's name and the clock's.
type HostKey = (String, &'static str);

fn key(plan: &Plan) -> HostKey {
    (plan.guest.clone(), plan.input.clock.name())
}

impl<'a> Session<'a> {
    /// Plans every test and finds or builds their guests.
    pub fn prepare(
        catalogue: &'a Catalogue,
        chosen: &'a [Chosen],
        args: &'a TestArgs,
        several: &'a Several,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let out = args.out.clone().unwrap_or_else(|| catalogue.project.out());
        let plan = |one: &Chosen| plan_of(&catalogue.tests[one.test], &out, args);
        let plans = chosen.iter().map(plan).collect::<Result<Vec<_>>>()?;
        let mut hosts = BTreeMap::new();
        for plan in &plans {
            if let std::collections::btree_map::Entry::Vacant(place) = hosts.entry(key(plan)) {
                let plan = &plan.without_events();
                let mut attempt = Attempt::begin(plan, several.of(&format!("{} guest", plan.guest)))?;
                place.insert(Host::find(plan, attempt.folder.path(), &mut attempt.log, interrupt)?);
            }
        }
        let story = RunnerLog::begin(plans.first().and_then(|plan| plan.events.as_ref()));
        Ok(Self { catalogue, args, chosen, plans, hosts, several, story, interrupt })
    }

    /// Runs the tests; `ended` gets each outcome as it comes.
    pub fn run(&self, mut ended: impl FnMut(&Outcome)) -> (Vec<Outcome>, Summary) {
        let (began, cpu) = (Instant::now(), children_cpu());
        self.story.tell(TestEvent::RunnerStarted { tests: self.chosen.len() });
        let total = Budget::of_machine();
        let says = &self.catalogue.project.says;
        let limits: Vec<_> = says.groups.iter().map(|group| group.at_most.map(usize::from)).collect();
        let mut agenda = Live {
            schedule: Schedule::new(self.jobs(), total, &limits),
            fail_fast: self.args.fail_fast || says.fail_fast,
            interrupt: self.interrupt,
        };
        let cap = self.args.jobs.or(says.jobs.map(usize::from)).unwrap_or(usize::MAX);
        // More guests than processors are never begun at once.
        let at_once = cap.min(usize::try_from(total.cpus).unwrap_or(usize::MAX)).min(self.chosen.len());
        let mut outcomes = Vec::new();
        side_by_side(
            &mut agenda,
            at_once,
            |job| self.test(job),
            |_, outcome| {
                self.tell_end(&outcome);
                ended(&outcome);
                outcomes.push(outcome);
                ControlFlow::Continue(())
            },
        );
        let took_ns = nanos(began.elapsed());
        for (job, why) in agenda.schedule.left() {
            let outcome = Outcome { reason: Some(self.why(why)), ..self.blank(job) };
            self.tell_end(&outcome);
            ended(&outcome);
            outcomes.push(outcome);
        }
        outcomes.sort_by(|a, b| a.test.cmp(&b.test));
        let summary = Summary::of(&outcomes, took_ns, nanos(children_cpu().saturating_sub(cpu)));
        self.tell_summary(&summary);
        (outcomes, summary)
    }

    fn tell_end(&self, outcome: &Outcome) {
        let test = outcome.test.clone();
        if let Some(text) = outcome.reason.clone() {
            self.story.tell(TestEvent::Note { test: test.clone(), text });
        }
        let timed_out = |failure: &Failure| failure.code == Code::TimedOut as u8;
        let result = match outcome.status {
            Status::Passed => TestResult::Passed,
            Status::Flaky => TestResult::Flaky,
            Status::NotRun | Status::Interrupted => TestResult::Skipped,
            Status::Failed if outcome.failure().is_some_and(timed_out) => TestResult::TimedOut,
            Status::Failed => TestResult::Failed,
        };
        self.story.tell(TestEvent::Ended { test, result, took_ns: outcome.took_ns });
    }

    fn tell_summary(&self, summary: &Summary) {
        let Summary { passed, flaky, failed, not_run, interrupted, .. } = *summary;
        self.story.tell(TestEvent::RunnerEnded { passed, flaky, failed, skipped: not_run + interrupted });
        let end = match (failed, interrupted) {
            (_, 1..) => events::Outcome::BrokenOff,
            (0, 0) => events::Outcome::Passed,
            _ => events::Outcome::Failed,
        };
        self.story.end(end, super::report::human::counts(summary));
    }

    fn jobs(&self) -> Vec<Job> {
        let job = |(one, plan): (&Chosen, &Plan)| Job {
            cost: Budget::of_guest(plan.cpus, plan.memory_mib),
            groups: self.catalogue.tests[one.test].groups.clone(),
            set_ups: one.set_ups.clone(),
            follows: one.follows.clone(),
        };
        self.chosen.iter().zip(&self.plans).map(job).collect()
    }

    fn test_of(&self, job: usize) -> &Test {
        &self.catalogue.tests[self.chosen[job].test]
    }

    fn why(&self, why: Why) -> String {
        match why {
            Why::SetUp(job) => format!("its set-up {} did not pass", self.test_of(job).name()),
            Why::FailFast => "a test had failed before (--fail-fast)".into(),
            Why::NothingToTearDown => "nothing was run that it tears down".into(),
            Why::Interrupted => "interrupted".into(),
        }
    }

    /// A test that has not been run.
    fn blank(&self, job: usize) -> Outcome {
        let test = self.test_of(job);
        Outcome {
            test: test.name().to_owned(),
            file: test.file.clone(),
            part: test.part,
            clock: test.clock,
            status: Status::NotRun,
            reason: None,
            took_ns: 0,
            fixtures: None,
            golden: None,
            tries: Vec::new(),
        }
    }

    /// One test: tries until one passes or there are no more.
    fn test(&self, job: usize) -> Outcome {
        let began = Instant::now();
        let mut outcome = self.blank(job);
        if let Err(error) = self.plans[job].target.clear_failed() {
            self.several.say(&format!("{}: {error:#}", outcome.test));
        }
        let most = 1 + self.test_of(job).settings.retries.unwrap_or(0);
        for number in 1..=most {
            let plan = self.plan_of_try(job, number);
            let began = Instant::now();
            let result = self.one(&plan).map_err(|error| self.interrupt.or(error));
            let took_ns = nanos(began.elapsed());
            match result {
                Ok((published, golden)) => {
                    outcome.tries.push(passed(&published, took_ns));
                    outcome.fixtures = Some(published.place);
                    outcome.golden = golden;
                    (outcome.status, outcome.reason) = verdict(&outcome);
                    break;
                }
                Err(error) if error.is::<Interrupted>() => {
                    outcome.status = Status::Interrupted;
                    outcome.reason = Some("interrupted".into());
                    break;
                }
                Err(error) => {
                    let failure = Some(Failure::of(&plan, &error));
                    outcome.status = Status::Failed;
                    outcome.tries.push(Try {
                        took_ns,
                        answered_from_store: false,
                        slow: false,
                        guest_ns: None,
                        stages_ns: BTreeMap::new(),
                        failure,
                    });
                    if number < most {
                        let reason =
                            outcome.failure().map(|failure| failure.reason.as_str()).unwrap_or_default();
                        self.several
                            .say(&format!("   TRY {number}  {}: {reason}; trying again", outcome.test));
                    }
                }
            }
        }
        outcome.took_ns = nanos(began.elapsed());
        outcome
    }

    fn one(&self, plan: &Plan) -> Result<(Published, Option<Golden>)> {
        let host = self.hosts.get(&key(plan)).context("no guest was found for the test")?;
        let attempt = Attempt::begin(plan, self.several.of(&plan.input.scenario.name))?;
        let published = run::obtain(plan, host, attempt, self.interrupt)?;
        if let Err(error) = &published.stored {
            self.several.say(&format!("{}: published, but not stored: {error:#}", plan.input.scenario.name));
        }
        settle::meaning(plan, &published)?;
        let golden = match &plan.golden {
            None => None,
            Some((path, act)) => match golden::verdict(plan, path, *act, &published) {
                Ok(text) if *act == Act::Update => Some(Golden::Updated(text)),
                Ok(text) => Some(Golden::Agrees(text)),
                Err(error) if error.is::<UnknownGolden>() => Some(Golden::Unknown(error.to_string())),
                Err(error) => return Err(error),
            },
        };
        published.reproduced()?;
        Ok((published, golden))
    }

    /// The plan of a try, with the fault that was asked for.
    fn plan_of_try(&self, job: usize, number: u32) -> Plan {
        let test = OfTest {
            id: self.test_of(job).name().to_owned(),
            attempt: number,
            of: 1 + self.test_of(job).settings.retries.unwrap_or(0),
            runner: self.story.id(),
        };
        let plan = self.plans[job].clone().for_test(test);
        let fault = self.args.fault.iter().find(|fault| {
            fault.test == self.test_of(job).name() && fault.only.is_none_or(|only| only == number)
        });
        match fault {
            Some(fault) => plan.with_fault(fault.fault.clone()),
            None => plan,
        }
    }
}

/// What counts of a test whose last try passed.
fn verdict(outcome: &Outcome) -> (Status, Option<String>) {
    match (outcome.tries.len(), outcome.clock) {
        (1, _) => (Status::Passed, None),
        (tries, Clock::Real) => (Status::Flaky, Some(format!("passed at try {tries}"))),
        // Equal inputs are promised to give equal runs.
        (tries, Clock::Virtual) => {
            let reason = format!(
                "passed at try {tries} after failing, with equal inputs on the virtual clock: that is an error of \
                 fixture-vm, or of this machine; please report it"
            );
            (Status::Failed, Some(reason))
        }
    }
}

fn passed(published: &Published, took_ns: u64) -> Try {
    let is_slow = |record: &Record| matches!(record.source, Source::Test(TestEvent::Slow { .. }));
    Try {
        took_ns,
        answered_from_store: published.manifest.answered.is_some(),
        slow: published.log.records().iter().any(is_slow),
        guest_ns: published.log.guest_ns(),
        stages_ns: published.log.stage_times().into_iter().map(|(stage, ns)| (stage.name(), ns)).collect(),
        failure: None,
    }
}

/// The schedule, told to stop by the user's signal and by the first failure.
struct Live<'a> {
    schedule: Schedule,
    fail_fast: bool,
    interrupt: &'a Interrupt,
}

impl Agenda<Outcome> for Live<'_> {
    fn next(&mut self) -> Next {
        if self.interrupt.check().is_err() {
            self.schedule.stop(Why::Interrupted);
        }
        self.schedule.next()
    }

    fn ended(&mut self, job: usize, outcome: &Outcome) {
        let passed = matches!(outcome.status, Status::Passed | Status::Flaky);
        self.schedule.ended(job, passed);
        if !passed && self.fail_fast {
            self.schedule.stop(Why::FailFast);
        }
    }
}

/// The plan of a test: what `fixture-vm run` would do with these words.
fn plan_of(test: &Test, out: &Path, args: &TestArgs) -> Result<Plan> {
    let mut words = RunArgs::of(test.file.clone(), out.join(test.name()));
    let settings = &test.settings;
    words.clock = settings.clock.map(|clock| match clock {
        Clock::Virtual => ClockArg::Virtual,
        Clock::Real => ClockArg::Real,
    });
    words.accel = args.accel;
    if let Some(guest) = &settings.guest {
        words.guest.clone_from(guest);
    }
    words.memory = settings.memory;
    words.cpus = settings.cpus.map_or(words.cpus, u8::from);
    words.timeout = settings.timeout.map(|time| time.duration());
    words.silence = settings.silence.map_or(words.silence, |time| time.duration());
    words.snapshot = args.snapshot;
    words.cold = args.cold;
    words.no_cache = args.no_cache;
    let is_known = golden::beside(&test.file).is_file();
    let can_be_golden = test.clock == Clock::Virtual;
    words.update_golden = args.update_golden && can_be_golden;
    words.golden = !args.update_golden && settings.golden == Some(true) && can_be_golden && is_known;
    words.keep = args.keep;
    words.work_dir.clone_from(&args.work_dir);
    words.store.clone_from(&args.store);
    words.events_db.clone_from(&args.events_db);
    let mut plan = plan::of(&words, test.scenario.clone())
        .with_context(|| format!("test {} ({})", test.name(), test.file.display()))?;
    plan.deadlines.slow = settings.slow.map(|time| time.duration()).filter(|time| !time.is_zero());
    Ok(plan)
}

/// CPU time of all children that have ended and were waited for (getrusage(2)).
fn children_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
