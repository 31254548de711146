//! How futures and tasks begin: by their classes' constructors, and by a loop that knows itself to be motet's.

use super::class::{FutureRef, TaskRef, allocate_future, allocate_task};
use super::future_methods::{This, native, unexpected};
use super::future_properties::enter_setter;
use super::state::{Cause, Name};
use super::task_methods::{name_from, task};
use super::{completion, registry, step, stock, visible};
use crate::context;
use crate::event_loop::Loop;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{Borrowed, IntoPyObjectExt, ffi, intern};
use std::ffi::c_int;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The number in the name of the task that was made last without a name.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// `Future.__init__(self, *, loop=None)`.
pub unsafe extern "C" fn initialise_future(
    this: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the interpreter calls this with an object of the class, a tuple, and a dictionary or null, attached.
    unsafe {
        enter_setter(this, arguments, |this, arguments| {
            let keywords =
                Borrowed::from_ptr_or_opt(this.py(), keywords).map(|keywords| keywords.cast_unchecked());
            initialise_future_with(this, arguments.cast_unchecked(), keywords)
        })
    }
}

fn initialise_future_with(
    this: This<'_, '_>,
    arguments: Borrowed<'_, '_, PyTuple>,
    keywords: Option<Borrowed<'_, '_, PyDict>>,
) -> PyResult<()> {
    let given = arguments.len();
    if given > 0 {
        return Err(PyTypeError::new_err(format!("Future() takes no positional arguments ({given} given)")));
    }
    let mut event_loop = None;
    for (name, value) in keywords.iter().flat_map(|keywords| keywords.iter()) {
        let name = name.cast_into::<PyString>()?;
        if name.to_str()? != "loop" {
            return Err(unexpected("Future", name.as_borrowed()));
        }
        event_loop = Some(value);
    }
    begin(native(this), event_loop)
}

/// Makes a future pending on a loop, by default the current one; also one that was something before.
fn begin<'py>(future: FutureRef<'_, 'py>, event_loop: Option<Bound<'py, PyAny>>) -> PyResult<()> {
    let py = future.py();
    let event_loop = match event_loop.filter(|event_loop| !event_loop.is_none()) {
        Some(event_loop) => event_loop,
        None => stock::default_loop(py)?,
    };
    let own_loop = is_own(&event_loop)?;
    let debug = event_loop.call_method0(intern!(py, "get_debug"))?.is_truthy()?;
    let origin = if debug { Some(stock::extract_stack(py)?.call0()?.unbind()) } else { None };
    start(future, event_loop, own_loop, origin);
    Ok(())
}

/// As [`begin`], with what is known of the loop.
#[inline]
fn start(future: FutureRef<'_, '_>, event_loop: Bound<'_, PyAny>, own_loop: bool, origin: Option<Py<PyAny>>) {
    let py = future.py();
    let old = future.with(|state| {
        let old = std::mem::take(state);
        state.event_loop = Some(event_loop.unbind());
        state.own_loop = own_loop;
        if origin.is_some() {
            state.rare_mut().source_traceback = origin;
        }
        old
    });
    old.release(py);
}

/// Whether a loop is motet's and schedules with motet's own `call_soon`.
fn is_own(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    /// The class that was found to be so first. It lives for ever: another one might take its place in memory.
    static KNOWN: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());
    // Compared without a reference of one's own: all loops of all threads would count on the one class.
    if KNOWN.load(Ordering::Relaxed) == event_loop.get_type_ptr() {
        return Ok(true);
    }
    let class = event_loop.get_type();
    let own = event_loop.is_instance_of::<Loop>() && !overrides_call_soon(&class)?;
    // Of classes that programs make there may be any number, none of which has to stay.
    if own && class.is(motet_loop_class(event_loop.py())?) {
        let unset = std::ptr::null_mut();
        if KNOWN.compare_exchange(unset, class.as_type_ptr(), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            std::mem::forget(class);
        }
    }
    Ok(own)
}

fn overrides_call_soon(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let name = intern!(py, "call_soon");
    Ok(!class.getattr(name)?.is(py.get_type::<Loop>().getattr(name)?))
}

fn motet_loop_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("motet._loop")?.getattr("EventLoop")
}

/// A future of a motet loop.
#[inline]
pub fn create_future<'py>(event_loop: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyAny>> {
    let debug = event_loop.get().in_debug_mode();
    let event_loop = event_loop.clone().into_any();
    if debug {
        let future = allocate_future(event_loop.py())?;
        begin(native(future.as_borrowed()), Some(event_loop))?;
        return Ok(future);
    }
    let own_loop = is_own(&event_loop)?;
    let future = allocate_future(event_loop.py())?;
    start(native(future.as_borrowed()), event_loop, own_loop, None);
    Ok(future)
}

/// How a task is to be made.
#[derive(Default)]
pub struct Options<'py> {
    pub name: Option<Bound<'py, PyAny>>,
    pub context: Option<Bound<'py, PyAny>>,
    pub eager_start: bool,
}

