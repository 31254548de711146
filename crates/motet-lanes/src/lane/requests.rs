//! Requests to one worker, each with a state, so that what the worker has not begun can be taken back.
//!
//! The parent numbers its requests from 0. Request `p` lives in slot `p % N` as that slot's generation `p / N`:
//!
//! ```text
//!                parent                worker                worker
//!   (free) ─────publish────▶ READY ────claim────▶ CLAIMED ───finish───▶ DONE ─▶ free for generation + 1
//!                              │                                          ▲
//!                              └────────────parent takes back─────────────┘
//! ```
//!
//! The one word of a slot holds generation and state, so that each step is one atomic operation on what it means. Two
//! sides compete in one place only, for a request that is READY: the worker's claim and the parent's taking back are
//! compare-and-swap from the same word, so that exactly one of them wins.
//!
//! - **The body** belongs to the parent while the slot is free, to nobody while it is READY, to the worker while it is
//!   CLAIMED. Publishing releases it, claiming acquires it; finishing releases what the worker read, and the parent acquires
//!   that before it writes again.
//! - **The worker looks at one place**, that of its next number. There it finds: an older generation, or a slot that was never
//!   used: nothing to do; its request READY: a claim; its request DONE, or a newer generation: it was taken back (the
//!   slot may have been used again since), on to the next number. Requests are published in the order of their numbers, so nothing
//!   is overlooked.
//! - **After the worker's death** the parent, alone now, finds at most one request CLAIMED, since a worker claims one at a
//!   time: what ran when it died. READY ones were never begun.
//!
//! Modelled under loom in `tests/loom_lane.rs`.

use crate::primitive::{AtomicU64, Cell, Ordering};

const FREE: u64 = 0;
const READY: u64 = 1;
const CLAIMED: u64 = 2;
const DONE: u64 = 3;

fn word(generation: u64, state: u64) -> u64 {
    generation << 2 | state
}

#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Slot<T> {
    word: AtomicU64,
    /// When the worker claimed it, in nanoseconds of the system's monotonic clock; 0 before.
    claimed_at: AtomicU64,
    body: Cell<T>,
}

/// The slots of a lane. All zeros is a value in which nothing has happened.
#[repr(C)]
#[derive(Debug)]
pub struct Requests<T, const N: usize> {
    slots: [Slot<T>; N],
}

// SAFETY: a body is touched by the side that the slot's word gives it to, see the module.
unsafe impl<T: Send, const N: usize> Sync for Requests<T, N> {}

/// What came of the attempt to take a request back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeBack {
    /// The worker will not see it.
    Taken,
    /// The worker has begun it, and may have finished it.
    Begun,
}

/// A request as the parent sees it from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not begun.
    Waiting,
    /// Begun at this time of the monotonic clock.
    Running {
        /// Nanoseconds; 0 in the moment between the claim and the note of its time.
        since_nanos: u64,
    },
    /// Finished, or taken back.
    Over,
}

/// A request that the worker has claimed, by its number.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a claimed request must be finished"]
pub struct Claimed {
    position: u64,
}

impl Claimed {
    /// The request's number.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl<T, const N: usize> Requests<T, N> {
    fn at(&self, position: u64) -> (&Slot<T>, u64) {
        (&self.slots[(position % N as u64) as usize], position / N as u64)
    }

    /// Parent: whether request `position`, the next one, has a slot.
    #[must_use]
    pub fn has_room(&self, position: u64) -> bool {
        let (slot, generation) = self.at(position);
        // What the worker read from the body is over before it is written again.
        let found = slot.word.load(Ordering::Acquire);
        match generation.checked_sub(1) {
            Some(before) => found == word(before, DONE),
            None => found == word(0, FREE),
        }
    }

    /// Parent: writes request `position`, the next one, and lets the worker see it. False when there is no room.
    ///
    /// Only one thread at a time may do that, and positions follow one another.
    pub fn publish(&self, position: u64, write: impl FnOnce(&mut T)) -> bool {
        if !self.has_room(position) {
            return false;
        }
        let (slot, generation) = self.at(position);
        slot.claimed_at.store(0, Ordering::Relaxed);
        step!("publish: has a slot");
        // SAFETY: the slot is free, so the body is the parent's; any bits are a valid T, zeros included.
        slot.body.with_mut(|body| write(unsafe { &mut *body }));
        step!("publish: written");
        slot.word.store(word(generation, READY), Ordering::Release);
        step!("publish: ready");
        true
    }

    /// Parent: takes request `position` back, if the worker has not begun it.
    pub fn take_back(&self, position: u64) -> TakeBack {
        let (slot, generation) = self.at(position);
        let ready = word(generation, READY);
        let done = word(generation, DONE);
        match slot.word.compare_exchange(ready, done, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                step!("take back: taken");
                TakeBack::Taken
            }
            Err(_) => TakeBack::Begun,
        }
    }

    /// Parent: what the worker has made of request `position`.
    #[must_use]
    pub fn progress(&self, position: u64) -> Progress {
        let (slot, generation) = self.at(position);
        match slot.word.load(Ordering::Acquire) {
            found if found == word(generation, READY) => Progress::Waiting,
            found if found == word(generation, CLAIMED) => {
                Progress::Running { since_nanos: slot.claimed_at.load(Ordering::Relaxed) }
            }
            _ => Progress::Over,
        }
    }

    /// Worker: claims the first request from number `next` on, and moves `next` behind it. `None`: there is none yet.
    ///
    /// Only one thread at a time may do that, and must [`finish`](Self::finish) it before it claims another.
    pub fn claim(&self, next: &mut u64) -> Option<Claimed> {
        loop {
            let position = *next;
            let (slot, generation) = self.at(position);
            let ready = word(generation, READY);
            let mut found = slot.word.load(Ordering::Relaxed);
            if found == ready {
                let claimed = word(generation, CLAIMED);
                match slot.word.compare_exchange(ready, claimed, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => {
                        step!("claim: claimed");
                        *next += 1;
                        return Some(Claimed { position });
                    }
                    Err(other) => found = other,
                }
            }
            if found < ready {
                return None;
            }
            // Taken back; and published anew perhaps, under a later number.
            *next += 1;
        }
    }

    /// Worker: notes when it began a request.
    pub fn note_start(&self, claimed: &Claimed, now_nanos: u64) {
        self.at(claimed.position).0.claimed_at.store(now_nanos, Ordering::Relaxed);
        step!("note start: noted");
    }

    /// Worker: the body of what it has claimed.
    pub fn read<R>(&self, claimed: &Claimed, read: impl FnOnce(&T) -> R) -> R {
        // SAFETY: the slot is CLAIMED, so that the body is the worker's.
        self.at(claimed.position).0.body.with(|body| read(unsafe { &*body }))
    }

    /// Worker: is done with what it has claimed, and has answered it.
    pub fn finish(&self, claimed: Claimed) {
        let (slot, generation) = self.at(claimed.position);
        step!("finish: answered");
        slot.word.store(word(generation, DONE), Ordering::Release);
        step!("finish: done");
    }
}

#[cfg(any(test, loom))]
impl<T: Default, const N: usize> Default for Requests<T, N> {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::default()) }
    }
}
