//! What is waiting, what is sent to which lane, and which lane gets the next.

use super::call::{Call, Function, bytes_of};
use super::memory;
use super::tally::Tally;
use motet_lanes::arena::{AllocateError, Arena, Kind, Location, Piece};
use motet_lanes::lane::message::request_kind;
use motet_lanes::lane::parcel::{Parcel, take_back};
use motet_lanes::lane::peer::Peer;
use motet_lanes::lane::{ParentSide, Wreck};
use motet_lanes::sys::descriptors;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much work a lane is given ahead, in nanoseconds: enough to keep its worker busy while the dispatcher sleeps, little enough
/// that the last calls of a batch end at the same time everywhere.
const AHEAD_NANOS: u64 = 500_000;
/// One runs and one waits, so that a worker need not wait for its parent after a long call.
const LEAST_AHEAD: u64 = 2;
const MOST_AHEAD: u64 = 96;

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
    /// Its worker has begun to work.
    pub has_answered: bool,
    /// Its worker waits for what is given back.
    pub starved: bool,
    /// Calls that it was given.
    given: u64,
    /// The number of the call that was asked to stop last.
    pub stopped: Option<u64>,
    pub tally: Tally,
}

#[derive(Default)]
pub struct State {
    /// By number, the oldest first.
    pub backlog: VecDeque<Call>,
    pub lanes: HashMap<u32, Lane>,
    pub functions: HashMap<u32, Arc<Function>>,
    /// Calls that cannot be sent, and why.
    pub failed: Vec<(Call, AllocateError)>,
    /// Calls with a limit that are sent.
    pub limited: usize,
    /// How many calls a worker gets; 0: any number.
    calls_per_worker: u64,
    arena: Option<Arc<Arena>>,
    next_lane: u32,
    /// How long a call takes, smoothed, in nanoseconds; 0 before the first.
    usual_nanos: u64,
    pub submitted: u64,
    pub taken_back: u64,
    /// What lanes have done that are no more.
    gone: Tally,
}

/// Why a lane does not take a call now.
enum Refused {
    /// There is no room.
    Busy(Call),
    /// There never will be.
    Failed(Call, AllocateError),
}

impl State {
    pub fn new(calls_per_worker: u64) -> Self {
        Self { calls_per_worker, ..Self::default() }
    }

    /// A new lane, and the worker's end of its socket.
    pub fn add_lane(&mut self) -> io::Result<(u32, OwnedFd)> {
        let side = ParentSide::create()?;
        let (here, there) = descriptors::socket_pair()?;
        let arena = self.arena.get_or_insert_with(memory::arena);
        // SAFETY: the other end is a worker, which runs this crate.
        let peer = unsafe { Peer::new(arena, here) };
        self.next_lane += 1;
        let lane = Lane {
            side,
            peer,
            known: HashSet::new(),
            unwanted: Vec::new(),
            closing: false,
            told_to_stop: false,
            has_answered: false,
            starved: false,
            given: 0,
            stopped: None,
            tally: Tally::default(),
        };
        self.lanes.insert(self.next_lane, lane);
        Ok((self.next_lane, there))
    }

    /// What a lane that is no more leaves behind. All that its worker held of the arena returns.
    pub fn remove_lane(&mut self, number: u32) -> Option<Wreck<Call>> {
        let lane = self.lanes.remove(&number)?;
        self.gone.add(&lane.tally);
        let wreck = lane.side.into_wreck();
        let gone = wreck.begun.iter().chain(&wreck.waiting);
        self.limited -= gone.filter(|call| call.limit_nanos() != 0).count();
        Some(wreck)
    }

    /// Gives a function's number up: no call will name it that is not there yet. Workers let it go after those.
    pub fn forget(&mut self, number: u32) -> Option<Arc<Function>> {
        let function = self.functions.remove(&number)?;
        function.given_up.store(true, Ordering::Relaxed);
        for lane in self.lanes.values_mut() {
            lane.forget(number);
        }
        Some(function)
    }

    /// Puts a call where its number belongs: the newest, or one that comes back.
    pub fn enqueue(&mut self, call: Call) {
        let place = match self.backlog.back() {
            Some(last) if last.number > call.number => {
                self.backlog.partition_point(|other| other.number < call.number)
            }
            _ => self.backlog.len(),
        };
        self.backlog.insert(place, call);
    }

    /// Takes a call back that no worker has begun.
    pub fn withdraw(&mut self, number: u64) -> Option<Call> {
        if let Ok(place) = self.backlog.binary_search_by_key(&number, |call| call.number) {
            return self.backlog.remove(place);
        }
        let call = self.lanes.values_mut().find_map(|lane| lane.take_back(|call| call.number == number))?;
        self.forget_limit(&call);
        Some(call)
    }

    /// Takes all back that no worker has begun.
    pub fn withdraw_all(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        for lane in self.lanes.values_mut() {
            calls.extend(std::iter::from_fn(|| lane.take_back(|_| true)));
        }
        for call in &calls {
            self.forget_limit(call);
        }
        calls.extend(self.backlog.drain(..));
        calls.sort_by_key(|call| call.number);
        calls
    }

