//! Who waits for something, in the order in which they came.
//!
//! A primitive keeps one [`Waiters`] for each kind of wait, under its own lock. Whoever waits parks what it brings
//! (the *wish*: the item of a put, the number of permits) and finds there what it was given (the *grant*). Entries are
//! numbers in a slab and never addresses of somebody's stack, which a green thread's switch may move.
//!
//! # Who may touch what
//!
//! * Everything here belongs to whoever holds the primitive's lock.
//! * An entry is in the list exactly while its state is `Waiting`. Only [`Waiters::next`], which then gives it
//!   something at once, and [`Waiters::withdraw`] take it out; a `Missed` one was found to be another primitive's.
//! * An entry is freed by its owner alone, by [`Waiters::collect`] or [`Waiters::withdraw`]: no key is used twice.
//! * Wakers are called, and dropped, after the lock was let go of (see [`Effects`]): they may run anybody's code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Instant;

use slab::Slab;

use crate::inspect::{Party, Waiting};
use crate::ticket::{Claim, Ticket};

/// The number of an entry.
pub(crate) type Key = usize;

const NONE: Key = Key::MAX;

pub(crate) struct Waiters<W, G> {
    entries: Slab<Entry<W, G>>,
    first: Key,
    last: Key,
}

struct Entry<W, G> {
    state: State<W, G>,
    waker: Waker,
    claim: Option<Claim>,
    party: Party,
    since: Instant,
    previous: Key,
    next: Key,
}

impl<W, G> Entry<W, G> {
    fn wish(&self) -> &W {
        let State::Waiting(wish) = &self.state else { unreachable!("only who waits is in the list") };
        wish
    }
}

enum State<W, G> {
    Waiting(W),
    /// Its select was given something elsewhere.
    Missed(W),
    Granted(G),
    /// Between two states, within one function.
    Taken,
}

/// What an entry holds, or held when its owner gave it up.
pub(crate) enum Kept<W, G> {
    Wish(W),
    Grant(G),
}

/// The first of the waiters.
pub(crate) enum Next {
    /// Nobody waits.
    None,
    /// It cannot be given what it wishes now.
    Unfit,
    /// It is claimed, out of the list, and must be [granted](Waiters::grant) something.
    Claimed(Key),
}

impl<W, G> Default for Waiters<W, G> {
    fn default() -> Self {
        Self { entries: Slab::new(), first: NONE, last: NONE }
    }
}

impl<W, G> Waiters<W, G> {
    /// Puts somebody at the end of the list.
    pub(crate) fn park(&mut self, wish: W, waker: Waker, party: Party, claim: Option<Claim>) -> Key {
        let previous = self.last;
        let state = State::Waiting(wish);
        let entry = Entry { state, waker, claim, party, since: Instant::now(), previous, next: NONE };
        let key = self.entries.insert(entry);
        match previous {
            NONE => self.first = key,
            _ => self.entries[previous].next = key,
        }
        self.last = key;
        key
    }

    /// The first waiter that still waits, claimed if what it wishes can be had.
    pub(crate) fn next(&mut self, mut fits: impl FnMut(&W) -> bool) -> Next {
        while self.first != NONE {
            let mut key = self.first;
            let mut entry = &self.entries[key];
            // A select may wait for several things here: none of its own waits is in the way of its next ones.
            while entry.claim.as_ref().is_none_or(Claim::is_open) && !fits(entry.wish()) {
                let same = |next: &&Entry<W, G>| matches!((&entry.claim, &next.claim), (Some(one), Some(other)) if one.is_with(other));
                key = entry.next;
                match self.entries.get(key).filter(same) {
                    Some(next) => entry = next,
                    None => return Next::Unfit,
                }
            }
            let is_ours = entry.claim.as_ref().is_none_or(Claim::take);
            self.unlink(key);
            if is_ours {
                return Next::Claimed(key);
            }
            let entry = &mut self.entries[key];
            if let State::Waiting(wish) = std::mem::replace(&mut entry.state, State::Taken) {
                entry.state = State::Missed(wish);
            }
        }
        Next::None
    }

    /// Gives a claimed waiter something for what it wishes, and has it woken.
    pub(crate) fn grant(&mut self, key: Key, give: impl FnOnce(W, Party) -> G, effects: &mut Effects) {
        let entry = &mut self.entries[key];
        let State::Waiting(wish) = std::mem::replace(&mut entry.state, State::Taken) else {
            unreachable!("it was claimed just now")
        };
        entry.state = State::Granted(give(wish, entry.party));
        effects.wake(std::mem::replace(&mut entry.waker, Waker::noop().clone()));
    }

