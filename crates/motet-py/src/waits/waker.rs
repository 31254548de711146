//! What wakes a waiting task: a waker that is its wait, as a Python object.
//!
//! # Safety
//! A waker with this table holds a reference to an object of the class `Wait`. Wakers are used by threads attached to the
//! interpreter alone (see the module), and so are the functions here.

use super::class;
use super::wait::{self, Woken};
use motet_sync::Inspect;
use pyo3::prelude::*;
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi};
use std::task::{RawWaker, RawWakerVTable, Waker};

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_reference, release);

/// A waker for whoever waits by this object.
pub fn of(wait: Borrowed<'_, '_, PyAny>) -> Waker {
    // SAFETY: a new reference to a `Wait`; the table's functions keep the count.
    unsafe { Waker::from_raw(RawWaker::new(ffi::Py_NewRef(wait.as_ptr()).cast(), &TABLE)) }
}

/// The object that a waker keeps alive, for a collector.
pub fn object(waker: &Waker) -> Option<*mut ffi::PyObject> {
    std::ptr::eq(waker.vtable(), &raw const TABLE).then(|| waker.data().cast_mut().cast())
}

unsafe fn clone(object: *const ()) -> RawWaker {
    // SAFETY: the module's invariants.
    unsafe { RawWaker::new(ffi::Py_NewRef(object.cast_mut().cast()).cast_const().cast(), &TABLE) }
}

unsafe fn wake(object: *const ()) {
    // SAFETY: the module's invariants; this waker's own reference goes with it.
    unsafe {
        wake_by_reference(object);
        release(object);
    }
}

unsafe fn wake_by_reference(object: *const ()) {
    // SAFETY: the module's invariants.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, object.cast_mut().cast());
        wait::wake(this, class::own(this), Woken::Ready);
    }
}

unsafe fn release(object: *const ()) {
    // SAFETY: the module's invariants.
    unsafe { ffi::Py_DECREF(object.cast_mut().cast()) };
}

/// Shows the collector those that wait for something, which keeps them alive.
pub fn show(primitive: &impl Inspect, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut result = Ok(());
    primitive.show_wakers(&mut |waker| {
        if let Some(object) = object(waker).filter(|_| result.is_ok()) {
            // SAFETY: the waker's own reference, borrowed for the call.
            let object = unsafe { Borrowed::from_ptr(Python::assume_attached(), object) };
            result = visit.call(object.as_unbound());
        }
    });
    result
}

/// The objects by which somebody waits for something.
pub fn objects<'py>(py: Python<'py>, primitive: &impl Inspect) -> Vec<Bound<'py, PyAny>> {
    let mut found = Vec::new();
    primitive.show_wakers(&mut |waker| {
        // SAFETY: the waker's own reference, of which this makes one more.
        found.extend(object(waker).map(|object| unsafe { Bound::from_borrowed_ptr(py, object) }));
    });
    found
}
