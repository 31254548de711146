//! A bounded queue in shared memory, with one producer and one consumer.
//!
//! Two counters that only grow: `pushed`, written by the producer, and `popped`, written by the consumer. An entry
//! between them is the consumer's, all others are the producer's. Each side releases entries with its own counter and acquires
//! them with the other's. A counter that is damaged by the other side makes entries come twice or not at all; it reaches nothing
//! outside the ring.

use crate::primitive::{AtomicU64, Cell, Ordering};

// Apart, so that one side's writing does not slow the other's; processors fetch lines in pairs.
#[repr(C, align(128))]
#[derive(Debug, Default)]
struct Counter(AtomicU64);

/// The queue. All zeros is an empty one.
#[repr(C)]
#[derive(Debug)]
pub struct Ring<T, const N: usize> {
    pushed: Counter,
    popped: Counter,
    entries: [Cell<T>; N],
}

// SAFETY: an entry is touched by the side that the counters give it to, see the module.
unsafe impl<T: Send, const N: usize> Sync for Ring<T, N> {}

impl<T, const N: usize> Ring<T, N> {
    fn entry(&self, position: u64) -> &Cell<T> {
        &self.entries[(position % N as u64) as usize]
    }

    /// Producer: writes an entry and lets the consumer see it. False, and nothing done, when the ring is full.
    ///
    /// Only one thread at a time may do that.
    pub fn push(&self, write: impl FnOnce(&mut T)) -> bool {
        let position = self.pushed.0.load(Ordering::Relaxed);
        if position.wrapping_sub(self.popped.0.load(Ordering::Acquire)) >= N as u64 {
            return false;
        }
        // SAFETY: behind `pushed` and not a whole round ahead of `popped`: the producer's. Any bits are a valid T.
        self.entry(position).with_mut(|entry| write(unsafe { &mut *entry }));
        step!("push: written");
        self.pushed.0.store(position.wrapping_add(1), Ordering::Release);
        step!("push: pushed");
        true
    }

    /// Consumer: reads the oldest entry and gives its place back. `None` when there is none.
    ///
    /// Only one thread at a time may do that.
    pub fn pop<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        let position = self.popped.0.load(Ordering::Relaxed);
        if position == self.pushed.0.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: between `popped` and `pushed`: the consumer's.
        let result = self.entry(position).with(|entry| read(unsafe { &*entry }));
        step!("pop: read");
        self.popped.0.store(position.wrapping_add(1), Ordering::Release);
        step!("pop: popped");
        Some(result)
    }

    /// Consumer: whether there is an entry. Sequentially consistent, for the side that is about to sleep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.popped.0.load(Ordering::Relaxed) == self.pushed.0.load(Ordering::SeqCst)
    }
}

#[cfg(any(test, loom))]
impl<T: Default, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self {
            pushed: Counter::default(),
            popped: Counter::default(),
            entries: std::array::from_fn(|_| Cell::default()),
        }
    }
}