    /// Gives the first waiter something, whatever it wishes; false if nobody waits.
    pub(crate) fn serve(&mut self, give: impl FnOnce(W, Party) -> G, effects: &mut Effects) -> bool {
        let Next::Claimed(key) = self.next(|_| true) else { return false };
        self.grant(key, give, effects);
        true
    }

    /// What an entry was granted, which frees it; otherwise this waker is the one to be woken.
    pub(crate) fn collect(&mut self, key: Key, waker: &Waker, effects: &mut Effects) -> Option<G> {
        let entry = &mut self.entries[key];
        if matches!(entry.state, State::Granted(_)) {
            let State::Granted(grant) = self.entries.remove(key).state else { unreachable!("just seen") };
            return Some(grant);
        }
        if !entry.waker.will_wake(waker) {
            effects.discard(std::mem::replace(&mut entry.waker, waker.clone()));
        }
        None
    }

    /// Frees an entry.
    pub(crate) fn withdraw(&mut self, key: Key, effects: &mut Effects) -> Kept<W, G> {
        if matches!(self.entries[key].state, State::Waiting(_)) {
            self.unlink(key);
        }
        let entry = self.entries.remove(key);
        effects.discard(entry.waker);
        match entry.state {
            State::Waiting(wish) | State::Missed(wish) => Kept::Wish(wish),
            State::Granted(grant) => Kept::Grant(grant),
            State::Taken => unreachable!("no function leaves it so"),
        }
    }

    /// Whether anybody waits who could be given something: of another select than this.
    pub(crate) fn has_other(&self, than: Option<&Ticket>) -> bool {
        let is_own = |claim: &Claim| than.is_some_and(|ticket| claim.is_of(ticket));
        self.open().any(|entry| !entry.claim.as_ref().is_some_and(is_own))
    }

    /// The wakers of all that are to be woken.
    pub(crate) fn wakers(&self) -> impl Iterator<Item = &Waker> {
        self.entries.iter().map(|(_, entry)| &entry.waker)
    }

    /// What was brought and not taken, and what was given and not collected.
    pub(crate) fn kept(&self) -> impl Iterator<Item = Kept<&W, &G>> {
        self.entries.iter().filter_map(|(_, entry)| match &entry.state {
            State::Waiting(wish) | State::Missed(wish) => Some(Kept::Wish(wish)),
            State::Granted(grant) => Some(Kept::Grant(grant)),
            State::Taken => None,
        })
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.open().count()
    }

    /// Who waits, the first first.
    pub(crate) fn waiting(&self, wants: &'static str) -> impl Iterator<Item = Waiting> {
        self.open().map(move |entry| Waiting { party: entry.party, since: entry.since, wants })
    }

    /// Those that wait, but for selects that have ended elsewhere just now.
    fn open(&self) -> impl Iterator<Item = &Entry<W, G>> {
        self.list().filter(|entry| entry.claim.as_ref().is_none_or(Claim::is_open))
    }

    fn list(&self) -> impl Iterator<Item = &Entry<W, G>> {
        let mut key = self.first;
        std::iter::from_fn(move || {
            let entry = self.entries.get(key)?;
            key = entry.next;
            Some(entry)
        })
    }

    fn unlink(&mut self, key: Key) {
        let Entry { previous, next, .. } = self.entries[key];
        match previous {
            NONE => self.first = next,
            _ => self.entries[previous].next = next,
        }
        match next {
            NONE => self.last = previous,
            _ => self.entries[next].previous = previous,
        }
    }
}

/// What is to be done once the lock is let go of.
#[derive(Default)]
pub(crate) struct Effects {
    /// Nearly always there is one at most, for which nothing need be allocated.
    first: Option<Waker>,
    others: Vec<Waker>,
    discarded: Option<Waker>,
}

impl Effects {
    fn wake(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }

    fn discard(&mut self, waker: Waker) {
        debug_assert!(self.discarded.is_none(), "one wait at a time is looked at");
        self.discarded = Some(waker);
    }

    #[inline]
    pub(crate) fn run(self) {
        // Nearly always there is nothing to do.
        if self.first.is_some() || self.discarded.is_some() {
            self.run_some();
        }
    }

    /// A waker's panic concerns neither the others nor whoever has changed the state; the panic hook has told of it.
    fn run_some(self) {
        for waker in self.first.into_iter().chain(self.others) {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.discarded)));
    }
}
