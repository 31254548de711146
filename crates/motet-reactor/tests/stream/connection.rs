//! A binding in miniature: a stream, a simulated socket and protocol, and the plain books that the stream is held against.

use motet_reactor::Stream;
use motet_reactor::stream::{Actions, Admission, Sent};
use std::collections::VecDeque;

/// What the system knows of the connection. Its events are edges: each is told once.
#[derive(Default)]
pub(crate) struct Socket {
    room: usize,
    /// A send has found less room than it wanted: more room will be told.
    full: bool,
    writable_edge: bool,
    broken: bool,
    incoming: VecDeque<u8>,
    pub(crate) peer_ended: bool,
    readable_edge: bool,
}

/// What has happened, as the protocol and the peer have seen it.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) accepted: Vec<u8>,
    pub(crate) sent: Vec<u8>,
    pub(crate) peer_wrote: Vec<u8>,
    pub(crate) received: Vec<u8>,
    pub(crate) end_received: bool,
    pub(crate) reading_paused: bool,
    pub(crate) writing_paused: bool,
    pub(crate) output_ended: bool,
    pub(crate) shut_down: bool,
    pub(crate) closing: bool,
    pub(crate) aborted: bool,
    pub(crate) lost: bool,
    pub(crate) refused: u32,
}

#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) stream: Stream<Vec<u8>>,
    pub(crate) socket: Socket,
    pub(crate) books: Books,
    round: u64,
    sent_directly_in: Option<u64>,
    flush_listed: bool,
    read_listed: bool,
    /// How much one read takes.
    read_capacity: usize,
    /// The protocol pauses reading when it has received so many bytes.
    pub(crate) pause_at: Option<usize>,
    /// What the protocol answers to the end of the input.
    keeps_open: bool,
    next_byte: u8,
}

impl Connection {
    pub(crate) fn new(read_capacity: usize, keeps_open: bool) -> Self {
        Self { read_capacity, keeps_open, ..Self::default() }
    }

    fn apply(&mut self, actions: Actions) {
        let (low, high) = self.stream.limits();
        let queued = self.stream.queued_bytes();
        if actions.contains(Actions::PAUSE_WRITING) {
            assert!(!self.books.writing_paused, "paused twice");
            assert!(queued > high, "paused below the mark");
            self.books.writing_paused = true;
        }
        if actions.contains(Actions::RESUME_WRITING) {
            assert!(self.books.writing_paused, "resumed without a pause");
            assert!(queued <= low, "resumed above the mark");
            self.books.writing_paused = false;
            let rest = self.stream.resumed();
            self.apply(rest);
        }
        if actions.contains(Actions::SHUTDOWN) {
            assert!(self.books.output_ended && queued == 0, "shut down while data waits");
            assert!(!self.books.shut_down, "shut down twice");
            assert!(!self.books.lost, "shut down after the end");
            self.books.shut_down = true;
        }
        if actions.contains(Actions::LOSE_CONNECTION) {
            assert!(!self.books.lost, "lost twice");
            assert!(self.books.aborted || (self.books.closing && queued == 0), "lost before its time");
            self.books.lost = true;
        }
        if actions.contains(Actions::READ_LATER) {
            assert!(self.stream.wants_read());
            self.read_listed = true;
        }
    }

    // ---- writing ----

