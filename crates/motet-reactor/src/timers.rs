//! The timers of a loop: values that come due at a deadline, unless they are cancelled first.
//!
//! Most timers are cancelled (they are timeouts), and soon. So cancelling does not search the queue:
//!
//! * Values live in a *slab*; cancelling takes the value out at once, so nothing that it owns lingers.
//! * A heap of small plain entries (deadline, number, slot) keeps the order. The entry of a cancelled timer stays
//!   behind, *dead*: its slot does not hold its number any more. An entry that is last in the heap's array, like
//!   that of a timer which was scheduled just now, is removed directly.
//! * When the dead outnumber the living, the heap is rebuilt without them. A rebuild looks at fewer than two
//!   entries for each one that it removes: constant work for each cancellation, and the heap is never longer than
//!   twice the number of living timers.
//!
//! Each timer gets a number that is never given again. It orders equal deadlines as they were scheduled, and it is
//! the generation of its slot: a key that has outlived its timer fits nothing.

use std::num::NonZeroU64;

/// How many children a node of the heap has. Four share a cache line or two, and halve the depth.
const ARITY: usize = 4;

/// Names one scheduled timer. Inert once that has come due or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    number: NonZeroU64,
    slot: usize,
}

/// Field order is the order of the queue: by deadline, then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: u64,
    number: NonZeroU64,
    slot: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next_vacant: Option<usize> },
    Occupied { number: NonZeroU64, value: T },
}

/// A queue of timers.
#[derive(Debug)]
pub struct Timers<T> {
    slots: Vec<Slot<T>>,
    vacant: Option<usize>,
    /// A heap: no entry is before its parent, which is at `(index - 1) / ARITY`.
    entries: Vec<Entry>,
    live: usize,
    next_number: NonZeroU64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: None, entries: Vec::new(), live: 0, next_number: NonZeroU64::MIN }
    }
}

impl<T> Timers<T> {
    /// An empty queue, without memory of its own yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a timer that comes due at `deadline`, after those of the same deadline that are there already.
    #[inline]
    pub fn schedule(&mut self, deadline: u64, value: T) -> TimerKey {
        let number = self.next_number;
        // Counting to the end at a timer a nanosecond takes five centuries.
        self.next_number = number.saturating_add(1);
        let slot = self.occupy(number, value);
        self.entries.push(Entry { deadline, number, slot });
        self.sift_up(self.entries.len() - 1);
        self.live += 1;
        TimerKey { number, slot }
    }

    /// Removes a timer and returns its value; `None` if it came due or was cancelled before.
    #[inline]
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let value = self.vacate(key)?;
        while self.entries.last().is_some_and(|last| !self.is_live(last)) {
            self.entries.pop();
        }
        self.bound_garbage();
        Some(value)
    }

    /// When the next timer comes due.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<u64> {
        self.first_live().map(|first| first.deadline)
    }

    /// Removes the first timer whose deadline is `now` or earlier.
    #[inline]
    pub fn pop_due(&mut self, now: u64) -> Option<(TimerKey, T)> {
        let first = self.first_live().filter(|first| first.deadline <= now)?;
        self.pop_first();
        let key = TimerKey { number: first.number, slot: first.slot };
        let value = self.vacate(key)?;
        self.bound_garbage();
        Some((key, value))
    }

    /// How many timers there are; cancelled ones do not count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is no timer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many entries of cancelled timers are left in the queue: never more than [`len`](Self::len).
    #[must_use]
    pub fn garbage(&self) -> usize {
        self.entries.len() - self.live
    }

    /// The values of all timers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Occupied { value, .. } => Some(value),
            Slot::Vacant { .. } => None,
        })
    }

    /// Removes all timers and returns their values, in no order. Their keys stay inert.
    pub fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        let cleared = std::mem::replace(self, Self { next_number: self.next_number, ..Self::default() });
        cleared.slots.into_iter().filter_map(|slot| match slot {
            Slot::Occupied { value, .. } => Some(value),
            Slot::Vacant { .. } => None,
        })
    }

    fn occupy(&mut self, number: NonZeroU64, value: T) -> usize {
        let occupied = Slot::Occupied { number, value };
        match self.vacant {
            Some(slot) => {
                if let Slot::Vacant { next_vacant } = std::mem::replace(&mut self.slots[slot], occupied) {
                    self.vacant = next_vacant;
                }
                slot
            }
            None => {
                self.slots.push(occupied);
                self.slots.len() - 1
            }
        }
    }

    fn vacate(&mut self, key: TimerKey) -> Option<T> {
        let slot = self.slots.get_mut(key.slot)?;
        if !matches!(slot, Slot::Occupied { number, .. } if *number == key.number) {
            return None;
        }
        let vacant = Slot::Vacant { next_vacant: self.vacant.replace(key.slot) };
        match std::mem::replace(slot, vacant) {
            Slot::Occupied { value, .. } => {
                self.live -= 1;
                Some(value)
            }
            Slot::Vacant { .. } => None,
        }
    }

    fn is_live(&self, entry: &Entry) -> bool {
        is_live(&self.slots, entry)
    }

    /// Removes dead entries from the front and returns the living one that is then first.
    fn first_live(&mut self) -> Option<Entry> {
        loop {
            let first = *self.entries.first()?;
            if self.is_live(&first) {
                return Some(first);
            }
            self.pop_first();
        }
    }

    fn bound_garbage(&mut self) {
        if self.garbage() <= self.live {
            return;
        }
        self.entries.retain(|entry| is_live(&self.slots, entry));
        if let Some(last_parent) = self.entries.len().checked_sub(2).map(|index| index / ARITY) {
            (0..=last_parent).rev().for_each(|index| self.sift_down(index));
        }
    }

    fn pop_first(&mut self) {
        if !self.entries.is_empty() {
            self.entries.swap_remove(0);
            self.sift_down(0);
        }
    }

    fn sift_up(&mut self, mut index: usize) {
        let entry = self.entries[index];
        while index > 0 {
            let parent = (index - 1) / ARITY;
            if self.entries[parent] <= entry {
                break;
            }
            self.entries[index] = self.entries[parent];
            index = parent;
        }
        self.entries[index] = entry;
    }

    fn sift_down(&mut self, mut index: usize) {
        let Some(&entry) = self.entries.get(index) else { return };
        loop {
            let first_child = index * ARITY + 1;
            let end = self.entries.len().min(first_child + ARITY);
            let Some(child) = (first_child..end).min_by_key(|child| self.entries[*child]) else { break };
            if entry <= self.entries[child] {
                break;
            }
            self.entries[index] = self.entries[child];
            index = child;
        }
        self.entries[index] = entry;
    }
}

fn is_live<T>(slots: &[Slot<T>], entry: &Entry) -> bool {
    matches!(slots[entry.slot], Slot::Occupied { number, .. } if number == entry.number)
}
