//! A byte-stream transport as a state machine: no socket, no protocol, no Python.
//!
//! Calls and events come in as methods; what has to happen comes out as [`Actions`], bits that the binding carries out in
//! their order of declaration. The binding does the reading and sending, and says how it went.
//!
//! ```text
//!            close()                       queue drained
//!   Open ──────────────▶ Closing ────────────────────────▶ Lost
//!     │    (empty queue: at once)                           ▲
//!     └──────────────── abort() / failed() ─────────────────┘   connection_lost is asked for exactly once
//! ```
//!
//! Reading and the read end are independent of it: `pause_reading` only stops the binding from reading; the readiness that
//! an edge-triggered poller told once is kept here ([`Stream::set_readable`]) until a read finds the stream drained.

mod queue;

pub use queue::{MAXIMUM_QUEUED_PIECES, WriteQueue};

/// What the binding has to do after a call, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Actions(u8);

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Call the protocol's `pause_writing`.
    pub const PAUSE_WRITING: Self = Self(1);
    /// Call the protocol's `resume_writing`, then [`Stream::resumed`].
    pub const RESUME_WRITING: Self = Self(2);
    /// Send the end of the stream.
    pub const SHUTDOWN: Self = Self(4);
    /// Stop hearing of the descriptor, then call `connection_lost` in a later round.
    pub const LOSE_CONNECTION: Self = Self(8);
    /// Read in a later round: there is something that no event will tell again.
    pub const READ_LATER: Self = Self(16);

    /// Whether all of `other` is asked for.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is asked for.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl std::ops::BitOr for Actions {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What to do with data handed to `write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it now; queue what did not fit ([`Stream::enqueue`]).
    Send,
    /// Queue it: earlier data waits, or this round has sent once already and the rest goes out together.
    Enqueue,
    /// Queue it, and send the queue now: what has come together would pass the high-water mark.
    SendQueue,
    /// There is nothing to write.
    Nothing,
    /// Drop it: the connection is lost. So many writes were dropped before this one.
    Refuse(u32),
}

/// Data was written after `write_eof`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteAfterEof;

/// How an attempt to send the queue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes went out.
    Bytes(usize),
    /// Nothing fits now.
    Blocked,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags(u16);

impl Flags {
    const STARTED: u16 = 1;
    const PAUSED: u16 = 1 << 1;
    const READABLE: u16 = 1 << 2;
    const SHORT_READS_SAY_NOTHING: u16 = 1 << 3;
    const END_OF_INPUT: u16 = 1 << 4;
    const END_OF_OUTPUT: u16 = 1 << 5;
    const CLOSING: u16 = 1 << 6;
    const LOST: u16 = 1 << 7;
    const PROTOCOL_PAUSED: u16 = 1 << 8;
    const BLOCKED: u16 = 1 << 9;
    const FLUSH_REQUESTED: u16 = 1 << 10;

    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    fn set(&mut self, bit: u16, on: bool) {
        if on { self.0 |= bit } else { self.0 &= !bit }
    }
}

/// Default high-water mark, in bytes, as asyncio's.
const HIGH_WATER: usize = 64 * 1024;

/// The state of one connection. `B` is one piece of queued data.
#[derive(Debug)]
pub struct Stream<B> {
    flags: Flags,
    dropped_writes: u16,
    /// The low half of the round's number: to take one round for another only has a write wait for the end of it.
    sent_in_turn: u32,
    high_water: usize,
    low_water: usize,
    queue: WriteQueue<B>,
}

impl<B> Default for Stream<B> {
    fn default() -> Self {
        Self {
            flags: Flags::default(),
            dropped_writes: 0,
            sent_in_turn: u32::MAX,
            high_water: HIGH_WATER,
            low_water: HIGH_WATER / 4,
            queue: WriteQueue::default(),
        }
    }
}

impl<B: AsRef<[u8]>> Stream<B> {
    // ---- reading ----

    /// The protocol has been told of the connection: reading may begin.
    pub fn start_reading(&mut self) {
        self.flags.set(Flags::STARTED, true);
    }

    /// The poller tells that there is something to read; `hangup`: and that nothing more will come after it.
    pub fn set_readable(&mut self, hangup: bool) {
        self.flags.set(Flags::READABLE, true);
        if hangup {
            self.flags.set(Flags::SHORT_READS_SAY_NOTHING, true);
        }
    }

