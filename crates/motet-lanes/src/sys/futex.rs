//! Sleeping on a word of shared memory.

use crate::lane::Bell;
use rustix::thread::futex;

/// Sleeps until the bell is rung; at once if it has been. May also end for no reason, or for a signal.
pub fn sleep(bell: &Bell) {
    let (word, asleep) = bell.futex();
    // Any error means that there is no reason to sleep: the word has changed, or a signal has come.
    let _ = futex::wait(word, futex::Flags::empty(), asleep, None);
}

/// Wakes the side that sleeps on this bell.
pub fn wake(bell: &Bell) {
    let (word, _) = bell.futex();
    // The only error is for an address that is not mapped, which a reference rules out.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}
