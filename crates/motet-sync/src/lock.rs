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
    /// Which hold this is: a new number each time that it has another owner.
    turn: u64,
    waiters: Waiters<(), u64>,
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
    /// [`Operation::by`]. A party that waits for it more than once at the same time is served one by one, as if it were several.
    #[must_use]
    pub fn reentrant() -> Self {
        Self::with(true)
    }

    fn with(reentrant: bool) -> Self {
        let waiters = Waiters::default();
        Self { shared: Shared::new(State { owner: None, depth: 0, reentrant, turn: 0, waiters }) }
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
        let Self { owner, depth, turn, waiters, .. } = self;
        let give = |(), party| {
            *turn += 1;
            (*owner, *depth) = (Some(party), 1);
            *turn
        };
        waiters.serve(give, effects);
    }

    /// Nothing if that hold was ended by somebody else.
    fn release_turn(&mut self, turn: u64, effects: &mut Effects) {
        if self.owner.is_some() && self.turn == turn {
            self.release(effects);
        }
    }
}

/// A lock that is held; it is released when this is dropped.
#[must_use = "the lock is released when this is dropped"]
pub struct Held {
    lock: Option<Lock>,
    party: Party,
    turn: u64,
}

impl Held {
    /// Keeps the lock beyond this: it is given back by [`Lock::release`].
    pub fn keep(mut self) {
        self.lock = None;
    }

    /// The lock, and who holds it.
    pub(crate) fn parts(&self) -> (Lock, Party) {
        (self.lock.clone().expect("nothing else takes it"), self.party)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.shared.with(|state, effects| state.release_turn(self.turn, effects));
        }
    }
}

/// Waiting for a lock.
pub struct Acquiring(());

#[expect(private_interfaces, reason = "as in the trait")]
impl Kind for Acquiring {
    type State = State;
    type Wish = ();
    type Grant = u64;
    type Output = Held;

    fn attempt(state: &mut State, (): (), party: Party, _: &mut Effects) -> Result<u64, ()> {
        if !state.can_be_had_by(party) {
            return Err(());
        }
        if state.owner.is_none() {
            state.turn += 1;
        }
        state.owner = Some(party);
        state.depth += 1;
        Ok(state.turn)
    }

    fn waiters(state: &mut State) -> &mut Waiters<(), u64> {
        &mut state.waiters
    }

    fn give_back(state: &mut State, turn: u64, effects: &mut Effects) -> Option<u64> {
        state.release_turn(turn, effects);
        None
    }

    fn output(shared: &Arc<Shared<State>>, turn: u64, party: Party) -> Held {
        Held { lock: Some(Lock { shared: Arc::clone(shared) }), party, turn }
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