    /// A short read on this stream says nothing about what is left: reads go on until one would block. So it is on Unix sockets,
    /// where a read stops at passed descriptors, and around urgent data.
    pub fn distrust_short_reads(&mut self) {
        self.flags.set(Flags::SHORT_READS_SAY_NOTHING, true);
    }

    /// Whether the binding should read now.
    pub fn wants_read(&self) -> bool {
        self.flags.has(Flags::READABLE) && self.is_reading() && !self.flags.has(Flags::END_OF_INPUT)
    }

    /// A read returned `count` of at most `capacity` bytes (`count` > 0). A short read has drained the stream, so that the next
    /// data makes a new event, unless the peer's end has been told already: then the end is still to be read.
    pub fn received(&mut self, count: usize, capacity: usize) {
        if count < capacity && !self.flags.has(Flags::SHORT_READS_SAY_NOTHING) {
            self.flags.set(Flags::READABLE, false);
        }
    }

    /// A read would have blocked.
    pub fn drained(&mut self) {
        self.flags.set(Flags::READABLE, false);
    }

    /// A read found the end of the stream. The binding asks the protocol whether to keep the connection open for writing,
    /// and calls [`Stream::close`] if not.
    pub fn end_of_input(&mut self) {
        self.flags.set(Flags::END_OF_INPUT, true);
    }

    /// Stops reading; `false` when it was not reading.
    pub fn pause_reading(&mut self) -> bool {
        let was_reading = self.is_reading();
        if was_reading {
            self.flags.set(Flags::PAUSED, true);
        }
        was_reading
    }

    /// Goes on reading; nothing when it was not paused or is closing.
    pub fn resume_reading(&mut self) -> Option<Actions> {
        if self.flags.has(Flags::CLOSING) || !self.flags.has(Flags::PAUSED) {
            return None;
        }
        self.flags.set(Flags::PAUSED, false);
        Some(Actions::READ_LATER.when(self.flags.has(Flags::STARTED) && self.wants_read()))
    }

    /// Whether the protocol receives data: neither paused nor closing.
    pub fn is_reading(&self) -> bool {
        !self.flags.has(Flags::PAUSED | Flags::CLOSING)
    }

    // ---- writing ----

    /// Data of `length` bytes, more than 0, is to be written in round `turn`. Small pieces of one round go out together; what
    /// would pass the high-water mark is not kept where it could be sent.
    ///
    /// # Errors
    /// After [`Stream::write_eof`].
    pub fn admit(&mut self, length: usize, turn: u64) -> Result<Admission, WriteAfterEof> {
        if self.flags.has(Flags::END_OF_OUTPUT) {
            return Err(WriteAfterEof);
        }
        if self.flags.has(Flags::LOST) {
            self.dropped_writes = self.dropped_writes.saturating_add(1);
            return Ok(Admission::Refuse(u32::from(self.dropped_writes - 1)));
        }
        let much = self.queue.bytes() + length > self.high_water;
        if !self.queue.is_empty() {
            let send = much && !self.flags.has(Flags::BLOCKED);
            return Ok(if send { Admission::SendQueue } else { Admission::Enqueue });
        }
        let turn = turn as u32;
        if self.sent_in_turn == turn && !much {
            return Ok(Admission::Enqueue);
        }
        self.sent_in_turn = turn;
        Ok(Admission::Send)
    }

    /// Data of length 0 is to be written: nothing happens, but after [`Stream::write_eof`].
    ///
    /// # Errors
    /// After [`Stream::write_eof`].
    pub fn admit_nothing(&self) -> Result<Admission, WriteAfterEof> {
        if self.flags.has(Flags::END_OF_OUTPUT) { Err(WriteAfterEof) } else { Ok(Admission::Nothing) }
    }

    /// Queues what was not sent, from byte `start` of the piece on.
    pub fn enqueue(&mut self, piece: B, start: usize) -> Actions {
        self.queue.push(piece, start);
        self.check_limits()
    }

    /// Queues several pieces. What is sent at once does not count against the limits, so the caller sends
    /// ([`Stream::send_queued`]) or checks them ([`Stream::check_limits`]) then.
    pub fn enqueue_all(&mut self, pieces: impl IntoIterator<Item = B>) {
        for piece in pieces {
            self.queue.push(piece, 0);
        }
    }

    /// A send found no room: the queue waits for the poller, not for the end of the round.
    pub fn blocked(&mut self) {
        self.flags.set(Flags::BLOCKED, true);
    }

    /// The poller tells that there is room.
    pub fn unblocked(&mut self) {
        self.flags.set(Flags::BLOCKED, false);
    }

