//! The turn of an event loop: what runs next, and when to look at the world.
//!
//! ```text
//!          ┌────────────────────────────────────────────────────────────┐
//!          ▼                                                            │
//!   Run, Run, Run …        (what was ready when the round began)        │
//!          ▼                                                            │
//!   Flush                  (only when a transport asked for it)         │
//!          ▼                                                            │
//!   Stopped?               (after a whole round, as asyncio promises)   │
//!          ▼                                                            │
//!   inbox → ready          (one atomic load when it is empty)           │
//!          ▼                                                            │
//!   more ready, and no cap reached? ── yes ─────────────────────────────┤ no system call, no clock
//!          ▼ no                                                         │
//!   Poll                   (due timers → ready) ────────────────────────┘
//! ```
//!
//! A chain of ready callbacks costs no system call; two caps keep it fair to I/O and timers: after [`COUNT_CAP`] callbacks,
//! or when [`TIME_CAP`] has passed since the last poll (looked at every [`CLOCK_EVERY`] callbacks), the next round is
//! preceded by a poll.
//!
//! The turn runs nothing itself. Its driver asks for the [`Step`], carries it out with no borrow held (so that what runs may
//! schedule more) and asks again.

use crate::clock::Clock;
use crate::statistics::Statistics;
use crate::timers::{TimerKey, Timers};
use motet_sync::inbox::Receiver;
use std::collections::VecDeque;
use std::time::Duration;

/// Callbacks run without a poll, at most (a round that was begun is finished).
pub const COUNT_CAP: u32 = 256;
/// Nanoseconds that callbacks run without a poll, at most (looked at every [`CLOCK_EVERY`] callbacks).
pub const TIME_CAP: u64 = 250_000;
/// Callbacks between two looks at the clock.
pub const CLOCK_EVERY: u32 = 8;

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Run this.
    Run(T),
    /// Send what transports have collected in this round.
    Flush,
    /// Wait for I/O, then call [`Turn::polled`].
    Poll(Wait),
    /// A round was finished after `stop`.
    Stopped,
}

/// How long to wait for I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Only look.
    Never,
    /// At most so long.
    AtMost(Duration),
    /// Until something happens.
    Forever,
}

