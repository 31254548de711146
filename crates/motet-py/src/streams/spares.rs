//! What a loop keeps for its streams to use again: the objects that come and go with each read.
//!
//! Only the loop's own thread finds them ([`ThreadBound::with_mine`](crate::thread_bound::ThreadBound::with_mine)); others make new
//! ones.

use super::imported;
use super::wait::{Method, Wait};
use super::wait_type;
use crate::home::Home;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Waits kept.
#[cfg(not(Py_GIL_DISABLED))]
const SPARE_WAITS: usize = 256;
/// A value larger than this is not kept alive for as long as its exception waits for the next one.
#[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
const LARGEST_VALUE_KEPT: ffi::Py_ssize_t = 64 * 1024;

/// Spare objects of a loop's streams.
#[derive(Default)]
pub struct Spares {
    finished: Option<Py<PyAny>>,
    drained: Option<Py<PyAny>>,
    #[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
    stop: Option<Py<PyAny>>,
    #[cfg(not(Py_GIL_DISABLED))]
    waits: Vec<wait_type::Memory>,
}

/// The spares of a stream's loop, if this is its thread.
#[inline]
fn with_spares<R>(home: &Home, use_spares: impl FnOnce(&mut Spares) -> R) -> Option<R> {
    match home {
        Home::Motet(event_loop) => {
            event_loop.get().state.with_mine(|state| use_spares(&mut state.stream_spares))
        }
        Home::Other(_) => None,
    }
}

/// A future that has finished with None, which a task may be woken with.
pub fn finished_future(py: Python<'_>, home: &Home) -> PyResult<Py<PyAny>> {
    let kept = with_spares(home, |spares| spares.finished.as_ref().map(|future| future.clone_ref(py)));
    if let Some(Some(future)) = kept {
        return Ok(future);
    }
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let future = imported(&MAKE, py, "motet._streams", "finished_future")?.call0()?.unbind();
    with_spares(home, |spares| spares.finished = Some(future.clone_ref(py)));
    Ok(future)
}

/// What `drain()` returns when there is nothing to wait for: the same object again unless somebody still has it. What is awaited must
/// be told from what else is awaited then: `asyncio.as_completed` and others keep it in sets.
#[inline]
pub fn drained(py: Python<'_>, home: &Home) -> PyResult<Py<PyAny>> {
    // SAFETY: the reference count of a valid reference. If it is the only one, no other thread can come to have one.
    let is_only = |kept: &&Py<PyAny>| unsafe { ffi::Py_REFCNT(kept.as_ptr()) } == 1;
    let kept =
        with_spares(home, |spares| spares.drained.as_ref().filter(is_only).map(|kept| kept.clone_ref(py)));
    if let Some(Some(drained)) = kept {
        return Ok(drained);
    }
    let made = wait_type::allocate_new(py, Wait::for_nothing(Method::Drain))?.unbind();
    let before = with_spares(home, |spares| spares.drained.replace(made.clone_ref(py)));
    drop(before);
    Ok(made)
}

/// Memory of a wait that has gone.
#[cfg(not(Py_GIL_DISABLED))]
#[inline]
pub fn take_wait(home: &Home) -> Option<wait_type::Memory> {
    with_spares(home, |spares| spares.waits.pop()).flatten()
}

/// Keeps the memory of a wait that goes, or gives it back to be freed.
#[cfg(not(Py_GIL_DISABLED))]
#[inline]
pub fn keep_wait(home: &Home, memory: wait_type::Memory) -> Option<wait_type::Memory> {
    let mut memory = Some(memory);
    with_spares(home, |spares| {
        if spares.waits.len() < SPARE_WAITS {
            spares.waits.extend(memory.take());
        }
    });
    memory
}

/// Ends an iteration with a value: sets `StopIteration`. From Python 3.12 on that makes an exception each time, so one is used again
/// that nobody has kept.
#[inline]
pub fn stop_with(py: Python<'_>, home: Option<&Home>, value: Py<PyAny>) {
    #[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
    {
        let spare = home.and_then(|home| with_spares(home, |spares| spares.stop.take())).flatten();
        let exception = match spare.filter(is_untouched) {
            Some(exception) => {
                // SAFETY: nobody else has the exception, nor its arguments.
                unsafe { exchange_value(&exception, value.clone_ref(py)) };
                exception
            }
            None => match py.get_type::<pyo3::exceptions::PyStopIteration>().call1((value.clone_ref(py),)) {
                Ok(exception) => exception.unbind(),
                Err(error) => return error.restore(py),
            },
        };
        // SAFETY: bytes; the reference that is raised is a new one.
        let keep = unsafe {
            ffi::PyErr_SetRaisedException(exception.clone_ref(py).into_ptr());
            ffi::Py_SIZE(value.as_ptr()) <= LARGEST_VALUE_KEPT
        };
        if let Some(home) = home.filter(|_| keep) {
            let before = with_spares(home, |spares| spares.stop.replace(exception));
            drop(before);
        }
        drop(value.into_bound(py));
    }
    #[cfg(not(all(Py_3_12, not(Py_GIL_DISABLED))))]
    {
        let _ = home;
        // SAFETY: an exception class and a valid reference. The value is bytes, which are taken as they are.
        unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
        drop(value.into_bound(py));
    }
}

/// Whether nobody has kept the exception or its arguments, nor left anything at it.
#[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
fn is_untouched(exception: &Py<PyAny>) -> bool {
    // SAFETY: an exact StopIteration, looked at under the GIL; its arguments are a tuple.
    unsafe {
        let object = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
        let left = [(*object).dict, (*object).notes, (*object).traceback, (*object).context, (*object).cause];
        ffi::Py_REFCNT(exception.as_ptr()) == 1
            && left.iter().all(|left| left.is_null())
            && ffi::Py_REFCNT((*object).args) == 1
            && ffi::PyTuple_GET_SIZE((*object).args) == 1
    }
}

/// Puts another value into an exception, as its attribute and as its one argument.
///
/// # Safety
/// An exact StopIteration with one argument; nobody else has it or the tuple.
#[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
unsafe fn exchange_value(exception: &Py<PyAny>, value: Py<PyAny>) {
    // SAFETY: the caller's word. Both places own their references; what goes is bytes, or what somebody has put there.
    unsafe {
        let object = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
        let old_argument = ffi::PyTuple_GET_ITEM((*object).args, 0);
        ffi::PyTuple_SET_ITEM((*object).args, 0, ffi::Py_NewRef(value.as_ptr()));
        #[cfg(Py_3_14)]
        {
            // The tuple remembers the hash of what it has held.
            (*(*object).args.cast::<ffi::PyTupleObject>()).ob_hash = -1;
        }
        let old_value = std::mem::replace(&mut (*object).value, value.into_ptr());
        ffi::Py_XDECREF(old_argument);
        ffi::Py_XDECREF(old_value);
    }
}
