//! An event: a flag that many can wait for.

use std::task::Waker;

use crate::inspect::{Inspect, Party, Snapshot};
use crate::operation::{Kind, Operation, Selective};
use crate::primitive::{Arc, Shared};
use crate::ticket::Ticket;
use crate::waiters::{Effects, Waiters};

/// An event; clone it for each who uses it.
///
/// Under its lock: nobody waits while it is set. Whoever was waiting when it was set has been told, also if it is cleared
/// before they run.
#[derive(Clone)]
pub struct Event {
    shared: Arc<Shared<State>>,
}

/// What the lock of an event guards.
pub struct State {
    is_set: bool,
    waiters: Waiters<(), ()>,
}

/// The future of [`Event::wait`].
pub type WaitForEvent = Operation<WaitingForEvent>;

impl Event {
    /// An event that is not set.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "an event is not a value")]
    pub fn new() -> Self {
        Self { shared: Shared::new(State { is_set: false, waiters: Waiters::default() }) }
    }

    /// Sets it: all who wait go on, and who comes later does not wait. False if it was set.
    pub fn set(&self) -> bool {
        self.shared.with(|state, effects| {
            while state.waiters.serve(|(), _| (), effects) {}
            !std::mem::replace(&mut state.is_set, true)
        })
    }

    /// Who comes later waits again. False if it was not set.
    pub fn clear(&self) -> bool {
        self.shared.with(|state, _| std::mem::replace(&mut state.is_set, false))
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.shared.with(|state, _| state.is_set)
    }

    /// Waits until it is set.
    pub fn wait(&self) -> WaitForEvent {
        Operation::new(&self.shared, ())
    }
}

/// Waiting for an event.
pub struct WaitingForEvent(());

#[expect(private_interfaces, reason = "as in the trait")]
impl Kind for WaitingForEvent {
    type State = State;
    type Wish = ();
    type Grant = ();
    type Output = ();

    fn attempt(state: &mut State, (): (), _: Party, _: &mut Effects) -> Result<(), ()> {
        state.is_set.then_some(()).ok_or(())
    }

    fn waiters(state: &mut State) -> &mut Waiters<(), ()> {
        &mut state.waiters
    }

    fn give_back(_: &mut State, (): (), _: &mut Effects) -> Option<()> {
        // It was for all.
        None
    }

    fn output(_: &Arc<Shared<State>>, (): (), _: Party) {}
}

#[expect(private_interfaces, reason = "as in the trait")]
impl Selective for WaitingForEvent {
    fn is_possible(state: &State, (): &(), _: Party, _: &Ticket) -> bool {
        state.is_set
    }
}

impl Inspect for Event {
    fn inspect(&self) -> Snapshot {
        self.shared.with(|state, _| Snapshot {
            what: "event",
            owners: Vec::new(),
            waiters: state.waiters.waiting("wait").collect(),
        })
    }

    fn show_wakers(&self, show: &mut dyn FnMut(&Waker)) {
        self.shared.with(|state, _| state.waiters.wakers().for_each(show));
    }
}
