//! The clock of a loop, which a test can replace: nothing else in this crate reads the time.
//!
//! Time is nanoseconds of the system's monotonic clock as a plain number, the same clock as Python's
//! `time.monotonic()`, so that deadlines of both mean the same. (`std::time::Instant` does not tell its number.)

use crate::sys::monotonic_nanoseconds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the time in nanoseconds; never runs backwards.
pub trait Clock {
    /// The time now.
    fn now(&self) -> u64;
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    #[inline]
    fn now(&self) -> u64 {
        monotonic_nanoseconds()
    }
}

/// A clock for tests, which stands still until it is moved. Clones are the same clock, also in other threads.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now)))
    }

    /// Moves the clock to `now`, or leaves it where it is if that is later.
    pub fn set(&self, now: u64) {
        self.0.fetch_max(now, Ordering::Relaxed);
    }

    /// Moves the clock forward.
    pub fn advance(&self, nanoseconds: u64) {
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_are_one_clock() {
        let clock = ManualClock::new(10);
        let other = clock.clone();
        clock.advance(5);
        assert_eq!(other.now(), 15);
        other.set(40);
        assert_eq!(clock.now(), 40);
        other.set(7);
        assert_eq!(clock.now(), 40, "time does not run backwards");
    }

    #[cfg_attr(miri, ignore = "reads the system's clock")]
    #[test]
    fn the_monotonic_clock_moves_forward() {
        let clock = MonotonicClock;
        let start = clock.now();
        while clock.now() == start {}
        assert!(clock.now() > start);
    }
}
