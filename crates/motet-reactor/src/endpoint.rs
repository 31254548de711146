//! A datagram transport as a state machine: no socket, no protocol, no Python.
//!
//! As [`crate::stream`], whose [`Actions`] it asks for; but what is queued are whole datagrams with their addresses, one that fails
//! is dropped and told, and the socket goes on. `connection_lost` is asked for exactly once.

use crate::stream::Actions;
use std::collections::VecDeque;

/// What one queued datagram counts beyond its data, as in asyncio: empty ones must not be free.
const HEADER: usize = 8;
/// Default high-water mark, in bytes, as asyncio's.
const HIGH_WATER: usize = 64 * 1024;
/// So many datagrams are collected in a round before they are sent.
const MOST_COLLECTED: usize = 32;

/// What to do with a datagram handed to `sendto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it now; queue it if there is no room ([`Endpoint::enqueue`]).
    Send,
    /// Queue it.
    Enqueue,
    /// Drop it: the transport is closed. So many were dropped before this one.
    Refuse(u32),
}

/// How an attempt to send the queue's first datagrams ended.
#[derive(Debug)]
pub enum Sent<E> {
    /// So many went out, at least one.
    Datagrams(usize),
    /// There is no room for the first.
    Blocked,
    /// The first one cannot be sent.
    Refused(E),
}

/// The state of one datagram socket. `B` is the data of a queued datagram, `A` its address.
#[derive(Debug)]
pub struct Endpoint<B, A> {
    started: bool,
    paused: bool,
    readable: bool,
    blocked: bool,
    flush_requested: bool,
    protocol_paused: bool,
    closing: bool,
    lost: bool,
    dropped_sends: u32,
    sent_in_turn: u64,
    low_water: usize,
    high_water: usize,
    bytes: usize,
    queue: VecDeque<(B, A)>,
}

impl<B, A> Default for Endpoint<B, A> {
    fn default() -> Self {
        Self {
            started: false,
            paused: false,
            readable: false,
            blocked: false,
            flush_requested: false,
            protocol_paused: false,
            closing: false,
            lost: false,
            dropped_sends: 0,
            sent_in_turn: u64::MAX,
            low_water: HIGH_WATER / 4,
            high_water: HIGH_WATER,
            bytes: 0,
            queue: VecDeque::new(),
        }
    }
}

impl<B: AsRef<[u8]>, A> Endpoint<B, A> {
    // ---- receiving ----

    /// The protocol has been told of the transport: receiving may begin.
    pub fn start_reading(&mut self) {
        self.started = true;
    }

    /// The poller tells that there is something to receive, or an error to collect.
    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// There is nothing to receive until the poller tells so.
    pub fn drained(&mut self) {
        self.readable = false;
    }

    /// Whether the binding should receive now.
    pub fn wants_read(&self) -> bool {
        self.readable && self.started && self.is_reading()
    }

    /// Whether the protocol receives datagrams: neither paused nor closing.
    pub fn is_reading(&self) -> bool {
        !self.paused && !self.closing
    }

    /// Stops receiving.
    pub fn pause_reading(&mut self) {
        self.paused |= !self.closing;
    }

    /// Goes on receiving; nothing when it was not paused or is closing.
    pub fn resume_reading(&mut self) -> Option<Actions> {
        if self.closing || !self.paused {
            return None;
        }
        self.paused = false;
        Some(if self.started { Actions::READ_LATER } else { Actions::NONE })
    }

    // ---- sending ----

    /// A datagram is to be sent in round `turn`; `collect`: after the first of a round the others go out together.
    pub fn admit(&mut self, turn: u64, collect: bool) -> Admission {
        if self.lost {
            self.dropped_sends = self.dropped_sends.saturating_add(1);
            return Admission::Refuse(self.dropped_sends - 1);
        }
        if !self.queue.is_empty() || (collect && self.sent_in_turn == turn) {
            return Admission::Enqueue;
        }
        self.sent_in_turn = turn;
        Admission::Send
    }

