//! A barrier: so many wait for one another, then all go on.

use std::fmt;
use std::task::Waker;

use crate::inspect::{Inspect, Party, Snapshot};
use crate::operation::{Kind, Operation};
use crate::primitive::{Arc, Shared};
use crate::waiters::{Effects, Waiters};

/// A barrier; clone it for each who uses it. It can be passed again and again.
///
/// Under its lock: fewer wait than it is for, and none while it is broken. Whoever stops waiting is as if never come.
/// A select cannot wait for it: all that wait would have to be claimed at once.
#[derive(Clone)]
pub struct Barrier {
    shared: Arc<Shared<State>>,
}

/// The barrier was broken by [`Barrier::break_up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What the lock of a barrier guards.
pub struct State {
    parties: usize,
    is_broken: bool,
    waiters: Waiters<(), Result<usize, Broken>>,
}

/// The future of [`Barrier::wait`].
pub type WaitAtBarrier = Operation<WaitingAtBarrier>;

impl Barrier {
    /// A barrier for so many.
    ///
    /// # Panics
    /// If it is for nobody.
    #[must_use]
    pub fn new(parties: usize) -> Self {
        assert!(parties > 0, "a barrier is for somebody");
        Self { shared: Shared::new(State { parties, is_broken: false, waiters: Waiters::default() }) }
    }

    /// Waits for the others; the future gives numbers from 0 in the order in which they came, each once.
    pub fn wait(&self) -> WaitAtBarrier {
        Operation::new(&self.shared, ())
    }

    /// Ends all waits with [`Broken`], and those that come until [`mend`](Self::mend).
    pub fn break_up(&self) {
        self.shared.with(|state, effects| {
            state.is_broken = true;
            while state.waiters.serve(|(), _| Err(Broken), effects) {}
        });
    }

    /// As new. Who waits is told that it was broken.
    pub fn mend(&self) {
        self.shared.with(|state, effects| {
            state.is_broken = false;
            while state.waiters.serve(|(), _| Err(Broken), effects) {}
        });
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.shared.with(|state, _| state.is_broken)
    }

    /// How many it is for.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.shared.with(|state, _| state.parties)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.with(|state, _| state.waiters.len())
    }
}

/// Waiting at a barrier.
pub struct WaitingAtBarrier(());

#[expect(private_interfaces, reason = "as in the trait")]
impl Kind for WaitingAtBarrier {
    type State = State;
    type Wish = ();
    type Grant = Result<usize, Broken>;
    type Output = Result<usize, Broken>;

    fn attempt(state: &mut State, (): (), _: Party, effects: &mut Effects) -> Result<Self::Grant, ()> {
        if state.is_broken {
            return Ok(Err(Broken));
        }
        if state.waiters.len() + 1 < state.parties {
            return Err(());
        }
        let mut place = 0;
        while state.waiters.serve(|(), _| Ok(place), effects) {
            place += 1;
        }
        Ok(Ok(place))
    }

    fn waiters(state: &mut State) -> &mut Waiters<(), Self::Grant> {
        &mut state.waiters
    }

    fn give_back(_: &mut State, grant: Self::Grant, _: &mut Effects) -> Option<Self::Grant> {
        // The others have gone on.
        Some(grant)
    }

    fn output(_: &Arc<Shared<State>>, grant: Self::Grant, _: Party) -> Self::Output {
        grant
    }
}

impl Inspect for Barrier {
    fn inspect(&self) -> Snapshot {
        self.shared.with(|state, _| Snapshot {
            what: "barrier",
            owners: Vec::new(),
            waiters: state.waiters.waiting("wait").collect(),
        })
    }

    fn show_wakers(&self, show: &mut dyn FnMut(&Waker)) {
        self.shared.with(|state, _| state.waiters.wakers().for_each(show));
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the barrier is broken")
    }
}

impl std::error::Error for Broken {}
