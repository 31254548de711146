//! Class `ThreadPool`.

use super::call::{Body, Call, Ending, Options, unless_raised};
use super::pool::Shared;
use super::slot::Slot;
use super::watch::GRACE;
use crate::call_future;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The calls of an executor, and what its threads share.
#[pyclass(module = "motet._motet", frozen)]
pub struct ThreadPool {
    pub shared: Shared,
    /// Starts threads and makes errors.
    policy: Py<PyAny>,
    /// What a call raises that is to stop.
    stopped: Py<PyAny>,
}

#[pymethods]
impl ThreadPool {
    #[new]
    fn new(policy: Py<PyAny>, count: usize, stopped: Py<PyAny>) -> PyResult<Self> {
        let shared = Shared::default();
        shared.wanted.store(at_least_one(count)?, Ordering::Relaxed);
        Ok(Self { shared, policy, stopped })
    }

    /// Queues a call; gives its future.
    #[pyo3(signature = (function, arguments, keywords, call=None, /))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        function: Py<PyAny>,
        arguments: Py<PyTuple>,
        keywords: Bound<'py, PyDict>,
        call: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let shared = &this.shared;
        this.check_open(py)?;
        let options = call.map(|call| this.options_of(slf, call)).transpose()?;
        let keywords = (!keywords.is_empty()).then(|| keywords.unbind());
        let body = Some(Body { function, arguments, keywords });
        let number = shared.queues.number(shared.home());
        let future = call_future::new(py, Some(slf.clone().into_any().unbind()), number)?;
        let object = future.object(py).clone();
        shared.unfinished.fetch_add(1, Ordering::SeqCst);
        shared.queues.insert(Call { number, future: Some(future), body, options });
        if let Err(error) = shared.provide(slf.as_any(), this.policy(py)) {
            // What the handler of a signal has raised is for the program.
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            // With any worker left the call will run.
            if shared.workers.load(Ordering::SeqCst) == 0 && this.withdraw(py, number) {
                return Err(error);
            }
        }
        if shared.broken.load(Ordering::SeqCst) {
            this.fail_waiting(py)?;
        }
        Ok(object)
    }

    /// For the future: takes its call back, if no worker has begun it.
    fn _withdraw(&self, py: Python<'_>, number: u64) -> bool {
        self.withdraw(py, number)
    }

    /// For the future, as long as it says that its call has not begun.
    fn _is_running(&self, _number: u64) -> bool {
        false
    }

    /// For the future: has its call stopped.
    fn _kill(slf: &Bound<'_, Self>, number: u64) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if let Some(call) = this.shared.queues.withdraw(number) {
            this.shared.finish(py, call, Ending::Cancelled);
            return Ok(true);
        }
        this.start_watch(slf)?;
        let until = Instant::now() + GRACE;
        let slots = this.shared.slots();
        let Some(slot) = slots.iter().find(|slot| slot.cancel(number, this.stopped(py), until)) else {
            return Ok(false);
        };
        this.shared.watch.expect(until);
        this.interrupt(py, slot);
        Ok(true)
    }

    /// The numbers of the calls that workers are at.
    fn running(&self) -> Vec<u64> {
        self.shared.slots().iter().filter_map(|slot| slot.call()).collect()
    }

    /// No calls come any more: the workers end when all is done.
    fn close(&self) {
        self.shared.close();
    }

    /// Takes back all that no worker has begun, and gives the futures, which wait for `_end_cancelled()` or `set_exception()`.
    fn withdraw_all(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let calls = self.shared.queues.withdraw_all(|call| !call.was_tried());
        self.shared.unfinished.fetch_sub(calls.len(), Ordering::SeqCst);
        let futures = calls.iter().filter_map(|call| call.future.as_ref());
        futures.map(|future| future.object(py).clone().unbind()).collect()
    }

    /// No call can run any more: those that wait fail, and so does `submit`.
    #[pyo3(name = "break_")]
    fn break_off(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.broken.store(true, Ordering::SeqCst);
        self.shared.idle.wake_all();
        self.fail_waiting(py)
    }

    /// In a forked child: the calls and the threads are the parent's.
    fn forsake(&self) {
        self.shared.forsaken.store(true, Ordering::SeqCst);
        self.shared.closed.store(true, Ordering::SeqCst);
    }

    /// There may be so many workers from now on; those that are too many end after their calls.
    fn resize(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        let (py, shared) = (slf.py(), &slf.get().shared);
        shared.wanted.store(at_least_one(count)?, Ordering::SeqCst);
        if shared.workers.load(Ordering::SeqCst) > count {
            shared.idle.wake_all();
        }
        for _ in 0..shared.queues.len().min(count) {
            shared.provide(slf.as_any(), slf.get().policy(py))?;
        }
        Ok(())
    }

    /// Calls that have not ended.
    fn unfinished(&self) -> usize {
        self.shared.unfinished.load(Ordering::SeqCst)
    }

    /// Counts of calls and workers, and what each worker has done.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = &self.shared;
        let slots = shared.slots();
        let running = slots.iter().filter(|slot| slot.is_busy()).count();
        let rows = PyList::empty(py);
        for slot in &slots {
            let row = PyDict::new(py);
            row.set_item("ident", slot.identity())?;
            row.set_item("finished", slot.finished())?;
            row.set_item("busy_share", slot.busy_share())?;
            rows.append(row)?;
        }
        let found = PyDict::new(py);
        found.set_item("submitted", shared.queues.submitted())?;
        found.set_item("finished", shared.finished())?;
        found.set_item("queued", shared.queues.len())?;
        found.set_item("running", running)?;
        found.set_item("workers", shared.workers.load(Ordering::SeqCst))?;
        found.set_item("abandoned", shared.abandoned.load(Ordering::SeqCst))?;
        found.set_item("per_worker", rows)?;
        Ok(found)
    }

    /// Makes this thread look after the time, for which the policy was asked; returns when there is nothing more to look after.
    fn watch(slf: &Bound<'_, Self>) {
        Self::look_after_time(slf);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.policy)?;
        visit.call(&self.stopped)
    }
}