    /// Queues a datagram. Returns whether the binding should send the queue now: much has been collected.
    pub fn enqueue(&mut self, data: B, address: A) -> bool {
        self.bytes += data.as_ref().len() + HEADER;
        self.queue.push_back((data, address));
        !self.blocked && (self.queue.len() >= MOST_COLLECTED || self.bytes > self.high_water)
    }

    /// A send found no room: the queue waits for the poller, not for the end of the round.
    pub fn blocked(&mut self) {
        self.blocked = true;
    }

    /// The poller tells that there is room.
    pub fn unblocked(&mut self) {
        self.blocked = false;
    }

    /// Whether a send waits for the poller.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether the binding should put this endpoint on the list of those flushed at the end of the round (it is asked once).
    pub fn wants_flush(&mut self) -> bool {
        if self.queue.is_empty() || self.blocked || self.flush_requested {
            return false;
        }
        self.flush_requested = true;
        true
    }

    /// The end of the round is here.
    pub fn flush_begins(&mut self) {
        self.flush_requested = false;
    }

    /// Sends the queue through `send`, which is given the datagrams in order. Stops at one that cannot be sent and returns its
    /// error, with the datagram removed: the binding tells it and calls again.
    pub fn send_queued<E>(
        &mut self,
        mut send: impl FnMut(&VecDeque<(B, A)>) -> Sent<E>,
    ) -> Result<Actions, (E, B)> {
        while !self.queue.is_empty() && !self.lost {
            match send(&self.queue) {
                Sent::Datagrams(count) => {
                    for (data, _) in self.queue.drain(..count) {
                        self.bytes -= data.as_ref().len() + HEADER;
                    }
                }
                Sent::Blocked => {
                    self.blocked();
                    break;
                }
                Sent::Refused(error) => {
                    if let Some((data, _)) = self.queue.pop_front() {
                        self.bytes -= data.as_ref().len() + HEADER;
                        return Err((error, data));
                    }
                }
            }
        }
        Ok(self.check_limits() | self.under_low_water() | self.after_drain())
    }

    fn after_drain(&mut self) -> Actions {
        if !self.queue.is_empty() || self.lost || !self.closing {
            return Actions::NONE;
        }
        self.lost = true;
        Actions::LOSE_CONNECTION
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.bytes
    }

    /// The water marks: low, high.
    pub fn limits(&self) -> (usize, usize) {
        (self.low_water, self.high_water)
    }

    /// Sets the water marks. `low` must not exceed `high`.
    pub fn set_limits(&mut self, low: usize, high: usize) -> Actions {
        self.low_water = low;
        self.high_water = high;
        self.check_limits()
    }

    /// Asks the protocol to pause if more is queued than the high-water mark allows.
    pub fn check_limits(&mut self) -> Actions {
        if self.bytes <= self.high_water || self.protocol_paused {
            return Actions::NONE;
        }
        self.protocol_paused = true;
        Actions::PAUSE_WRITING
    }

    fn under_low_water(&mut self) -> Actions {
        if self.bytes > self.low_water || !self.protocol_paused {
            return Actions::NONE;
        }
        self.protocol_paused = false;
        Actions::RESUME_WRITING
    }

    // ---- ending ----

    /// Ends receiving at once, and everything when the queue is sent.
    pub fn close(&mut self) -> Actions {
        if self.closing {
            return Actions::NONE;
        }
        self.closing = true;
        self.after_drain()
    }

    /// Ends everything at once and returns what was queued, for the binding to drop.
    pub fn abort(&mut self) -> (Actions, VecDeque<(B, A)>) {
        let queue = std::mem::take(&mut self.queue);
        self.bytes = 0;
        if self.lost {
            return (Actions::NONE, queue);
        }
        self.closing = true;
        self.lost = true;
        (Actions::LOSE_CONNECTION, queue)
    }

    /// Whether `close` or `abort` was called, or the socket has failed.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether `connection_lost` was asked for.
    pub fn is_lost(&self) -> bool {
        self.lost
    }
}
