//! Putting a thread to sleep until another wakes it, its time is over, or a signal comes.
//!
//! `std::thread::park` sleeps on after a signal, whose handler in Python would run only after the wait.
//!
//! Invariant: `state` goes from `AWAKE` to `ASLEEP` by its own thread alone, and to `WOKEN` by any. A wake-up that comes before the
//! sleep is kept: `sleep` returns at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const WOKEN: u32 = 2;

/// Where one thread sleeps.
pub struct Parker {
    state: AtomicU32,
    #[cfg(not(target_os = "linux"))]
    thread: std::thread::Thread,
}

impl Parker {
    /// For this thread.
    pub fn new() -> Self {
        Self {
            state: AtomicU32::new(AWAKE),
            #[cfg(not(target_os = "linux"))]
            thread: std::thread::current(),
        }
    }

    /// Whether it was woken since this was asked last.
    pub fn take(&self) -> bool {
        self.state.swap(AWAKE, Ordering::Acquire) == WOKEN
    }

    /// Whether it was woken and nobody has asked yet.
    pub fn is_woken(&self) -> bool {
        self.state.load(Ordering::Acquire) == WOKEN
    }

    /// Wakes the thread.
    pub fn wake(&self) {
        if self.state.swap(WOKEN, Ordering::Release) == ASLEEP {
            self.rouse();
        }
    }

    /// Sleeps until it is woken, which [`take`](Self::take) tells, or a signal comes, or the time is over. May be shorter.
    pub fn sleep(&self, longest: Option<Duration>) {
        if self.state.compare_exchange(AWAKE, ASLEEP, Ordering::Acquire, Ordering::Acquire).is_ok() {
            self.doze(longest);
            // Woken or not, it is awake.
            let _ = self.state.compare_exchange(ASLEEP, AWAKE, Ordering::Acquire, Ordering::Acquire);
        }
    }

    #[cfg(target_os = "linux")]
    fn rouse(&self) {
        use rustix::thread::futex;
        // It fails only for an address that is none.
        let _ = futex::wake(&self.state, futex::Flags::PRIVATE, 1);
    }

    #[cfg(target_os = "linux")]
    fn doze(&self, longest: Option<Duration>) {
        use rustix::thread::futex;
        let longest = longest.and_then(|longest| futex::Timespec::try_from(longest).ok());
        // However it ends, the caller looks at what has happened.
        let _ = futex::wait(&self.state, futex::Flags::PRIVATE, ASLEEP, longest.as_ref());
    }

    #[cfg(not(target_os = "linux"))]
    fn rouse(&self) {
        self.thread.unpark();
    }

    #[cfg(not(target_os = "linux"))]
    fn doze(&self, longest: Option<Duration>) {
        // A signal does not end this, so it never lasts long.
        const SLICE: Duration = Duration::from_millis(50);
        std::thread::park_timeout(longest.map_or(SLICE, |longest| longest.min(SLICE)));
    }
}
