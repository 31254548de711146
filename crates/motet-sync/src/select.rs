//! The first of several operations; the others are withdrawn, and have not happened.
//!
//! # How exactly one happens
//!
//! A select first attempts each operation, in the order given. While it does, it waits nowhere, so nobody can give it
//! anything. If none can be done it makes a [`Ticket`] and waits everywhere with it; whoever gives it something must take the ticket
//! first, under the lock of the primitive concerned, and passes on to the next waiter where that fails.
//!
//! Between its attempt and its wait something may have become possible. So waiting begins, under each primitive's lock, with
//! another look: if the operation could be done now, the select voids its ticket (if somebody has taken it meanwhile, that is the
//! result), withdraws everywhere and attempts again. It does not do it right there, because then two selects that
//! are for one another would each have to take the other's ticket with its own still open.
//!
//! # Why two selects do not make way for one another for ever
//!
//! Both wait in the order of the primitives' numbers. At the first primitive that they share, whoever comes second
//! finds the other waiting and attempts again, and the other does not, for it has looked there before.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::operation::Selectable;
use crate::primitive::Arc;
use crate::ticket::{Claim, Ticket};

/// Waits for the first of these operations: the place in the slice of the one that has happened, whose
/// [`take`](crate::Operation::take) gives its result. If several can be done at once, it is the first of them.
///
/// ```
/// use motet_sync::{Capacity, Channel, Event, block_on, select};
///
/// let (numbers, stop) = (Channel::<u32>::new(Capacity::Bounded(1)), Event::new());
/// numbers.try_put(7).unwrap();
/// let (mut number, mut stopped) = (numbers.get(), stop.wait());
/// match block_on(select(&mut [&mut number, &mut stopped])) {
///     0 => assert_eq!(number.take().unwrap(), 7),
///     _ => unreachable!("nobody stops it"),
/// }
/// ```
pub fn select<'a, 'b>(operations: &'a mut [&'b mut (dyn Selectable + Send)]) -> Select<'a, 'b> {
    Select { operations, selection: Selection::default() }
}

/// The future of [`select`]. May be dropped at any time: then none of the operations has happened.
#[must_use = "nothing is waited for unless this is polled"]
pub struct Select<'a, 'b> {
    operations: &'a mut [&'b mut (dyn Selectable + Send)],
    selection: Selection,
}

impl Future for Select<'_, '_> {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        let Self { operations, selection } = self.get_mut();
        selection.poll(operations, context.waker())
    }
}

impl Drop for Select<'_, '_> {
    fn drop(&mut self) {
        self.selection.end(self.operations);
    }
}

/// A select whose operations somebody else keeps, and shows it each time: the same ones, in the same order.
#[derive(Default)]
pub struct Selection {
    /// While it waits.
    ticket: Option<Arc<Ticket>>,
}

impl Selection {
    /// As [`Select`]'s.
    pub fn poll(&mut self, operations: &mut [&mut (dyn Selectable + Send)], waker: &Waker) -> Poll<usize> {
        let done = match self.ticket {
            None => self.begin(operations, waker),
            Some(_) => {
                // Before the look at the ticket: whoever takes it later wakes this waker.
                operations.iter_mut().for_each(|operation| operation.collect(waker));
                self.winner(operations, waker)
            }
        };
        done.map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits no more. What was given and not seen stays with its operation, which gives it back when it is dropped.
    pub fn end(&mut self, operations: &mut [&mut (dyn Selectable + Send)]) {
        if let Some(ticket) = &self.ticket {
            ticket.void();
            self.withdraw(operations);
        }
    }

    /// The first operation that could be done; none if it waits for all now.
    fn begin(&mut self, operations: &mut [&mut (dyn Selectable + Send)], waker: &Waker) -> Option<usize> {
        // One that waits already, or was left by another select, begins anew.
        operations.iter_mut().for_each(|operation| operation.withdraw());
        let mut places: Vec<usize> = (0..operations.len()).collect();
        places.sort_by_key(|&place| operations[place].number());
        loop {
            let done = operations.iter_mut().position(|operation| operation.attempt());
            if done.is_some() {
                return done;
            }
            let ticket = Ticket::new();
            let wait = |&place: &usize| operations[place].park(Claim::new(&ticket, place), &ticket, waker);
            let waits = places.iter().all(wait);
            // Somebody may have taken it in a place where it waits already.
            let is_over = !waits && ticket.void();
            self.ticket = Some(ticket);
            if !is_over {
                return self.winner(operations, waker);
            }
            self.withdraw(operations);
        }
    }

    /// Where it has happened, with all other waits withdrawn.
    fn winner(&mut self, operations: &mut [&mut (dyn Selectable + Send)], waker: &Waker) -> Option<usize> {
        let place = self.ticket.as_ref()?.winner()?;
        operations[place].collect(waker);
        self.withdraw(operations);
        Some(place)
    }

    fn withdraw(&mut self, operations: &mut [&mut (dyn Selectable + Send)]) {
        self.ticket = None;
        operations.iter_mut().for_each(|operation| operation.withdraw());
    }
}
