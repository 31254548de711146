//! Class `Pool`.

use super::call::{Call, Function, Options};
use super::memory::{self, Leased};
use super::state::State;
use crate::call_future;
use crate::errors::os_error;
use crate::idling::Idling;
use motet_lanes::sys::watch::{Watch, monotonic_nanos, ring};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The calls of an executor and the lanes of its workers.
#[pyclass(module = "motet._motet", frozen)]
pub struct Pool {
    state: Mutex<State>,
    /// Calls whose end the policy decides on.
    held: Mutex<HashMap<u64, Call>>,
    watch: Watch,
    rung: AtomicBool,
    /// `run` is to return when no call is left.
    closing: AtomicBool,
    next_call: AtomicU64,
    idling: Idling,
    policy: Py<PyAny>,
    loads: Py<PyAny>,
}

#[pymethods]
impl Pool {
    /// `policy` decides what becomes of calls that end otherwise than by returning, `loads(bytes, buffers)` makes results.
    /// `calls_per_worker`: how many calls a worker gets before it is replaced; 0 means any number.
    #[new]
    fn new(policy: Py<PyAny>, loads: Py<PyAny>, calls_per_worker: u64) -> PyResult<Self> {
        let watch = Watch::new().map_err(os_error)?;
        Ok(Self {
            state: Mutex::new(State::new(calls_per_worker)),
            held: Mutex::default(),
            watch,
            rung: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            next_call: AtomicU64::new(1),
            idling: Idling::new(),
            policy,
            loads,
        })
    }

    /// Makes a function known under its number.
    fn define(&self, number: u32, pickle: Py<PyBytes>) {
        self.lock()
            .functions
            .insert(number, Arc::new(Function { number, pickle, given_up: AtomicBool::new(false) }));
    }

    /// Gives a function's number up: no call will name it.
    fn forget(&self, number: u32) {
        let forgotten = self.lock().forget(number);
        drop(forgotten);
    }

