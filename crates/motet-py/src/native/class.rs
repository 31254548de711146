//! The classes `motet.Future` and `motet.Task`: how their objects lie in memory, come to be and go.
//!
//! They are derived from `_asyncio.Future` and `_asyncio.Task`, so that `isinstance` holds, attributes and weak references work, and
//! asyncio can keep its own books of a task (from Python 3.14 on: the list of all tasks, who awaits whom). The state that asyncio
//! would use is left empty but for what others look for there (`visible.rs`); the one that counts lies behind it:
//!
//! ```text
//!   PyObject │ the base's part │ Parts: of a future only the first half
//! ```
//!
//! # Safety
//! Invariants of an object of these classes and their subclasses, from `tp_new` on: the parts at [`OFFSET`] are initialised; they
//! stay so until the memory is freed, and are empty from `tp_dealloc` on.

use super::state::{FutureState, Parts, TaskState};
use super::{beginning, future_methods, future_properties, parting, task_methods, visible};
use crate::heap_type::leak_terminated;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{Borrowed, ffi};
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::{align_of, offset_of};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Where the parts lie in an object; the same in futures and tasks.
static OFFSET: AtomicUsize = AtomicUsize::new(0);
static FUTURE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());
static TASK: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());

/// A `motet.Future`, a `motet.Task`, or an object of a subclass of these.
#[derive(Clone, Copy)]
pub struct FutureRef<'a, 'py>(Borrowed<'a, 'py, PyAny>);

impl<'a, 'py> FutureRef<'a, 'py> {
    /// # Safety
    /// `object` is of one of the two classes or of a subclass: method descriptors check that.
    #[inline]
    pub unsafe fn new(object: Borrowed<'a, 'py, PyAny>) -> Self {
        Self(object)
    }

    /// The object if it is of exactly one of the two classes, so that nothing of it is overridden.
    #[inline]
    pub fn exact(object: Borrowed<'a, 'py, PyAny>) -> Option<Self> {
        let class = type_of(object);
        (class == FUTURE.load(Ordering::Relaxed) || class == TASK.load(Ordering::Relaxed))
            .then_some(Self(object))
    }

    /// The object as a task if it is of exactly that class.
    #[inline]
    pub fn exact_task(self) -> Option<TaskRef<'a, 'py>> {
        (type_of(self.0) == TASK.load(Ordering::Relaxed)).then_some(TaskRef(self))
    }

    #[inline]
    pub fn py(self) -> Python<'py> {
        self.0.py()
    }

    #[inline]
    pub fn object(self) -> Borrowed<'a, 'py, PyAny> {
        self.0
    }

    /// Uses the state of the future; see [`super::guarded::Guarded::with`].
    #[inline]
    pub fn with<R>(self, use_state: impl FnOnce(&mut FutureState) -> R) -> R {
        // SAFETY: the module's invariant.
        unsafe { &(*parts_of(self.0.as_ptr())).future }.with(self.py(), use_state)
    }
}

/// A `motet.Task` or an object of a subclass.
#[derive(Clone, Copy)]
pub struct TaskRef<'a, 'py>(FutureRef<'a, 'py>);

impl<'a, 'py> TaskRef<'a, 'py> {
    /// # Safety
    /// `object` is of the class or of a subclass: method descriptors check that.
    #[inline]
    pub unsafe fn new(object: Borrowed<'a, 'py, PyAny>) -> Self {
        Self(FutureRef(object))
    }

    #[inline]
    pub fn py(self) -> Python<'py> {
        self.0.py()
    }

    #[inline]
    pub fn object(self) -> Borrowed<'a, 'py, PyAny> {
        self.0.0
    }

    /// The task as the future of its result.
    #[inline]
    pub fn future(self) -> FutureRef<'a, 'py> {
        self.0
    }

    /// Uses the state of the task; see [`super::guarded::Guarded::with`].
    #[inline]
    pub fn with<R>(self, use_state: impl FnOnce(&mut TaskState) -> R) -> R {
        // SAFETY: the module's invariant.
        unsafe { &(*parts_of(self.object().as_ptr())).task }.with(self.py(), use_state)
    }
}

#[inline]
fn type_of(object: Borrowed<'_, '_, PyAny>) -> *mut ffi::PyTypeObject {
    // SAFETY: a valid reference.
    unsafe { ffi::Py_TYPE(object.as_ptr()) }
}

/// Of a future only the first field may be used.
#[inline]
pub fn parts_of(object: *mut ffi::PyObject) -> *mut Parts {
    object.wrapping_byte_add(OFFSET.load(Ordering::Relaxed)).cast()
}

/// Makes the two classes, which live for ever.
pub fn make(py: Python<'_>) -> PyResult<(Bound<'_, PyType>, Bound<'_, PyType>)> {
    let module = py.import("_asyncio")?;
    let base = |name: &str| -> PyResult<(Bound<'_, PyType>, usize)> {
        let class = module.getattr(name)?.cast_into::<PyType>()?;
        let size = class.getattr("__basicsize__")?.extract()?;
        Ok((class, size))
    };
    let (future_base, future_size) = base("Future")?;
    let (task_base, task_size) = base("Task")?;
    OFFSET.store(future_size.max(task_size).next_multiple_of(align_of::<Parts>()), Ordering::Relaxed);
    let future = make_class::<false>(
        &future_base,
        c"motet.Future",
        c"Future(*, loop=None)\n--\n\nAn asyncio.Future that wakes tasks of motet without a callback.",
    )?;
    let task = make_class::<true>(
        &task_base,
        c"motet.Task",
        c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\n\
          An asyncio.Task that motet's loop steps without a handle or a bound method.",
    )?;
    FUTURE.store(future.clone().into_ptr().cast(), Ordering::Relaxed);
    TASK.store(task.clone().into_ptr().cast(), Ordering::Relaxed);
    Ok((future, task))
}