impl Wait {
    /// As pollers want it: `None` is forever.
    pub fn timeout(self) -> Option<Duration> {
        match self {
            Self::Never => Some(Duration::ZERO),
            Self::AtMost(duration) => Some(duration),
            Self::Forever => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// This many of the ready ones belong to the round.
    Round(usize),
    EndOfRound,
    MustPoll,
    /// `began` where the wait may block.
    Polling {
        began: Option<u64>,
    },
}

/// The ready ring, the timers, the inbox and the caps of one loop.
#[derive(Debug)]
pub struct Turn<T> {
    ready: VecDeque<T>,
    timers: Timers<T>,
    inbox: Receiver<T>,
    phase: Phase,
    flush: bool,
    since_poll: u32,
    /// The clock is looked at when `since_poll` gets here.
    next_look: u32,
    last_poll: u64,
    /// The counters; the driver adds those that the turn cannot see.
    pub statistics: Statistics,
}

impl<T> Turn<T> {
    /// A turn with nothing to do, fed from other threads through `inbox`.
    pub fn new(inbox: Receiver<T>) -> Self {
        Self {
            ready: VecDeque::new(),
            timers: Timers::default(),
            inbox,
            phase: Phase::MustPoll,
            flush: false,
            since_poll: 0,
            next_look: CLOCK_EVERY,
            last_poll: 0,
            statistics: Statistics::default(),
        }
    }

    /// The loop begins to run: the first step is a poll, so that even a run that is stopped at once looks at I/O.
    pub fn begin(&mut self, clock: &impl Clock) {
        // A run that ended in the middle of a wait has left the inbox parked.
        self.inbox.woke();
        self.phase = Phase::MustPoll;
        self.last_poll = clock.now();
    }

    /// Runs `task` in the next round, in the order of these calls.
    #[inline]
    pub fn push(&mut self, task: T) {
        self.ready.push_back(task);
    }

    /// Runs `task` at `deadline`, nanoseconds of the clock.
    pub fn schedule(&mut self, deadline: u64, task: T) -> TimerKey {
        self.timers.schedule(deadline, task)
    }

    /// Takes a timer back; nothing for one that has fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.timers.cancel(key)
    }

    /// Asks for a [`Step::Flush`] at the end of this round.
    #[inline]
    pub fn request_flush(&mut self) {
        self.flush = true;
    }

    /// What comes next. `stopping` ends the run after the current round.
    #[inline]
    pub fn next(&mut self, stopping: bool, clock: &impl Clock) -> Step<T> {
        loop {
            match self.phase {
                Phase::Round(remaining) => {
                    if remaining > 0
                        && let Some(task) = self.ready.pop_front()
                    {
                        self.phase = Phase::Round(remaining - 1);
                        self.since_poll += 1;
                        self.statistics.callbacks += 1;
                        return Step::Run(task);
                    }
                    self.phase = Phase::EndOfRound;
                }
                Phase::EndOfRound => {
                    if std::mem::take(&mut self.flush) {
                        return Step::Flush;
                    }
                    if stopping {
                        let now = clock.now();
                        self.account_busy(now);
                        self.last_poll = now;
                        self.phase = Phase::MustPoll;
                        return Step::Stopped;
                    }
                    self.collect_inbox();
                    if self.ready.is_empty() || self.cap_reached(clock) {
                        self.phase = Phase::MustPoll;
                    } else {
                        self.begin_round();
                    }
                }
                Phase::MustPoll => return self.begin_poll(stopping, clock),
                Phase::Polling { .. } => return Step::Poll(Wait::Never),
            }
        }
    }

    fn begin_round(&mut self) {
        self.statistics.turns += 1;
        self.phase = Phase::Round(self.ready.len());
    }

    fn cap_reached(&mut self, clock: &impl Clock) -> bool {
        if self.since_poll >= COUNT_CAP {
            return true;
        }
        if self.since_poll < self.next_look {
            return false;
        }
        self.next_look = self.since_poll + CLOCK_EVERY;
        clock.now().saturating_sub(self.last_poll) >= TIME_CAP
    }

    fn begin_poll(&mut self, stopping: bool, clock: &impl Clock) -> Step<T> {
        self.collect_inbox();
        // The timer decides only where nothing is ready; `prepare_to_sleep` fails where the inbox has just been fed.
        if stopping || !self.ready.is_empty() || !self.inbox.prepare_to_sleep() {
            self.phase = Phase::Polling { began: None };
            return Step::Poll(Wait::Never);
        }
        let now = clock.now();
        self.account_busy(now);
        self.phase = Phase::Polling { began: Some(now) };
        Step::Poll(match self.timers.next_deadline() {
            None => Wait::Forever,
            Some(deadline) => Wait::AtMost(Duration::from_nanos(deadline.saturating_sub(now))),
        })
    }

    /// The poll is over, at `now`: what came due, what other threads sent and what is ready make up the next round.
    pub fn polled(&mut self, now: u64) {
        match self.phase {
            Phase::Polling { began: None } => self.account_busy(now),
            Phase::Polling { began: Some(began) } => {
                self.inbox.woke();
                self.statistics.idle_nanoseconds += now.saturating_sub(began);
            }
            _ => {}
        }
        self.last_poll = now;
        self.since_poll = 0;
        self.next_look = CLOCK_EVERY;
        self.statistics.polls += 1;
        self.collect_inbox();
        while let Some((_, task)) = self.timers.pop_due(now) {
            self.statistics.timers_fired += 1;
            self.ready.push_back(task);
        }
        self.begin_round();
    }

    fn account_busy(&mut self, now: u64) {
        let busy = now.saturating_sub(self.last_poll);
        self.statistics.busy_nanoseconds += busy;
        self.statistics.lag.record(busy);
    }

    /// Moves what other threads have sent behind what is ready.
    #[inline]
    pub fn collect_inbox(&mut self) {
        if !self.inbox.is_empty() {
            self.drain_inbox();
        }
    }

    // Apart, for the look at an empty inbox, at each push, to be a look and no call.
    #[inline(never)]
    fn drain_inbox(&mut self) {
        self.inbox.drain_into(&mut self.ready);
    }

    /// How many callbacks are ready.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// How many timers are running.
    pub fn timers_len(&self) -> usize {
        self.timers.len()
    }

    /// Everything that waits here (what is in the inbox apart), in no order.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.ready.iter().chain(self.timers.iter())
    }

    /// Ends it: refuses what other threads send from now on, and returns all that waited.
    pub fn close(&mut self) -> Vec<T> {
        let sent = self.inbox.close();
        self.ready.drain(..).chain(sent).chain(self.timers.clear()).collect()
    }
}
