//! What programs and tasks call on a wait: the methods and attributes of its class.

use super::class::{body, own};
use super::future;
use super::parties;
use super::wait::{self, Step, Woken};
use crate::method::{Arguments, enter, enter_fast};
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::{Borrowed, IntoPyObjectExt, ffi};
use std::ffi::{c_int, c_void};

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

pub fn send(this: This<'_, '_>, _: This<'_, '_>) -> PyResult<Py<PyAny>> {
    match wait::step(this, own(this))? {
        Step::Park => Ok(this.to_owned().unbind()),
        Step::Yield => Ok(this.py().None()),
        Step::Return(value) => Err(PyStopIteration::new_err((value,))),
    }
}

pub fn throw(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut given = arguments.from(0);
    Err(wait::throw(this, own(this), [given.next(), given.next(), given.next()]))
}

pub fn close(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    wait::close(this, own(this));
    Ok(this.py().None())
}

/// `add_done_callback(callback, *, context=None)`: has `callback(self)` called when the wait ends.
pub unsafe extern "C" fn add_done_callback(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the pointers of one call, on an object of this class.
    unsafe {
        let count = ffi::PyVectorcall_NARGS(count);
        enter_fast(this, values, count, names, add_callback)
    }
}

fn add_callback(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    if arguments.len() != 1 {
        return Err(PyTypeError::new_err("add_done_callback() takes one callback, and context by keyword"));
    }
    let given = arguments.keywords().next().map(|(_, context)| context);
    let context = crate::handle::given_or_current(py, given)?;
    future::add_callback(this, own(this), arguments.get(0).to_owned().unbind(), context)?;
    Ok(py.None())
}

pub fn remove_done_callback(this: This<'_, '_>, callback: This<'_, '_>) -> PyResult<Py<PyAny>> {
    future::remove_callback(own(this), callback)?.into_py_any(this.py())
}

pub fn result(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    future::result(own(this), this.py()).map(|()| this.py().None())
}

pub fn cancel(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let by_name = arguments.keywords().next().map(|(_, value)| value);
    let message = arguments.from(0).next().or(by_name).filter(|message| !message.is_none());
    let message = message.map(|message| message.to_owned().unbind());
    wait::wake(this, own(this), Woken::Cancelled(message)).into_py_any(this.py())
}

pub fn done(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    future::is_done(own(this), this.py()).0.into_py_any(this.py())
}

pub fn cancelled(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    future::is_done(own(this), this.py()).1.into_py_any(this.py())
}

pub fn expire(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    wait::wake(this, own(this), Woken::Late);
    Ok(this.py().None())
}

pub fn begin(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (callback, task) = (arguments.get(0).to_owned().unbind(), arguments.get(1));
    let party = parties::task(task.as_ptr().addr() as u64);
    match wait::begin_direct(this, own(this), callback, party)? {
        Step::Park | Step::Yield => Ok(this.py().None()),
        Step::Return(value) => (value,).into_py_any(this.py()),
    }
}

pub fn finish(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    match wait::step(this, own(this))? {
        Step::Return(value) => Ok(value),
        Step::Park | Step::Yield => unreachable!("it has been woken"),
    }
}

pub fn give_up(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    wait::give_up(this, own(this))
}

pub fn seconds(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    own(this).limit().map(|limit| limit.after.as_secs_f64()).into_py_any(this.py())
}

// The three below are asked by every task for every wait; they cannot fail, nor panic.

pub unsafe extern "C" fn blocking(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter attached, with an object of the class.
    unsafe {
        let py = Python::assume_attached();
        ffi::Py_NewRef(match future::blocking(body(Borrowed::from_ptr(py, this)), py) {
            None => ffi::Py_None(),
            Some(true) => ffi::Py_True(),
            Some(false) => ffi::Py_False(),
        })
    }
}

pub unsafe extern "C" fn set_blocking(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: the interpreter calls the setter attached, with an object of the class, and a value or null to delete it.
    unsafe {
        let py = Python::assume_attached();
        future::set_blocking(body(Borrowed::from_ptr(py, this)), py, value == ffi::Py_True());
    }
    0
}

pub unsafe extern "C" fn event_loop(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter attached, with an object of the class.
    unsafe {
        let py = Python::assume_attached();
        future::event_loop(body(Borrowed::from_ptr(py, this)), py).into_ptr()
    }
}

pub unsafe extern "C" fn name(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter with an object of the class.
    unsafe { enter(this, |this| own(this).names().awaited.into_py_any(this.py())) }
}

pub unsafe extern "C" fn describe(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    unsafe {
        enter(this, |this| {
            let wait = own(this);
            format!("<{}() {}>", wait.names().awaited, future::stage(wait, this.py())).into_py_any(this.py())
        })
    }
}

pub unsafe extern "C" fn itself_as_attribute(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter with a live object.
    unsafe { ffi::Py_NewRef(this) }
}
