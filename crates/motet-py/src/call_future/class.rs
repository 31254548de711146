//! The class `motet._motet.CallFutureCore`: how its objects lie in memory, come to be and go.
//!
//! # Safety
//! Invariant of an object of the class and its subclasses, from `tp_new` on: its fields are initialised; they stay so until the memory
//! is freed, and the state is empty from `tp_dealloc` on.

use super::state::State;
use super::{methods, properties};
use crate::heap_type::leak_terminated;
use crate::method::enter;
use crate::native::guarded::Guarded;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{Borrowed, ffi};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::AtomicBool;

/// A future, borrowed.
#[derive(Clone, Copy)]
pub struct This<'a, 'py>(Borrowed<'a, 'py, PyAny>);

#[repr(C)]
struct Object {
    base: ffi::PyObject,
    state: Guarded<State>,
    /// Set once the call has ended; what it has come to is in the state.
    has_ended: AtomicBool,
}

impl<'a, 'py> This<'a, 'py> {
    /// # Safety
    /// `object` is of the class or of a subclass: method descriptors check that.
    #[inline]
    pub unsafe fn new(object: Borrowed<'a, 'py, PyAny>) -> Self {
        Self(object)
    }

    #[inline]
    pub fn py(self) -> Python<'py> {
        self.0.py()
    }

    #[inline]
    pub fn object(self) -> Borrowed<'a, 'py, PyAny> {
        self.0
    }

    /// Uses the state; see [`Guarded::with`].
    #[inline]
    pub fn with<R>(self, use_state: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: the module's invariant.
        unsafe { &object_of(self.0.as_ptr()).state }.with(self.py(), use_state)
    }

    /// Whether the call has ended, for threads that are not attached.
    #[inline]
    pub fn has_ended(self) -> &'a AtomicBool {
        // SAFETY: the module's invariant.
        unsafe { &object_of(self.0.as_ptr()).has_ended }
    }
}

/// # Safety
/// `object` is a live object of the class or of a subclass.
#[inline]
unsafe fn object_of<'a>(object: *mut ffi::PyObject) -> &'a Object {
    // SAFETY: the caller's word and the module's invariant; what is in it changes behind shared references only.
    unsafe { &*object.cast::<Object>() }
}

static CORE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class, which lives for ever.
pub fn core(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    CORE.get_or_try_init(py, || make(py)).map(|class| class.bind(py))
}

fn make(py: Python<'_>) -> PyResult<Py<PyType>> {
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let doc = c"CallFutureCore(origin=None, number=0)\n--\n\nThe state of a call: motet._executor.futures.CallFuture is made of it.";
    let mut slots = [
        slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as ffi::newfunc as *mut c_void),
        slot(ffi::Py_tp_init, initialise as ffi::initproc as *mut c_void),
        slot(ffi::Py_tp_dealloc, deallocate as ffi::destructor as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as ffi::traverseproc as *mut c_void),
        slot(ffi::Py_tp_clear, clear as ffi::inquiry as *mut c_void),
        slot(ffi::Py_tp_repr, describe as ffi::reprfunc as *mut c_void),
        slot(ffi::Py_tp_methods, leak_terminated(methods::methods(), ffi::PyMethodDef::zeroed()).cast()),
        slot(
            ffi::Py_tp_getset,
            leak_terminated(properties::properties(), ffi::PyGetSetDef::default()).cast(),
        ),
        slot(0, std::ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"motet._motet.CallFutureCore".as_ptr(),
        basicsize: size_of::<Object>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_BASETYPE) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec describes `Object`; the tables that the class keeps live for ever.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))? };
    Ok(class.cast_into::<PyType>()?.unbind())
}

/// A new future of a class that is this one or derived from it; `__init__` does not run.
#[inline]
pub fn allocate<'py>(class: &Bound<'py, PyType>, state: State) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the callers', and `tp_new`'s: such a class.
    unsafe { Bound::from_owned_ptr_or_err(class.py(), allocate_as(class.as_type_ptr(), state)) }
}

