//! How a thread waits for what will soon be there: it looks for it, letting others run, and sleeps only then.
//!
//! Looking saves the time of a wake-up, but takes a processor from others. So who has looked in vain sleeps at once the next few times:
//! once, then twice, four times, until something comes while it looks.

use motet_lanes::sys::watch::monotonic_nanos;
use std::sync::atomic::{AtomicU32, Ordering};

/// How long a thread looks before it sleeps, in nanoseconds: as long as it takes to wake it. A worker that has a processor answers a
/// short call within that.
const LOOK_NANOS: u64 = 40_000;
/// How often in a row it sleeps at once at most, having looked in vain.
const MOST_SLEEPS: u32 = 32;
/// Who lets others run and is back later than this is on a machine with more to do than it has processors.
const LONG_NANOS: u64 = 500_000;
/// How many times a thread then sleeps at once: the system runs soon who is woken, but last who has yielded.
const SLEEPS_UNDER_LOAD: u32 = 100;

/// What waits of one kind have shown. Threads that share it may lose each other's notes.
pub struct Idling {
    /// How many times to sleep at once.
    sleeps_left: AtomicU32,
    /// How many times that was, when it was set last.
    sleeps: AtomicU32,
}

impl Idling {
    pub const fn new() -> Self {
        Self { sleeps_left: AtomicU32::new(0), sleeps: AtomicU32::new(0) }
    }

    /// The beginning of a wait.
    pub fn look(&self) -> Look<'_> {
        let now = monotonic_nanos();
        Look { idling: self, since: now, now }
    }
}

/// One wait.
pub struct Look<'a> {
    idling: &'a Idling,
    since: u64,
    now: u64,
}

impl Look<'_> {
    /// The time when others had run last, in nanoseconds of the monotonic clock.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Whether to sleep.
    pub fn is_tired(&self) -> bool {
        self.idling.sleeps_left.load(Ordering::Relaxed) > 0 || self.now - self.since >= LOOK_NANOS
    }

    /// Lets others run.
    pub fn give_way(&mut self) {
        std::thread::yield_now();
        let then = monotonic_nanos();
        if then - self.now > LONG_NANOS {
            self.idling.sleeps_left.store(SLEEPS_UNDER_LOAD, Ordering::Relaxed);
        }
        self.now = then;
    }

    /// Ends the wait: it is there.
    pub fn find(self) {
        if self.now > self.since {
            self.idling.sleeps.store(0, Ordering::Relaxed);
        }
    }

    /// Ends the wait: the thread sleeps.
    pub fn sleep(self) {
        let Idling { sleeps_left, sleeps } = self.idling;
        let left = sleeps_left.load(Ordering::Relaxed);
        if left > 0 {
            sleeps_left.store(left - 1, Ordering::Relaxed);
            return;
        }
        let next = (sleeps.load(Ordering::Relaxed) * 2).clamp(1, MOST_SLEEPS);
        sleeps.store(next, Ordering::Relaxed);
        sleeps_left.store(next, Ordering::Relaxed);
    }
}
