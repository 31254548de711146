//! The class `motet._motet.StreamWait`, made by the C interface: a step of a waiting stream is one call through a slot.
//!
//! ```text
//!   PyObject │ vectorcall │ Wait
//! ```
//!
//! A task that waits asks for `add_done_callback` and calls it. A method would be a new object each time; here the attribute is the
//! wait itself, and calling a wait adds a callback.
//!
//! # Safety
//! Invariants of an object of this class, from [`allocate`] on: the Rust part is initialised; it is dropped once, by `tp_dealloc`.
//! The class cannot be instantiated nor derived from by programs.

use super::wait::{self, Step, Wait};
use super::{not_begun, spares, wait_methods};
use crate::heap_type;
use crate::method::{enter, fast_method};
use pyo3::exceptions::{PyRuntimeWarning, PyStopAsyncIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{Borrowed, ffi};
use std::ffi::{c_int, c_uint, c_void};
use std::mem::offset_of;
#[cfg(not(Py_GIL_DISABLED))]
use std::ptr::NonNull;

#[repr(C)]
struct Object {
    base: ffi::PyObject,
    vectorcall: ffi::vectorcallfunc,
    wait: Wait,
}

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class, made on first use.
pub fn make(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = TYPE.get_or_try_init(py, || {
        let methods = vec![
            fast_method!(c"send", wait_methods::send, c"send($self, value, /)\n--\n\nGoes on until it has to wait."),
            fast_method!(c"throw", wait_methods::throw, c"throw($self, type, value=None, traceback=None, /)\n--\n\nEnds the wait with an exception."),
            fast_method!(c"close", wait_methods::close, c"close($self, /)\n--\n\nEnds the wait."),
            fast_method!(c"remove_done_callback", wait_methods::remove_done_callback, c"remove_done_callback($self, callback, /)\n--\n\nRemoves a callback; returns how often it was there."),
            fast_method!(c"result", wait_methods::result, c"result($self, /)\n--\n\nNone, or what the wait has failed with."),
            fast_method!(c"cancel", wait_methods::cancel, c"cancel($self, msg=None)\n--\n\nEnds the wait by cancellation; whether anybody waited."),
            fast_method!(c"done", wait_methods::done, c"done($self, /)\n--\n\nWhether the wait has ended."),
            fast_method!(c"cancelled", wait_methods::cancelled, c"cancelled($self, /)\n--\n\nWhether the wait was cancelled."),
        ];
        let get = |name: &'static std::ffi::CStr, get: ffi::getter| ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(get),
            ..Default::default()
        };
        let blocking = ffi::PyGetSetDef { set: Some(wait_methods::set_blocking), ..get(c"_asyncio_future_blocking", wait_methods::blocking) };
        let members = vec![
            ffi::PyMemberDef {
                name: c"__vectorcalloffset__".as_ptr(),
                type_code: ffi::Py_T_PYSSIZET,
                offset: offset_of!(Object, vectorcall) as ffi::Py_ssize_t,
                flags: ffi::Py_READONLY,
                doc: std::ptr::null(),
            },
            ffi::PyMemberDef::default(),
        ];
        // No `get_loop()`: asyncio's tasks then look for `_loop`, which costs no bound method.
        let properties = vec![blocking, get(c"_loop", wait_methods::event_loop), get(c"add_done_callback", wait_methods::itself_as_attribute), get(c"__name__", wait_methods::short_name), get(c"__qualname__", wait_methods::name)];
        let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
        let mut slots = [
            slot(ffi::Py_tp_doc, c"A wait for a stream: await it, once.".as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_dealloc, deallocate as ffi::destructor as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as ffi::traverseproc as *mut c_void),
            slot(ffi::Py_tp_clear, clear as ffi::inquiry as *mut c_void),
            slot(ffi::Py_tp_finalize, finalise as ffi::destructor as *mut c_void),
            slot(ffi::Py_tp_repr, wait_methods::describe as ffi::reprfunc as *mut c_void),
            slot(ffi::Py_tp_iternext, next as ffi::iternextfunc as *mut c_void),
            slot(ffi::Py_am_await, itself as ffi::unaryfunc as *mut c_void),
            slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as ffi::ternaryfunc as *mut c_void),
            slot(ffi::Py_tp_members, Box::leak(members.into_boxed_slice()).as_mut_ptr().cast()),
            slot(ffi::Py_tp_methods, heap_type::leak_terminated(methods, ffi::PyMethodDef::zeroed()).cast()),
            slot(ffi::Py_tp_getset, heap_type::leak_terminated(properties, ffi::PyGetSetDef::default()).cast()),
            slot(0, std::ptr::null_mut()),
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"motet._motet.StreamWait".as_ptr(),
            basicsize: size_of::<Object>() as c_int,
            itemsize: 0,
            flags: (ffi::Py_TPFLAGS_DEFAULT
                | ffi::Py_TPFLAGS_HAVE_GC
                | ffi::Py_TPFLAGS_HAVE_VECTORCALL
                | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as c_uint,
            slots: slots.as_mut_ptr(),
        };
        // SAFETY: the spec describes `Object`; the tables that the class keeps live for ever.
        let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))? };
        Ok::<_, PyErr>(class.cast_into::<PyType>()?.unbind())
    })?;
    Ok(class.bind(py))
}

