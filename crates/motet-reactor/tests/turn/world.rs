//! A driver that runs jobs by a script, under a clock that it moves itself, and holds every step of the turn against plain
//! books.

use motet_reactor::clock::{Clock, ManualClock};
use motet_reactor::turn::{CLOCK_EVERY, COUNT_CAP, Step, TIME_CAP, Turn, Wait};
use motet_reactor::{Statistics, TimerKey};
use motet_sync::inbox::{Sender, Wake, inbox};
use proptest::sample::Index;
use std::collections::VecDeque;

/// What one callback, or one wait, does.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// `call_soon`, on the loop's thread.
    Push,
    /// The same from another thread.
    Send,
    Schedule(u64),
    /// Takes back the timer that was made so many timers ago, fired or not.
    Cancel(Index),
    RequestFlush,
    Stop,
    /// Time goes by.
    Spend(u64),
}

/// One callback, and what it may be held against when it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Job {
    Pushed { number: usize, in_turn: u64 },
    Sent { number: usize, in_turn: u64 },
    Timer { number: usize },
}

struct Timer {
    deadline: u64,
    key: TimerKey,
    live: bool,
    /// The round in which it has to run, once a poll has found it due.
    due_in: Option<u64>,
}

/// Ends of rounds since the last poll: callbacks run until then, and time gone by.
type Boundaries = Vec<(u32, u64)>;

pub(crate) struct World {
    pub(crate) turn: Turn<Job>,
    pub(crate) clock: ManualClock,
    sender: Sender<Job>,
    script: VecDeque<Vec<Effect>>,
    timers: Vec<Timer>,
    /// Jobs that were pushed and those that were sent, and have not run: numbers in order.
    pushed: VecDeque<usize>,
    sent: VecDeque<usize>,
    jobs: usize,
    stopping: bool,
    flush_requested: bool,
    since_poll: u32,
    last_poll: u64,
    boundaries: Boundaries,
    round: u64,
    /// Whether a wait is on that may block, and nobody has been told to end it.
    asleep: bool,
    began: u64,
    accounted: u64,
    stretches: u64,
    pub(crate) runs: u64,
    polls: u64,
    fired: u64,
}

/// How a run ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    Stopped,
    /// It would wait for ever.
    Idle,
}

impl World {
    pub(crate) fn new(script: Vec<Vec<Effect>>) -> Self {
        let (sender, receiver) = inbox();
        Self {
            turn: Turn::new(receiver),
            clock: ManualClock::new(1_000),
            sender,
            script: script.into(),
            timers: Vec::new(),
            pushed: VecDeque::new(),
            sent: VecDeque::new(),
            jobs: 0,
            stopping: false,
            flush_requested: false,
            since_poll: 0,
            last_poll: 0,
            boundaries: Vec::new(),
            round: 0,
            asleep: false,
            began: 0,
            accounted: 0,
            stretches: 0,
            runs: 0,
            polls: 0,
            fired: 0,
        }
    }

    pub(crate) fn push(&mut self) {
        let number = self.new_number();
        self.turn.push(Job::Pushed { number, in_turn: self.turn.statistics.turns });
        self.pushed.push_back(number);
    }

    fn new_number(&mut self) -> usize {
        self.jobs += 1;
        self.jobs
    }

    fn act(&mut self, effect: &Effect) {
        match effect {
            Effect::Push => self.push(),
            Effect::Send => {
                let number = self.new_number();
                let wake = self.sender.push(Job::Sent { number, in_turn: self.turn.statistics.turns });
                let expected = if std::mem::take(&mut self.asleep) { Wake::Needed } else { Wake::No };
                assert_eq!(wake, Ok(expected), "the first sender of a sleep wakes the loop, and nobody else");
                self.sent.push_back(number);
            }
            Effect::Schedule(delay) => {
                let deadline = self.clock.now() + delay;
                let key = self.turn.schedule(deadline, Job::Timer { number: self.timers.len() });
                self.timers.push(Timer { deadline, key, live: true, due_in: None });
            }
            Effect::Cancel(index) if !self.timers.is_empty() => {
                let number = index.index(self.timers.len());
                let timer = &mut self.timers[number];
                // What a poll has found due is ready, and no timer any more.
                let expected = (timer.live && timer.due_in.is_none()).then_some(Job::Timer { number });
                assert_eq!(self.turn.cancel(timer.key), expected);
                timer.live &= expected.is_none();
            }
            Effect::Cancel(_) => {}
            Effect::RequestFlush => {
                self.turn.request_flush();
                self.flush_requested = true;
            }
            Effect::Stop => self.stopping = true,
            Effect::Spend(nanoseconds) => self.clock.advance(*nanoseconds),
        }
    }

    fn act_next(&mut self) {
        let effects = self.script.pop_front().unwrap_or_default();
        effects.iter().for_each(|effect| self.act(effect));
    }

