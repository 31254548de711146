//! What is waiting, what is sent to which lane, and which lane gets the next.

use super::call::{Call, Function};
use super::lane::{Lane, Refused};
use super::memory;
use super::tally::Tally;
use motet_lanes::arena::{AllocateError, Arena};
use motet_lanes::lane::peer::Peer;
use motet_lanes::lane::{ParentSide, Wreck};
use motet_lanes::sys::descriptors;
use motet_lanes::sys::watch::monotonic_nanos;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much work a lane is given ahead, in nanoseconds: enough to keep its worker busy while the dispatcher sleeps or dozes. What
/// others have not begun is taken back from them, so that the last calls of a batch end at the same time everywhere.
const AHEAD_NANOS: u64 = 6_000_000;
/// How long calls take that the dispatcher dozes at, in nanoseconds.
const DOZE_CALLS: Range<u64> = 50_000..2_000_000;
/// How many times as long as usual a call takes that others need not wait behind.
const LONG_TIMES: u64 = 4;
/// One runs and one waits, so that a worker need not wait for its parent after a long call.
const LEAST_AHEAD: u64 = 2;
const MOST_AHEAD: u64 = 96;

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
    /// Until when the dispatcher rests, in nanoseconds of the monotonic clock; 0 while it does not.
    pub rests_until: u64,
    pub submitted: u64,
    pub taken_back: u64,
    /// What lanes have done that are no more.
    gone: Tally,
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
        self.lanes.insert(self.next_lane, Lane::new(side, peer));
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
        let was_closing = std::mem::replace(&mut lane.closing, true);
        let calls: Vec<Call> = std::iter::from_fn(|| lane.take_back(|_| true)).collect();
        // It may have ended, and another one begun, before that could be taken back.
        let is_at_it = lane.is_at(call);
        if is_at_it {
            lane.stop();
        } else {
            lane.closing = was_closing;
        }
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

    /// Whether the dispatcher rests and does not know what it must: that a call failed, or has to end earlier than it wakes.
    pub fn must_rouse(&self, limit_nanos: u64) -> bool {
        let fails = self.rests_until != 0 && !self.failed.is_empty();
        fails || limit_nanos != 0 && monotonic_nanos().saturating_add(limit_nanos) < self.rests_until
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

    /// Whether workers have enough to do for the dispatcher to wait for several replies: more calls wait than they are given ahead,
    /// and these take neither longer than that wait nor less time than it takes to wake the dispatcher.
    pub fn may_doze(&self) -> bool {
        !self.backlog.is_empty() && DOZE_CALLS.contains(&self.usual_nanos)
    }

    fn window(&self) -> usize {
        AHEAD_NANOS.checked_div(self.usual_nanos).unwrap_or(0).clamp(LEAST_AHEAD, MOST_AHEAD) as usize
    }

    /// Queues again what waits behind a call that takes long, so that others can begin it.
    pub fn relieve(&mut self, now_nanos: u64) {
        if self.backlog.is_empty() || self.lanes.len() < 2 {
            return;
        }
        let long = AHEAD_NANOS.max(self.usual_nanos.saturating_mul(LONG_TIMES));
        let mut calls = Vec::new();
        for lane in self.lanes.values_mut() {
            lane.held_up = lane.is_at_one_for(long, now_nanos);
            if lane.held_up {
                calls.extend(std::iter::from_fn(|| lane.take_back(|_| true)));
            }
        }
        self.taken_back += calls.len() as u64;
        for call in calls {
            self.forget_limit(&call);
            self.enqueue(call);
        }
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
                if let Some(function) = given_up {
                    lane.forget(function);
                }
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
        let may_have = |lane: &Lane| match lane {
            Lane { held_up: true, .. } => 1,
            // Whose worker is not there yet, or loads what it needs.
            Lane { heard_at: 0, .. } => window.min(LEAST_AHEAD as usize),
            _ => window,
        };
        let open = self.lanes.iter().filter(|(_, lane)| !lane.closing && lane.side.calls() < may_have(lane));
        let (number, _) =
            open.filter(|(_, lane)| lane.side.has_room()).min_by_key(|(_, lane)| lane.side.calls())?;
        Some(*number)
    }

    /// Gives to lanes that have nothing what others have not begun.
    fn even_out(&mut self) {
        loop {
            let Some(idle) = self.idlest(1) else { return };
            let Some(busiest) = self.busiest(self.lanes[&idle].heard_at != 0) else { return };
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

    /// The lane with most to do that another may begin before it does: all but one call, and that too for one that works already
    /// if this one's worker is not there yet.
    fn busiest(&self, for_one_that_works: bool) -> Option<u32> {
        let waits = |lane: &Lane| for_one_that_works && lane.heard_at == 0 && lane.side.running().is_none();
        let spare = |lane: &Lane| lane.side.calls() + usize::from(waits(lane));
        let (number, lane) = self.lanes.iter().max_by_key(|(_, lane)| spare(lane))?;
        (spare(lane) > 1).then_some(*number)
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
