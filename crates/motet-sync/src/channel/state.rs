//! What a channel's lock guards, and what a put and a get do with it.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::task::Waker;

use super::{Closed, Overflow, PutError, Statistics};
use crate::inspect::{Party, Waiting};
use crate::operation::{Kind, Selective};
use crate::primitive::{Arc, Shared};
use crate::ticket::Ticket;
use crate::waiters::{Effects, Kept, Waiters};

/// What the lock of a channel guards.
pub struct State<T, E> {
    /// Each with its number, in the order of these.
    items: VecDeque<(u64, T)>,
    room: usize,
    overflow: Overflow,
    getters: Waiters<(), GetResult<T, E>>,
    putters: Waiters<T, PutResult<T, E>>,
    closed: Option<Closed<E>>,
    put: u64,
    got: u64,
    dropped: u64,
}

type PutResult<T, E> = Result<Option<T>, PutError<T, E>>;
/// An item with its number: one that comes back takes its place again.
type GetResult<T, E> = Result<(u64, T), Closed<E>>;

impl<T, E> State<T, E> {
    pub(super) fn new(room: usize, overflow: Overflow) -> Self {
        Self {
            items: VecDeque::new(),
            room,
            overflow,
            getters: Waiters::default(),
            putters: Waiters::default(),
            closed: None,
            put: 0,
            got: 0,
            dropped: 0,
        }
    }

    /// Ends all waits. False if that was done before.
    pub(super) fn close(&mut self, closed: &Closed<E>, effects: &mut Effects) -> bool {
        if self.closed.is_some() {
            return false;
        }
        self.closed = Some(closed.clone());
        while self.getters.serve(|(), _| Err(closed.clone()), effects) {}
        while self.putters.serve(|item, _| Err(PutError::Closed(item, closed.clone())), effects) {}
        true
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            length: self.items.len(),
            put: self.put,
            got: self.got,
            dropped: self.dropped,
            waiting_to_put: self.putters.len(),
            waiting_to_get: self.getters.len(),
            closed: self.closed.is_some(),
        }
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = Waiting> {
        self.getters.waiting("get").chain(self.putters.waiting("put"))
    }

    pub(super) fn wakers(&self) -> impl Iterator<Item = &Waker> {
        self.getters.wakers().chain(self.putters.wakers())
    }

    pub(super) fn show(&self, item: &mut dyn FnMut(&T), error: &mut dyn FnMut(&E)) {
        self.items.iter().for_each(|(_, kept)| item(kept));
        for kept in self.getters.kept() {
            if let Kept::Grant(Ok((_, given))) = kept {
                item(given);
            }
        }
        for kept in self.putters.kept() {
            match kept {
                Kept::Wish(brought) => item(brought),
                Kept::Grant(Ok(Some(back)) | Err(PutError::Full(back) | PutError::Closed(back, _))) => {
                    item(back)
                }
                Kept::Grant(Ok(None)) => {}
            }
        }
        if let Some(error_of_all) = self.closed.as_ref().and_then(|closed| closed.error.as_ref()) {
            error(error_of_all);
        }
    }

    pub(super) fn drain(&mut self, effects: &mut Effects) -> Vec<T> {
        let drained: Vec<T> = std::mem::take(&mut self.items).into_iter().map(|(_, item)| item).collect();
        self.dropped += drained.len() as u64;
        while self.items.len() < self.room {
            let Some(item) = self.take_from_putter(effects) else { break };
            self.items.push_back(item);
        }
        drained
    }

    /// Gives an item to the first who waits; it comes back if nobody does.
    fn hand_over(&mut self, item: (u64, T), effects: &mut Effects) -> Option<(u64, T)> {
        let mut item = Some(item);
        let given = self.getters.serve(|(), _| Ok(item.take().expect("it is given once")), effects);
        self.got += u64::from(given);
        item
    }

    /// Takes the item of the first who waits to put, with its number.
    fn take_from_putter(&mut self, effects: &mut Effects) -> Option<(u64, T)> {
        let mut taken = None;
        self.putters.serve(
            |item, _| {
                taken = Some(item);
                Ok(None)
            },
            effects,
        );
        self.put += u64::from(taken.is_some());
        Some((self.put, taken?))
    }
}

/// Waiting to put.
pub struct Putting<T, E>(PhantomData<(T, E)>);