    fn fresh_bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| {
                self.next_byte = self.next_byte.wrapping_add(1);
                self.next_byte
            })
            .collect()
    }

    /// As `transport.write` (one piece) and `transport.writelines` (any number).
    pub(crate) fn write(&mut self, lengths: &[usize]) {
        if lengths.iter().sum::<usize>() == 0 {
            let expected = if self.books.output_ended { None } else { Some(Admission::Nothing) };
            assert_eq!(self.stream.admit_nothing().ok(), expected);
            return;
        }
        let length: usize = lengths.iter().sum();
        let much = self.stream.queued_bytes() + length > self.stream.limits().1;
        let admission = self.stream.admit(length, self.round);
        if self.books.output_ended {
            assert!(admission.is_err(), "nothing is admitted behind the end of the output");
            return;
        }
        match admission.expect("the output is open") {
            Admission::Refuse(earlier) => {
                assert!(self.books.lost);
                assert_eq!(earlier, self.books.refused);
                self.books.refused += 1;
            }
            Admission::Send => {
                assert_eq!(self.stream.queued_bytes(), 0, "nothing overtakes what waits");
                assert!(
                    much || self.sent_directly_in != Some(self.round),
                    "little data is sent directly once in a round"
                );
                self.sent_directly_in = Some(self.round);
                let pieces = self.accept(lengths);
                if let [piece] = &*pieces { self.send_directly(piece) } else { self.send_together(pieces) }
            }
            Admission::SendQueue => {
                assert!(!self.books.lost && much && !self.stream.is_blocked());
                assert!(self.stream.queued_bytes() > 0);
                let pieces = self.accept(lengths);
                self.send_together(pieces);
            }
            Admission::Enqueue => {
                assert!(!self.books.lost);
                assert!(!much || self.stream.is_blocked(), "much data is not kept where it could be sent");
                let pieces = self.accept(lengths);
                self.stream.enqueue_all(pieces);
                let actions = self.stream.check_limits();
                self.apply(actions);
                self.flush_listed |= self.stream.wants_flush();
            }
            Admission::Nothing => panic!("there is something to write"),
        }
    }

    fn accept(&mut self, lengths: &[usize]) -> Vec<Vec<u8>> {
        let pieces: Vec<Vec<u8>> = lengths.iter().map(|length| self.fresh_bytes(*length)).collect();
        self.books.accepted.extend(pieces.concat());
        pieces
    }

    fn send_directly(&mut self, piece: &[u8]) {
        match self.socket.send(piece) {
            Ok(Sent::Bytes(count)) if count == piece.len() => self.books.sent.extend(piece),
            Ok(sent) => {
                let count = if let Sent::Bytes(count) = sent { count } else { 0 };
                self.books.sent.extend(&piece[..count]);
                self.stream.blocked();
                let actions = self.stream.enqueue(piece.to_vec(), count);
                self.apply(actions);
            }
            Err(Broken) => self.abort(),
        }
    }

    fn send_together(&mut self, pieces: Vec<Vec<u8>>) {
        self.stream.enqueue_all(pieces);
        self.send_queue();
    }

    fn send_queue(&mut self) {
        let (socket, books) = (&mut self.socket, &mut self.books);
        let result = self.stream.send_queued(|pieces| {
            let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            assert!(!whole.is_empty(), "a send of nothing");
            let sent = socket.send(&whole)?;
            if let Sent::Bytes(count) = sent {
                books.sent.extend(&whole[..count]);
            }
            Ok(sent)
        });
        match result {
            Ok(actions) => self.apply(actions),
            Err(Broken) => self.abort(),
        }
    }

    pub(crate) fn end_round(&mut self) {
        if std::mem::take(&mut self.flush_listed) {
            self.stream.flush_begins();
            self.send_queue();
        }
        self.round += 1;
        if std::mem::take(&mut self.read_listed) {
            self.read();
        }
    }

    pub(crate) fn write_eof(&mut self) {
        self.books.output_ended |= !self.books.closing;
        let actions = self.stream.write_eof();
        self.apply(actions);
    }

    pub(crate) fn set_limits(&mut self, low: usize, high: usize) {
        let actions = self.stream.set_limits(low, high);
        assert_eq!(self.stream.limits(), (low, high));
        self.apply(actions);
    }

    // ---- ending ----

    pub(crate) fn close(&mut self) {
        self.books.closing = true;
        let actions = self.stream.close();
        self.apply(actions);
    }

    pub(crate) fn abort(&mut self) {
        (self.books.closing, self.books.aborted) = (true, true);
        let (actions, dropped) = self.stream.abort();
        let undelivered = self.books.accepted.len() - self.books.sent.len();
        assert!(dropped.bytes() <= undelivered);
        self.apply(actions);
    }

    // ---- reading ----

    pub(crate) fn start_reading(&mut self) {
        self.stream.start_reading();
    }

    pub(crate) fn pause_reading(&mut self) {
        let was_reading = !self.books.reading_paused && !self.books.closing;
        assert_eq!(self.stream.pause_reading(), was_reading);
        self.books.reading_paused |= was_reading;
    }

    pub(crate) fn resume_reading(&mut self) {
        let expected = self.books.reading_paused && !self.books.closing;
        let resumed = self.stream.resume_reading();
        assert_eq!(resumed.is_some(), expected);
        if let Some(actions) = resumed {
            self.books.reading_paused = false;
            self.apply(actions);
        }
    }

    fn read(&mut self) {
        while self.stream.wants_read() {
            assert!(!self.books.reading_paused && !self.books.closing && !self.books.end_received);
            let count = self.read_capacity.min(self.socket.incoming.len());
            if count > 0 {
                self.stream.received(count, self.read_capacity);
                self.books.received.extend(self.socket.incoming.drain(..count));
                if self.pause_at.is_some_and(|limit| self.books.received.len() >= limit) {
                    self.pause_at = None;
                    self.pause_reading();
                }
                if count == self.read_capacity {
                    self.read_listed = self.stream.wants_read();
                    return;
                }
            } else if self.socket.peer_ended {
                self.stream.end_of_input();
                self.books.end_received = true;
                if !self.keeps_open {
                    self.close();
                }
            } else {
                self.stream.drained();
            }
        }
    }

    // ---- the system ----

    /// One wait: tells each edge once, with the state of this moment.
    pub(crate) fn poll(&mut self) {
        let readable = std::mem::take(&mut self.socket.readable_edge);
        if readable {
            self.stream.set_readable(self.socket.peer_ended);
        }
        if std::mem::take(&mut self.socket.writable_edge) {
            self.stream.unblocked();
            if self.stream.queued_bytes() > 0 {
                self.send_queue();
            }
        }
        if readable {
            self.read();
        }
    }

    /// Whether the next wait has something to tell, or a later round something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.socket.readable_edge || self.socket.writable_edge || self.read_listed || self.flush_listed
    }

    pub(crate) fn peer_writes(&mut self, length: usize) {
        if !self.socket.peer_ended {
            let bytes = self.fresh_bytes(length);
            self.books.peer_wrote.extend(&bytes);
            self.socket.incoming.extend(bytes);
            self.socket.readable_edge = true;
        }
    }

    pub(crate) fn peer_ends(&mut self) {
        self.socket.readable_edge |= !self.socket.peer_ended;
        self.socket.peer_ended = true;
    }
}

/// The simulated connection is broken.
pub(crate) struct Broken;

impl Socket {
    fn send(&mut self, data: &[u8]) -> Result<Sent, Broken> {
        if self.broken {
            return Err(Broken);
        }
        let count = data.len().min(self.room);
        self.room -= count;
        self.full |= count < data.len();
        Ok(if count == 0 { Sent::Blocked } else { Sent::Bytes(count) })
    }

    pub(crate) fn make_room(&mut self, room: usize) {
        self.room = self.room.saturating_add(room);
        self.writable_edge |= std::mem::take(&mut self.full);
    }

    pub(crate) fn break_connection(&mut self) {
        self.broken = true;
        self.writable_edge = true;
    }
}
