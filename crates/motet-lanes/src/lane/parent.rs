//! The parent's side of a lane: what it has sent, and what became of it.

use super::message::{Reply, Request, is_answer};
use super::requests::Progress;
use super::{Lane, REQUESTS, TakeBack};
use crate::arena::Location;
use crate::primitive::Ordering;
use crate::sys::futex;
use crate::sys::region::Region;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

/// A lane with what its parent knows of each request that is not answered: a `C` for a call, nothing for the rest.
///
/// One thread at a time may use it, which `&mut` sees to.
#[derive(Debug)]
pub struct ParentSide<C> {
    lane: Region<Lane>,
    /// Of requests from number `next - sent.len()` on. What has been taken back or answered is `Over` until it is the oldest.
    sent: VecDeque<Sent<C>>,
    next: u64,
    /// Calls among `sent`.
    calls: usize,
    /// Leases that found no room in the lane.
    returns: VecDeque<Location>,
}

#[derive(Debug)]
enum Sent<C> {
    /// With the place in the arena that its message takes, if it takes one.
    Call(C, Option<Location>),
    Order(Option<Location>),
    Over,
}

/// What a reply answers.
#[derive(Debug)]
pub struct Answered<C> {
    /// The call, if it was one.
    pub call: Option<C>,
    /// The place of the request's message, which the worker reads no more.
    pub message: Option<Location>,
}

/// What a dead worker leaves behind.
#[derive(Debug)]
pub struct Wreck<C> {
    /// What it had begun and not answered, the oldest first: one call, as a worker begins one at a time. More only if it lived
    /// while its lane was taken apart, and their answers came too late.
    pub begun: Vec<C>,
    /// What it had not begun, the oldest first.
    pub waiting: Vec<C>,
}

impl<C> ParentSide<C> {
    /// Makes the memory.
    ///
    /// # Errors
    /// The system's: no memory, too many descriptors.
    pub fn create() -> io::Result<Self> {
        let lane = Region::create(c"motet lane")?;
        Ok(Self { lane, sent: VecDeque::new(), next: 0, calls: 0, returns: VecDeque::new() })
    }

