//! What tasks have beyond futures, and how they begin.

use super::class::{FutureRef, TaskRef};
use super::future_methods::{
    This, begin, enter_setter, getter, is_own, message_of, native, property, setter, start, unexpected,
};
use super::state::{Cause, Name, Status, drop_now};
use super::{completion, registry, step, stock, visible};
use crate::context;
use crate::event_loop::Loop;
use crate::method::{Arguments, enter, fast_method, method_of_one, plain_method};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{Borrowed, IntoPyObjectExt, ffi, intern};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number in the name of the task that was made last without a name.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

pub fn methods() -> Vec<ffi::PyMethodDef> {
    vec![
        fast_method!(c"cancel", cancel, c"cancel($self, /, msg=None)\n--\n\nRaises CancelledError where the task waits; returns False when it is done already."),
        plain_method!(c"cancelling", cancelling, c"cancelling($self, /)\n--\n\nHow many calls of cancel() stand."),
        plain_method!(c"uncancel", uncancel, c"uncancel($self, /)\n--\n\nTakes one call of cancel() back; returns how many are left."),
        method_of_one!(c"set_result", set_result, c"set_result($self, result, /)\n--\n\nRefused: a task's coroutine makes its result."),
        method_of_one!(c"set_exception", set_exception, c"set_exception($self, exception, /)\n--\n\nRefused: a task's coroutine makes its result."),
        plain_method!(c"get_coro", get_coroutine, c"get_coro($self, /)\n--\n\nThe coroutine; None when it ended in an eager start."),
        plain_method!(c"get_context", get_context, c"get_context($self, /)\n--\n\nThe context that the coroutine runs in."),
        plain_method!(c"get_name", get_name, c"get_name($self, /)\n--\n\nThe name."),
        method_of_one!(c"set_name", set_name, c"set_name($self, value, /)\n--\n\nGives it another name: str(value)."),
        fast_method!(c"get_stack", get_stack, c"get_stack($self, /, *, limit=None)\n--\n\nThe frames of the coroutine, or of the traceback it ended with."),
        fast_method!(c"print_stack", print_stack, c"print_stack($self, /, *, limit=None, file=None)\n--\n\nPrints what get_stack() returns."),
    ]
}

pub fn properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        property(c"_coro", getter!(get_coroutine), None),
        property(c"_fut_waiter", getter!(waiting_for), None),
        property(c"_must_cancel", getter!(must_cancel), None),
        property(c"_num_cancels_requested", getter!(cancelling), None),
        property(c"_log_destroy_pending", getter!(log_destroy_pending), setter!(set_log_destroy_pending)),
    ]
}

fn task<'a, 'py>(this: This<'a, 'py>) -> TaskRef<'a, 'py> {
    // SAFETY: the interpreter calls methods and properties of a class with its objects only.
    unsafe { TaskRef::new(this) }
}

fn cancel(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    request_cancellation(task(this), message_of(&arguments)?)?.into_py_any(this.py())
}

fn request_cancellation(task: TaskRef<'_, '_>, message: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = task.py();
    let pending = task.future().with(|state| {
        state.log_traceback = false;
        state.event_loop.as_ref().map(|_| state.status == Status::Pending)
    });
    if !pending.ok_or_else(completion::not_initialised)? {
        return Ok(false);
    }
    let waiting_for = task.with(|state| {
        state.cancel_requests += 1;
        state.waiting_for.as_ref().map(|future| future.clone_ref(py))
    });
    if let Some(future) = waiting_for.map(|future| future.into_bound(py))
        && step::cancel_any(future.as_borrowed(), message.clone())?
    {
        // What it waits for may be a task that goes on in spite of it, to be cancelled again later.
        return Ok(true);
    }
    task.with(|state| state.must_cancel = true);
    let old = task
        .future()
        .with(|state| state.replace_rare(|rare| &mut rare.cancel_message, message.map(Bound::unbind)));
    drop_now(py, old);
    Ok(true)
}

fn cancelling(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    task(this).with(|state| state.cancel_requests).into_py_any(this.py())
}

fn uncancel(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let left = task(this).with(|state| {
        if state.cancel_requests > 0 {
            state.cancel_requests -= 1;
            if cfg!(Py_3_13) && state.cancel_requests == 0 {
                state.must_cancel = false;
            }
        }
        state.cancel_requests
    });
    left.into_py_any(this.py())
}

fn set_result(_this: This<'_, '_>, _result: This<'_, '_>) -> PyResult<Py<PyAny>> {
    Err(PyRuntimeError::new_err("Task does not support set_result operation"))
}

fn set_exception(_this: This<'_, '_>, _exception: This<'_, '_>) -> PyResult<Py<PyAny>> {
    Err(PyRuntimeError::new_err("Task does not support set_exception operation"))
}

fn get_coroutine(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let coroutine =
        task(this).with(|state| state.coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py)));
    Ok(coroutine.unwrap_or_else(|| py.None()))
}

fn get_context(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let context = task(this).with(|state| state.context.as_ref().map(|context| context.clone_ref(py)));
    Ok(context.unwrap_or_else(|| py.None()))
}

fn waiting_for(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let future = task(this).with(|state| state.waiting_for.as_ref().map(|future| future.clone_ref(py)));
    Ok(future.unwrap_or_else(|| py.None()))
}

