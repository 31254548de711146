//! The class `motet._motet.Wait`, made by the C interface: a step of a waiting task is one call through a slot.
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

use super::methods;
use super::wait::{self, Step, Wait};
use crate::call;
#[cfg(not(Py_GIL_DISABLED))]
use crate::exclusive::Exclusive;
use crate::heap_type;
use crate::home;
use crate::imported::imported;
use crate::method::{enter, fast_method, method_of_one, plain_method};
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{Borrowed, ffi, intern};
use std::ffi::{c_int, c_uint, c_void};
use std::mem::offset_of;

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
            method_of_one!(c"send", methods::send, c"send($self, value, /)\n--\n\nGoes on until it has to wait."),
            fast_method!(c"throw", methods::throw, c"throw($self, type, value=None, traceback=None, /)\n--\n\nEnds the wait with an exception."),
            plain_method!(c"close", methods::close, c"close($self, /)\n--\n\nEnds the wait."),
            method_of_one!(c"remove_done_callback", methods::remove_done_callback, c"remove_done_callback($self, callback, /)\n--\n\nRemoves a callback; returns how often it was there."),
            plain_method!(c"result", methods::result, c"result($self, /)\n--\n\nNone, unless the wait has failed."),
            fast_method!(c"cancel", methods::cancel, c"cancel($self, msg=None)\n--\n\nEnds the wait by cancellation; whether anybody waited."),
            plain_method!(c"done", methods::done, c"done($self, /)\n--\n\nWhether the wait has ended."),
            plain_method!(c"cancelled", methods::cancelled, c"cancelled($self, /)\n--\n\nWhether the wait was cancelled."),
            plain_method!(c"_expire", methods::expire, c"_expire($self, /)\n--\n\nThe time is over."),
            fast_method!(c"_begin", methods::begin, c"_begin($self, callback, task, /)\n--\n\nBegins a wait that calls back; None if it waits, otherwise the result in a tuple."),
            plain_method!(c"_finish", methods::finish, c"_finish($self, /)\n--\n\nThe result of a wait that has called back."),
            plain_method!(c"_give_up", methods::give_up, c"_give_up($self, /)\n--\n\nThe result of a wait that took too long."),
            plain_method!(c"_seconds", methods::seconds, c"_seconds($self, /)\n--\n\nHow long it may last, or None."),
        ];
        let get = |name: &'static std::ffi::CStr, get: ffi::getter| ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(get),
            ..Default::default()
        };
        let blocking = ffi::PyGetSetDef { set: Some(methods::set_blocking), ..get(c"_asyncio_future_blocking", methods::blocking) };
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
        let properties = vec![blocking, get(c"_loop", methods::event_loop), get(c"add_done_callback", methods::itself_as_attribute), get(c"__name__", methods::name), get(c"__qualname__", methods::name)];
        let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
        let mut slots = [
            slot(ffi::Py_tp_doc, c"An operation that can be awaited, or be one of several in a select; once.".as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_dealloc, deallocate as ffi::destructor as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as ffi::traverseproc as *mut c_void),
            slot(ffi::Py_tp_clear, clear as ffi::inquiry as *mut c_void),
            slot(ffi::Py_tp_finalize, finalise as ffi::destructor as *mut c_void),
            slot(ffi::Py_tp_repr, methods::describe as ffi::reprfunc as *mut c_void),
            slot(ffi::Py_tp_iter, itself as ffi::getiterfunc as *mut c_void),
            slot(ffi::Py_tp_iternext, next as ffi::iternextfunc as *mut c_void),
            slot(ffi::Py_am_await, awaited as ffi::unaryfunc as *mut c_void),
            slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as ffi::ternaryfunc as *mut c_void),
            slot(ffi::Py_tp_members, Box::leak(members.into_boxed_slice()).as_mut_ptr().cast()),
            slot(ffi::Py_tp_methods, heap_type::leak_terminated(methods, ffi::PyMethodDef::zeroed()).cast()),
            slot(ffi::Py_tp_getset, heap_type::leak_terminated(properties, ffi::PyGetSetDef::default()).cast()),
            slot(0, std::ptr::null_mut()),
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"motet._motet.Wait".as_ptr(),
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

