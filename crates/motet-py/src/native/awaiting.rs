//! `await future`: the iterator that a coroutine waits with.

use super::class::FutureRef;
use super::completion;
use super::guarded::Guarded;
use super::state::{Status, drop_now};
use crate::call;
use crate::heap_type::leak_terminated;
use crate::method::{Arguments, fast_method};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{Borrowed, ffi};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

static CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());

/// Invariant: the future is an object that [`FutureRef::new`] accepts, or None once the waiting is over.
#[repr(C)]
struct Iterator {
    base: ffi::PyObject,
    future: Guarded<Option<Py<PyAny>>>,
}

/// # Safety
/// `object` is a live iterator.
unsafe fn future_of<'a>(object: *mut ffi::PyObject) -> &'a Guarded<Option<Py<PyAny>>> {
    // SAFETY: the caller's word.
    unsafe { &(*object.cast::<Iterator>()).future }
}

/// What a coroutine is told when it asks.
enum Answer<'py> {
    Yield(Bound<'py, PyAny>),
    Return(Bound<'py, PyAny>),
}

/// Makes the class, which lives for ever.
pub fn make(py: Python<'_>) -> PyResult<()> {
    let methods = vec![
        fast_method!(c"send", send, c"send($self, value, /)\n--\n\nGoes on waiting, or returns the result."),
        fast_method!(
            c"throw",
            throw,
            c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaises where it waits."
        ),
        fast_method!(c"close", close, c"close($self, /)\n--\n\nEnds the waiting."),
    ];
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_tp_dealloc, deallocate as ffi::destructor as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as ffi::traverseproc as *mut c_void),
        slot(ffi::Py_tp_clear, clear as ffi::inquiry as *mut c_void),
        slot(ffi::Py_tp_iter, ffi::PyObject_SelfIter as ffi::getiterfunc as *mut c_void),
        slot(ffi::Py_tp_iternext, next as ffi::iternextfunc as *mut c_void),
        slot(ffi::Py_am_send, send_natively as ffi::sendfunc as *mut c_void),
        slot(ffi::Py_tp_methods, leak_terminated(methods, ffi::PyMethodDef::zeroed()).cast()),
        slot(0, std::ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"motet._motet.FutureIterator".as_ptr(),
        basicsize: size_of::<Iterator>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION)
            as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec describes `Iterator`; the tables that the class keeps live for ever.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))? };
    CLASS.store(class.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}

/// `__await__` and `__iter__` of futures and tasks.
pub unsafe extern "C" fn iterate(future: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an object of one of the classes, attached. The class of iterators lives for ever.
    unsafe {
        let py = Python::assume_attached();
        let alive = FutureRef::new(Borrowed::from_ptr(py, future)).with(|state| state.event_loop.is_some());
        if !alive {
            completion::not_initialised().restore(py);
            return std::ptr::null_mut();
        }
        let object = ffi::PyType_GenericAlloc(CLASS.load(Ordering::Relaxed), 0);
        if !object.is_null() {
            let future = Borrowed::from_ptr(py, future).to_owned().unbind();
            (&raw mut (*object.cast::<Iterator>()).future).write(Guarded::new(Some(future)));
        }
        object
    }
}

/// Asks the future for its result, or asks to be told when there is one.
///
/// # Safety
/// `object` is a live iterator, the thread is attached.
#[inline]
unsafe fn advance<'py>(py: Python<'py>, object: *mut ffi::PyObject) -> PyResult<Answer<'py>> {
    // SAFETY: the caller's word.
    let future =
        unsafe { future_of(object) }.with(py, |future| future.as_ref().map(|future| future.clone_ref(py)));
    let Some(waited_for) = future.map(|future| future.into_bound(py)) else {
        return Ok(Answer::Return(py.None().into_bound(py)));
    };
    // SAFETY: the invariant of `Iterator`.
    let future = unsafe { FutureRef::new(waited_for.as_borrowed()) };
    let asked = future.with(|state| {
        let pending = state.status == Status::Pending;
        let asked = pending.then_some(state.blocking);
        if asked == Some(false) {
            state.blocking = true;
        }
        asked
    });
    match asked {
        Some(false) => Ok(Answer::Yield(waited_for)),
        Some(true) => Err(PyRuntimeError::new_err("await wasn't used with future")),
        None => {
            // SAFETY: the caller's word.
            unsafe { release(object) };
            completion::result(future).map(Answer::Return)
        }
    }
}

unsafe extern "C" fn next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live iterator, attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as above.
    match unsafe { advance(py, object) } {
        Ok(Answer::Yield(future)) => return future.into_ptr(),
        Ok(Answer::Return(value)) => call::stop_with(value),
        Err(error) => error.restore(py),
    }
    std::ptr::null_mut()
}

