//! A queue with two ends that anybody may hold: bounded, rendezvous or unbounded, closed with a reason if need be.
//!
//! # Invariants, under the channel's lock
//!
//! * Whoever waits to get waits because there is nothing: then no item is queued and nobody waits to put.
//! * Whoever waits to put waits because there is no room: then as many items are queued as the capacity says, or more.
//! * More than the capacity are queued only where an item came back that a get had been given and did not return.
//! * Nobody waits on a closed channel.
//!
//! The first two leave selects aside whose ticket was taken elsewhere just now: they wait no more, and are about to say so.
//!
//! Items pass from hand to hand: a put gives its item to the first who waits, so that nobody who comes later is before
//! them. An item that came back takes the place that it had.

mod errors;
mod state;

pub use errors::{Closed, PutError, TryGetError};
pub use state::{Getting, Putting};

use std::task::Waker;

use crate::inspect::{Inspect, Party, Snapshot};
use crate::operation::{Kind, Operation};
use crate::primitive::{Arc, Shared};
use state::State;

/// How many items a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// So many; with 0 a put waits until somebody gets.
    Bounded(usize),
    /// Any number.
    Unbounded,
}

/// What a put does that finds no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It waits.
    #[default]
    Wait,
    /// Its own item is dropped.
    DropNewest,
    /// The item that has waited longest is dropped. With a capacity of 0, its own.
    DropOldest,
    /// It fails.
    Fail,
}

/// A channel; clone it for each who holds an end. `E` is the error that it may be closed with.
pub struct Channel<T, E = ()> {
    shared: Arc<Shared<State<T, E>>>,
}

/// What a channel has done, and how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Items in it now.
    pub length: usize,
    /// Items that were put, with those that came to be dropped.
    pub put: u64,
    /// Items that were got.
    pub got: u64,
    /// Items that were dropped because there was no room.
    pub dropped: u64,
    /// Who waits to put.
    pub waiting_to_put: usize,
    /// Who waits to get.
    pub waiting_to_get: usize,
    /// Whether it was closed.
    pub closed: bool,
}

/// The future of [`Channel::put`].
pub type Put<T, E = ()> = Operation<Putting<T, E>>;
/// The future of [`Channel::get`].
pub type Get<T, E = ()> = Operation<Getting<T, E>>;

impl<T, E> Channel<T, E> {
    /// A channel whose puts wait for room.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self::with_overflow(capacity, Overflow::Wait)
    }

    /// A channel that does this when there is no room.
    #[must_use]
    pub fn with_overflow(capacity: Capacity, overflow: Overflow) -> Self {
        let room = match capacity {
            Capacity::Bounded(room) => room,
            Capacity::Unbounded => usize::MAX,
        };
        Self { shared: Shared::new(State::new(room, overflow)) }
    }

    /// Puts an item in, when there is room. The future gives the item that was dropped for it, if one was.
    pub fn put(&self, item: T) -> Put<T, E> {
        Operation::new(&self.shared, item)
    }

    /// Gets the oldest item, when there is one.
    pub fn get(&self) -> Get<T, E> {
        Operation::new(&self.shared, ())
    }

    /// Puts an item in if that can be done now. Gives the item that was dropped for it, if one was.
    ///
    /// # Errors
    /// [`PutError`], with the item.
    pub fn try_put(&self, item: T) -> Result<Option<T>, PutError<T, E>> {
        let put =
            self.shared.with(|state, effects| Putting::attempt(state, item, Party::this_thread(), effects));
        put.unwrap_or_else(|item| Err(PutError::Full(item)))
    }

    /// Gets the oldest item if there is one now.
    ///
    /// # Errors
    /// [`TryGetError`].
    pub fn try_get(&self) -> Result<T, TryGetError<E>> {
        let got =
            self.shared.with(|state, effects| Getting::attempt(state, (), Party::this_thread(), effects));
        let (_, item) = got.map_err(|()| TryGetError::Empty)?.map_err(TryGetError::Closed)?;
        Ok(item)
    }

    /// Takes no more items, and ends all waits. Items that are in it can still be got, and so can one that comes back afterwards
    /// because a get that was given it was dropped. False if it was closed before.
    pub fn close(&self, error: Option<E>) -> bool {
        let closed = Closed { error: error.map(Arc::new) };
        self.shared.with(|state, effects| state.close(&closed, effects))
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.with(|state, _| state.is_closed())
    }

    /// How many items are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.with(|state, _| state.len())
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows each item that it keeps, with those that somebody waits to put or was given and has not returned; and what it was closed
    /// with. The lock is held meanwhile.
    pub fn show(&self, item: &mut dyn FnMut(&T), error: &mut dyn FnMut(&E)) {
        self.shared.with(|state, _| state.show(item, error));
    }

    /// Takes the items that are in it out, as if they were dropped for want of room. Whoever waits for room has it.
    pub fn drain(&self) -> Vec<T> {
        self.shared.with(State::drain)
    }

    /// What it has done, and how it is.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.with(|state, _| state.statistics())
    }
}

impl<T: Send, E: Send + Sync> Inspect for Channel<T, E> {
    fn inspect(&self) -> Snapshot {
        self.shared.with(|state, _| Snapshot {
            what: "channel",
            owners: Vec::new(),
            waiters: state.waiting().collect(),
        })
    }

    fn show_wakers(&self, show: &mut dyn FnMut(&Waker)) {
        self.shared.with(|state, _| state.wakers().for_each(show));
    }
}

impl<T, E> Clone for Channel<T, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}
