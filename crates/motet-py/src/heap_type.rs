//! Classes that extend a Python class which has its own memory layout.
//!
//! A transport must be a real subclass of `asyncio.Transport`. That class is written in Python and has a slot, which pyo3's
//! `#[pyclass(extends = …)]` cannot follow; so the class is made here by the C interface, with the Rust part behind the part of
//! the base:
//!
//! ```text
//!   PyObject │ the base's one slot │ list of weak references │ T
//! ```
//!
//! # Safety
//! Invariants of an object of such a class, from [`HeapType::allocate`] on: the Rust part is initialised; it is dropped once, by
//! `tp_dealloc`. The base's slot stays null: the class hides its descriptor behind a property of the same name.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{Borrowed, ffi};
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::mem::offset_of;

/// The Rust part of such an object.
pub trait Body: Sized + Send + Sync + 'static {
    /// Shows the collector what the body keeps alive.
    fn traverse(&self, visit: &mut dyn FnMut(*mut ffi::PyObject) -> c_int) -> c_int;
    /// Drops what may be part of a reference cycle.
    fn clear(&self, py: Python<'_>);
    /// What `repr(object)` returns.
    fn describe(this: Borrowed<'_, '_, PyAny>) -> PyResult<Py<PyAny>>;
    /// Before the object goes: may make it live again.
    fn finalise(this: Borrowed<'_, '_, PyAny>);
}

#[repr(C)]
struct Object<T> {
    base: ffi::PyObject,
    base_slot: *mut ffi::PyObject,
    weak_references: *mut ffi::PyObject,
    body: T,
}

/// A class made here, with a `T` in each object.
pub struct HeapType<T> {
    class: Py<PyType>,
    body: PhantomData<fn() -> T>,
}

impl<T: Body> HeapType<T> {
    /// Makes the class.
    ///
    /// # Errors
    /// `RuntimeError` when a base's layout is not the one known here (one slot, the same for all bases).
    pub fn new(
        py: Python<'_>,
        name: &'static CStr,
        doc: &'static CStr,
        bases: &[Bound<'_, PyAny>],
        methods: Vec<ffi::PyMethodDef>,
        properties: Vec<ffi::PyGetSetDef>,
    ) -> PyResult<Self> {
        let known = offset_of!(Object<T>, weak_references);
        for base in bases {
            let size: usize = base.getattr("__basicsize__")?.extract()?;
            if size != known {
                return Err(PyRuntimeError::new_err(format!(
                    "{base} of this Python has a layout that motet does not know ({size} bytes, expected {known}); \
                     please report it with the version of Python"
                )));
            }
        }
        let members = vec![
            ffi::PyMemberDef {
                name: c"__weaklistoffset__".as_ptr(),
                type_code: ffi::Py_T_PYSSIZET,
                offset: known as ffi::Py_ssize_t,
                flags: ffi::Py_READONLY,
                doc: std::ptr::null(),
            },
            ffi::PyMemberDef::default(),
        ];
        let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
        let mut slots = [
            slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_dealloc, deallocate::<T> as ffi::destructor as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse::<T> as ffi::traverseproc as *mut c_void),
            slot(ffi::Py_tp_clear, clear::<T> as ffi::inquiry as *mut c_void),
            slot(ffi::Py_tp_finalize, finalise::<T> as ffi::destructor as *mut c_void),
            slot(ffi::Py_tp_repr, describe::<T> as ffi::reprfunc as *mut c_void),
            slot(ffi::Py_tp_methods, leak_terminated(methods, ffi::PyMethodDef::zeroed()).cast()),
            slot(ffi::Py_tp_getset, leak_terminated(properties, ffi::PyGetSetDef::default()).cast()),
            slot(ffi::Py_tp_members, Box::leak(members.into_boxed_slice()).as_mut_ptr().cast()),
            slot(0, std::ptr::null_mut()),
        ];
        let mut spec = ffi::PyType_Spec {
            name: name.as_ptr(),
            basicsize: size_of::<Object<T>>() as c_int,
            itemsize: 0,
            flags: (ffi::Py_TPFLAGS_DEFAULT
                | ffi::Py_TPFLAGS_HAVE_GC
                | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as c_uint,
            slots: slots.as_mut_ptr(),
        };
        let bases = PyTuple::new(py, bases)?;
        // SAFETY: the spec describes `Object<T>`, whose head is the base's layout (checked above); the tables that the class
        // keeps live for ever.
        let class = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr()))?
                .cast_into_unchecked::<PyType>()
        };
        Ok(Self { class: class.unbind(), body: PhantomData })
    }

    pub fn class<'py>(&self, py: Python<'py>) -> &Bound<'py, PyType> {
        self.class.bind(py)
    }

    /// Makes an object.
    pub fn allocate<'py>(&self, py: Python<'py>, body: T) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: a class with the generic allocator; the memory comes zeroed and tracked. Nothing runs between the allocation
        // and the write of the body that could look at it.
        unsafe {
            let object = ffi::PyType_GenericAlloc(self.class.as_ptr().cast(), 0);
            let object = Bound::from_owned_ptr_or_err(py, object)?;
            (&raw mut (*object.as_ptr().cast::<Object<T>>()).body).write(body);
            Ok(object)
        }
    }

    /// The Rust part of an object that a method of this class was called on.
    ///
    /// # Safety
    /// `object` is of this class: method descriptors check that.
    pub unsafe fn body_unchecked<'a>(object: Borrowed<'a, '_, PyAny>) -> &'a T {
        // SAFETY: the caller's word.
        unsafe { body_of(object.as_ptr()) }
    }
}

