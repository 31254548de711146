//! The heartbeat of a loop: its thread publishes it, a watchdog thread reads it.
//!
//! The loop pays for it in every callback, so there it stores with relaxed ordering into a cache line of its own and
//! reads no clock; the watchdog does the timing. The two sides:
//!
//! ```text
//! loop's thread (the only writer of these)      watchdog thread
//! ----------------------------------------      ----------------------------------------------
//! set_busy(now)        after the poll           observe(): two equal busy observations mean that
//!   beat()             a callback starts          one callback held the loop all the time between
//!   …callback…                                  flag(sequence): that callback is blocked
//!   if take_flag()     was it marked?           observe(), then finished(sequence): its end
//!       finish(now)    publish its end
//! set_idle()           before the poll
//! ```
//!
//! A flag carries the sequence number of the callback that it means, and numbers never repeat: a flag that
//! arrives after its callback ended equals no later callback's number and is inert. The watchdog learns of that case
//! from [`Pulse::finished`] (see there).
//!
//! Calling the loop's side from two threads loses beats; it breaks nothing else.

use crate::primitive::{AtomicU64, Ordering, fence};

/// No callback's number, and no time: marks an idle loop, an absent flag, an absent end.
const NONE: u64 = u64::MAX;

/// The heartbeat of one loop; shared by reference between its thread and one watchdog.
// Two lines of 64 bytes: processors that fetch lines in pairs must not drag a neighbour along.
#[repr(align(128))]
#[derive(Debug)]
pub struct Pulse {
    /// The number of the callback that runs or ran last. Written by the loop.
    sequence: AtomicU64,
    /// When the poll last returned, or `NONE` while the loop polls. Written by the loop.
    busy_since: AtomicU64,
    /// The number of the callback that is marked as blocked. Written by the watchdog; the loop clears it.
    flagged: AtomicU64,
    /// The number of the last callback that ended marked. Written by the loop.
    finished: AtomicU64,
    /// When the callback `finished` ended. Written by the loop.
    finished_at: AtomicU64,
}

/// What the watchdog saw of a loop at one moment.
///
/// Two equal observations of which neither [is idle](Self::is_idle) mean that no callback started in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The number of the callback that runs, or ran last; 0 before the first.
    pub sequence: u64,
    /// When the loop last returned from its poll; `None` while it polls.
    pub busy_since_nanos: Option<u64>,
}