    /// The memory's descriptor, for the worker.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.lane.descriptor()
    }

    /// Calls that are sent and not answered.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Whether another request finds a slot.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.sent.len() < REQUESTS && self.lane.requests.has_room(self.next)
    }

    /// Sends a call, whose message takes this place in the arena. The worker may have to be [woken](Self::wake).
    ///
    /// # Errors
    /// The call itself, when there is no room.
    pub fn send_call(
        &mut self,
        call: C,
        message: Option<Location>,
        write: impl FnOnce(&C, &mut Request),
    ) -> Result<(), C> {
        if !self.has_room() || !self.lane.requests.publish(self.next, |request| write(&call, request)) {
            return Err(call);
        }
        self.next += 1;
        self.calls += 1;
        self.sent.push_back(Sent::Call(call, message));
        Ok(())
    }

    /// Sends what is no call. False when there is no room.
    pub fn send_order(&mut self, message: Option<Location>, write: impl FnOnce(&mut Request)) -> bool {
        if !self.has_room() || !self.lane.requests.publish(self.next, write) {
            return false;
        }
        self.next += 1;
        self.sent.push_back(Sent::Order(message));
        true
    }

    /// Wakes the worker if it sleeps.
    pub fn wake(&self) {
        if self.lane.worker_bell.ring() {
            futex::wake(&self.lane.worker_bell);
        }
    }

    /// Reads the oldest reply, with what it answers. `None`: there is no reply.
    pub fn collect<R>(&mut self, read: impl FnOnce(Answered<C>, &Reply) -> R) -> Option<R> {
        let Self { lane, sent, next, calls, .. } = self;
        lane.replies.pop(|reply| {
            let mut answered = Answered { call: None, message: None };
            if is_answer(reply) {
                let oldest = *next - sent.len() as u64;
                let place = reply.position.checked_sub(oldest).and_then(|index| sent.get_mut(index as usize));
                // An answer to nothing that was asked is nobody's.
                match place.map(|place| std::mem::replace(place, Sent::Over)) {
                    Some(Sent::Call(call, message)) => {
                        *calls -= 1;
                        answered = Answered { call: Some(call), message };
                    }
                    Some(Sent::Order(message)) => answered.message = message,
                    Some(Sent::Over) | None => {}
                }
                while let Some(Sent::Over) = sent.front() {
                    sent.pop_front();
                }
            }
            read(answered, reply)
        })
    }

    /// Whether there are replies.
    #[must_use]
    pub fn has_replies(&self) -> bool {
        !self.lane.replies.is_empty()
    }

    /// Takes a call back that the worker has not begun: the latest that `choose` is true of, with its message's place.
    pub fn take_back(&mut self, mut choose: impl FnMut(&C) -> bool) -> Option<(C, Option<Location>)> {
        let oldest = self.next - self.sent.len() as u64;
        for (index, sent) in self.sent.iter_mut().enumerate().rev() {
            let Sent::Call(call, _) = sent else { continue };
            if !choose(call) || self.lane.requests.take_back(oldest + index as u64) != TakeBack::Taken {
                continue;
            }
            let Sent::Call(call, message) = std::mem::replace(sent, Sent::Over) else { return None };
            self.calls -= 1;
            while let Some(Sent::Over) = self.sent.front() {
                self.sent.pop_front();
            }
            return Some((call, message));
        }
        None
    }

    /// The call that the worker is at, and since when (nanoseconds of the monotonic clock; 0: since a moment ago).
    #[must_use]
    pub fn running(&self) -> Option<(&C, u64)> {
        let oldest = self.next - self.sent.len() as u64;
        self.sent.iter().zip(oldest..).find_map(|(sent, position)| {
            match (sent, self.lane.requests.progress(position)) {
                (Sent::Call(call, _), Progress::Running { since_nanos }) => Some((call, since_nanos)),
                _ => None,
            }
        })
    }

    /// Asks the worker to stop the call that it is at, if `choose` is true of it. The worker looks when a signal tells it to.
    #[must_use]
    pub fn ask_to_stop(&self, choose: impl FnOnce(&C) -> bool) -> bool {
        let oldest = self.next - self.sent.len() as u64;
        for (sent, position) in self.sent.iter().zip(oldest..) {
            if let Sent::Call(call, _) = sent
                && let Progress::Running { .. } = self.lane.requests.progress(position)
            {
                if !choose(call) {
                    return false;
                }
                self.lane.stop.store(position + 1, Ordering::Release);
                step!("stop: asked");
                return true;
            }
        }
        false
    }

    /// Calls that are sent and not answered, the oldest first.
    pub fn sent_calls(&self) -> impl Iterator<Item = &C> {
        self.sent.iter().filter_map(|sent| match sent {
            Sent::Call(call, _) => Some(call),
            _ => None,
        })
    }

    /// Gives pieces of its arena back to the worker.
    pub fn give_back(&mut self, locations: impl IntoIterator<Item = Location>) {
        self.returns.extend(locations);
        while let Some(location) = self.returns.front().copied() {
            if !self.lane.returns.push(|entry| *entry = location) {
                break;
            }
            self.returns.pop_front();
        }
    }

    /// Before a sleep: the worker rings from now on. False, and no bell, when there are replies.
    #[must_use]
    pub fn lie_down(&self) -> bool {
        self.lane.parent_bell.lie_down();
        if self.has_replies() {
            self.lane.parent_bell.get_up();
            return false;
        }
        true
    }

    /// Before a doze: the worker rings from now on only when it begins the last that it has. False, and no bell, when it has begun
    /// that, or has nothing.
    #[must_use]
    pub fn doze(&self) -> bool {
        self.lane.parent_bell.doze();
        let last = self.next.checked_sub(1);
        if last.is_none_or(|last| self.lane.requests.progress(last) != Progress::Waiting) {
            self.lane.parent_bell.get_up();
            return false;
        }
        true
    }

    /// After a sleep.
    pub fn get_up(&self) {
        self.lane.parent_bell.get_up();
    }

    /// What is left when the worker is dead and its replies have been collected. One that lives after all begins nothing more,
    /// and what it has begun is never among what waits.
    #[must_use]
    pub fn into_wreck(self) -> Wreck<C> {
        let Self { lane, sent, next, .. } = self;
        let oldest = next - sent.len() as u64;
        let mut wreck = Wreck { begun: Vec::new(), waiting: Vec::new() };
        let mut died_preparing = false;
        for (sent, position) in sent.into_iter().zip(oldest..) {
            match sent {
                Sent::Over => {}
                // A worker that dies of an order, such as to load a function, died of the call that needs it.
                Sent::Order(_) => {
                    died_preparing |= matches!(lane.requests.progress(position), Progress::Running { .. });
                }
                Sent::Call(call, _) => match lane.requests.take_back(position) {
                    TakeBack::Taken if !std::mem::take(&mut died_preparing) => wreck.waiting.push(call),
                    // Begun and not answered: also when it died between the last steps of a call.
                    _ => wreck.begun.push(call),
                },
            }
        }
        wreck
    }
}
