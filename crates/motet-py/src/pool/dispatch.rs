//! The dispatcher's thread: collects replies without the interpreter, and delivers them in batches.

use super::call::Call;
use super::methods::Pool;
use super::state::State;
use motet_lanes::lane::message::reply_kind;
use motet_lanes::sys::watch::monotonic_nanos;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::Duration;

/// How often a dispatcher without work lets others run before it sleeps. A worker that has a processor answers a short call
/// within that.
const YIELDS: usize = 12;

/// Replies that have been collected and not delivered, with what they say in one piece of memory.
#[derive(Default)]
pub struct Batch {
    replies: Vec<Collected>,
    bytes: Vec<u8>,
}

struct Collected {
    lane: u32,
    kind: u32,
    call: Option<Call>,
    bytes: Range<usize>,
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
        let until = timeout.map(|time| monotonic_nanos().saturating_add(time.as_nanos() as u64));
        let mut batch = Batch::default();
        loop {
            let events = py.detach(|| self.wait(until, &mut batch))?;
            for reply in batch.replies.drain(..) {
                self.deliver(py, reply, &batch.bytes)?;
            }
            batch.bytes.clear();
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Without the interpreter: waits until there are replies or events.
    fn wait(&self, until: Option<u64>, batch: &mut Batch) -> PyResult<Events> {
        let mut events = Events::default();
        let mut yields = 0;
        loop {
            let next_due = {
                let mut state = self.lock();
                collect(&mut state, batch);
                if !batch.replies.is_empty() {
                    return Ok(events);
                }
                let now = monotonic_nanos();
                let (overdue, next_due) = state.overdue(now);
                events.overdue = overdue;
                events.late = until.is_some_and(|until| until <= now) || self.take_ring();
                if !events.is_empty() {
                    return Ok(events);
                }
                if yields == YIELDS && !lie_down(&state) {
                    continue;
                }
                let due = [until, next_due].into_iter().flatten().min();
                due.map(|due| Duration::from_nanos(due.saturating_sub(now)))
            };
            if yields < YIELDS {
                yields += 1;
                std::thread::yield_now();
                continue;
            }
            yields = 0;
            let waited = self.watch().wait(next_due, &mut events.ready);
            get_up(&self.lock());
            waited.map_err(crate::errors::os_error)?;
            if !events.is_empty() {
                collect(&mut self.lock(), batch);
                return Ok(events);
            }
        }
    }

    fn deliver(&self, py: Python<'_>, reply: Collected, bytes: &[u8]) -> PyResult<()> {
        let bytes = &bytes[reply.bytes];
        let policy = self.policy(py);
        let Some(call) = reply.call else {
            if reply.kind == reply_kind::RAISED {
                policy.call_method1("initialiser_failed", (reply.lane, PyBytes::new(py, bytes)))?;
            } else if reply.kind == reply_kind::LOGGED {
                policy.call_method1("logged", (PyBytes::new(py, bytes),))?;
            }
            return Ok(());
        };
        if reply.kind == reply_kind::RETURNED {
            let value = if bytes.is_empty() { Ok(py.None()) } else { self.load(py, bytes) };
            match value {
                Ok(value) => return call.finish(py, Ok(value)),
                Err(error) => return call.finish(py, Err(error.into_value(py).into_any())),
            }
        }
        let number = call.number;
        let (future, options) = (call.future.clone_ref(py), call.options.as_ref());
        let options = options.map(|options| options.policy.clone_ref(py));
        self.hold(call);
        let name = if reply.kind == reply_kind::STOPPED { "stopped" } else { "raised" };
        let again = policy.call_method1(name, (number, future, options, PyBytes::new(py, bytes)))?;
        self.release(py, number, again.is_truthy()?);
        Ok(())
    }
}

/// Takes all replies off the lanes, and gives these more to do.
fn collect(state: &mut State, batch: &mut Batch) {
    let Batch { replies, bytes } = batch;
    let mut answered = Vec::new();
    for (&number, lane) in &mut state.lanes {
        let before = replies.len();
        while lane.side.has_replies() {
            let nanos = lane.side.collect(|call, reply| {
                let start = bytes.len();
                bytes.extend_from_slice(reply.message.inline().unwrap_or_default());
                let ends = call.is_some();
                replies.push(Collected { lane: number, kind: reply.kind, call, bytes: start..bytes.len() });
                ends.then_some(reply.wall_nanos)
            });
            answered.extend(nanos.flatten());
        }
        lane.answered += (replies.len() - before) as u64;
    }
    for nanos in answered {
        state.note_end(nanos);
    }
    for reply in replies.iter() {
        if let Some(call) = &reply.call {
            state.forget_limit(call);
        }
    }
    state.pump();
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
