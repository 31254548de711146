//! How one side of a lane sleeps, and the other wakes it: only if it sleeps.
//!
//! ```text
//!   sleeper                                 ringer
//!   -------                                 ------
//!   lie_down()   word = ASLEEP              publishes
//!   looks for work once more                ring()      word was ASLEEP? → AWAKE, and wake it
//!     found some: get_up()
//!     none: sleep while the word is ASLEEP
//! ```
//!
//! Both put a full fence between their write and their look at the other's, so that at least one of the two sees
//! the other: the sleeper finds the work, or the ringer finds the sleeper. How to sleep and to wake is the caller's matter:
//! a futex on this word for a worker, a descriptor for a parent, which waits for other things as well.
//!
//! A parent that has given work ahead need not know of each reply at once. It [dozes](Bell::doze), for a moment only: nobody
//! rings then, but a worker [rouses](Bell::rouse) it that begins the last that it has, by the same rule: the parent looks, having
//! said that it dozes, whether there is something left to begin; the worker looks at the word, having begun the last.

use crate::primitive::{AtomicU32, Ordering, fence};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const DOZING: u32 = 2;

/// One side's bell. All zeros: awake.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Bell {
    word: AtomicU32,
}

impl Bell {
    /// Sleeper: is about to sleep. Looks for work once more after this.
    pub fn lie_down(&self) {
        self.word.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        step!("lie down: asleep");
    }

    /// Sleeper: is about to doze. Looks once more after this whether it may.
    pub fn doze(&self) {
        self.word.store(DOZING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        step!("doze: dozing");
    }

    /// Sleeper: has found work after all, or has slept.
    pub fn get_up(&self) {
        self.word.store(AWAKE, Ordering::Relaxed);
    }

    /// Sleeper: whether nobody has rung since it lay down.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.word.load(Ordering::Acquire) == ASLEEP
    }

    /// Ringer, after it has published: whether the other side sleeps and must be woken, by this caller alone.
    #[must_use = "a sleeper must be woken"]
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let wakes = self.ends(ASLEEP);
        if wakes {
            step!("ring: is to wake");
        }
        wakes
    }

    /// Ringer, having begun its last work: as [`ring`](Self::ring), for a side that dozes.
    #[must_use = "a sleeper must be woken"]
    pub fn rouse(&self) -> bool {
        fence(Ordering::SeqCst);
        let wakes = self.ends(DOZING);
        if wakes {
            step!("rouse: is to wake");
        }
        wakes
    }

    fn ends(&self, rest: u32) -> bool {
        self.word.load(Ordering::Relaxed) == rest
            && self.word.compare_exchange(rest, AWAKE, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// The word to sleep on, and the value that it has as long as the sleep shall go on.
    #[cfg(not(loom))]
    #[must_use]
    pub fn futex(&self) -> (&AtomicU32, u32) {
        (&self.word, ASLEEP)
    }
}