    /// Queues a call; gives its future.
    #[pyo3(signature = (function, arguments, buffers=None, limit=None, policy=None, /))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        function: u32,
        arguments: Option<Py<PyBytes>>,
        buffers: Option<Bound<'py, PyList>>,
        limit: Option<f64>,
        policy: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        // First, so that nothing is copied for a call that must come again with its function.
        let Some(function) = this.lock().functions.get(&function).cloned() else {
            return Err(PyKeyError::new_err(function));
        };
        let buffers = match buffers {
            Some(outside) => {
                this.lock().tidy();
                memory::stage(py, memory::buffers_of(&outside)?)?
            }
            None => Box::default(),
        };
        let limit_nanos = limit.map_or(0, |limit| (limit * 1e9) as u64);
        let policy = if limit_nanos == 0 { policy } else { Some(policy.unwrap_or_else(|| py.None())) };
        let options = policy.map(|policy| Box::new(Options { limit_nanos, policy }));
        let number = this.next_call.fetch_add(1, Ordering::Relaxed);
        let future = call_future::new(py, Some(slf.clone().into_any().unbind()), number)?;
        let object = future.object(py).clone();
        let mut state = this.lock();
        state.submitted += 1;
        state.enqueue(Call { number, future, function, arguments, buffers, options });
        state.pump();
        let must_rouse = state.must_rouse(limit_nanos);
        drop(state);
        if must_rouse {
            ring(this.watch.bell());
        }
        Ok(object)
    }

    /// For the future: takes its call back, if no worker has begun it.
    fn _withdraw(&self, number: u64) -> bool {
        // What is dropped here may run code: not under the lock.
        let call = self.lock().withdraw(number);
        if call.is_some() && self.closing.load(Ordering::SeqCst) {
            self.ring();
        }
        call.is_some()
    }

    /// For the future: whether a worker is at its call.
    fn _is_running(&self, number: u64) -> bool {
        self.lane_of(number).is_some()
    }

    /// For the future: has its call stopped, if a worker is at it.
    fn _kill(&self, py: Python<'_>, number: u64) -> PyResult<bool> {
        self.policy(py).call_method1(intern!(py, "kill"), (number, "cancel"))?.is_truthy()
    }

    /// A call that was handed out has been stopped because somebody cancelled it.
    fn finish_cancelled(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        if let Some(call) = self.take_held(number) {
            call_future::finish_cancelled(py, &call.future)?;
        }
        Ok(())
    }

    /// A call that was handed out has failed.
    fn finish_failed(&self, py: Python<'_>, number: u64, error: Py<PyAny>) -> PyResult<()> {
        let call = self.take_held(number);
        call.map_or(Ok(()), |call| call.finish(py, Err(error)))
    }

    /// The lane whose worker is at this call.
    fn lane_of(&self, number: u64) -> Option<u32> {
        let state = self.lock();
        let at_it = |side: &motet_lanes::lane::ParentSide<Call>| {
            side.running().is_some_and(|(call, _)| call.number == number)
        };
        state.lanes.iter().find(|(_, lane)| at_it(&lane.side)).map(|(lane, _)| *lane)
    }

    /// The call that the worker of a lane is at.
    fn call_of(&self, lane: u32) -> Option<u64> {
        let state = self.lock();
        state.lanes.get(&lane)?.side.running().map(|(call, _)| call.number)
    }

    /// A new lane: its number, the descriptor of its memory, which is the pool's, and that of its socket, which is the
    /// caller's to close.
    fn add_lane(&self) -> PyResult<(u32, RawFd, RawFd)> {
        let mut state = self.lock();
        let (number, control) = state.add_lane().map_err(os_error)?;
        let descriptor = state.lanes[&number].side.descriptor().as_raw_fd();
        state.pump();
        Ok((number, descriptor, control.into_raw_fd()))
    }

    /// The descriptor of the pool's bell.
    fn bell(&self) -> RawFd {
        self.watch.bell().as_raw_fd()
    }

    /// After the worker's end and the delivery of its replies: queues again what it had not begun. Gives the numbers of the
    /// calls that it had (one, or none), which wait for `queue_again`, `finish_failed` or `finish_cancelled`, and their options.
    #[allow(clippy::type_complexity, reason = "a tuple for Python")]
    fn remove_lane(&self, py: Python<'_>, lane: u32) -> Vec<(u64, Option<Py<PyAny>>)> {
        let begun = {
            let mut state = self.lock();
            let Some(wreck) = state.remove_lane(lane) else { return Vec::new() };
            for call in wreck.waiting {
                state.enqueue(call);
            }
            state.pump();
            wreck.begun
        };
        let mut found = Vec::with_capacity(begun.len());
        for call in begun {
            let options = call.options.as_ref().map(|options| options.policy.clone_ref(py));
            found.push((call.number, options));
            self.hold(call);
        }
        found
    }

    /// A call that was handed out is to run again.
    fn queue_again(&self, number: u64) {
        if let Some(call) = self.take_held(number) {
            let mut state = self.lock();
            // The next attempt may be stopped as well, on the same lane.
            state
                .lanes
                .values_mut()
                .for_each(|lane| lane.stopped = lane.stopped.filter(|&other| other != number));
            state.enqueue(call);
            state.pump();
        }
    }

    /// Asks the worker of a lane to end when it has done what it has been sent.
    fn stop_lane(&self, lane: u32) {
        if let Some(lane) = self.lock().lanes.get_mut(&lane) {
            lane.stop();
        }
    }

    /// Before its worker is killed: the lane gets no more calls, and what has not begun goes elsewhere, so that only this call
    /// can be hit. False: the worker is at it no more.
    fn isolate(&self, lane: u32, number: u64) -> bool {
        self.lock().isolate(lane, number)
    }

    /// The lanes whose workers have done all that they were sent, and were told to end.
    fn done_lanes(&self) -> Vec<u32> {
        let state = self.lock();
        state.lanes.iter().filter(|(_, lane)| lane.is_done()).map(|(&number, _)| number).collect()
    }

    /// Whether anything that was sent through this lane has been answered.
    fn has_answered(&self, lane: u32) -> bool {
        self.lock().lanes.get(&lane).is_some_and(|lane| lane.heard_at != 0)
    }

    /// Asks the worker of a lane to stop this call, if it is at it. A signal must follow.
    fn ask_to_stop(&self, lane: u32, number: u64) -> bool {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&lane) else { return false };
        let asked = lane.side.ask_to_stop(|call| call.number == number);
        if asked {
            lane.stopped = Some(number);
        }
        asked
    }

    /// Takes back all that no worker has begun, and gives the futures.
    fn withdraw_all(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let calls = self.lock().withdraw_all();
        calls.into_iter().map(|call| call.future.object(py).clone().unbind()).collect()
    }

    /// Delivers replies until something else happens: descriptors that are readable, calls (lane, number) that have run longer
    /// than they may; both are empty when the time (seconds) is up, somebody rang, or the last call has ended after `close`.
    #[allow(clippy::type_complexity, reason = "a tuple for Python")]
    #[pyo3(signature = (timeout=None))]
    fn run(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<(Vec<RawFd>, Vec<(u32, u64)>)> {
        let timeout = timeout.map(Duration::try_from_secs_f64).transpose();
        let timeout = timeout.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let events = self.dispatch(py, timeout)?;
        Ok((events.ready, events.overdue))
    }

    /// No call follows: `run` returns when the last has ended.
    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Makes `run` return.
    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        ring(self.watch.bell());
    }

    /// `run` returns when this descriptor is readable.
    fn watch_descriptor(&self, descriptor: RawFd) -> PyResult<()> {
        self.watch.add(borrow(descriptor)?).map_err(os_error)
    }

    /// As before.
    fn forget_descriptor(&self, descriptor: RawFd) -> PyResult<()> {
        self.watch.remove(borrow(descriptor)?).map_err(os_error)
    }

    /// Calls that have not ended.
    fn unfinished(&self) -> usize {
        self.held() + self.lock().unfinished()
    }

    /// Counts of calls and bytes; of each lane, how many calls its worker has finished and how many nanoseconds it was busy.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let now = monotonic_nanos();
        let (found, lanes) = (PyDict::new(py), PyDict::new(py));
        let (tally, work, counts) = {
            let state = self.lock();
            let sent = state.lanes.values().map(|lane| lane.side.calls() as u64).sum::<u64>();
            let work: Vec<_> = state.lanes.iter().map(|(number, lane)| (*number, lane.work(now))).collect();
            let counts = [
                ("submitted", state.submitted),
                ("queued", state.backlog.len() as u64),
                ("sent", sent),
                ("taken_back", state.taken_back),
            ];
            (state.tally(), work, counts)
        };
        for (name, count) in counts {
            found.set_item(name, count)?;
        }
        tally.tell(&found)?;
        for (lane, work) in work {
            lanes.set_item(lane, work)?;
        }
        found.set_item("lanes", lanes)?;
        Ok(found)
    }
}