#[expect(private_interfaces, reason = "as in the trait")]
impl<T, E> Kind for Putting<T, E> {
    type State = State<T, E>;
    type Wish = T;
    type Grant = PutResult<T, E>;
    type Output = PutResult<T, E>;

    fn attempt(
        state: &mut State<T, E>,
        item: T,
        _: Party,
        effects: &mut Effects,
    ) -> Result<PutResult<T, E>, T> {
        if let Some(closed) = &state.closed {
            return Ok(Err(PutError::Closed(item, closed.clone())));
        }
        let number = state.put + 1;
        let Some((_, item)) = state.hand_over((number, item), effects) else {
            state.put = number;
            return Ok(Ok(None));
        };
        if state.items.len() < state.room {
            state.put = number;
            state.items.push_back((number, item));
            return Ok(Ok(None));
        }
        match state.overflow {
            Overflow::Wait => return Err(item),
            Overflow::Fail => return Ok(Err(PutError::Full(item))),
            Overflow::DropNewest | Overflow::DropOldest => {}
        }
        state.put = number;
        state.dropped += 1;
        if state.overflow == Overflow::DropNewest || state.items.is_empty() {
            return Ok(Ok(Some(item)));
        }
        state.items.push_back((number, item));
        Ok(Ok(state.items.pop_front().map(|(_, oldest)| oldest)))
    }

    fn waiters(state: &mut State<T, E>) -> &mut Waiters<T, PutResult<T, E>> {
        &mut state.putters
    }

    fn give_back(_: &mut State<T, E>, grant: PutResult<T, E>, _: &mut Effects) -> Option<PutResult<T, E>> {
        // What is put stays.
        Some(grant)
    }

    fn output(_: &Arc<Shared<State<T, E>>>, grant: PutResult<T, E>, _: Party) -> PutResult<T, E> {
        grant
    }
}

#[expect(private_interfaces, reason = "as in the trait")]
impl<T, E> Selective for Putting<T, E> {
    fn is_possible(state: &State<T, E>, _: &T, _: Party, ticket: &Ticket) -> bool {
        let has_room = state.items.len() < state.room || state.overflow != Overflow::Wait;
        has_room || state.closed.is_some() || state.getters.has_other(Some(ticket))
    }
}

/// Waiting to get.
pub struct Getting<T, E>(PhantomData<(T, E)>);

#[expect(private_interfaces, reason = "as in the trait")]
impl<T, E> Kind for Getting<T, E> {
    type State = State<T, E>;
    type Wish = ();
    type Grant = GetResult<T, E>;
    type Output = Result<T, Closed<E>>;

    fn attempt(state: &mut State<T, E>, (): (), _: Party, effects: &mut Effects) -> Result<Self::Grant, ()> {
        let item = match state.items.pop_front() {
            None => state.take_from_putter(effects),
            item => {
                // One who waited has room now, unless one item more was there than may be.
                if state.items.len() < state.room {
                    let next = state.take_from_putter(effects);
                    state.items.extend(next);
                }
                item
            }
        };
        match item {
            Some(item) => {
                state.got += 1;
                Ok(Ok(item))
            }
            None => state.closed.clone().map(Err).ok_or(()),
        }
    }

    fn waiters(state: &mut State<T, E>) -> &mut Waiters<(), Self::Grant> {
        &mut state.getters
    }

    fn give_back(state: &mut State<T, E>, grant: Self::Grant, effects: &mut Effects) -> Option<Self::Grant> {
        let item = match grant {
            Ok(item) => item,
            closed => return Some(closed),
        };
        state.got -= 1;
        let item = state.hand_over(item, effects)?;
        let is_full = state.items.len() >= state.room;
        let place = state.items.partition_point(|(number, _)| *number < item.0);
        state.items.insert(place, item);
        if state.overflow != Overflow::DropOldest || !is_full || state.closed.is_some() {
            return None;
        }
        state.dropped += 1;
        state.items.pop_front().map(Ok)
    }

    fn output(_: &Arc<Shared<State<T, E>>>, grant: Self::Grant, _: Party) -> Self::Output {
        grant.map(|(_, item)| item)
    }
}

#[expect(private_interfaces, reason = "as in the trait")]
impl<T, E> Selective for Getting<T, E> {
    fn is_possible(state: &State<T, E>, (): &(), _: Party, ticket: &Ticket) -> bool {
        !state.items.is_empty() || state.closed.is_some() || state.putters.has_other(Some(ticket))
    }
}
