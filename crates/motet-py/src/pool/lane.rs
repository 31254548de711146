//! A lane as the dispatcher sees it: what its worker knows, and how calls and orders go there.

use super::call::{Call, bytes_of};
use super::tally::Tally;
use motet_lanes::arena::{AllocateError, Arena, Kind, Location, Piece};
use motet_lanes::lane::ParentSide;
use motet_lanes::lane::message::request_kind;
use motet_lanes::lane::parcel::{Parcel, take_back};
use motet_lanes::lane::peer::Peer;
use std::collections::HashSet;

pub struct Lane {
    pub side: ParentSide<Call>,
    pub peer: Peer,
    /// The numbers of the functions that the worker has been given.
    known: HashSet<u32>,
    /// Those that it is to forget before the next call.
    unwanted: Vec<u32>,
    /// It gets no more calls: it is to end, or has.
    pub closing: bool,
    told_to_stop: bool,
    /// When its worker answered last, in nanoseconds of the monotonic clock; 0 before it has begun to work.
    pub heard_at: u64,
    /// Its worker waits for what is given back.
    pub starved: bool,
    /// Its worker is at a call that takes long, and gets no other.
    pub held_up: bool,
    /// Calls that it was given and that were not taken back.
    pub given: u64,
    /// The number of the call that was asked to stop last.
    pub stopped: Option<u64>,
    pub tally: Tally,
}

/// Why a lane does not take a call now.
pub enum Refused {
    /// There is no room.
    Busy(Call),
    /// There never will be.
    Failed(Call, AllocateError),
}

impl Lane {
    pub fn new(side: ParentSide<Call>, peer: Peer) -> Self {
        Self {
            side,
            peer,
            known: HashSet::new(),
            unwanted: Vec::new(),
            closing: false,
            told_to_stop: false,
            heard_at: 0,
            starved: false,
            held_up: false,
            given: 0,
            stopped: None,
            tally: Tally::default(),
        }
    }

    /// Calls that its worker has finished, and the nanoseconds that it has been at calls, up to now.
    pub fn work(&self, now_nanos: u64) -> (u64, u64) {
        let begun = self.side.running().map(|(_, since)| since).filter(|&since| since != 0);
        let current = begun.map_or(0, |since| now_nanos.saturating_sub(since));
        (self.tally.finished, self.tally.busy_nanos.wrapping_add(current))
    }

    /// Sends a call, and before it the function if the worker does not know it yet; wakes the worker.
    pub fn send(&mut self, arena: &Arena, call: Call) -> Result<(), Refused> {
        let sent = self.try_send(arena, call);
        // Also where orders have taken all the room: nobody else would have them carried out.
        self.side.wake();
        sent
    }

    fn try_send(&mut self, arena: &Arena, call: Call) -> Result<(), Refused> {
        while let Some(&number) = self.unwanted.last() {
            match self.order(arena, request_kind::FORGET, number, &[]) {
                Ok(true) => self.unwanted.pop(),
                Ok(false) => return Err(Refused::Busy(call)),
                Err(error) => return Err(refusal(call, error)),
            };
        }
        if !self.known.contains(&call.function.number) {
            let pickle = bytes_of(&call.function.pickle);
            let number = call.function.number;
            match self.order(arena, request_kind::DEFINE, number, pickle) {
                Ok(true) => self.known.insert(number),
                Ok(false) => return Err(Refused::Busy(call)),
                Err(error) => return Err(refusal(call, error)),
            };
        }
        if !self.side.has_room() {
            return Err(Refused::Busy(call));
        }
        let packed = match call.parcel().pack(|length| self.message_memory(arena, length)) {
            Ok(packed) => packed,
            Err(error) => return Err(refusal(call, error)),
        };
        let Ok(message) = packed.lend(&call.parcel(), &mut self.peer) else {
            return Err(Refused::Busy(call));
        };
        let mut traffic = self.tally.sent;
        traffic.note_parcel(&call.parcel());
        let sent = self.side.send_call(call, message, |call, request| {
            request.kind = request_kind::CALL;
            request.function = call.function.number;
            packed.write(&call.parcel(), &mut request.message);
        });
        if let Err(call) = sent {
            take_back(&call.buffers, message, &mut self.peer);
            return Err(Refused::Busy(call));
        }
        self.tally.sent = traffic;
        self.given += 1;
        Ok(())
    }