impl ThreadPool {
    /// This thread becomes a worker, if the program's initializer does not raise.
    pub fn begin_work(slf: &Bound<'_, Self>) -> Option<Arc<Slot>> {
        let (py, this) = (slf.py(), slf.get());
        let policy = this.policy(py);
        if let Err(error) = policy.call_method0(intern!(py, "initialize")) {
            this.shared.give_room_back();
            this.shared.watch.ring();
            let arguments = (slf, error.into_value(py));
            unless_raised(py, policy.call_method1(intern!(py, "initializer_failed"), arguments));
            return None;
        }
        Some(this.shared.enlist())
    }

    pub fn policy<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.policy.bind(py)
    }

    pub fn stopped<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.stopped.bind(py)
    }

    /// Tells the policy of a thread that is to raise, in case it waits outside of Python.
    pub fn interrupt(&self, py: Python<'_>, slot: &Slot) {
        let told = self.policy(py).call_method1(intern!(py, "interrupt"), (slot.identity(),));
        unless_raised(py, told);
    }

    #[inline]
    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.shared.broken.load(Ordering::Relaxed) {
            return Err(PyErr::from_value(self.policy(py).call_method0(intern!(py, "broken_error"))?));
        }
        if self.shared.forsaken.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("the threads of this pool are those of the parent process"));
        }
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown"));
        }
        Ok(())
    }

    fn options_of(&self, slf: &Bound<'_, Self>, call: Bound<'_, PyAny>) -> PyResult<Box<Options>> {
        let py = slf.py();
        let limit: Option<f64> =
            call.getattr(intern!(py, "options"))?.getattr(intern!(py, "timeout"))?.extract()?;
        // One that is too long for a clock is none.
        let limit = limit.and_then(|limit| Duration::try_from_secs_f64(limit).ok());
        if limit.is_some() {
            self.start_watch(slf)?;
        }
        Ok(Box::new(Options { limit, policy: call.unbind(), tried: false }))
    }

    fn start_watch(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.shared.watch.needs_thread() {
            let started = self.policy(slf.py()).call_method1(intern!(slf.py(), "start_watch"), (slf,));
            started.inspect_err(|_| self.shared.watch.has_no_thread())?;
        }
        Ok(())
    }

    fn withdraw(&self, py: Python<'_>, number: u64) -> bool {
        let Some(mut call) = self.shared.queues.withdraw(number) else { return false };
        self.shared.unfinished.fetch_sub(1, Ordering::SeqCst);
        // The future is whoever asked's to end.
        if let Some(future) = call.future.take() {
            future.drop_ref(py);
        }
        true
    }

    fn fail_waiting(&self, py: Python<'_>) -> PyResult<()> {
        for call in self.shared.queues.withdraw_all(|_| true) {
            let error = self.policy(py).call_method0(intern!(py, "broken_error"))?;
            self.shared.finish(py, call, Ending::Outcome(Err(error.unbind())));
        }
        Ok(())
    }
}

fn at_least_one(count: usize) -> PyResult<usize> {
    if count == 0 {
        return Err(PyValueError::new_err("max_workers must be greater than 0"));
    }
    Ok(count)
}