impl Observation {
    /// Whether the loop waits in its poll, so that nothing can be blocked.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.busy_since_nanos.is_none()
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

impl Pulse {
    /// The heartbeat of a loop that has run nothing and is idle.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            busy_since: AtomicU64::new(NONE),
            flagged: AtomicU64::new(NONE),
            finished: AtomicU64::new(NONE),
            finished_at: AtomicU64::new(NONE),
        }
    }

    /// Loop: a callback starts.
    #[inline]
    pub fn beat(&self) {
        let next = self.sequence.load(Ordering::Relaxed).wrapping_add(1);
        self.sequence.store(next, Ordering::Relaxed);
    }

    /// Loop: about to poll; nothing runs until [`set_busy`](Self::set_busy).
    #[inline]
    pub fn set_idle(&self) {
        self.busy_since.store(NONE, Ordering::Relaxed);
    }

    /// Loop: the poll returned at `now_nanos`, the reading of the clock that the loop makes there anyway.
    #[inline]
    pub fn set_busy(&self, now_nanos: u64) {
        self.busy_since.store(now_nanos, Ordering::Relaxed);
        // Whoever sees a callback of this stretch sees that the stretch began, and does not take the poll before it for
        // the callback's end. Pairs with the fence in `observe`; costs nothing on x86, and once a poll elsewhere.
        fence(Ordering::Release);
    }

    /// Loop, when a callback returns: whether the watchdog marked it. If so, read the clock and call
    /// [`finish`](Self::finish). True once for each mark.
    #[inline]
    #[must_use = "a marked callback must be reported with `finish`"]
    pub fn take_flag(&self) -> bool {
        if self.flagged.load(Ordering::Relaxed) != self.sequence.load(Ordering::Relaxed) {
            return false;
        }
        self.clear_flag()
    }

    // The watchdog marks one callback at a time, so a store cannot wipe out the mark of another.
    #[cold]
    fn clear_flag(&self) -> bool {
        self.flagged.store(NONE, Ordering::Relaxed);
        true
    }

    /// Loop: the callback that [`take_flag`](Self::take_flag) told of ended at `now_nanos`.
    #[cold]
    pub fn finish(&self, now_nanos: u64) {
        self.finished_at.store(now_nanos, Ordering::Relaxed);
        self.finished.store(self.sequence.load(Ordering::Relaxed), Ordering::Release);
        // Makes the relaxed stores that follow, the next `beat` or `set_idle`, carry the end with them, so that these
        // need no ordering of their own. Pairs with the fence in `observe`.
        fence(Ordering::Release);
    }

    /// Watchdog: where the loop is.
    ///
    /// The two fields are read one after the other; the loop may move on in between. At worst a callback that has
    /// ended is then marked, which has no effect.
    #[must_use]
    pub fn observe(&self) -> Observation {
        let sequence = self.sequence.load(Ordering::Relaxed);
        let busy_since = self.busy_since.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        Observation { sequence, busy_since_nanos: (busy_since != NONE).then_some(busy_since) }
    }

    /// Watchdog: marks the callback `sequence` as blocked. Mark the next one only after the
    /// [end](Self::finished) of this one was read, or found missing.
    pub fn flag(&self, sequence: u64) {
        self.flagged.store(sequence, Ordering::Relaxed);
    }

    /// Watchdog: when the marked callback `sequence` ended, as soon as the loop has published it.
    ///
    /// Still `None` although an observation made before this call (and after the one that led to the mark, which was
    /// not idle) is idle or shows another number: the callback had ended before the mark reached the loop, and its end
    /// will not be published.
    #[must_use]
    pub fn finished(&self, sequence: u64) -> Option<u64> {
        if self.finished.load(Ordering::Acquire) == sequence {
            Some(self.finished_at.load(Ordering::Relaxed))
        } else {
            None
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_new_pulse_is_idle_and_unmarked() {
        let pulse = Pulse::new();
        assert_eq!(pulse.observe(), Observation { sequence: 0, busy_since_nanos: None });
        assert!(pulse.observe().is_idle());
        assert!(!pulse.take_flag());
        assert_eq!(pulse.finished(0), None);
    }

    #[test]
    fn observations_follow_the_loop() {
        let pulse = Pulse::new();
        pulse.set_busy(0);
        assert_eq!(pulse.observe(), Observation { sequence: 0, busy_since_nanos: Some(0) });
        pulse.beat();
        pulse.beat();
        assert_eq!(pulse.observe(), Observation { sequence: 2, busy_since_nanos: Some(0) });
        pulse.set_idle();
        assert_eq!(pulse.observe(), Observation { sequence: 2, busy_since_nanos: None });
    }

    #[test]
    fn a_marked_callback_reports_its_end_once() {
        let pulse = Pulse::new();
        pulse.set_busy(100);
        pulse.beat();
        pulse.flag(pulse.observe().sequence);
        assert_eq!(pulse.finished(1), None);
        assert!(pulse.take_flag());
        pulse.finish(350);
        assert_eq!(pulse.finished(1), Some(350));
        assert!(!pulse.take_flag(), "the mark was taken");
        pulse.beat();
        assert!(!pulse.take_flag());
        assert_eq!(pulse.finished(1), Some(350));
        assert_eq!(pulse.finished(2), None);
    }

    #[test]
    fn a_late_mark_is_nobodys() {
        let pulse = Pulse::new();
        pulse.set_busy(100);
        pulse.beat();
        let seen = pulse.observe().sequence;
        assert!(!pulse.take_flag());
        pulse.flag(seen);
        pulse.beat();
        assert!(!pulse.take_flag(), "the mark belongs to the callback before");
        assert_ne!(pulse.observe().sequence, seen);
        assert_eq!(pulse.finished(seen), None, "an end that nobody measured is not invented");
        pulse.flag(pulse.observe().sequence);
        assert!(pulse.take_flag(), "a stale mark does not stand in the way of the next");
    }

    #[test]
    fn it_has_its_cache_lines_to_itself() {
        assert_eq!((size_of::<Pulse>(), align_of::<Pulse>()), (128, 128));
    }
}