    /// Has the worker let a function go after the calls that it has.
    pub fn forget(&mut self, number: u32) {
        if self.known.remove(&number) {
            self.unwanted.push(number);
        }
    }

    /// Memory for a message to this worker.
    fn message_memory(&self, arena: &Arena, length: usize) -> Result<Piece, AllocateError> {
        match arena.allocate(length, Kind::Message) {
            // An idle worker gets its call all the same: what waits may be what holds the memory.
            Err(AllocateError::Full) if self.side.calls() == 0 => {
                arena.allocate_beyond(length, Kind::Message)
            }
            result => result,
        }
    }

    /// Sends what is no call: whether there was room.
    fn order(&mut self, arena: &Arena, kind: u32, number: u32, bytes: &[u8]) -> Result<bool, AllocateError> {
        if !self.side.has_room() {
            return Ok(false);
        }
        let parcel = Parcel { buffers: &[], bytes };
        let packed = parcel.pack(|length| self.message_memory(arena, length))?;
        let Ok(message) = packed.lend(&parcel, &mut self.peer) else { return Ok(false) };
        self.tally.sent.note_parcel(&parcel);
        Ok(self.side.send_order(message, |request| {
            request.kind = kind;
            request.function = number;
            packed.write(&parcel, &mut request.message);
        }))
    }

    pub fn is_at(&self, number: u64) -> bool {
        self.side.running().is_some_and(|(call, _)| call.number == number)
    }

    /// Whether the worker has been at a call for longer than this.
    pub fn is_at_one_for(&self, nanos: u64, now_nanos: u64) -> bool {
        let longer = |since: u64| since != 0 && now_nanos.saturating_sub(since) > nanos;
        // Who has just answered need not be looked at.
        now_nanos.saturating_sub(self.heard_at) > nanos
            && self.side.running().is_some_and(|(_, since)| longer(since))
    }

    /// Takes a call back that the worker has not begun, and what was lent for it.
    pub fn take_back(&mut self, choose: impl FnMut(&Call) -> bool) -> Option<Call> {
        let (call, message) = self.side.take_back(choose)?;
        take_back(&call.buffers, message, &mut self.peer);
        self.given -= 1;
        Some(call)
    }

    /// The worker has answered a call or order, and reads its message no more.
    pub fn returned(&mut self, message: Option<Location>) {
        if let Some(location) = message {
            self.peer.returned(location);
        }
    }

    /// Tells the worker what it need not keep, and gives back what the parent has no more use for.
    pub fn tidy(&mut self) {
        let returned = self.peer.returns().take();
        self.side.give_back(returned);
        for segment in self.peer.retired() {
            // Without room the worker keeps it until its own end.
            self.side.send_order(None, |request| {
                request.kind = request_kind::RETIRE;
                request.function = segment;
                request.message.set_inline(&[]);
            });
        }
        if self.closing {
            self.stop();
        }
    }

    /// Whether its worker has nothing left to do but to end.
    pub fn is_done(&self) -> bool {
        self.told_to_stop && self.side.calls() == 0
    }

    /// Asks the worker to end when it has done what it has been sent; as soon as there is room for that.
    pub fn stop(&mut self) {
        self.closing = true;
        if !self.told_to_stop {
            self.told_to_stop = self.side.send_order(None, |request| {
                request.kind = request_kind::STOP;
                request.message.set_inline(&[]);
            });
            self.side.wake();
        }
    }
}

fn refusal(call: Call, error: AllocateError) -> Refused {
    match error {
        AllocateError::Full => Refused::Busy(call),
        other => Refused::Failed(call, other),
    }
}