    /// Has a lane get no more calls, and queues again what its worker has not begun. Whether the worker is at this call.
    pub fn isolate(&mut self, number: u32, call: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&number).filter(|lane| lane.is_at(call)) else { return false };
        lane.closing = true;
        let calls: Vec<Call> = std::iter::from_fn(|| lane.take_back(|_| true)).collect();
        // It may have ended, and another one begun, before that could be taken back.
        let is_at_it = lane.is_at(call);
        lane.stop();
        for call in calls {
            self.forget_limit(&call);
            self.enqueue(call);
        }
        self.pump();
        is_at_it
    }

    pub fn forget_limit(&mut self, call: &Call) {
        self.limited -= usize::from(call.limit_nanos() != 0);
    }

    pub fn note_end(&mut self, nanos: u64) {
        self.usual_nanos = match self.usual_nanos {
            0 => nanos.max(1),
            usual => (usual - usual / 8 + nanos / 8).max(1),
        };
    }

    /// Gives back to workers what has been let go of since.
    pub fn tidy(&mut self) {
        self.lanes.values_mut().for_each(Lane::tidy);
    }

    /// Calls that have neither ended nor failed.
    pub fn unfinished(&self) -> usize {
        self.backlog.len()
            + self.failed.len()
            + self.lanes.values().map(|lane| lane.side.calls()).sum::<usize>()
    }

    /// What all lanes have done.
    pub fn tally(&self) -> Tally {
        let mut total = self.gone;
        self.lanes.values().for_each(|lane| total.add(&lane.tally));
        total
    }

    fn window(&self) -> usize {
        AHEAD_NANOS.checked_div(self.usual_nanos).unwrap_or(0).clamp(LEAST_AHEAD, MOST_AHEAD) as usize
    }

    /// Hands what is waiting to the lanes that have least to do, and evens them out when nothing is waiting.
    pub fn pump(&mut self) {
        let window = self.window();
        while !self.backlog.is_empty() {
            let Some(lane) = self.idlest(window) else { return };
            let call = self.backlog.pop_front().expect("it is not empty");
            if !self.send(lane, call) {
                return;
            }
        }
        self.even_out();
    }

    /// Whether the next call may find room.
    fn send(&mut self, lane: u32, call: Call) -> bool {
        let Some(arena) = self.arena.clone() else { return false };
        let limited = usize::from(call.limit_nanos() != 0);
        let given_up = call.function.given_up.load(Ordering::Relaxed).then_some(call.function.number);
        let lane = self.lanes.get_mut(&lane).expect("the caller has found it");
        match lane.send(&arena, call) {
            Ok(()) => {
                self.limited += limited;
                lane.given += 1;
                if let Some(function) = given_up {
                    lane.forget(function);
                }
                // A call that is taken back counts: a worker less or more does not matter.
                if lane.given == self.calls_per_worker {
                    lane.stop();
                }
            }
            Err(Refused::Failed(call, error)) => self.failed.push((call, error)),
            Err(Refused::Busy(call)) => {
                self.enqueue(call);
                return false;
            }
        }
        true
    }

    /// The lane with least to do that may have more.
    fn idlest(&self, window: usize) -> Option<u32> {
        let open = self.lanes.iter().filter(|(_, lane)| !lane.closing && lane.side.calls() < window);
        let (number, _) =
            open.filter(|(_, lane)| lane.side.has_room()).min_by_key(|(_, lane)| lane.side.calls())?;
        Some(*number)
    }

    /// Gives to lanes that have nothing what others have not begun.
    fn even_out(&mut self) {
        loop {
            let Some(idle) = self.idlest(1) else { return };
            let busiest = self.lanes.iter().max_by_key(|(_, lane)| lane.side.calls());
            let Some((&busiest, _)) = busiest.filter(|(_, lane)| lane.side.calls() > 1) else { return };
            let Some(call) = self.lanes.get_mut(&busiest).and_then(|lane| lane.take_back(|_| true)) else {
                return;
            };
            self.forget_limit(&call);
            self.taken_back += 1;
            if !self.send(idle, call) {
                return;
            }
        }
    }

    /// The calls that have run longer than they may, with their lanes; and when, at the earliest, there will be another.
    pub fn overdue(&self, now_nanos: u64) -> (Vec<(u32, u64)>, Option<u64>) {
        let (mut found, mut next) = (Vec::new(), None::<u64>);
        if self.limited == 0 {
            return (found, next);
        }
        for (&number, lane) in &self.lanes {
            // What has not begun cannot be overdue before its whole time from now has passed.
            let shortest = lane.side.sent_calls().map(Call::limit_nanos).filter(|&limit| limit != 0).min();
            let Some(shortest) = shortest else { continue };
            let mut due = now_nanos.saturating_add(shortest);
            if let Some((call, since)) = lane.side.running().filter(|(call, _)| call.limit_nanos() != 0)
                && since != 0
            {
                let ends = since.saturating_add(call.limit_nanos());
                if ends <= now_nanos {
                    if lane.stopped != Some(call.number) {
                        found.push((number, call.number));
                    }
                } else {
                    due = due.min(ends);
                }
            }
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        (found, next)
    }
}

impl Lane {
    /// Calls that its worker has finished, and the nanoseconds that it has been at calls, up to now.
    pub fn work(&self, now_nanos: u64) -> (u64, u64) {
        let begun = self.side.running().map(|(_, since)| since).filter(|&since| since != 0);
        let current = begun.map_or(0, |since| now_nanos.saturating_sub(since));
        (self.tally.finished, self.tally.busy_nanos.wrapping_add(current))
    }

    /// Sends a call, and before it the function if the worker does not know it yet; wakes the worker.
    fn send(&mut self, arena: &Arena, call: Call) -> Result<(), Refused> {
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
        self.side.wake();
        Ok(())
    }

    /// Has the worker let a function go after the calls that it has.
    fn forget(&mut self, number: u32) {
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

    fn is_at(&self, number: u64) -> bool {
        self.side.running().is_some_and(|(call, _)| call.number == number)
    }

    /// Takes a call back that the worker has not begun, and what was lent for it.
    fn take_back(&mut self, choose: impl FnMut(&Call) -> bool) -> Option<Call> {
        let (call, message) = self.side.take_back(choose)?;
        take_back(&call.buffers, message, &mut self.peer);
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
