//! The inbox of a thread: many producers, one consumer, at most one wake-up per burst.
//!
//! # State
//!
//! One atomic word holds the whole protocol: three small numbers, or the address of the newest node of a
//! linked list (newest first). A node's address is a multiple of its alignment (4 at least), so it is none of these.
//!
//! ```text
//!                    push                      push
//!            ┌──────────────────► LIST(n) ───────────► LIST(n + 1)
//!            │                    │  ▲
//!            │      drain         │  │
//!          EMPTY ◄────────────────┘  │ push: this producer owes the wake-up
//!          │   ▲                     │
//!  prepare │   │ woke                │
//!   _to    ▼   │                     │
//!   _sleep PARKED ───────────────────┘
//!
//!          EMPTY, PARKED, LIST ── close ──► CLOSED     (final: push gives the value back)
//! ```
//!
//! * `EMPTY`: the consumer is awake and will look again before it sleeps.
//! * `PARKED`: the consumer sleeps, or is about to.
//! * `LIST`: values wait; whoever had to be told has been told.
//!
//! Producers make the `push` arrows only, by compare-and-swap. All others belong to the consumer, and
//! [`Receiver`] is neither `Clone` nor `Sync`, so that there is one consumer at a time.
//!
//! # Why no wake-up is lost, and none is sent twice
//!
//! The consumer sleeps only after its own `EMPTY → PARKED` swap succeeded. All changes of one word are totally
//! ordered, so a push falls either before that swap, which then fails because it finds a list, or after it, and
//! then the first push to come finds `PARKED` and owes the wake-up. That push replaces `PARKED` by a list, hence no
//! later one finds `PARKED` until the consumer parks again: at most one wake-up for each successful
//! [`Receiver::prepare_to_sleep`]. There is no second flag, hence no order between two words to get wrong.
//! A consumer that was woken by something else in the meantime may be sent a wake-up that it no longer needs;
//! it must take that for an ordinary empty turn.
//!
//! # Memory orderings
//!
//! * `push` releases, `drain` and `close` acquire. They read the newest push; the older ones are seen as well, since
//!   every change in between is a read-modify-write and so continues the release sequence of each earlier push.
//! * `prepare_to_sleep` releases and `push` acquires: a producer that owes a wake-up sees all that the consumer
//!   wrote before it parked, for instance how to wake it.
//! * `woke` and `is_empty` pass nothing on and are relaxed.
//!
//! # Why a list with compare-and-swap is safe here
//!
//! No producer follows a pointer that another thread published, and the consumer takes the list as a whole, so
//! nobody reads a node that may have been freed. If a node is freed and its address returns to the head between a
//! producer's read and its swap, the swap succeeds and is right: the address that it linked *is* the head. The
//! link must then denote the new node at that address and not the dead one, therefore links are
//! stored as addresses with exposed provenance, not as pointers.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ptr::with_exposed_provenance_mut;

use crate::primitive::{Arc, AtomicUsize, Ordering};

const EMPTY: usize = 0;
const PARKED: usize = 1;
const CLOSED: usize = 2;

struct Node<T> {
    /// The address of the next node, or `EMPTY` at the end.
    next: usize,
    value: T,
}

struct Shared<T> {
    head: AtomicUsize,
    nodes: PhantomData<*mut Node<T>>,
}

// SAFETY: values only move through, from the thread of a producer to that of the consumer; nobody gets a
// reference to a value that another thread can reach. So `T: Send` is enough for both.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Makes an inbox: the end that any thread may push to, and the one that the consumer keeps.
#[must_use]
pub fn inbox<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { head: AtomicUsize::new(EMPTY), nodes: PhantomData });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared, one_thread_at_a_time: PhantomData })
}

/// Whether the producer that pushed must wake the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a consumer that is not woken when this is `Needed` may sleep for ever"]
pub enum Wake {
    /// The consumer is awake, or another producer wakes it.
    No,
    /// The consumer sleeps, or is about to: this producer, and only it, must wake it.
    Needed,
}

/// The inbox was closed; holds the value that could not be delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Closed(..)")
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the inbox is closed")
    }
}

impl<T> std::error::Error for Closed<T> {}

/// The end of an inbox that any thread may push to; clone it for each producer.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Queues `value`. What one thread pushes arrives in the order in which that thread pushed it.
    ///
    /// # Errors
    ///
    /// [`Closed`] gives `value` back once the receiver was closed or dropped.
    pub fn push(&self, value: T) -> Result<Wake, Closed<T>> {
        let mut head = self.shared.head.load(Ordering::Relaxed);
        if head == CLOSED {
            return Err(Closed(value));
        }
        let node = Box::into_raw(Box::new(Node { next: EMPTY, value }));
        let address = node.expose_provenance();
        while head != CLOSED {
            let next = if head == PARKED { EMPTY } else { head };
            // SAFETY: the node was not published yet, so it is this thread's alone.
            unsafe { (*node).next = next };
            match self.shared.head.compare_exchange_weak(head, address, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(PARKED) => return Ok(Wake::Needed),
                Ok(_) => return Ok(Wake::No),
                Err(actual) => head = actual,
            }
        }
        // SAFETY: the node came from `Box::into_raw` above and was never published.
        let node = unsafe { Box::from_raw(node) };
        Err(Closed(node.value))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sender { .. }")
    }
}