/// Memory of objects that have gone, to be used again: under the GIL, where it is no allocator's of another thread.
#[cfg(not(Py_GIL_DISABLED))]
static SPARE: Exclusive<Vec<Memory>> = Exclusive::new(Vec::new());
#[cfg(not(Py_GIL_DISABLED))]
const MOST_SPARE: usize = 256;

#[cfg(not(Py_GIL_DISABLED))]
struct Memory(*mut ffi::PyObject);

// SAFETY: nobody else knows the memory.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Send for Memory {}

/// Makes an object.
pub fn allocate(py: Python<'_>, wait: Wait) -> PyResult<Py<PyAny>> {
    let class = make(py)?.as_type_ptr();
    #[cfg(not(Py_GIL_DISABLED))]
    if let Some(Memory(memory)) = SPARE.with(py, Vec::pop) {
        // SAFETY: the memory of an object of this class that is gone; tracked only when it is whole again.
        unsafe {
            let made = ffi::PyObject_Init(memory, class);
            let object = made.cast::<Object>();
            (&raw mut (*object).vectorcall).write(methods::add_done_callback);
            (&raw mut (*object).wait).write(wait);
            ffi::PyObject_GC_Track(made.cast());
            return Ok(Bound::from_owned_ptr(py, made).unbind());
        }
    }
    // SAFETY: a class with the generic allocator; the memory comes zeroed and tracked. Nothing runs between the allocation and the
    // writes that could look at it.
    unsafe {
        let made = Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class, 0))?;
        let object = made.as_ptr().cast::<Object>();
        (&raw mut (*object).vectorcall).write(methods::add_done_callback);
        (&raw mut (*object).wait).write(wait);
        Ok(made.unbind())
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
    // SAFETY: method descriptors and slots check or know the class, and so do those who make wakers.
    unsafe { body(this) }
}

/// The Rust part of an object, if it is of this class.
pub fn try_body<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a Wait> {
    let class = make(object.py()).ok()?;
    // SAFETY: the class was compared, and none is derived from it.
    object.get_type().is(class).then(|| unsafe { body(object.as_borrowed()) })
}

/// What is called when this wait ends: a task's waking-up, if it is a task's.
pub fn whose<'py>(wait: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    try_body(wait)?.callback(wait.py())
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
                ended = true;
                if !own(this).is_silent {
                    call::stop_with(value.into_bound(this.py()));
                }
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

/// Itself for asyncio; trio's tasks wait in their own way.
unsafe extern "C" fn awaited(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    unsafe {
        enter(this, |this| {
            let py = this.py();
            if !home::is_loaded(py, intern!(py, "trio"))? {
                return Ok(this.to_owned().unbind());
            }
            static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            imported(&AWAITED, py, "motet._waits.in_trio", "awaited")?.call1((this,)).map(Bound::unbind)
        })
    }
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
        if !own(this).must_be_awaited || !own(this).is_new(py) {
            return;
        }
        let pending = PyErr::take(py);
        let text = format!("{}() was never awaited", own(this).names().awaited);
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
    // a collection.
    unsafe {
        let py = Python::assume_attached();
        let place = &raw mut (*object.cast::<Object>()).wait;
        let has_finaliser = (*place).must_be_awaited && (*place).is_new(py);
        if has_finaliser && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let wait = place.read();
        let class = ffi::Py_TYPE(object);
        // Memory remembers that it was finalised, perhaps by the collector: the next object in it would not be.
        if ffi::PyObject_GC_IsFinalized(object) != 0 || !keep(py, object) {
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(class.cast());
        wait.release(py);
    }
}

/// Keeps the memory of an object that is gone; whether it does.
#[cfg(not(Py_GIL_DISABLED))]
fn keep(py: Python<'_>, memory: *mut ffi::PyObject) -> bool {
    SPARE.with(py, |spare| {
        let keeps = spare.len() < MOST_SPARE;
        if keeps {
            spare.push(Memory(memory));
        }
        keeps
    })
}

#[cfg(Py_GIL_DISABLED)]
fn keep(_: Python<'_>, _: *mut ffi::PyObject) -> bool {
    false
}