impl Pool {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    pub fn idling(&self) -> &Idling {
        &self.idling
    }

    pub fn take_ring(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }

    fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether the last call has ended that there will be; true once.
    pub fn take_end(&self, state: &State) -> bool {
        self.closing.load(Ordering::SeqCst)
            && state.unfinished() == 0
            && self.held() == 0
            && self.closing.swap(false, Ordering::SeqCst)
    }

    pub fn policy<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.policy.bind(py)
    }

    pub fn take_held(&self, number: u64) -> Option<Call> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    pub fn hold(&self, call: Call) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(call.number, call);
    }

    pub fn load(
        &self,
        py: Python<'_>,
        bytes: &Bound<'_, PyBytes>,
        buffers: &[Bound<'_, Leased>],
    ) -> PyResult<Py<PyAny>> {
        let loads = self.loads.bind(py);
        let value =
            if buffers.is_empty() { loads.call1((bytes,))? } else { loads.call1((bytes, buffers))? };
        Ok(value.unbind())
    }
}

impl Call {
    /// Ends it. A future that was cancelled in the meantime is left alone.
    pub fn finish(self, py: Python<'_>, outcome: Result<Py<PyAny>, Py<PyAny>>) -> PyResult<()> {
        call_future::finish(py, &self.future, outcome).map(drop)
    }
}

fn borrow(descriptor: RawFd) -> PyResult<BorrowedFd<'static>> {
    if descriptor < 0 {
        return Err(PyValueError::new_err("a descriptor is not negative"));
    }
    // SAFETY: the kernel checks the number; it is only used for the length of one call.
    Ok(unsafe { BorrowedFd::borrow_raw(descriptor) })
}