/// Makes an object.
#[inline]
pub fn allocate(py: Python<'_>, wait: Wait) -> PyResult<Bound<'_, PyAny>> {
    if wait.home().is_none() {
        return Err(not_begun(wait.method().class()));
    }
    #[cfg(not(Py_GIL_DISABLED))]
    if let Some(memory) = wait.home().and_then(spares::take_wait) {
        let class = make(py)?.as_type_ptr();
        // SAFETY: the memory of an object of this class that is gone; tracked only when it is whole again.
        unsafe {
            let object = ffi::PyObject_Init(memory.into_ptr(), class);
            fill(object, wait);
            ffi::PyObject_GC_Track(object.cast());
            return Ok(Bound::from_owned_ptr(py, object));
        }
    }
    allocate_new(py, wait)
}

/// Makes an object in new memory.
pub fn allocate_new(py: Python<'_>, wait: Wait) -> PyResult<Bound<'_, PyAny>> {
    let class = make(py)?.as_type_ptr();
    // SAFETY: a class with the generic allocator; the memory comes zeroed and tracked. Nothing runs between the allocation and the
    // write that could look at it.
    unsafe {
        let object = Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class, 0))?;
        fill(object.as_ptr(), wait);
        Ok(object)
    }
}

/// # Safety
/// `object` is of this class and not filled.
unsafe fn fill(object: *mut ffi::PyObject, wait: Wait) {
    let object = object.cast::<Object>();
    // SAFETY: the caller's word.
    unsafe {
        (&raw mut (*object).vectorcall).write(wait_methods::add_done_callback);
        (&raw mut (*object).wait).write(wait);
    }
}

/// The memory of an object that is gone: untracked, its Rust part moved out.
#[cfg(not(Py_GIL_DISABLED))]
pub struct Memory(NonNull<ffi::PyObject>);

// SAFETY: nobody else knows the memory, and no thread's allocator owns it under the GIL.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Send for Memory {}

#[cfg(not(Py_GIL_DISABLED))]
impl Memory {
    fn into_ptr(self) -> *mut ffi::PyObject {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

#[cfg(not(Py_GIL_DISABLED))]
impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated as an object of a class known to the collector, and not an object any more. Loops, which hold it, are
        // dropped under the GIL.
        unsafe { ffi::PyObject_GC_Del(self.0.as_ptr().cast()) };
    }
}

/// The Rust part of an object that is known to be of this class.
///
/// # Safety
/// It is.
#[inline]
pub unsafe fn body<'a>(object: This<'a, '_>) -> &'a Wait {
    // SAFETY: the caller's word and the module's invariant.
    unsafe { &(*object.as_ptr().cast::<Object>()).wait }
}

/// The Rust part of what a method or slot of the class was called on.
#[inline]
pub fn own<'a>(this: This<'a, '_>) -> &'a Wait {
    // SAFETY: method descriptors and slots check or know the class.
    unsafe { body(this) }
}

/// As an iterator's `next`: null without an exception ends it with None.
unsafe extern "C" fn next(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut ended = false;
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    let yielded = unsafe {
        enter(this, |this| match wait::step(this, own(this))? {
            Step::Park => Ok(this.to_owned().unbind()),
            Step::Yield => Ok(this.py().None()),
            Step::Return(value) => {
                spares::stop_with(this.py(), own(this).home(), value);
                ended = true;
                Ok(this.py().None())
            }
            Step::Finish => {
                ended = true;
                Ok(this.py().None())
            }
        })
    };
    if ended {
        // SAFETY: the None made above.
        unsafe { ffi::Py_DECREF(yielded) };
        return std::ptr::null_mut();
    }
    yielded
}

unsafe extern "C" fn itself(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live object.
    unsafe { ffi::Py_NewRef(this) }
}

unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the collector calls this with a live object of the class, and a visitor for the length of the call.
    unsafe {
        let result = visit(ffi::Py_TYPE(object).cast(), argument);
        if result != 0 {
            return result;
        }
        (*object.cast::<Object>()).wait.traverse(&mut |referent| visit(referent, argument))
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: the collector calls this with a live object of the class, attached.
    heap_type::attached(|py| unsafe { &(*object.cast::<Object>()).wait }.clear(py));
    0
}

/// As a coroutine: one that nobody has awaited is a mistake.
unsafe extern "C" fn finalise(object: *mut ffi::PyObject) {
    heap_type::attached(|py| {
        // SAFETY: the interpreter calls this with a live object of the class, attached.
        let this = unsafe { Borrowed::from_ptr(py, object) };
        if !wait::is_new(own(this), py) {
            return;
        }
        let pending = PyErr::take(py);
        let text = format!("coroutine '{}' was never awaited", own(this).method().name());
        let text = std::ffi::CString::new(text).expect("names have no null");
        if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
            error.write_unraisable(py, Some(&this));
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    });
}

unsafe extern "C" fn deallocate(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this once, attached, for an object without references. The finaliser, which has something to say
    // only of a new wait, may make it live again, and then nothing is touched. Untracked before anything is dropped, which may start
    // a collection; what is dropped last may want the memory for another wait.
    unsafe {
        let py = Python::assume_attached();
        let place = &raw mut (*object.cast::<Object>()).wait;
        let finalised = wait::is_new(&*place, py);
        if finalised && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let wait = place.read();
        let class = ffi::Py_TYPE(object);
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let memory = Memory(NonNull::new_unchecked(object));
            let left = match wait.home() {
                // Memory remembers that it was finalised, perhaps by the collector: the next wait in it would not be.
                Some(home) if ffi::PyObject_GC_IsFinalized(object) == 0 => spares::keep_wait(home, memory),
                _ => Some(memory),
            };
            drop(left);
        }
        #[cfg(Py_GIL_DISABLED)]
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(class.cast());
        wait.release(py);
    }
}

/// The error that ends `async for`.
pub fn end_of_iteration() -> PyErr {
    PyStopAsyncIteration::new_err(())
}
