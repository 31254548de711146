//! A condition: those who hold a lock wait until somebody says that something has changed.

use std::task::Waker;

use crate::inspect::{Inspect, Party, Snapshot};
use crate::lock::Held;
use crate::operation::{Kind, Operation, Selective};
use crate::primitive::{Arc, Shared};
use crate::ticket::Ticket;
use crate::waiters::{Effects, Waiters};

/// A condition; clone it for each who uses it. Any lock will do, but those who wait for one condition should use one lock.
///
/// No notification is lost between the release of the lock and the wait, since the wait begins first; and none that was
/// given to somebody who waits no more, since it goes to the next.
///
/// ```
/// use motet_sync::{Condition, Lock, block_on};
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
///
/// let (lock, condition, ready) = (Lock::new(), Condition::new(), AtomicBool::new(false));
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let mut held = block_on(lock.acquire());
///         while !ready.load(Relaxed) {
///             held = block_on(condition.wait(held));
///         }
///     });
///     let _held = block_on(lock.acquire());
///     ready.store(true, Relaxed);
///     condition.notify(1);
/// });
/// ```
#[derive(Clone)]
pub struct Condition {
    shared: Arc<Shared<State>>,
}

/// What the lock of a condition guards.
pub struct State {
    waiters: Waiters<(), ()>,
}

/// The future of [`Condition::notified`].
pub type Notified = Operation<WaitingForNotification>;

impl Condition {
    /// A condition that nobody waits for.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a condition is not a value")]
    pub fn new() -> Self {
        Self { shared: Shared::new(State { waiters: Waiters::default() }) }
    }

    /// Releases the lock, waits for a notification and acquires the lock again. The future, when it is dropped, leaves the lock
    /// released. A re-entrant lock must be held once.
    pub async fn wait(&self, held: Held) -> Held {
        let (lock, party) = held.parts();
        let mut notified = self.notified().by(party).begin();
        drop(held);
        // Not taken before the lock is had: given back, and so passed on, if this is dropped meanwhile.
        std::future::poll_fn(|context| notified.poll_granted(context.waker())).await;
        let held = lock.acquire().by(party).await;
        notified.take();
        held
    }

    /// Waits for a notification, whatever becomes of the lock.
    pub fn notified(&self) -> Notified {
        Operation::new(&self.shared, ())
    }

    /// Tells as many of those who wait, the first first; how many there were.
    pub fn notify(&self, most: usize) -> usize {
        self.shared
            .with(|state, effects| (0..most).take_while(|_| state.waiters.serve(|(), _| (), effects)).count())
    }

    /// Tells all who wait; how many there were. What one of them does not take, since it waits no more, goes to whoever waits then.
    pub fn notify_all(&self) -> usize {
        self.notify(usize::MAX)
    }
}

/// Waiting for a notification.
pub struct WaitingForNotification(());

#[expect(private_interfaces, reason = "as in the trait")]
impl Kind for WaitingForNotification {
    type State = State;
    type Wish = ();
    type Grant = ();
    type Output = ();

    fn attempt(_: &mut State, (): (), _: Party, _: &mut Effects) -> Result<(), ()> {
        Err(())
    }

    fn waiters(state: &mut State) -> &mut Waiters<(), ()> {
        &mut state.waiters
    }

    fn give_back(state: &mut State, (): (), effects: &mut Effects) -> Option<()> {
        state.waiters.serve(|(), _| (), effects);
        None
    }

    fn output(_: &Arc<Shared<State>>, (): (), _: Party) {}
}

#[expect(private_interfaces, reason = "as in the trait")]
impl Selective for WaitingForNotification {
    fn is_possible(_: &State, (): &(), _: Party, _: &Ticket) -> bool {
        false
    }
}

impl Inspect for Condition {
    fn inspect(&self) -> Snapshot {
        self.shared.with(|state, _| Snapshot {
            what: "condition",
            owners: Vec::new(),
            waiters: state.waiters.waiting("wait").collect(),
        })
    }

    fn show_wakers(&self, show: &mut dyn FnMut(&Waker)) {
        self.shared.with(|state, _| state.waiters.wakers().for_each(show));
    }
}