unsafe extern "C" fn send_natively(
    object: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the interpreter calls this with a live iterator, attached, and room for a result.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as above.
    let (kind, value) = match unsafe { advance(py, object) } {
        Ok(Answer::Yield(future)) => (ffi::PySendResult::PYGEN_NEXT, future.into_ptr()),
        Ok(Answer::Return(value)) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
        Err(error) => {
            error.restore(py);
            (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
        }
    };
    // SAFETY: as above.
    unsafe { result.write(value) };
    kind
}

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

fn send(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    if arguments.len() != 1 {
        return Err(PyTypeError::new_err(format!("send() takes 1 argument, not {}", arguments.len())));
    }
    // SAFETY: the interpreter calls a method of the class with an iterator.
    match unsafe { advance(this.py(), this.as_ptr()) }? {
        Answer::Yield(future) => Ok(future.unbind()),
        Answer::Return(value) => {
            call::stop_with(value);
            Err(PyErr::take(this.py()).unwrap_or_else(|| PyStopIteration::new_err(())))
        }
    }
}

fn throw(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    if !(1..=3).contains(&arguments.len()) {
        return Err(PyTypeError::new_err(format!("throw() takes 1 to 3 arguments, not {}", arguments.len())));
    }
    if arguments.len() > 1 {
        let warning = py.get_type::<pyo3::exceptions::PyDeprecationWarning>();
        let text =
            c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.";
        if cfg!(Py_3_12) {
            PyErr::warn(py, &warning, text, 1)?;
        }
    }
    let given = |index: usize| {
        (index < arguments.len()).then(|| arguments.get(index)).filter(|given| !given.is_none())
    };
    let (kind, value, traceback) = (arguments.get(0), given(1), given(2));
    if let Some(traceback) = &traceback
        && !traceback.is_instance_of::<pyo3::types::PyTraceback>()
    {
        return Err(PyTypeError::new_err("throw() third argument must be a traceback"));
    }
    let exception = if kind.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        if value.is_some() {
            return Err(PyTypeError::new_err("instance exception may not have a separate value"));
        }
        kind.to_owned()
    } else if kind
        .cast::<PyType>()
        .is_ok_and(|class| class.is_subclass_of::<pyo3::exceptions::PyBaseException>().unwrap_or(false))
    {
        match value {
            Some(value) if value.is_instance(&kind)? => value.to_owned(),
            Some(value) => match value.cast::<PyTuple>() {
                Ok(values) => kind.call1(values)?,
                Err(_) => kind.call1((value,))?,
            },
            None => kind.call0()?,
        }
    } else {
        return Err(PyTypeError::new_err(format!(
            "exceptions must be classes deriving BaseException or instances of such a class, not {}",
            kind.get_type().name()?
        )));
    };
    // SAFETY: the interpreter calls a method of the class with an iterator.
    unsafe { release(this.as_ptr()) };
    if let Some(traceback) = traceback {
        exception.call_method1("with_traceback", (traceback,))?;
    }
    Err(PyErr::from_value(exception))
}

fn close(this: This<'_, '_>, _arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    // SAFETY: the interpreter calls a method of the class with an iterator.
    unsafe { release(this.as_ptr()) };
    Ok(this.py().None())
}

/// Lets go of the future.
///
/// # Safety
/// `object` is a live iterator, the thread is attached.
unsafe fn release(object: *mut ffi::PyObject) {
    // SAFETY: the caller's word.
    let (py, future) = unsafe { (Python::assume_attached(), future_of(object)) };
    drop_now(py, future.with(py, Option::take));
}

unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the collector calls this with live iterators, and a visitor for the length of the call.
    unsafe {
        let result = visit(ffi::Py_TYPE(object).cast(), argument);
        future_of(object).inspect_stopped(|future| match future {
            Some(future) if result == 0 => visit(future.as_ptr(), argument),
            _ => result,
        })
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: called with a live iterator, attached.
    unsafe { release(object) };
    0
}

unsafe extern "C" fn deallocate(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this once, attached, for an iterator without references.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        release(object);
        let class = ffi::Py_TYPE(object);
        if let Some(free) = (*class).tp_free {
            free(object.cast());
        }
        // The class lives for ever. Free-threaded builds count its objects by threads when they are made, which has no public
        // counterpart; counted together they would have all threads wait for one word.
        if cfg!(not(Py_GIL_DISABLED)) {
            ffi::Py_DECREF(class.cast());
        }
    }
}