/// The interpreter's tables end with an empty entry and live as long as the class, which is for ever.
pub fn leak_terminated<E>(mut table: Vec<E>, end: E) -> *mut E {
    table.push(end);
    Box::leak(table.into_boxed_slice()).as_mut_ptr()
}

/// # Safety
/// `object` is a live object of a class made here for `T`.
unsafe fn body_of<'a, T>(object: *mut ffi::PyObject) -> &'a T {
    // SAFETY: the caller's word and the module's invariant.
    unsafe { &(*object.cast::<Object<T>>()).body }
}

/// Runs what the interpreter asks for, also while it is being taken down, when pyo3 refuses to attach.
pub fn attached<R>(run: impl FnOnce(Python<'_>) -> R) -> R {
    let mut run = Some(run);
    let mut take = || run.take().expect("it is run once");
    match Python::try_attach(|py| take()(py)) {
        Some(result) => result,
        // SAFETY: only called by the interpreter, from threads that are attached to it.
        None => take()(unsafe { Python::assume_attached() }),
    }
}

unsafe extern "C" fn traverse<T: Body>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the collector calls this with live objects of the class, and a visitor for the length of the call. The class
    // itself is a heap type, which its objects keep alive.
    unsafe {
        let result = visit(ffi::Py_TYPE(object).cast(), argument);
        if result != 0 {
            return result;
        }
        body_of::<T>(object).traverse(&mut |referent| visit(referent, argument))
    }
}

unsafe extern "C" fn clear<T: Body>(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: the collector calls this with live objects of the class, attached.
    attached(|py| unsafe { body_of::<T>(object) }.clear(py));
    0
}

unsafe extern "C" fn describe<T: Body>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    unsafe { crate::method::enter(object, T::describe) }
}

unsafe extern "C" fn finalise<T: Body>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    attached(|py| T::finalise(unsafe { Borrowed::from_ptr(py, object) }));
}

unsafe extern "C" fn deallocate<T: Body>(object: *mut ffi::PyObject) {
    attached(|_| {
        // SAFETY: the interpreter calls this once, for an object without references. The finaliser may make it live again, and
        // then nothing is touched. Untracked first, since what is dropped may start a collection.
        unsafe {
            if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
                return;
            }
            ffi::PyObject_GC_UnTrack(object.cast());
            let whole = object.cast::<Object<T>>();
            if !(*whole).weak_references.is_null() {
                ffi::PyObject_ClearWeakRefs(object);
            }
            std::ptr::drop_in_place(&raw mut (*whole).body);
            let class = ffi::Py_TYPE(object);
            if let Some(free) = (*class).tp_free {
                free(object.cast());
            }
            ffi::Py_DECREF(class.cast());
        }
    });
}
