//! Class `Worker`: the loop of a worker process.

use crate::errors::os_error;
use motet_lanes::lane::message::{INLINE, reply_kind, request_kind};
use motet_lanes::lane::{Claimed, WorkerSide};
use motet_lanes::sys::watch::{monotonic_nanos, ring};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::collections::HashMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// No request's number.
const NONE: u64 = u64::MAX;

/// The worker's end of a lane. `run` belongs to the main thread; signal handlers may ask `must_stop`.
#[pyclass(module = "motet._motet", frozen)]
pub struct Worker {
    side: Mutex<WorkerSide>,
    bell: OwnedFd,
    /// The number of the request that runs.
    current: AtomicU64,
}

#[pymethods]
impl Worker {
    /// Owns both descriptors from now on: the lane's memory and the parent's bell.
    #[new]
    fn new(lane: RawFd, bell: RawFd) -> PyResult<Self> {
        // SAFETY: the caller gives these descriptors away.
        let (lane, bell) = unsafe { (OwnedFd::from_raw_fd(lane), OwnedFd::from_raw_fd(bell)) };
        let side = WorkerSide::open(lane).map_err(os_error)?;
        Ok(Self { side: Mutex::new(side), bell, current: AtomicU64::new(NONE) })
    }

    /// Whether the parent wants the call that runs now stopped.
    fn must_stop(&self) -> bool {
        let current = self.current.load(Ordering::Relaxed);
        current != NONE && self.lock().must_stop(current)
    }

    /// Tells the parent that this process cannot work, and why.
    fn fail(&self, exception: Bound<'_, PyBytes>) {
        let sent = self.lock().reply(|reply| {
            reply.kind = reply_kind::RAISED;
            reply.position = NONE;
            reply.message.set_inline(exception.as_bytes());
        });
        if sent == Some(true) {
            ring(self.bell.as_fd());
        }
    }

    /// Works until the parent says that it is enough.
    ///
    /// `load_function(bytes)` gives a function, `load_call(bytes)` its arguments and keywords, `dump_result(value)` bytes,
    /// `dump_exception(exception)` bytes and whether it means that the call was stopped. The last must not raise.
    fn run(
        &self,
        py: Python<'_>,
        load_function: Bound<'_, PyAny>,
        load_call: Bound<'_, PyAny>,
        dump_result: Bound<'_, PyAny>,
        dump_exception: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let mut functions = HashMap::<u32, Py<PyAny>>::new();
        loop {
            let claimed = self.lock().claim();
            let Some(claimed) = claimed else {
                if let Some(claimed) = py.detach(|| self.await_request()) {
                    if self.answer(
                        py,
                        claimed,
                        &mut functions,
                        &load_function,
                        &load_call,
                        &dump_result,
                        &dump_exception,
                    )? {
                        return Ok(());
                    }
                } else {
                    py.check_signals()?;
                }
                continue;
            };
            if self.answer(
                py,
                claimed,
                &mut functions,
                &load_function,
                &load_call,
                &dump_result,
                &dump_exception,
            )? {
                return Ok(());
            }
        }
    }
}

/// What a request says, copied out of the lane.
struct Asked {
    kind: u32,
    function: u32,
    bytes: Option<Py<PyBytes>>,
}

impl Worker {
    fn lock(&self) -> MutexGuard<'_, WorkerSide> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_request(&self) -> Option<Claimed> {
        for _ in 0..12 {
            if let Some(claimed) = self.lock().claim() {
                return Some(claimed);
            }
            std::thread::yield_now();
        }
        self.lock().sleep()
    }

    /// Carries a request out; whether it is the last.
    #[allow(clippy::too_many_arguments, reason = "to be grouped")]
    fn answer(
        &self,
        py: Python<'_>,
        claimed: Claimed,
        functions: &mut HashMap<u32, Py<PyAny>>,
        load_function: &Bound<'_, PyAny>,
        load_call: &Bound<'_, PyAny>,
        dump_result: &Bound<'_, PyAny>,
        dump_exception: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let start = monotonic_nanos();
        let asked = {
            let side = self.lock();
            side.note_start(&claimed, start);
            side.read(&claimed, |request| {
                let bytes = request.message.inline().filter(|bytes| !bytes.is_empty());
                let bytes = bytes.map(|bytes| PyBytes::new(py, bytes).unbind());
                Asked { kind: request.kind, function: request.function, bytes }
            })
        };
        self.current.store(claimed.position(), Ordering::Relaxed);
        let outcome = match asked.kind {
            request_kind::CALL => call(py, &asked, functions, load_call),
            request_kind::DEFINE => define(py, &asked, functions, load_function),
            request_kind::FORGET => {
                Ok(functions.remove(&asked.function).map_or_else(|| py.None(), |_| py.None()))
            }
            _ => Ok(py.None()),
        };
        let is_call = asked.kind == request_kind::CALL;
        let outcome = outcome.and_then(|value| {
            if !is_call || value.is_none(py) {
                return Ok(None);
            }
            Ok(Some(dump_result.call1((value,))?.cast_into::<PyBytes>()?))
        });
        let (kind, bytes) = match outcome {
            Ok(bytes) => (if is_call { reply_kind::RETURNED } else { reply_kind::DONE }, bytes),
            Err(error) => {
                let (bytes, stopped): (Bound<'_, PyBytes>, bool) =
                    dump_exception.call1((error.into_value(py),))?.extract()?;
                (if stopped { reply_kind::STOPPED } else { reply_kind::RAISED }, Some(bytes))
            }
        };
        self.current.store(NONE, Ordering::Relaxed);
        let bytes = bytes.as_ref().map_or(&[][..], |bytes| bytes.as_bytes());
        if bytes.len() > INLINE {
            return Err(PyRuntimeError::new_err("too large"));
        }
        let nanos = monotonic_nanos() - start;
        let position = claimed.position();
        loop {
            let side = self.lock();
            let sent = side.reply(|reply| {
                reply.kind = kind;
                reply.position = position;
                reply.wall_nanos = nanos;
                reply.message.buffers = 0;
                reply.message.set_inline(bytes);
            });
            if let Some(asleep) = sent {
                side.finish(claimed);
                if asleep {
                    ring(self.bell.as_fd());
                }
                return Ok(asked.kind == request_kind::STOP);
            }
            drop(side);
            py.detach(std::thread::yield_now);
            py.check_signals()?;
        }
    }
}

fn call(
    py: Python<'_>,
    asked: &Asked,
    functions: &HashMap<u32, Py<PyAny>>,
    load_call: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let function = functions.get(&asked.function).ok_or_else(|| {
        PyRuntimeError::new_err("this worker was never given the call's function; please report it")
    })?;
    let Some(bytes) = &asked.bytes else { return function.call0(py) };
    let (arguments, keywords): (Bound<'_, PyTuple>, Bound<'_, PyDict>) =
        load_call.call1((bytes,))?.extract()?;
    function.call(py, arguments, Some(&keywords))
}

fn define(
    py: Python<'_>,
    asked: &Asked,
    functions: &mut HashMap<u32, Py<PyAny>>,
    load_function: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let function = load_function.call1((&asked.bytes,))?;
    functions.insert(asked.function, function.unbind());
    Ok(py.None())
}
