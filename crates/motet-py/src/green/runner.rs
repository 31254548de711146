//! Runners: greenlets that run one green thread's function after the other.

use super::hub::Hub;
use crate::method::{StaticDefinition, enter};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, ffi};

/// What a new runner of this hub calls.
pub fn function<'py>(py: Python<'py>, hub: &Py<Hub>) -> PyResult<Bound<'py, PyAny>> {
    static RUN: StaticDefinition = StaticDefinition(ffi::PyMethodDef {
        ml_name: c"run_green_threads".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: run },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: std::ptr::null(),
    });
    // SAFETY: the definition lives for ever and is only read; the hub is a valid reference, which the function keeps.
    unsafe {
        let function = ffi::PyCFunction_New((&raw const RUN.0).cast_mut(), hub.as_ptr());
        Bound::from_owned_ptr_or_err(py, function)
    }
}

unsafe extern "C" fn run(hub: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, attached, with the hub that the function was made with.
    unsafe {
        enter(hub, |hub| {
            let py = hub.py();
            let hub: Borrowed<'_, '_, Hub> = hub.cast_unchecked();
            let hub = hub.to_owned().unbind();
            let mut job = hub.get().take_job(py);
            while let Some(body) = job {
                let goes_on = body.get().run(&body, py);
                body.drop_ref(py);
                if !goes_on {
                    break;
                }
                job = hub.get().go_on(&hub, py)?;
            }
            Ok(py.None())
        })
    }
}

/// What the greenlet calls that runs a hub's own loop: `run(loop)`, and the hub is told when that has ended.
pub fn loop_function<'py>(
    py: Python<'py>,
    hub: &Py<Hub>,
    run: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static RUN_LOOP: StaticDefinition = StaticDefinition(ffi::PyMethodDef {
        ml_name: c"run_loop".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: run_loop },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: std::ptr::null(),
    });
    let own = PyTuple::new(py, [hub.bind(py).as_any(), run])?;
    // SAFETY: as in `function`.
    unsafe {
        let function = ffi::PyCFunction_New((&raw const RUN_LOOP.0).cast_mut(), own.as_ptr());
        Bound::from_owned_ptr_or_err(py, function)
    }
}

unsafe extern "C" fn run_loop(own: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, attached, with the tuple that the function was made with.
    unsafe {
        enter(own, |own| {
            let py = own.py();
            let own: Borrowed<'_, '_, PyTuple> = own.cast_unchecked();
            let hub = own.get_item(0)?.cast_into::<Hub>()?.unbind();
            let ended = own.get_item(1)?.call1((&hub.get().event_loop,));
            hub.get().loop_has_ended(py);
            ended?;
            Err(PyRuntimeError::new_err(
                "the event loop was stopped while the program waited for green threads",
            ))
        })
    }
}