impl<'py> Options<'py> {
    /// Takes one keyword argument; false when there is none of this name.
    pub fn take(&mut self, name: &str, value: Bound<'py, PyAny>) -> PyResult<bool> {
        match name {
            "name" => self.name = Some(value).filter(|value| !value.is_none()),
            "context" => self.context = Some(value).filter(|value| !value.is_none()),
            "eager_start" if cfg!(Py_3_12) => self.eager_start = value.is_truthy()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `Task.__init__(self, coro, *, loop=None, name=None, context=None, eager_start=False)`.
pub unsafe extern "C" fn initialise_task(
    this: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the interpreter calls this with an object of the class, a tuple, and a dictionary or null, attached.
    unsafe {
        enter_setter(this, arguments, |this, arguments| {
            let keywords =
                Borrowed::from_ptr_or_opt(this.py(), keywords).map(|keywords| keywords.cast_unchecked());
            initialise_task_with(this, arguments.cast_unchecked(), keywords)
        })
    }
}

fn initialise_task_with(
    this: This<'_, '_>,
    arguments: Borrowed<'_, '_, PyTuple>,
    keywords: Option<Borrowed<'_, '_, PyDict>>,
) -> PyResult<()> {
    if arguments.len() > 1 {
        let text = format!("Task() takes at most 1 positional argument ({} given)", arguments.len());
        return Err(PyTypeError::new_err(text));
    }
    let mut coroutine = arguments.get_item(0).ok();
    let mut event_loop = None;
    let mut options = Options::default();
    for (name, value) in keywords.iter().flat_map(|keywords| keywords.iter()) {
        let name = name.cast_into::<PyString>()?;
        match name.to_str()? {
            "coro" if coroutine.is_none() => coroutine = Some(value),
            "loop" => event_loop = Some(value),
            other => {
                if !options.take(other, value)? {
                    return Err(unexpected("Task", name.as_borrowed()));
                }
            }
        }
    }
    let coroutine =
        coroutine.ok_or_else(|| PyTypeError::new_err("Task() missing required argument 'coro' (pos 1)"))?;
    begin(native(this), event_loop)?;
    start_task(task(this), coroutine, options)
}

/// Gives an initialised future its coroutine and schedules the first step.
#[inline]
fn start_task<'py>(
    task: TaskRef<'_, 'py>,
    coroutine: Bound<'py, PyAny>,
    options: Options<'py>,
) -> PyResult<()> {
    let py = task.py();
    // SAFETY: a valid reference.
    let is_plain = unsafe { ffi::PyCoro_CheckExact(coroutine.as_ptr()) } != 0;
    if !is_plain && !stock::is_coroutine(py)?.call1((&coroutine,))?.is_truthy()? {
        task.with(|state| state.hide_destruction = true);
        return Err(PyTypeError::new_err(format!("a coroutine was expected, got {}", coroutine.repr()?)));
    }
    let name = match options.name {
        Some(name) => Name::Given(name_from(name.as_borrowed())?),
        None => Name::Number(LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1),
    };
    let context = match options.context {
        Some(context) => {
            context::check(&context)?;
            context.unbind()
        }
        None => context::copy_current(py)?,
    };
    visible::show_name(task, || match &name {
        Name::Given(name) => Some(name.clone_ref(py)),
        Name::Number(number) => number.into_py_any(py).ok(),
    });
    let old = task.with(|state| {
        let old = std::mem::take(state);
        state.coroutine = Some(coroutine.unbind());
        state.context = Some(context);
        state.name = name;
        old
    });
    old.release(py);
    visible::show(task);
    if options.eager_start && is_running(task)? {
        return start_eagerly(task);
    }
    completion::schedule(task, Cause::Due, None)?;
    registry::register(task)
}

fn is_running(task: TaskRef<'_, '_>) -> PyResult<bool> {
    let py = task.py();
    get_event_loop(task)?.into_bound(py).call_method0(intern!(py, "is_running"))?.is_truthy()
}

fn get_event_loop(task: TaskRef<'_, '_>) -> PyResult<Py<PyAny>> {
    let event_loop = task
        .future()
        .with(|state| state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(task.py())));
    event_loop.ok_or_else(completion::not_initialised)
}

fn start_eagerly(task: TaskRef<'_, '_>) -> PyResult<()> {
    let py = task.py();
    let event_loop = get_event_loop(task)?.into_bound(py);
    let context = task.with(|state| state.context.as_ref().map(|context| context.clone_ref(py)));
    let context = context.ok_or_else(completion::not_initialised)?.into_bound(py);
    registry::eagerly(&event_loop, task, || {
        let entered = context::enter(&context)?;
        let result = step::take_step(task, None);
        drop(entered);
        result
    })
}

/// A task on a motet loop.
#[inline]
pub fn create_task<'py>(
    event_loop: Borrowed<'_, 'py, Loop>,
    coroutine: Bound<'py, PyAny>,
    options: Options<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let debug = event_loop.get().in_debug_mode();
    let event_loop = event_loop.to_owned().into_any();
    let object = allocate_task(event_loop.py())?;
    let created = task(object.as_borrowed());
    if debug {
        begin(created.future(), Some(event_loop))?;
    } else {
        let own_loop = is_own(&event_loop)?;
        start(created.future(), event_loop, own_loop, None);
    }
    start_task(created, coroutine, options)?;
    Ok(object)
}
