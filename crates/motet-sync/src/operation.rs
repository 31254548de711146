//! One wait, whatever for: tried, parked, collected or withdrawn.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::inspect::Party;
use crate::primitive::{Arc, Shared};
use crate::ticket::{Claim, Ticket};
use crate::waiters::{Effects, Kept, Key, Waiters};

/// What a kind of wait does with its primitive, whose lock is held in all of this. Nobody outside of this crate can have one.
#[expect(private_interfaces, reason = "sealed by the types that it is about")]
pub trait Kind: Sized {
    /// What the lock guards.
    type State;
    /// What is brought: the item of a put.
    type Wish;
    /// What is given for it: the item of a get.
    type Grant;
    /// What the future gives.
    type Output;

    /// Does it now if it can be done now, or gives the wish back. Who came first goes first.
    ///
    /// # Errors
    /// The wish.
    fn attempt(
        state: &mut Self::State,
        wish: Self::Wish,
        party: Party,
        effects: &mut Effects,
    ) -> Result<Self::Grant, Self::Wish>;

    /// Who waits for the same.
    fn waiters(state: &mut Self::State) -> &mut Waiters<Self::Wish, Self::Grant>;

    /// What was granted is not wanted any more: it is the next one's. What is nobody's is dropped without the lock.
    fn give_back(state: &mut Self::State, grant: Self::Grant, effects: &mut Effects) -> Option<Self::Grant>;

    /// Somebody waits no more, who may have been in the way of others.
    fn has_left(_state: &mut Self::State, _effects: &mut Effects) {}

    /// What the future gives for the grant.
    fn output(shared: &Arc<Shared<Self::State>>, grant: Self::Grant, party: Party) -> Self::Output;
}

/// A kind of wait that can be one of several in a [`select`](crate::select()).
#[expect(private_interfaces, reason = "as in the trait above")]
pub trait Selective: Kind {
    /// Whether [`attempt`](Kind::attempt) would do it, but for what the select with this ticket waits for itself.
    fn is_possible(state: &Self::State, wish: &Self::Wish, party: Party, ticket: &Ticket) -> bool;
}

/// A wait for something, as a future. Nothing happens before it is polled.
///
/// It may be dropped at any time: what it was given meanwhile and has not returned goes to the next who waits, or back to where it
/// came from. It holds no lock between polls and points to nobody's stack.
#[must_use = "nothing is waited for unless this is polled"]
pub struct Operation<K: Kind> {
    shared: Arc<Shared<K::State>>,
    party: Party,
    step: Step<K>,
}

enum Step<K: Kind> {
    Fresh(K::Wish),
    Parked(Key),
    Granted(K::Grant),
    Ended,
}

impl<K: Kind> Unpin for Operation<K> {}

impl<K: Kind> Operation<K> {
    pub(crate) fn new(shared: &Arc<Shared<K::State>>, wish: K::Wish) -> Self {
        Self { shared: Arc::clone(shared), party: Party::this_thread(), step: Step::Fresh(wish) }
    }

    /// Says who waits; otherwise it is the thread that has made this.
    ///
    /// # Panics
    /// If the wait has begun.
    pub fn by(mut self, party: Party) -> Self {
        assert!(matches!(self.step, Step::Fresh(_)), "who waits is said before the wait begins");
        self.party = party;
        self
    }

    /// Does it if it can be done now; the wish otherwise, and nothing has happened.
    pub(crate) fn try_now(mut self) -> Result<K::Output, K::Wish> {
        if self.attempt() {
            return Ok(self.take());
        }
        match std::mem::replace(&mut self.step, Step::Ended) {
            Step::Fresh(wish) => Err(wish),
            _ => unreachable!("it has not begun"),
        }
    }

    /// What an [attempt](Self::attempt) that did it was given, or a [`select`](crate::select()) that named this operation.
    ///
    /// # Panics
    /// If it has not happened, or the result has been taken.
    pub fn take(&mut self) -> K::Output {
        match std::mem::replace(&mut self.step, Step::Ended) {
            Step::Granted(grant) => K::output(&self.shared, grant, self.party),
            _ => panic!("this operation has no result, or it was taken"),
        }
    }

    /// Waits from now on, though nobody is woken before this is polled. Nothing if it could be done at once, and was.
    pub fn begin(mut self) -> Self {
        self.attempt_or_park(Waker::noop());
        self
    }

