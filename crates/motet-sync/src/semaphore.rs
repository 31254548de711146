//! A semaphore: so many may go on at the same time.
//!
//! # Invariants, under its lock
//!
//! * While somebody waits, the first who does wants more permits than are left. Nobody who comes later is before them, however
//!   few they want. A select that was given something elsewhere counts as waiting until it has been polled or dropped.
//! * Permits are handed over: those of a waiter that was served, and has not run yet, are not among those left.

use std::task::Waker;

use crate::inspect::{Inspect, Party, Snapshot};
use crate::operation::{Kind, Operation, Selective};
use crate::primitive::{Arc, Shared};
use crate::ticket::Ticket;
use crate::waiters::{Effects, Next, Waiters};

/// A semaphore; clone it for each who uses it.
///
/// ```
/// use motet_sync::{Semaphore, block_on};
///
/// let semaphore = Semaphore::new(2);
/// let (first, second) = (block_on(semaphore.acquire(1)), block_on(semaphore.acquire(1)));
/// assert!(semaphore.try_acquire(1).is_none());
/// drop(first);
/// assert!(semaphore.try_acquire(1).is_some());
/// # drop(second);
/// ```
#[derive(Clone)]
pub struct Semaphore {
    shared: Arc<Shared<State>>,
}

/// More permits were released than a bounded semaphore has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasedTooOften;

/// What the lock of a semaphore guards.
pub struct State {
    left: usize,
    /// There are never more left.
    most: usize,
    waiters: Waiters<usize, usize>,
}

/// The future of [`Semaphore::acquire`].
pub type AcquirePermits = Operation<AcquiringPermits>;

impl Semaphore {
    /// A semaphore with so many permits, of which any number may be added.
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self::with_most(permits, usize::MAX)
    }

    /// A semaphore with so many permits, and never more.
    #[must_use]
    pub fn bounded(permits: usize) -> Self {
        Self::with_most(permits, permits)
    }

    fn with_most(left: usize, most: usize) -> Self {
        Self { shared: Shared::new(State { left, most, waiters: Waiters::default() }) }
    }

    /// Waits for so many permits at once, and for those who came before.
    ///
    /// # Panics
    /// A bounded semaphore never has so many.
    pub fn acquire(&self, permits: usize) -> AcquirePermits {
        let most = self.shared.with(|state, _| state.most);
        assert!(permits <= most, "{permits} permits of a semaphore that has {most} at most");
        Operation::new(&self.shared, permits)
    }

    /// So many permits if they can be had now, and nobody waits.
    ///
    /// # Panics
    /// A bounded semaphore never has so many.
    #[must_use]
    pub fn try_acquire(&self, permits: usize) -> Option<Permits> {
        self.acquire(permits).try_now().ok()
    }

    /// So many permits if they can be had now, to be kept until they are [released](Self::release); whether they were.
    #[must_use]
    pub fn try_keep(&self, permits: usize) -> bool {
        let party = Party::this_thread();
        self.shared.with(|state, effects| AcquiringPermits::attempt(state, permits, party, effects).is_ok())
    }

    /// Adds permits, also such as were never acquired.
    ///
    /// # Errors
    /// A bounded semaphore would have more than it began with; it is as before.
    pub fn release(&self, permits: usize) -> Result<(), ReleasedTooOften> {
        self.shared.with(|state, effects| {
            let left = state.left.checked_add(permits).filter(|&left| left <= state.most);
            state.left = left.ok_or(ReleasedTooOften)?;
            state.serve(effects);
            Ok(())
        })
    }

    /// How many permits are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.shared.with(|state, _| state.left)
    }
}

impl State {
    fn serve(&mut self, effects: &mut Effects) {
        let Self { left, waiters, .. } = self;
        while let Next::Claimed(key) = waiters.next(|&permits| permits <= *left) {
            waiters.grant(
                key,
                |permits, _| {
                    *left -= permits;
                    permits
                },
                effects,
            );
        }
    }
}

/// Permits that are held; they are released when this is dropped.
#[must_use = "the permits are released when this is dropped"]
pub struct Permits {
    semaphore: Semaphore,
    count: usize,
}

impl Permits {
    /// Keeps the permits beyond this: they are given back by [`Semaphore::release`].
    pub fn keep(mut self) {
        self.count = 0;
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        let count = self.count;
        self.semaphore.shared.with(|state, effects| AcquiringPermits::give_back(state, count, effects));
    }
}

/// Waiting for permits.
pub struct AcquiringPermits(());

#[expect(private_interfaces, reason = "as in the trait")]
impl Kind for AcquiringPermits {
    type State = State;
    type Wish = usize;
    type Grant = usize;
    type Output = Permits;

    fn attempt(state: &mut State, permits: usize, _: Party, _: &mut Effects) -> Result<usize, usize> {
        if permits > state.left || state.waiters.has_other(None) {
            return Err(permits);
        }
        state.left -= permits;
        Ok(permits)
    }

    fn waiters(state: &mut State) -> &mut Waiters<usize, usize> {
        &mut state.waiters
    }

    fn give_back(state: &mut State, permits: usize, effects: &mut Effects) -> Option<usize> {
        state.left = state.left.saturating_add(permits).min(state.most);
        state.serve(effects);
        None
    }

    fn has_left(state: &mut State, effects: &mut Effects) {
        state.serve(effects);
    }

    fn output(shared: &Arc<Shared<State>>, count: usize, _: Party) -> Permits {
        Permits { semaphore: Semaphore { shared: Arc::clone(shared) }, count }
    }
}

#[expect(private_interfaces, reason = "as in the trait")]
impl Selective for AcquiringPermits {
    fn is_possible(state: &State, &permits: &usize, _: Party, ticket: &Ticket) -> bool {
        permits <= state.left && !state.waiters.has_other(Some(ticket))
    }
}

impl Inspect for Semaphore {
    fn inspect(&self) -> Snapshot {
        self.shared.with(|state, _| Snapshot {
            what: "semaphore",
            owners: Vec::new(),
            waiters: state.waiters.waiting("acquire").collect(),
        })
    }

    fn show_wakers(&self, show: &mut dyn FnMut(&Waker)) {
        self.shared.with(|state, _| state.waiters.wakers().for_each(show));
    }
}
