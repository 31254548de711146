//! Who holds and who waits, for people and tools that look at a program from outside.

use std::fmt;
use std::task::Waker;
use std::time::Instant;

use crate::primitive::next_number;

/// The kind of body that holds or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// A thread of the system.
    Thread,
    /// A task of an event loop.
    Task,
    /// A green thread.
    Green,
    /// A worker process.
    Process,
}

/// Somebody who holds or waits: a kind, and a number that no other of that kind has at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Party {
    /// What it is.
    pub body: Body,
    /// Which one.
    pub number: u64,
}

impl Party {
    /// This thread. Its number is this crate's own: 1 for the first that asks, then 2.
    #[must_use]
    pub fn this_thread() -> Self {
        thread_local! {
            static NUMBER: u64 = next_number();
        }
        Self { body: Body::Thread, number: NUMBER.with(|&number| number) }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = match self.body {
            Body::Thread => "thread",
            Body::Task => "task",
            Body::Green => "green thread",
            Body::Process => "process",
        };
        write!(formatter, "{body} {}", self.number)
    }
}

/// One wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Who waits.
    pub party: Party,
    /// When the wait began.
    pub since: Instant,
    /// What for, in a word: "get", "acquire".
    pub wants: &'static str,
}

/// A primitive at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is, in a word: "channel", "lock".
    pub what: &'static str,
    /// Who holds it, if that means anything.
    pub owners: Vec<Party>,
    /// Who waits, for each thing that can be waited for in the order in which they came.
    pub waiters: Vec<Waiting>,
}

/// What can tell who holds it and who waits for it.
pub trait Inspect: Send + Sync {
    /// Takes the primitive's lock for a moment; changes nothing.
    fn inspect(&self) -> Snapshot;

    /// Shows the wakers of all who wait: a garbage collector must know what a primitive keeps alive. The lock is held meanwhile.
    fn show_wakers(&self, show: &mut dyn FnMut(&Waker));
}
