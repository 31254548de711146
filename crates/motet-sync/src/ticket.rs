//! The ticket of a select: of all that it waits for, one thing alone may happen.

use crate::primitive::{Arc, AtomicUsize, Ordering};

const OPEN: usize = usize::MAX;
const VOID: usize = usize::MAX - 1;

/// Open, until somebody gives the select what it waits for in one place, or the select itself ends it.
///
/// It changes once, by compare-and-swap, so the first to come is the only one. What goes along with the change is
/// passed on under the lock of the primitive where it happened, hence no order is needed beyond the swap's own.
pub(crate) struct Ticket(AtomicUsize);

/// A ticket, and the place in which it is waited with it.
pub(crate) struct Claim {
    ticket: Arc<Ticket>,
    place: usize,
}

impl Ticket {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(OPEN)))
    }

    /// Whether it was open: then nothing will happen any more.
    pub(crate) fn void(&self) -> bool {
        self.change(VOID)
    }

    /// Where it happened.
    pub(crate) fn winner(&self) -> Option<usize> {
        let state = self.0.load(Ordering::Acquire);
        (state < VOID).then_some(state)
    }

    fn change(&self, to: usize) -> bool {
        self.0.compare_exchange(OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Claim {
    pub(crate) fn new(ticket: &Arc<Ticket>, place: usize) -> Self {
        Self { ticket: Arc::clone(ticket), place }
    }

    /// Takes the ticket for this place. False if it is taken or void already.
    pub(crate) fn take(&self) -> bool {
        self.ticket.change(self.place)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.ticket.0.load(Ordering::Acquire) == OPEN
    }

    pub(crate) fn is_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ticket, &other.ticket)
    }

    pub(crate) fn is_of(&self, ticket: &Ticket) -> bool {
        std::ptr::eq(&raw const *self.ticket, ticket)
    }
}