    /// Does it if it can be done now; then [`take`](Self::take) gives the result. Of one that has begun: whether it has been done,
    /// and nobody is woken for it before it is polled again.
    pub fn attempt(&mut self) -> bool {
        self.collect(Waker::noop());
        let Self { shared, party, step } = self;
        *step = match std::mem::replace(step, Step::Ended) {
            Step::Fresh(wish) => match shared.with(|state, effects| K::attempt(state, wish, *party, effects))
            {
                Ok(grant) => Step::Granted(grant),
                Err(wish) => Step::Fresh(wish),
            },
            other => other,
        };
        matches!(step, Step::Granted(_))
    }

    fn attempt_or_park(&mut self, waker: &Waker) {
        let Self { shared, party, step } = self;
        let Step::Fresh(wish) = std::mem::replace(step, Step::Ended) else { return };
        *step = shared.with(|state, effects| match K::attempt(state, wish, *party, effects) {
            Ok(grant) => Step::Granted(grant),
            Err(wish) => Step::Parked(K::waiters(state).park(wish, waker.clone(), *party, None)),
        });
    }

    fn collect(&mut self, waker: &Waker) {
        let Step::Parked(key) = self.step else { return };
        let granted = self.shared.with(|state, effects| K::waiters(state).collect(key, waker, effects));
        if let Some(grant) = granted {
            self.step = Step::Granted(grant);
        }
    }

    /// Ready when [`take`](Self::take) has something to give; until then this waker is the one to be woken.
    pub(crate) fn poll_granted(&mut self, waker: &Waker) -> Poll<()> {
        self.collect(waker);
        if matches!(self.step, Step::Granted(_)) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Back to before the wait began, or to its result.
    fn withdraw(&mut self) {
        let Step::Parked(key) = self.step else { return };
        self.step = self.shared.with(|state, effects| match K::waiters(state).withdraw(key, effects) {
            Kept::Grant(grant) => Step::Granted(grant),
            Kept::Wish(wish) => {
                K::has_left(state, effects);
                Step::Fresh(wish)
            }
        });
    }
}

impl<K: Kind> Future for Operation<K> {
    type Output = K::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.step {
            Step::Fresh(_) => this.attempt_or_park(context.waker()),
            Step::Parked(_) => this.collect(context.waker()),
            Step::Granted(_) | Step::Ended => {}
        }
        match this.step {
            Step::Parked(_) => Poll::Pending,
            _ => Poll::Ready(this.take()),
        }
    }
}

impl<K: Kind> Drop for Operation<K> {
    fn drop(&mut self) {
        self.withdraw();
        if let Step::Granted(grant) = std::mem::replace(&mut self.step, Step::Ended) {
            drop(self.shared.with(|state, effects| K::give_back(state, grant, effects)));
        }
    }
}

/// An operation that a [`select`](crate::select()) can wait for among others.
#[expect(private_interfaces, reason = "sealed by the types that it is about")]
pub trait Selectable {
    /// Does it if it can be done now.
    fn attempt(&mut self) -> bool;
    /// Waits with this claim, unless it could be done now.
    fn park(&mut self, claim: Claim, ticket: &Ticket, waker: &Waker) -> bool;
    /// Takes what was granted, if anything was; otherwise this waker is the one to be woken.
    fn collect(&mut self, waker: &Waker);
    /// Waits no more.
    fn withdraw(&mut self);
    /// The primitive's number, which gives all of them an order.
    fn number(&self) -> u64;
}

#[expect(private_interfaces, reason = "as above")]
impl<K: Selective> Selectable for Operation<K> {
    fn attempt(&mut self) -> bool {
        Operation::attempt(self)
    }

    fn park(&mut self, claim: Claim, ticket: &Ticket, waker: &Waker) -> bool {
        let Self { shared, party, step } = self;
        // Looked at before it is replaced: the key of a wait that has begun must not be forgotten.
        assert!(
            matches!(step, Step::Fresh(_)),
            "a select's operations wait nowhere else, and have results to give"
        );
        let Step::Fresh(wish) = std::mem::replace(step, Step::Ended) else { unreachable!("just seen") };
        *step = shared.with(|state, _| {
            if K::is_possible(state, &wish, *party, ticket) {
                return Step::Fresh(wish);
            }
            Step::Parked(K::waiters(state).park(wish, waker.clone(), *party, Some(claim)))
        });
        matches!(step, Step::Parked(_))
    }

    fn collect(&mut self, waker: &Waker) {
        Operation::collect(self, waker);
    }

    fn withdraw(&mut self) {
        Operation::withdraw(self);
    }

    fn number(&self) -> u64 {
        self.shared.number()
    }
}