/// The consumer's end of an inbox. Dropping it closes the inbox and drops what is queued.
///
/// A consumer's turn:
///
/// ```
/// # use std::collections::VecDeque;
/// # let (sender, receiver) = motet_sync::inbox();
/// # let poll = |_may_block: bool| ();
/// # let mut ready: VecDeque<u32> = VecDeque::new();
/// # let _ = sender.push(7);
/// if !receiver.is_empty() {
///     receiver.drain_into(&mut ready);
/// }
/// if ready.is_empty() && receiver.prepare_to_sleep() {
///     poll(true);
///     receiver.woke();
/// } else {
///     poll(false);
/// }
/// # assert_eq!(ready, [7]);
/// ```
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    one_thread_at_a_time: PhantomData<Cell<()>>,
}

impl<T> Receiver<T> {
    /// Whether nothing is queued: one relaxed load. A push that is under way may be missed, but never by
    /// [`prepare_to_sleep`](Self::prepare_to_sleep).
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.head.load(Ordering::Relaxed) <= CLOSED
    }

    /// Announces that the consumer is about to sleep; from here on the first push owes a wake-up.
    ///
    /// False when values are queued, or the inbox is closed: then do not sleep. After sleeping, or deciding otherwise,
    /// call [`woke`](Self::woke).
    #[must_use = "sleeping although this is false loses the wake-up"]
    pub fn prepare_to_sleep(&self) -> bool {
        self.shared.head.compare_exchange(EMPTY, PARKED, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Announces that the consumer is awake: until it prepares to sleep again no push owes a wake-up.
    pub fn woke(&self) {
        // A failure means that a producer replaced `PARKED` already; there is nothing left to do then.
        let _ = self.shared.head.compare_exchange(PARKED, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Takes everything that is queued, oldest first.
    pub fn drain(&self) -> Drain<T> {
        // Only this thread turns a list into anything but a longer list, so a list it still is at the swap;
        // swapping without a look would reopen a closed inbox and unpark a parked one.
        let newest = if self.is_empty() { EMPTY } else { self.shared.head.swap(EMPTY, Ordering::Acquire) };
        Drain::reversing(newest)
    }

    /// Appends everything that is queued to `queue`, oldest first.
    pub fn drain_into(&self, queue: &mut VecDeque<T>) {
        queue.extend(self.drain());
    }

    /// Closes the inbox for good and returns what was still queued: every later push gives its value back.
    #[must_use = "dropping this drops the values that were still queued"]
    pub fn close(&self) -> Drain<T> {
        match self.shared.head.swap(CLOSED, Ordering::Acquire) {
            EMPTY | PARKED | CLOSED => Drain::reversing(EMPTY),
            newest => Drain::reversing(newest),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Receiver").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

/// Values taken out of an inbox, oldest first. Dropping it drops those that were not looked at.
pub struct Drain<T> {
    oldest: usize,
    remaining: usize,
    nodes: PhantomData<Box<Node<T>>>,
}

impl<T> Drain<T> {
    /// Takes over the list that starts at `newest`, which must have been taken out of the inbox's word.
    fn reversing(newest: usize) -> Self {
        let (mut address, mut oldest, mut remaining) = (newest, EMPTY, 0);
        while address != EMPTY {
            let node: *mut Node<T> = with_exposed_provenance_mut(address);
            // SAFETY: the list left the inbox's word with an acquiring swap, so its nodes are complete and this
            // thread's alone; each came from `Box::into_raw` with its provenance exposed.
            let next = unsafe { std::mem::replace(&mut (*node).next, oldest) };
            (oldest, address) = (address, next);
            remaining += 1;
        }
        Self { oldest, remaining, nodes: PhantomData }
    }
}

impl<T> Iterator for Drain<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.oldest == EMPTY {
            return None;
        }
        // SAFETY: as in `reversing`; the node is unlinked below, so that it is freed once.
        let node: Box<Node<T>> = unsafe { Box::from_raw(with_exposed_provenance_mut(self.oldest)) };
        let Node { next, value } = *node;
        self.oldest = next;
        self.remaining -= 1;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<T> ExactSizeIterator for Drain<T> {}
impl<T> FusedIterator for Drain<T> {}

impl<T> Drop for Drain<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T> fmt::Debug for Drain<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Drain").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}
