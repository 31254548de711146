//! A poller and the table of what is registered with it.
//!
//! Registrations are edge-triggered, so that a connection costs one `epoll_ctl` in its life and pausing or writing costs
//! none. Who wants level-triggered callbacks ([`Reactor::rearm_before_wait`]) pays one re-registration for each event.

use crate::descriptors::{Descriptors, Token};
use crate::sys::{Descriptor, Events, Interest, Poller, Readiness, Waker, process_id};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Something happened on a registration that still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which registration.
    pub token: Token,
    /// What happened.
    pub readiness: Readiness,
}

/// How many events one wait fetches; the rest comes with the next.
const EVENTS_PER_WAIT: usize = 1024;

/// Readiness I/O for one thread. `O` is what the binding keeps for each registration.
#[derive(Debug)]
pub struct Reactor<O> {
    poller: Poller,
    events: Events,
    pending: VecDeque<Event>,
    descriptors: Descriptors<O>,
    /// The last registration under each number: the one that the poller knows.
    numbers: Vec<Option<Token>>,
    rearm: Vec<(Token, Interest)>,
    process: u32,
}

impl<O> Reactor<O> {
    /// Opens a reactor and the waker that interrupts its waits.
    ///
    /// # Errors
    /// The system's, for instance that no more descriptors are to be had.
    pub fn new() -> io::Result<(Self, Waker)> {
        let poller = Poller::new()?;
        let waker = poller.waker()?;
        let reactor = Self {
            poller,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            pending: VecDeque::new(),
            descriptors: Descriptors::default(),
            numbers: Vec::new(),
            rearm: Vec::new(),
            process: process_id(),
        };
        Ok((reactor, waker))
    }

    /// Registers a descriptor. Its readiness of this moment comes with the next wait.
    ///
    /// # Errors
    /// The system's: not a descriptor, registered already, a file that cannot be polled. The owner comes back in that case by
    /// being dropped: nothing is entered.
    pub fn register(&mut self, descriptor: Descriptor, interest: Interest, owner: O) -> io::Result<Token> {
        let token = self.descriptors.insert(descriptor, owner);
        match self.poller.register(descriptor, token.to_bits(), interest) {
            Ok(()) => {
                self.set_number(descriptor, Some(token));
                Ok(token)
            }
            Err(error) => {
                self.descriptors.remove(token);
                Err(error)
            }
        }
    }

    /// Changes what a registration wants to hear of, and asks for the readiness of this moment.
    ///
    /// # Errors
    /// `NotFound` for a stale token, or when the descriptor was closed behind the reactor's back; the system's otherwise.
    pub fn reregister(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        let (descriptor, _) = self.descriptors.get(token).ok_or(io::ErrorKind::NotFound)?;
        self.poller.reregister(descriptor, token.to_bits(), interest)
    }

    /// Ends a registration, before its descriptor is closed. The token is stale from now on, and so are events of it that
    /// were fetched already.
    pub fn deregister(&mut self, token: Token) -> Option<O> {
        let (descriptor, owner) = self.descriptors.remove(token)?;
        self.forget(descriptor, token);
        Some(owner)
    }

    /// Takes a registration out of the poller, unless the number belongs to a later one by now.
    fn forget(&mut self, descriptor: Descriptor, token: Token) {
        if self.token_of(descriptor) != Some(token) {
            return;
        }
        self.set_number(descriptor, None);
        // After fork the child shares the parent's epoll instance: a removal here would take the parent's away.
        if self.process == process_id() {
            // Fails only where the descriptor was closed before, which removed the registration.
            let _ = self.poller.deregister(descriptor);
        }
    }

    /// The last registration under a number, if it stands.
    pub fn token_of(&self, descriptor: Descriptor) -> Option<Token> {
        usize::try_from(descriptor).ok().and_then(|index| self.numbers.get(index).copied().flatten())
    }

    fn set_number(&mut self, descriptor: Descriptor, token: Option<Token>) {
        let Ok(index) = usize::try_from(descriptor) else { return };
        if index >= self.numbers.len() {
            self.numbers.resize(index + 1, None);
        }
        self.numbers[index] = token;
    }

    /// Tells the readiness of this registration again by the next wait: level-triggered, for one event.
    pub fn rearm_before_wait(&mut self, token: Token, interest: Interest) {
        self.rearm.push((token, interest));
    }

    /// Waits for events, at most for `timeout` (`None`: without an end), and returns how many there are; fetch them with
    /// [`Reactor::next_event`]. Those that were not fetched after the last wait come first, and then there is no waiting: no
    /// poller would tell them again.
    ///
    /// # Errors
    /// `Interrupted` when a signal arrived; the system's otherwise.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        for index in 0..self.rearm.len() {
            let (token, interest) = self.rearm[index];
            // Stale or closed by now: there is nothing to hear of any more.
            let _ = self.reregister(token, interest);
        }
        self.rearm.clear();
        let timeout = if self.pending.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.poller.wait(&mut self.events, timeout)?;
        let pending = &mut self.pending;
        self.events.for_each(|bits, readiness| {
            pending.extend(Token::from_bits(bits).map(|token| Event { token, readiness }));
        });
        Ok(self.pending.len())
    }

    /// The next event whose registration still stands, with its owner.
    pub fn next_event(&mut self) -> Option<(Event, &mut O)> {
        loop {
            let event = self.pending.pop_front()?;
            if self.descriptors.get(event.token).is_some() {
                return self.descriptors.get_mut(event.token).map(|(_, owner)| (event, owner));
            }
        }
    }

    /// The table of registrations.
    pub fn descriptors(&self) -> &Descriptors<O> {
        &self.descriptors
    }

    /// The owner behind a token; nothing for a stale one.
    pub fn owner_mut(&mut self, token: Token) -> Option<&mut O> {
        self.descriptors.get_mut(token).map(|(_, owner)| owner)
    }

    /// Ends every registration and returns the owners.
    pub fn clear(&mut self) -> Vec<O> {
        self.pending.clear();
        self.rearm.clear();
        let tokens: Vec<Token> = self.numbers.iter().flatten().copied().collect();
        let mut owners: Vec<O> = tokens.into_iter().filter_map(|token| self.deregister(token)).collect();
        owners.extend(self.descriptors.drain().into_iter().map(|(_, owner)| owner));
        owners
    }
}
