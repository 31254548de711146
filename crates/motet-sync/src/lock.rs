//! A lock: one at a time, in the order in which they came.
//!
//! # Invariants, under the state's own lock
//!
//! * Somebody waits only while there is an owner: a release hands the lock to the first who waits, so nobody who comes later is
//!   before them, and it has an owner again before that one runs.
//! * `depth` is 0 exactly while there is no owner, and more than 1 only if the lock is re-entrant.

use std::fmt;
use std::task::Waker;

use crate::inspect::{Inspect, Party, Snapshot};
use crate::operation::{Kind, Operation, Selective};
use crate::primitive::{Arc, Shared};
use crate::ticket::Ticket;
use crate::waiters::{Effects, Waiters};

/// A lock; clone it for each who uses it.
///
/// ```
/// use motet_sync::{Lock, block_on};
///
/// let lock = Lock::new();
/// let held = block_on(lock.acquire());
/// assert!(lock.try_acquire().is_none());
/// drop(held);
/// assert!(lock.try_acquire().is_some());
/// ```
#[derive(Clone)]
pub struct Lock {
    shared: Arc<Shared<State>>,
}

/// Why a lock was not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// Nobody holds it.
    NotHeld,
    /// A re-entrant lock is released by its owner alone, which is this one.
    HeldBy(Party),
}

/// What a lock's own lock guards.
pub struct State {
    owner: Option<Party>,
    depth: usize,
    reentrant: bool,
    waiters: Waiters<(), ()>,
}

/// The future of [`Lock::acquire`].
pub type Acquire = Operation<Acquiring>;

impl Lock {
    /// A lock that nobody holds. Whoever holds it must not wait for it.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a lock is not a value")]
    pub fn new() -> Self {
        Self::with(false)
    }

    /// A lock that its owner may acquire again, and releases as often. Owners are told apart as parties: see
    /// [`Operation::by`].
    #[must_use]
    pub fn reentrant() -> Self {
        Self::with(true)
    }

    fn with(reentrant: bool) -> Self {
        let waiters = Waiters::default();
        Self { shared: Shared::new(State { owner: None, depth: 0, reentrant, waiters }) }
    }

    /// Waits until it is this party's turn.
    pub fn acquire(&self) -> Acquire {
        Operation::new(&self.shared, ())
    }

    /// The lock, if it can be had now.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Held> {
        self.acquire().try_now().ok()
    }

    /// Acquires the lock for this party if it can be had now, to be kept until it is [released](Self::release); whether it was.
    #[must_use]
    pub fn try_keep(&self, party: Party) -> bool {
        self.shared.with(|state, effects| Acquiring::attempt(state, (), party, effects).is_ok())
    }

    /// Releases what was [kept](Held::keep). One that is not re-entrant may be released by anybody.
    ///
    /// # Errors
    /// [`ReleaseError`]; the lock is as before.
    pub fn release(&self, by: Party) -> Result<(), ReleaseError> {
        self.shared.with(|state, effects| match state.owner {
            None => Err(ReleaseError::NotHeld),
            Some(owner) if state.reentrant && owner != by => Err(ReleaseError::HeldBy(owner)),
            Some(_) => {
                state.release(effects);
                Ok(())
            }
        })
    }

    /// How often its owner has acquired it.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.with(|state, _| state.depth)
    }

    /// Who holds it.
    #[must_use]
    pub fn owner(&self) -> Option<Party> {
        self.shared.with(|state, _| state.owner)
    }
}

impl State {
    fn can_be_had_by(&self, party: Party) -> bool {
        match self.owner {
            None => true,
            Some(owner) => self.reentrant && owner == party,
        }
    }

    fn release(&mut self, effects: &mut Effects) {
        self.depth -= 1;
        if self.depth > 0 {
            return;
        }
        self.owner = None;
        let Self { owner, depth, waiters, .. } = self;
        waiters.serve(|(), party| (*owner, *depth) = (Some(party), 1), effects);
    }
}

/// A lock that is held; it is released when this is dropped.
#[must_use = "the lock is released when this is dropped"]
pub struct Held {
    lock: Option<Lock>,
    party: Party,
}

impl Held {
    /// Keeps the lock beyond this: it is given back by [`Lock::release`].
    pub fn keep(mut self) {
        self.lock = None;
    }

    /// The lock, and who holds it; it is held on.
    pub(crate) fn into_parts(mut self) -> (Lock, Party) {
        (self.lock.take().expect("nothing else takes it"), self.party)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            // Somebody else has released it, and there is nobody to be told.
            let _ = lock.release(self.party);
        }
    }
}

/// Waiting for a lock.
pub struct Acquiring(());

#[expect(private_interfaces, reason = "as in the trait")]
impl Kind for Acquiring {
    type State = State;
    type Wish = ();
    type Grant = ();
    type Output = Held;

    fn attempt(state: &mut State, (): (), party: Party, _: &mut Effects) -> Result<(), ()> {
        if !state.can_be_had_by(party) {
            return Err(());
        }
        state.owner = Some(party);
        state.depth += 1;
        Ok(())
    }

    fn waiters(state: &mut State) -> &mut Waiters<(), ()> {
        &mut state.waiters
    }

    fn give_back(state: &mut State, (): (), effects: &mut Effects) -> Option<()> {
        state.release(effects);
        None
    }

    fn output(shared: &Arc<Shared<State>>, (): (), party: Party) -> Held {
        Held { lock: Some(Lock { shared: Arc::clone(shared) }), party }
    }
}

#[expect(private_interfaces, reason = "as in the trait")]
impl Selective for Acquiring {
    fn is_possible(state: &State, (): &(), party: Party, _: &Ticket) -> bool {
        state.can_be_had_by(party)
    }
}

impl Inspect for Lock {
    fn inspect(&self) -> Snapshot {
        self.shared.with(|state, _| Snapshot {
            what: if state.reentrant { "re-entrant lock" } else { "lock" },
            owners: state.owner.into_iter().collect(),
            waiters: state.waiters.waiting("acquire").collect(),
        })
    }

    fn show_wakers(&self, show: &mut dyn FnMut(&Waker)) {
        self.shared.with(|state, _| state.waiters.wakers().for_each(show));
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld => formatter.write_str("nobody holds the lock"),
            Self::HeldBy(owner) => write!(formatter, "the lock is held by {owner}"),
        }
    }
}

impl std::error::Error for ReleaseError {}
