//! What is waiting, what is sent to which lane, and which lane gets the next.

use super::call::{Call, Function, bytes_of};
use motet_lanes::lane::message::{INLINE, Request, request_kind};
use motet_lanes::lane::{ParentSide, Wreck};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// How much work a lane is given ahead, in nanoseconds: enough to keep its worker busy while the dispatcher sleeps, little enough
/// that the last calls of a batch end at the same time everywhere.
const AHEAD_NANOS: u64 = 500_000;
/// One runs and one waits, so that a worker need not wait for its parent after a long call.
const LEAST_AHEAD: u64 = 2;
const MOST_AHEAD: u64 = 96;

pub struct Lane {
    pub side: ParentSide<Call>,
    /// The numbers of the functions that the worker has been given.
    known: HashSet<u32>,
    /// It gets no more calls: it is to end, or has.
    pub closing: bool,
    /// Calls that it has answered.
    pub answered: u64,
}

#[derive(Default)]
pub struct State {
    /// By number, the oldest first.
    pub backlog: VecDeque<Call>,
    pub lanes: HashMap<u32, Lane>,
    pub functions: HashMap<u32, Arc<Function>>,
    /// Calls with a limit that are sent.
    pub limited: usize,
    next_call: u64,
    next_lane: u32,
    /// How long a call takes, smoothed, in nanoseconds; 0 before the first.
    usual_nanos: u64,
    pub counters: Counters,
}

/// What has happened so far.
#[derive(Clone, Copy, Default)]
pub struct Counters {
    pub submitted: u64,
    pub finished: u64,
    pub taken_back: u64,
    pub busy_nanos: u64,
}

impl State {
    pub fn number_next_call(&mut self) -> u64 {
        self.next_call += 1;
        self.counters.submitted += 1;
        self.next_call
    }

    pub fn add_lane(&mut self) -> std::io::Result<u32> {
        let side = ParentSide::create()?;
        self.next_lane += 1;
        let lane = Lane { side, known: HashSet::new(), closing: false, answered: 0 };
        self.lanes.insert(self.next_lane, lane);
        Ok(self.next_lane)
    }

    /// What a lane that is no more leaves behind.
    pub fn remove_lane(&mut self, number: u32) -> Option<Wreck<Call>> {
        let wreck = self.lanes.remove(&number)?.side.into_wreck();
        let gone = wreck.running.iter().chain(&wreck.waiting);
        self.limited -= gone.filter(|call| call.limit_nanos() != 0).count();
        Some(wreck)
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
        let call =
            self.lanes.values_mut().find_map(|lane| lane.side.take_back(|call| call.number == number))?;
        self.forget_limit(&call);
        Some(call)
    }

    pub fn forget_limit(&mut self, call: &Call) {
        self.limited -= usize::from(call.limit_nanos() != 0);
    }

    pub fn note_end(&mut self, nanos: u64) {
        self.counters.finished += 1;
        self.counters.busy_nanos += nanos;
        self.usual_nanos = match self.usual_nanos {
            0 => nanos.max(1),
            usual => (usual - usual / 8 + nanos / 8).max(1),
        };
    }

    fn window(&self) -> usize {
        AHEAD_NANOS.checked_div(self.usual_nanos).unwrap_or(0).clamp(LEAST_AHEAD, MOST_AHEAD) as usize
    }

    /// Hands what is waiting to the lanes that have least to do, and evens them out when nothing is waiting.
    pub fn pump(&mut self) {
        let window = self.window();
        while !self.backlog.is_empty() {
            let Some(lane) = self.idlest(window) else { return };
            let lane = self.lanes.get_mut(&lane).expect("it was found");
            let call = self.backlog.pop_front().expect("it is not empty");
            let limited = usize::from(call.limit_nanos() != 0);
            if let Err(call) = lane.send(call) {
                self.backlog.push_front(call);
                return;
            }
            self.limited += limited;
        }
        self.even_out();
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
            let Some(call) = self.lanes.get_mut(&busiest).and_then(|lane| lane.side.take_back(|_| true))
            else {
                return;
            };
            self.counters.taken_back += 1;
            let lane = self.lanes.get_mut(&idle).expect("it was found");
            if let Err(call) = lane.send(call) {
                self.forget_limit(&call);
                return self.enqueue(call);
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
            let mut due = now_nanos + shortest;
            if let Some((call, since)) = lane.side.running().filter(|(call, _)| call.limit_nanos() != 0) {
                let ends = since.max(1) + call.limit_nanos();
                if since != 0 && ends <= now_nanos {
                    found.push((number, call.number));
                } else if since != 0 {
                    due = due.min(ends);
                }
            }
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        (found, next)
    }
}

impl Lane {
    /// Sends a call, and before it the function if the worker does not know it yet; wakes the worker.
    fn send(&mut self, call: Call) -> Result<(), Call> {
        if !self.known.contains(&call.function.number) {
            let pickle = bytes_of(&call.function.pickle);
            let number = call.function.number;
            if !self.side.send_order(|request| write(request, request_kind::DEFINE, number, pickle)) {
                return Err(call);
            }
            self.known.insert(number);
        }
        self.side.send_call(call, |call, request| {
            write(request, request_kind::CALL, call.function.number, call.argument_bytes());
        })?;
        self.side.wake();
        Ok(())
    }

    /// Asks the worker to end when it has done what it has been sent.
    pub fn stop(&mut self) -> bool {
        self.closing = true;
        let sent = self.side.send_order(|request| write(request, request_kind::STOP, 0, &[]));
        self.side.wake();
        sent
    }
}

fn write(request: &mut Request, kind: u32, function: u32, bytes: &[u8]) {
    assert!(bytes.len() <= INLINE);
    request.kind = kind;
    request.function = function;
    request.message.buffers = 0;
    request.message.set_inline(bytes);
}
