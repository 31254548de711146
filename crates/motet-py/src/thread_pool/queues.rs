//! All queues of a pool.
//!
//! With a GIL there is one. On free-threaded builds each worker has its own for the calls that its calls submit, beside the common
//! one; a worker without work takes from the others'. A worker that is never without looks into the common one from time to time.
//!
//! The number of a call says in which queue it waits.

use super::call::Call;
use super::queue::Queue;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const COUNT: usize = if cfg!(Py_GIL_DISABLED) { 16 } else { 1 };
/// Which of a worker's looks for work begins at the common queue.
const FAIRNESS: usize = 32;
const COMMON: usize = 0;
/// A queue with a cache line of its own, so that who uses another does not wait for it.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// As the queue's, to be read without the lock.
    length: AtomicUsize,
    next: AtomicU64,
    queue: Mutex<Queue>,
}

impl Shard {
    fn with<R>(&self, use_queue: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue: MutexGuard<'_, Queue> = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let result = use_queue(&mut queue);
        self.length.store(queue.len(), Ordering::SeqCst);
        result
    }
}

pub struct Queues(Box<[Shard]>);

impl Default for Queues {
    fn default() -> Self {
        Self((0..COUNT).map(|_| Shard::default()).collect())
    }
}

impl Queues {
    /// The queue of the worker that is the `index`th to be started.
    pub fn home(&self, index: usize) -> usize {
        index.checked_rem(self.0.len() - 1).map_or(COMMON, |place| 1 + place)
    }

    /// A number for a call that will wait in this queue, nothing being the common one.
    pub fn number(&self, home: Option<usize>) -> u64 {
        let shard = home.unwrap_or(COMMON);
        (1 + self.0[shard].next.fetch_add(1, Ordering::Relaxed)) * self.0.len() as u64 + shard as u64
    }

    fn shard(&self, number: u64) -> &Shard {
        &self.0[(number % self.0.len() as u64) as usize]
    }

    pub fn insert(&self, call: Call) {
        self.shard(call.number).with(|queue| queue.insert(call));
    }

    /// The next call for a worker; `note` learns its number before anybody can miss it.
    pub fn take(&self, home: usize, look: usize, note: impl Fn(u64)) -> Option<Call> {
        let from = |shard: &Shard| -> Option<Call> {
            if shard.length.load(Ordering::SeqCst) == 0 {
                return None;
            }
            shard.with(|queue| {
                let call = queue.take()?;
                note(call.number);
                Some(call)
            })
        };
        let (first, second) = if look.is_multiple_of(FAIRNESS) { (COMMON, home) } else { (home, COMMON) };
        from(&self.0[first]).or_else(|| {
            if first == second {
                return None;
            }
            let (before, after) = self.0.split_at(home);
            from(&self.0[second]).or_else(|| after.iter().chain(before).find_map(from))
        })
    }

    pub fn withdraw(&self, number: u64) -> Option<Call> {
        self.shard(number).with(|queue| queue.withdraw(number))
    }

    /// Takes back all that `choose` says.
    pub fn withdraw_all(&self, choose: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.0.iter().flat_map(|shard| shard.with(|queue| queue.withdraw_all(&choose))).collect()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.length.load(Ordering::SeqCst)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|shard| shard.length.load(Ordering::SeqCst) == 0)
    }

    /// How many calls have been submitted.
    pub fn submitted(&self) -> u64 {
        self.0.iter().map(|shard| shard.next.load(Ordering::Relaxed)).sum()
    }
}