    /// Whether the binding should put this stream on the list of those flushed at the end of the round (it is asked once).
    pub fn wants_flush(&mut self) -> bool {
        if self.queue.is_empty() || self.flags.has(Flags::BLOCKED | Flags::FLUSH_REQUESTED) {
            return false;
        }
        self.flags.set(Flags::FLUSH_REQUESTED, true);
        true
    }

    /// The end of the round is here.
    pub fn flush_begins(&mut self) {
        self.flags.set(Flags::FLUSH_REQUESTED, false);
    }

    /// Sends the queue through `send`, which is given pieces in order.
    ///
    /// # Errors
    /// What `send` returns; the stream is then as before, and the binding calls [`Stream::abort`].
    pub fn send_queued<E>(
        &mut self,
        mut send: impl FnMut(&[std::io::IoSlice<'_>]) -> Result<Sent, E>,
    ) -> Result<Actions, E> {
        if self.queue.is_empty() {
            return Ok(Actions::NONE);
        }
        while !self.queue.is_empty() && !self.flags.has(Flags::LOST) {
            let offered = self.queue.with_pieces(|pieces| {
                let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
                send(pieces).map(|sent| (sent, length))
            })?;
            match offered {
                (Sent::Blocked, _) => {
                    self.blocked();
                    break;
                }
                (Sent::Bytes(count), length) => {
                    self.queue.advance(count);
                    if count < length {
                        self.blocked();
                        break;
                    }
                }
            }
        }
        if self.queue.is_empty() {
            // There was room before the poller has told it.
            self.unblocked();
        }
        let resume = self.under_low_water();
        // What the protocol writes when it may go on belongs to the stream, also to one that is closing.
        let end = if resume.is_empty() { self.after_drain() } else { Actions::NONE };
        Ok(self.check_limits() | resume | end)
    }

    /// The protocol has been told to go on writing: the end that was held back for it.
    pub fn resumed(&mut self) -> Actions {
        self.after_drain()
    }

    fn after_drain(&mut self) -> Actions {
        if !self.queue.is_empty() || self.flags.has(Flags::LOST) {
            return Actions::NONE;
        }
        if self.flags.has(Flags::CLOSING) {
            self.flags.set(Flags::LOST, true);
            return Actions::LOSE_CONNECTION;
        }
        Actions::SHUTDOWN.when(self.flags.has(Flags::END_OF_OUTPUT))
    }

    /// Ends the output once the queue is sent.
    pub fn write_eof(&mut self) -> Actions {
        if self.flags.has(Flags::CLOSING | Flags::END_OF_OUTPUT) {
            return Actions::NONE;
        }
        self.flags.set(Flags::END_OF_OUTPUT, true);
        Actions::SHUTDOWN.when(self.queue.is_empty())
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
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
        if self.queue.bytes() <= self.high_water || self.flags.has(Flags::PROTOCOL_PAUSED) {
            return Actions::NONE;
        }
        self.flags.set(Flags::PROTOCOL_PAUSED, true);
        Actions::PAUSE_WRITING
    }

    fn under_low_water(&mut self) -> Actions {
        if self.queue.bytes() > self.low_water || !self.flags.has(Flags::PROTOCOL_PAUSED) {
            return Actions::NONE;
        }
        self.flags.set(Flags::PROTOCOL_PAUSED, false);
        Actions::RESUME_WRITING
    }

    // ---- ending ----

    /// Ends reading at once and the connection when the queue is sent.
    pub fn close(&mut self) -> Actions {
        if self.flags.has(Flags::CLOSING) {
            return Actions::NONE;
        }
        self.flags.set(Flags::CLOSING, true);
        self.after_drain()
    }

    /// Ends the connection at once and returns what was queued, for the binding to drop.
    pub fn abort(&mut self) -> (Actions, WriteQueue<B>) {
        let queue = std::mem::take(&mut self.queue);
        if self.flags.has(Flags::LOST) {
            return (Actions::NONE, queue);
        }
        self.flags.set(Flags::CLOSING | Flags::LOST, true);
        (Actions::LOSE_CONNECTION, queue)
    }

    /// Whether `close` or `abort` was called, or the connection has failed.
    pub fn is_closing(&self) -> bool {
        self.flags.has(Flags::CLOSING)
    }

    /// Whether `connection_lost` was asked for.
    pub fn is_lost(&self) -> bool {
        self.flags.has(Flags::LOST)
    }

    /// Whether a send waits for the poller.
    pub fn is_blocked(&self) -> bool {
        self.flags.has(Flags::BLOCKED)
    }
}
