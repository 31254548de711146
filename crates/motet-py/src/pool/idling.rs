//! How a side of a lane waits that has no work: it looks for some, letting others run, and sleeps only then.

use motet_lanes::sys::watch::monotonic_nanos;
use std::sync::atomic::{AtomicU32, Ordering};

/// How long a side without work looks for some before it sleeps, in nanoseconds: as long as it takes to wake it. A worker that has
/// a processor answers a short call within that.
const IDLE_NANOS: u64 = 40_000;
/// Who lets others run and is back later than this is on a machine with more to do than it has processors.
const LONG_NANOS: u64 = 500_000;
/// How many times a side then sleeps at once: the system runs soon who is woken, but last who has yielded.
const SLEEPS: u32 = 100;

/// What one side knows about that. For the one thread that waits.
#[derive(Default)]
pub struct Idling {
    sleeps_left: AtomicU32,
}

impl Idling {
    /// Whether to sleep, having been without work since then.
    pub fn is_tired(&self, since: u64, now: u64) -> bool {
        self.sleeps_left.load(Ordering::Relaxed) > 0 || now - since >= IDLE_NANOS
    }

    /// Lets others run.
    pub fn give_way(&self) {
        let begin = monotonic_nanos();
        std::thread::yield_now();
        if monotonic_nanos() - begin > LONG_NANOS {
            self.sleeps_left.store(SLEEPS, Ordering::Relaxed);
        }
    }

    /// Says that it has slept.
    pub fn slept(&self) {
        let left = self.sleeps_left.load(Ordering::Relaxed);
        self.sleeps_left.store(left.saturating_sub(1), Ordering::Relaxed);
    }
}