fn make_class<'py, const IS_TASK: bool>(
    base: &Bound<'py, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
) -> PyResult<Bound<'py, PyType>> {
    let py = base.py();
    let part = if IS_TASK { size_of::<Parts>() } else { offset_of!(Parts, task) };
    let mut methods = future_methods::methods();
    let mut properties = future_properties::properties();
    if IS_TASK {
        let own = task_methods::methods();
        methods.retain(|method| !own.iter().any(|own| name_of(own) == name_of(method)));
        methods.extend(own);
        properties.extend(task_methods::properties());
    }
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let (initialise, describe): (ffi::initproc, ffi::reprfunc) = if IS_TASK {
        (beginning::initialise_task, task_methods::describe)
    } else {
        (beginning::initialise_future, future_methods::describe)
    };
    let mut slots = vec![
        slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new::<IS_TASK> as ffi::newfunc as *mut c_void),
        slot(ffi::Py_tp_init, initialise as *mut c_void),
        slot(ffi::Py_tp_dealloc, parting::deallocate::<IS_TASK> as ffi::destructor as *mut c_void),
        slot(ffi::Py_tp_traverse, parting::traverse::<IS_TASK> as ffi::traverseproc as *mut c_void),
        slot(ffi::Py_tp_clear, parting::clear::<IS_TASK> as ffi::inquiry as *mut c_void),
        slot(ffi::Py_tp_finalize, parting::finalise::<IS_TASK> as ffi::destructor as *mut c_void),
        slot(ffi::Py_tp_repr, describe as *mut c_void),
        slot(ffi::Py_tp_iter, super::awaiting::iterate as ffi::getiterfunc as *mut c_void),
        slot(ffi::Py_am_await, super::awaiting::iterate as ffi::unaryfunc as *mut c_void),
        slot(ffi::Py_tp_methods, leak_terminated(methods, ffi::PyMethodDef::zeroed()).cast()),
        slot(ffi::Py_tp_getset, leak_terminated(properties, ffi::PyGetSetDef::default()).cast()),
        slot(0, std::ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: (OFFSET.load(Ordering::Relaxed) + part) as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_BASETYPE) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    let bases = PyTuple::new(py, [base])?;
    // SAFETY: the spec describes the base's part and `Parts` behind it; the tables that the class keeps live for ever.
    unsafe {
        let class = ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr());
        Ok(Bound::from_owned_ptr_or_err(py, class)?.cast_into_unchecked())
    }
}

fn name_of(method: &ffi::PyMethodDef) -> &CStr {
    // SAFETY: the name of a method definition is a C string that lives for ever.
    unsafe { CStr::from_ptr(method.ml_name) }
}

unsafe extern "C" fn new<const IS_TASK: bool>(
    class: *mut ffi::PyTypeObject,
    _arguments: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, attached, with the class or a subclass, and so what is made is of that class.
    unsafe {
        let object = allocate_as::<IS_TASK>(class);
        if IS_TASK && !object.is_null() {
            visible::show_nothing(TaskRef::new(Borrowed::from_ptr(Python::assume_attached(), object)));
        }
        object
    }
}

/// # Safety
/// `class` is the one that `IS_TASK` names or a subclass; the thread is attached.
unsafe fn allocate_as<const IS_TASK: bool>(class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's word. The memory comes zeroed, as the base's part has to begin, and nothing that could look at the object
    // runs before its parts are written.
    unsafe {
        let object = ffi::PyType_GenericAlloc(class, 0);
        if !object.is_null() {
            let parts = parts_of(object);
            (&raw mut (*parts).future).write(Default::default());
            if IS_TASK {
                (&raw mut (*parts).task).write(Default::default());
            }
        }
        object
    }
}

/// The class of tasks.
pub fn task(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    // SAFETY: a class that lives for ever, null before the module is made.
    unsafe { Bound::from_borrowed_ptr_or_err(py, TASK.load(Ordering::Relaxed).cast()) }?
        .cast_into()
        .map_err(Into::into)
}

/// A future that is not yet initialised.
#[inline]
pub fn allocate_future(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the class was made when the module was.
    unsafe { Bound::from_owned_ptr_or_err(py, allocate_as::<false>(FUTURE.load(Ordering::Relaxed))) }
}

/// A task that is not yet initialised.
#[inline]
pub fn allocate_task(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the class was made when the module was.
    unsafe { Bound::from_owned_ptr_or_err(py, allocate_as::<true>(TASK.load(Ordering::Relaxed))) }
}

/// The class of asyncio's that the objects are derived from.
pub fn base_of<const IS_TASK: bool>() -> *mut ffi::PyTypeObject {
    let class = if IS_TASK { &TASK } else { &FUTURE };
    // SAFETY: a class that lives for ever.
    unsafe { (*class.load(Ordering::Relaxed)).tp_base }
}
