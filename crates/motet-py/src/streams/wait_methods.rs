//! What programs and tasks call on a wait: the methods and attributes of its class.

use super::wait::{self, Step};
use super::wait_future;
use super::wait_type::{self, own};
use crate::method::{Arguments, Storage, enter, enter_fast};
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::{Borrowed, IntoPyObjectExt, ffi};
use std::ffi::{c_int, c_void};

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

pub fn send(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    match wait::step(this, own(this))? {
        Step::Park => Ok(this.to_owned().unbind()),
        Step::Yield => Ok(this.py().None()),
        Step::Return(value) => Err(PyStopIteration::new_err((value,))),
        Step::Finish => Err(PyStopIteration::new_err(())),
    }
}

pub fn throw(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut given = arguments.from(0);
    Err(wait::throw(this, own(this), [given.next(), given.next(), given.next()]))
}

pub fn close(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
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

pub fn add_callback(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    if arguments.len() != 1 {
        return Err(PyTypeError::new_err("add_done_callback() takes one callback, and context by keyword"));
    }
    let given = arguments.keywords().next().map(|(_, context)| context);
    let context = crate::handle::given_or_current(py, given)?;
    wait_future::add_callback(this, own(this), arguments.get(0).to_owned().unbind(), context)?;
    Ok(py.None())
}

pub fn remove_done_callback(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("remove_done_callback", &["callback"], &mut storage)?;
    wait_future::remove_callback(this, own(this), arguments.get(0))?.into_py_any(this.py())
}

pub fn result(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    wait_future::result(own(this), this.py()).map(|()| this.py().None())
}

pub fn cancel(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let by_name = arguments.keywords().next().map(|(_, value)| value);
    let message = arguments.from(0).next().or(by_name).filter(|message| !message.is_none());
    let message = message.map(|message| message.to_owned().unbind());
    wait_future::cancel(this, own(this), message)?.into_py_any(this.py())
}

pub fn done(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    wait_future::is_done(own(this), this.py()).0.into_py_any(this.py())
}

pub fn cancelled(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    wait_future::is_done(own(this), this.py()).1.into_py_any(this.py())
}

// The three below are asked by every task for every wait; they cannot fail, nor panic.

pub unsafe extern "C" fn blocking(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter attached, with an object of the class.
    unsafe {
        let py = Python::assume_attached();
        ffi::Py_NewRef(match wait_future::blocking(wait_type::body(Borrowed::from_ptr(py, this)), py) {
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
        wait_future::set_blocking(wait_type::body(Borrowed::from_ptr(py, this)), py, value == ffi::Py_True());
    }
    0
}

pub unsafe extern "C" fn event_loop(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter attached, with an object of the class.
    unsafe {
        let py = Python::assume_attached();
        let event_loop = wait_type::body(Borrowed::from_ptr(py, this))
            .home()
            .map_or(ffi::Py_None(), |home| home.object().as_ptr());
        ffi::Py_NewRef(event_loop)
    }
}

pub unsafe extern "C" fn name(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter with an object of the class.
    unsafe { enter(this, |this| own(this).method().name().into_py_any(this.py())) }
}

pub unsafe extern "C" fn short_name(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter with an object of the class.
    unsafe {
        enter(this, |this| {
            let name = own(this).method().name();
            name.rsplit_once('.').map_or(name, |(_, short)| short).into_py_any(this.py())
        })
    }
}

pub unsafe extern "C" fn describe(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    unsafe { enter(this, |this| format!("<{}()>", own(this).method().name()).into_py_any(this.py())) }
}

pub unsafe extern "C" fn itself_as_attribute(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the getter with a live object.
    unsafe { ffi::Py_NewRef(this) }
}