fn must_cancel(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    task(this).with(|state| state.must_cancel).into_py_any(this.py())
}

fn log_destroy_pending(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    (!task(this).with(|state| state.hide_destruction)).into_py_any(this.py())
}

fn set_log_destroy_pending(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<()> {
    let value = value.is_truthy()?;
    task(this).with(|state| state.hide_destruction = !value);
    Ok(())
}

fn get_name(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    if native(this).with(|state| state.event_loop.is_none()) {
        return Ok(py.None());
    }
    let name = task(this).with(|state| match &state.name {
        Name::Number(number) => Err(*number),
        Name::Given(name) => Ok(name.clone_ref(py)),
    });
    match name {
        Ok(name) => Ok(name),
        Err(number) => {
            let name = PyString::new(py, &format!("Task-{number}")).into_any().unbind();
            rename(task(this), Name::Given(name.clone_ref(py)));
            Ok(name)
        }
    }
}

fn set_name(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<Py<PyAny>> {
    rename(task(this), Name::Given(name_from(value)?));
    Ok(this.py().None())
}

fn name_from(value: Borrowed<'_, '_, PyAny>) -> PyResult<Py<PyAny>> {
    if value.is_exact_instance_of::<PyString>() {
        return Ok(value.to_owned().unbind());
    }
    Ok(value.str()?.into_any().unbind())
}

fn rename(task: TaskRef<'_, '_>, name: Name) {
    if let Name::Given(name) = &name {
        visible::show_name(task, || Some(name.clone_ref(task.py())));
    }
    let old = task.with(|state| std::mem::replace(&mut state.name, name));
    if let Name::Given(old) = old {
        drop_now(task.py(), Some(old));
    }
}

fn get_stack(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let [limit] = keywords_of(&arguments, "get_stack", ["limit"])?;
    Ok(stock::stack(this.py())?.call1((this, limit))?.unbind())
}

fn print_stack(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let [limit, file] = keywords_of(&arguments, "print_stack", ["limit", "file"])?;
    Ok(stock::print_stack(this.py())?.call1((this, limit, file))?.unbind())
}

/// The values of keywords, None where they are not given.
fn keywords_of<'py, const N: usize>(
    arguments: &Arguments<'_, 'py>,
    function: &str,
    names: [&str; N],
) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
    if arguments.len() > 0 {
        return Err(PyTypeError::new_err(format!("{function}() takes no positional arguments")));
    }
    let mut values = [const { None }; N];
    for (name, value) in arguments.keywords() {
        match names.iter().position(|known| name.to_str().is_ok_and(|name| name == *known)) {
            Some(index) => values[index] = Some(value.to_owned()),
            None => return Err(unexpected(function, name)),
        }
    }
    Ok(values)
}

/// `repr(task)`.
pub unsafe extern "C" fn describe(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an object of the class, attached.
    unsafe { enter(this, |this| Ok(stock::describe_task(this.py())?.call1((this,))?.unbind())) }
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
pub unsafe extern "C" fn initialise(
    this: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the interpreter calls this with an object of the class, a tuple, and a dictionary or null, attached.
    unsafe {
        enter_setter(this, arguments, |this, arguments| {
            let keywords =
                Borrowed::from_ptr_or_opt(this.py(), keywords).map(|keywords| keywords.cast_unchecked());
            initialise_with(this, arguments.cast_unchecked(), keywords)
        })
    }
}

fn initialise_with(
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
        Some(context) => context.unbind(),
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
pub fn create<'py>(
    event_loop: Borrowed<'_, 'py, Loop>,
    coroutine: Bound<'py, PyAny>,
    options: Options<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let debug = event_loop.get().in_debug_mode();
    let event_loop = event_loop.to_owned().into_any();
    let object = super::class::allocate_task(event_loop.py())?;
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

/// Tells of a task that goes without having ended.
pub fn finalise(task: TaskRef<'_, '_>) {
    let pending = task.future().with(|state| state.event_loop.is_some() && state.status == Status::Pending);
    if pending && !task.with(|state| state.hide_destruction) {
        tell(task.future(), |_, details| {
            details.set_item("task", task.object())?;
            details.set_item("message", "Task was destroyed but it is pending!")
        });
    }
}

/// Calls the loop's exception handler from a finaliser, which must leave the current exception alone.
pub fn tell<'py>(
    future: FutureRef<'_, 'py>,
    fill: impl FnOnce(Python<'py>, &Bound<'py, PyDict>) -> PyResult<()>,
) {
    let py = future.py();
    let current = PyErr::take(py);
    let (event_loop, origin) = future.with(|state| {
        let origin = state.rare().and_then(|rare| rare.source_traceback.as_ref());
        (
            state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)),
            origin.map(|origin| origin.clone_ref(py)),
        )
    });
    let details = PyDict::new(py);
    let told = fill(py, &details).and_then(|()| {
        if let Some(origin) = origin {
            details.set_item("source_traceback", origin)?;
        }
        match event_loop.map(|event_loop| event_loop.into_bound(py)) {
            Some(event_loop) => {
                event_loop.call_method1(intern!(py, "call_exception_handler"), (&details,)).map(drop)
            }
            None => Ok(()),
        }
    });
    if let Err(error) = told {
        error.write_unraisable(py, Some(&future.object()));
    }
    if let Some(current) = current {
        current.restore(py);
    }
}
