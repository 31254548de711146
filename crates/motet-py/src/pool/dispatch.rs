//! The dispatcher's thread: collects replies without the interpreter, and delivers them in batches.

use super::call::Call;
use super::lane::Lane;
use super::memory::{self, Leased};
use super::methods::Pool;
use super::state::State;
use motet_lanes::arena::Location;
use motet_lanes::lane::message::{is_answer, reply_kind};
use motet_lanes::lane::peer::{Garbled, Received, Returns, behind_places};
use motet_lanes::sys::watch::monotonic_nanos;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::Cell;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::Duration;

/// How often is looked for something to give back to a worker that waits for it.
const STARVED_NANOS: u64 = 1_000_000;

/// For how long results may wait for others to be delivered together, while more calls wait than workers are given ahead: a call
/// that is submitted upon a result would have to wait longer.
const DOZE_NANOS: u64 = 2_000_000;

/// What a dispatcher does that has nothing to deliver.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Looks again at once.
    Look,
    /// Sleeps until there is something.
    Sleep,
    /// Sleeps for a moment.
    Doze,
}

/// Replies that have been collected and not delivered, with what they say in one piece of memory.
#[derive(Default)]
pub struct Batch {
    replies: Vec<Collected>,
    bytes: Vec<u8>,
    /// Calls whose answers cannot be read.
    garbled: Vec<(Call, Garbled)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.garbled.is_empty()
    }
}

struct Collected {
    lane: u32,
    kind: u32,
    call: Option<Call>,
    /// Of the batch's bytes, unless they are in an arena.
    bytes: Range<usize>,
    outside: Option<Outside>,
}

/// What of a reply is in the worker's arena.
struct Outside {
    received: Received,
    returns: Returns,
}

/// What else the dispatcher's thread was woken for.
#[derive(Default)]
pub struct Events {
    /// Descriptors that are readable.
    pub ready: Vec<RawFd>,
    /// Calls that have run longer than they may, with their lanes.
    pub overdue: Vec<(u32, u64)>,
    /// The time was up.
    pub late: bool,
}

impl Events {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.overdue.is_empty() && !self.late
    }
}