/// # Safety
/// `class` is this class or a subclass; the thread is attached.
#[inline]
unsafe fn allocate_as(class: *mut ffi::PyTypeObject, state: State) -> *mut ffi::PyObject {
    // SAFETY: the caller's word; a class with the generic allocator. Nothing that could look at the object runs before its state is
    // written; without memory there is nothing in the state that would be lost but a reference.
    unsafe {
        let object = ffi::PyType_GenericAlloc(class, 0);
        if !object.is_null() {
            let object = object.cast::<Object>();
            (&raw mut (*object).state).write(Guarded::new(state));
            (&raw mut (*object).has_ended).write(AtomicBool::new(false));
        }
        object
    }
}

unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    _arguments: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, attached, with the class or a subclass.
    unsafe { allocate_as(class, State::default()) }
}

unsafe extern "C" fn initialise(
    object: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the interpreter calls this with a live object of the class, a tuple, and a dictionary or null.
    unsafe {
        if keywords.is_null() && ffi::PyTuple_GET_SIZE(arguments) == 0 {
            return 0;
        }
        let done = enter(object, |object| {
            let py = object.py();
            let arguments = Borrowed::from_ptr(py, arguments).cast_unchecked::<PyTuple>();
            let keywords =
                Borrowed::from_ptr_or_opt(py, keywords).map(|keywords| keywords.cast_unchecked::<PyDict>());
            begin(This::new(object), &arguments, keywords)?;
            Ok(py.None())
        });
        if done.is_null() {
            return -1;
        }
        ffi::Py_DECREF(done);
        0
    }
}

fn begin(
    this: This<'_, '_>,
    arguments: &Bound<'_, PyTuple>,
    keywords: Option<Borrowed<'_, '_, PyDict>>,
) -> PyResult<()> {
    let count = arguments.len() + keywords.map_or(0, |keywords| keywords.len());
    if count > 2 {
        return Err(PyTypeError::new_err(format!(
            "CallFutureCore() takes at most 2 arguments ({count} given)"
        )));
    }
    let mut origin = arguments.get_item(0).ok();
    let mut number = arguments.get_item(1).ok();
    for (name, value) in keywords.iter().flat_map(|keywords| keywords.iter()) {
        let name = name.cast_into::<PyString>()?;
        let place = match name.to_str()? {
            "origin" => &mut origin,
            "number" => &mut number,
            name => {
                return Err(PyTypeError::new_err(format!(
                    "CallFutureCore() got an unexpected keyword argument '{name}'"
                )));
            }
        };
        if place.replace(value).is_some() {
            return Err(PyTypeError::new_err(format!(
                "CallFutureCore() got multiple values for argument '{name}'"
            )));
        }
    }
    let number = number.map_or(Ok(0), |number| number.extract())?;
    let mut origin = origin.filter(|origin| !origin.is_none()).map(Bound::unbind);
    this.with(|state| {
        std::mem::swap(&mut state.origin, &mut origin);
        state.number = number;
    });
    if let Some(old) = origin {
        old.drop_ref(this.py());
    }
    Ok(())
}

unsafe extern "C" fn describe(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    unsafe { enter(object, |object| methods::describe(This::new(object))) }
}

unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the collector calls this with live objects of the class, and a visitor for the length of the call; no attached thread
    // runs meanwhile. The class is made at run time, so that its objects show it, also those of classes derived from it.
    unsafe {
        let result = visit(ffi::Py_TYPE(object).cast(), argument);
        if result != 0 {
            return result;
        }
        object_of(object).state.inspect_stopped(|state| state.show(&mut |referent| visit(referent, argument)))
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    unsafe {
        let this = This::new(Borrowed::from_ptr(Python::assume_attached(), object));
        // The stage stays: whoever still has the future must not take it for pending.
        let old = this.with(|state| {
            let stage = state.stage;
            std::mem::replace(state, State::at(stage))
        });
        old.release(this.py());
    }
    0
}

unsafe extern "C" fn deallocate(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this once, attached, for an object without references. Untracked first, since what is dropped may
    // start a collection. The class is made at run time, so that its objects let go of it.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let this = This::new(Borrowed::from_ptr(Python::assume_attached(), object));
        this.with(std::mem::take).release(this.py());
        let class = ffi::Py_TYPE(object);
        if let Some(free) = (*class).tp_free {
            free(object.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}