    /// Carries out steps until the loop is stopped or would wait for ever.
    pub(crate) fn run(&mut self) -> Ended {
        self.turn.begin(&self.clock);
        self.account_from_now();
        self.since_poll = 0;
        let mut waited = false;
        loop {
            let step = self.turn.next(self.stopping, &self.clock);
            assert!(waited || matches!(step, Step::Poll(_)), "a run begins with a look at the world");
            waited = true;
            match step {
                Step::Run(job) => self.run_job(job),
                Step::Flush => {
                    assert!(std::mem::take(&mut self.flush_requested), "flushed without a request");
                }
                Step::Poll(wait) => {
                    assert!(!self.flush_requested, "a wait with data unsent");
                    if wait == Wait::Forever && self.script.is_empty() {
                        self.check_wait(wait);
                        self.account_busy();
                        return Ended::Idle;
                    }
                    self.poll(wait);
                }
                Step::Stopped => {
                    assert!(std::mem::take(&mut self.stopping), "stopped without a request");
                    self.account_busy();
                    return Ended::Stopped;
                }
            }
        }
    }

    fn run_job(&mut self, job: Job) {
        let round = self.turn.statistics.turns;
        if round != self.round {
            self.round = round;
            self.check_caps();
        }
        let from = match job {
            Job::Pushed { number, in_turn } => {
                assert_eq!(self.pushed.pop_front(), Some(number), "in the order of the calls");
                in_turn + 1
            }
            Job::Sent { number, in_turn } => {
                assert_eq!(self.sent.pop_front(), Some(number), "in the order of the sends");
                in_turn + 1
            }
            Job::Timer { number } => {
                let timer = &mut self.timers[number];
                assert!(std::mem::take(&mut timer.live), "a cancelled timer runs, or one runs twice");
                assert!(timer.deadline <= self.last_poll, "a timer runs early");
                self.fired += 1;
                timer.due_in.expect("a poll has found it due")
            }
        };
        assert_eq!(round, from, "what is scheduled in a round runs in the next");
        self.runs += 1;
        self.since_poll += 1;
        self.act_next();
    }

    /// A round has begun: unless a poll came before it, no cap had been reached.
    fn check_caps(&mut self) {
        if self.since_poll == 0 {
            return;
        }
        assert!(self.since_poll < COUNT_CAP, "{} callbacks without a poll", self.since_poll);
        self.boundaries.push((self.since_poll, self.clock.now() - self.last_poll));
        for (callbacks, elapsed) in &self.boundaries {
            let looked = self.since_poll - callbacks >= CLOCK_EVERY;
            assert!(
                !looked || *elapsed < TIME_CAP,
                "{elapsed} ns without a poll, and {CLOCK_EVERY} callbacks more"
            );
        }
    }

    fn poll(&mut self, wait: Wait) {
        self.check_wait(wait);
        if wait != Wait::Never {
            self.account_busy();
            self.asleep = true;
        }
        let before = self.clock.now();
        self.act_next();
        if let Wait::AtMost(limit) = wait {
            // The rest of the wait, unless somebody has ended it.
            if self.asleep {
                self.clock.set(before + limit.as_nanos() as u64);
            }
        }
        self.asleep = false;
        let now = self.clock.now();
        let next = self.turn.statistics.turns + 1;
        for timer in self.timers.iter_mut().filter(|timer| timer.live && timer.deadline <= now) {
            timer.due_in.get_or_insert(next);
        }
        self.turn.polled(now);
        if wait == Wait::Never {
            self.account_busy();
        } else {
            self.account_from_now();
        }
        self.polls += 1;
        self.since_poll = 0;
        self.last_poll = now;
        self.boundaries.clear();
    }

    fn check_wait(&self, wait: Wait) {
        let work = self.stopping || !self.pushed.is_empty() || !self.sent.is_empty() || self.has_due_in();
        let next = self.timers.iter().filter(|timer| timer.live).map(|timer| timer.deadline).min();
        let expected = match next {
            _ if work => Wait::Never,
            None => Wait::Forever,
            Some(deadline) => {
                let left = deadline.saturating_sub(self.clock.now());
                Wait::AtMost(std::time::Duration::from_nanos(left))
            }
        };
        assert_eq!(wait, expected);
    }

    fn has_due_in(&self) -> bool {
        self.timers.iter().any(|timer| timer.live && timer.due_in.is_some())
    }

    // ---- the turn's statistics, kept once more ----

    fn account_from_now(&mut self) {
        self.began = self.clock.now();
    }

    fn account_busy(&mut self) {
        self.accounted += self.clock.now() - self.began;
        self.stretches += 1;
        self.account_from_now();
    }

    pub(crate) fn check_statistics(&self) {
        let statistics: &Statistics = &self.turn.statistics;
        assert_eq!(statistics.callbacks, self.runs);
        assert_eq!(statistics.polls, self.polls);
        assert_eq!(statistics.timers_fired, self.fired + self.ready_timers());
        assert_eq!(statistics.busy_nanoseconds, self.accounted);
        assert_eq!(statistics.lag.count(), self.stretches);
        assert!(statistics.lag.max() <= statistics.busy_nanoseconds);
    }

    fn ready_timers(&self) -> u64 {
        self.timers.iter().filter(|timer| timer.live && timer.due_in.is_some()).count() as u64
    }

    /// What has been asked for and has not run.
    pub(crate) fn outstanding(&self) -> usize {
        self.pushed.len() + self.sent.len() + self.timers.iter().filter(|timer| timer.live).count()
    }

    pub(crate) fn live_timers(&self) -> usize {
        self.timers.iter().filter(|timer| timer.live && timer.due_in.is_none()).count()
    }
}