impl Pool {
    /// Delivers replies until something else happens, or the time is up.
    pub fn dispatch(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Events> {
        let _here = Dispatching::new();
        let until = timeout.map(|time| monotonic_nanos().saturating_add(time.as_nanos() as u64));
        let mut batch = Batch::default();
        loop {
            let events = py.detach(|| self.wait(until, &mut batch))?;
            // What one call's callbacks raise does not keep the others from their ends.
            for reply in batch.replies.drain(..) {
                told(py, self.deliver(py, reply, &batch.bytes));
            }
            batch.bytes.clear();
            for (call, error) in batch.garbled.drain(..) {
                let error = PyOSError::new_err(error.to_string());
                told(py, call.finish(py, Err(error.into_value(py).into_any())));
            }
            self.deliver_failed(py);
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Without the interpreter: waits until there are replies or events.
    fn wait(&self, until: Option<u64>, batch: &mut Batch) -> PyResult<Events> {
        let mut events = Events::default();
        let mut look = self.idling().look();
        loop {
            let (rest, next_due) = {
                let mut state = self.lock();
                collect(&mut state, batch, look.now());
                if !batch.is_empty() || !state.failed.is_empty() {
                    look.find();
                    return Ok(events);
                }
                let now = look.now();
                let (overdue, next_due) = state.overdue(now);
                events.overdue = overdue;
                events.late =
                    until.is_some_and(|until| until <= now) || self.take_ring() || self.take_end(&state);
                if !events.is_empty() {
                    return Ok(events);
                }
                let rest = match look.is_tired() {
                    _ if state.may_doze() && doze(&state) => Rest::Doze,
                    false => Rest::Look,
                    true if lie_down(&state) => Rest::Sleep,
                    true => continue,
                };
                let wake_up = (rest == Rest::Doze).then_some(now + DOZE_NANOS);
                // What the program lets go of rings no bell.
                let starved = state.lanes.values().any(|lane| lane.starved);
                let next_look = starved.then_some(now + STARVED_NANOS);
                let due = [until, next_due, next_look, wake_up].into_iter().flatten().min();
                if rest != Rest::Look {
                    state.rests_until = due.unwrap_or(u64::MAX);
                }
                (rest, due.map(|due| Duration::from_nanos(due.saturating_sub(now))))
            };
            match rest {
                Rest::Look => {
                    look.give_way();
                    continue;
                }
                Rest::Sleep => look.sleep(),
                Rest::Doze => {}
            }
            let waited = self.watch().wait(next_due, &mut events.ready);
            {
                let mut state = self.lock();
                get_up(&state);
                state.rests_until = 0;
            }
            waited.map_err(crate::errors::os_error)?;
            look = self.idling().look();
            if !events.is_empty() {
                collect(&mut self.lock(), batch, look.now());
                return Ok(events);
            }
        }
    }

    fn deliver(&self, py: Python<'_>, reply: Collected, bytes: &[u8]) -> PyResult<()> {
        let Collected { lane, kind, call, bytes: range, mut outside } = reply;
        let said = match Said::new(py, &bytes[range], outside.as_mut()) {
            Ok(said) => said,
            Err(error) => return fail(py, call, error),
        };
        drop(outside);
        let policy = self.policy(py);
        let Some(call) = call else {
            if kind == reply_kind::RAISED {
                policy.call_method1(intern!(py, "initializer_failed"), (lane, said.bytes))?;
            } else if kind == reply_kind::LOGGED {
                policy.call_method1(intern!(py, "logged"), (said.bytes,))?;
            } else if kind == reply_kind::MEASURED {
                policy.call_method1(intern!(py, "measured"), (said.bytes,))?;
            }
            return Ok(());
        };
        if kind == reply_kind::RETURNED {
            let value = match &said.bytes {
                None => Ok(py.None()),
                Some(bytes) => self.load(py, bytes, &said.buffers),
            };
            return call.finish(py, value.map_err(|error| error.into_value(py).into_any()));
        }
        let number = call.number;
        let options = call.options.as_ref().map(|options| options.policy.clone_ref(py));
        self.hold(call);
        let decided = if kind == reply_kind::STOPPED {
            policy.call_method1(intern!(py, "stopped"), (number, options))
        } else {
            policy.call_method1(intern!(py, "raised"), (number, options, said.bytes))
        };
        // An exception may run the program's code as it is made again here.
        decided.map(drop).or_else(|error| fail(py, self.take_held(number), error))
    }

    /// Ends the calls that could not be sent.
    fn deliver_failed(&self, py: Python<'_>) {
        let failed = std::mem::take(&mut self.lock().failed);
        for (call, error) in failed {
            told(py, call.finish(py, Err(memory::arena_error(py, &error).into_value(py).into_any())));
        }
    }
}

/// Ends a call with an error; one that concerns no call is the caller's.
fn fail(py: Python<'_>, call: Option<Call>, error: PyErr) -> PyResult<()> {
    match call {
        Some(call) => call.finish(py, Err(error.into_value(py).into_any())),
        None => Err(error),
    }
}

/// What nobody else can be told of.
fn told(py: Python<'_>, result: PyResult<()>) {
    if let Err(error) = result {
        error.write_unraisable(py, None);
    }
}

thread_local! {
    static DISPATCHING: Cell<bool> = const { Cell::new(false) };
}

/// As long as it lives, this thread delivers replies, and must not wait for any.
struct Dispatching(bool);

impl Dispatching {
    fn new() -> Self {
        Self(DISPATCHING.replace(true))
    }
}

impl Drop for Dispatching {
    fn drop(&mut self) {
        DISPATCHING.set(self.0);
    }
}

/// Whether this thread delivers replies, as it does while it calls callbacks.
pub fn is_dispatching() -> bool {
    DISPATCHING.get()
}

/// What a reply says, as Python has it; nothing for no bytes.
struct Said<'py> {
    bytes: Option<Bound<'py, PyBytes>>,
    buffers: Vec<Bound<'py, Leased>>,
}

impl<'py> Said<'py> {
    fn new(py: Python<'py>, inline: &[u8], outside: Option<&mut Outside>) -> PyResult<Self> {
        let Some(Outside { received, returns }) = outside else {
            let bytes = (!inline.is_empty()).then(|| PyBytes::new(py, inline));
            return Ok(Self { bytes, buffers: Vec::new() });
        };
        let bytes = match received.view.take() {
            None => PyBytes::new(py, inline),
            Some(view) => PyBytes::new(py, &view[received.buffers.len() * Location::SIZE..]),
        };
        if let Some(location) = received.message.take() {
            returns.add(location);
        }
        let lease = |(mapping, location)| Bound::new(py, Leased::new(mapping, location, returns.clone()));
        let buffers = received.buffers.drain(..).map(lease).collect::<PyResult<_>>()?;
        Ok(Self { bytes: Some(bytes), buffers })
    }
}

/// Takes all replies off the lanes, and gives these more to do.
fn collect(state: &mut State, batch: &mut Batch, now: u64) {
    let State { lanes, .. } = state;
    let mut ended = Vec::new();
    for (&number, lane) in lanes.iter_mut() {
        while lane.side.has_replies() {
            let Lane { side, peer, starved, heard_at, held_up, tally, .. } = lane;
            let answered = side.collect(|answered, reply| {
                if is_answer(reply) {
                    (*heard_at, *held_up) = (now, false);
                }
                match reply.kind {
                    reply_kind::RELEASED => {
                        let places =
                            reply.message.inline().unwrap_or_default().as_chunks::<{ Location::SIZE }>().0;
                        places.iter().map(Location::from_bytes).for_each(|place| peer.returned(place));
                    }
                    reply_kind::STARVED => *starved = true,
                    reply_kind::RETIRED => peer.let_go(reply.position as u32),
                    reply_kind::DONE => {}
                    kind => {
                        *starved = false;
                        if answered.call.is_some() {
                            tally.note_end(reply.wall_nanos);
                            ended.push((
                                reply.wall_nanos,
                                answered.call.as_ref().is_some_and(|call| call.limit_nanos() != 0),
                            ));
                        }
                        match peer.open(&reply.message) {
                            Ok(received) => {
                                let start = batch.bytes.len();
                                let said = behind_places(&reply.message, &received);
                                let shared = received.buffers.iter().map(|(_, place)| place.length);
                                tally.received.note(said.len(), shared.sum());
                                if received.view.is_none() {
                                    batch.bytes.extend_from_slice(said);
                                }
                                let bytes = start..batch.bytes.len();
                                let outside = received.message.is_some() || !received.buffers.is_empty();
                                let outside =
                                    outside.then(|| Outside { received, returns: peer.returns().clone() });
                                batch.replies.push(Collected {
                                    lane: number,
                                    kind,
                                    call: answered.call,
                                    bytes,
                                    outside,
                                });
                            }
                            Err(error) => batch.garbled.extend(answered.call.map(|call| (call, error))),
                        }
                    }
                }
                answered.message
            });
            lane.returned(answered.flatten());
        }
        lane.tidy();
    }
    for (nanos, limited) in ended {
        state.note_end(nanos);
        state.limited -= usize::from(limited);
    }
    state.relieve(now);
    state.pump();
}

/// Until workers that have work ahead begin the last of it, none rings. False, and all ring as before, when one has.
fn doze(state: &State) -> bool {
    let mut open = state.lanes.values().filter(|lane| !lane.closing).peekable();
    let dozing = open.peek().is_some() && open.all(|lane| lane.side.doze());
    if !dozing {
        get_up(state);
    }
    dozing
}

/// From now on workers ring. False, and they do not, when one has replied.
fn lie_down(state: &State) -> bool {
    let asleep = state.lanes.values().all(|lane| lane.side.lie_down());
    if !asleep {
        get_up(state);
    }
    asleep
}

fn get_up(state: &State) {
    for lane in state.lanes.values() {
        lane.side.get_up();
    }
}
