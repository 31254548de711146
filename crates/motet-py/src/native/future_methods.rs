//! The methods and properties that futures and tasks have in common.

use super::class::FutureRef;
use super::completion;
use super::state::{Status, Waiter, drop_now};
use super::stock;
use crate::context;
use crate::event_loop::Loop;
use crate::method::{Arguments, enter, fast_method, method_of_one, plain_method};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{Borrowed, IntoPyObjectExt, ffi, intern};
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

pub type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

pub fn methods() -> Vec<ffi::PyMethodDef> {
    vec![
        plain_method!(c"result", result, c"result($self, /)\n--\n\nThe result; raises the exception, CancelledError, or InvalidStateError when it is not done."),
        plain_method!(c"exception", exception, c"exception($self, /)\n--\n\nThe exception or None; raises CancelledError, or InvalidStateError when it is not done."),
        plain_method!(c"done", done, c"done($self, /)\n--\n\nWhether there is a result or an exception, or it was cancelled."),
        plain_method!(c"cancelled", cancelled, c"cancelled($self, /)\n--\n\nWhether it was cancelled."),
        plain_method!(c"get_loop", get_loop, c"get_loop($self, /)\n--\n\nThe event loop that it belongs to."),
        plain_method!(c"_make_cancelled_error", make_cancelled_error, c"_make_cancelled_error($self, /)\n--\n\nThe CancelledError to raise; the one that ended the task is given once."),
        method_of_one!(c"set_result", set_result, c"set_result($self, result, /)\n--\n\nMakes it done, with a result."),
        method_of_one!(c"set_exception", set_exception, c"set_exception($self, exception, /)\n--\n\nMakes it done, with an exception or a class of exceptions."),
        method_of_one!(c"remove_done_callback", remove_done_callback, c"remove_done_callback($self, fn, /)\n--\n\nTakes a callback back; returns how many there were."),
        fast_method!(c"add_done_callback", add_done_callback, c"add_done_callback($self, fn, /, *, context=None)\n--\n\nCalls fn(self) in the loop when it is done."),
        fast_method!(c"cancel", cancel, c"cancel($self, /, msg=None)\n--\n\nCancels it; returns False when it is done already."),
    ]
}

/// A property of futures and tasks.
pub fn property(name: &'static CStr, get: ffi::getter, set: Option<ffi::setter>) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef { name: name.as_ptr(), get: Some(get), set, ..Default::default() }
}

macro_rules! getter {
    ($function:path) => {{
        unsafe extern "C" fn get(this: *mut pyo3::ffi::PyObject, _: *mut c_void) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls the getter with an object of the class, attached.
            unsafe { $crate::method::enter(this, |this| $function(this)) }
        }
        get
    }};
}
pub(super) use getter;

macro_rules! setter {
    ($function:path) => {{
        unsafe extern "C" fn set(
            this: *mut pyo3::ffi::PyObject,
            value: *mut pyo3::ffi::PyObject,
            _: *mut c_void,
        ) -> c_int {
            // SAFETY: the interpreter calls the setter with an object of the class, attached; no value means deletion.
            unsafe {
                $crate::native::future_methods::enter_setter(this, value, |this, value| $function(this, value))
            }
        }
        Some(set as pyo3::ffi::setter)
    }};
}
pub(super) use setter;

/// # Safety
/// The pointers are those of a setter's call by the interpreter, attached.
pub unsafe fn enter_setter(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    body: impl for<'a, 'py> FnOnce(This<'a, 'py>, This<'a, 'py>) -> PyResult<()>,
) -> c_int {
    // SAFETY: the caller's word.
    let result = unsafe {
        enter(this, |this| {
            let Some(value) = Borrowed::from_ptr_or_opt(this.py(), value) else {
                return Err(pyo3::exceptions::PyAttributeError::new_err("cannot delete attribute"));
            };
            body(this, value)?;
            Ok(this.py().None())
        })
    };
    if result.is_null() {
        return -1;
    }
    // SAFETY: None, a new reference.
    unsafe { ffi::Py_DECREF(result) };
    0
}

pub fn properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        property(c"_state", getter!(state_name), None),
        property(c"_asyncio_future_blocking", getter!(blocking), setter!(set_blocking)),
        property(c"_loop", getter!(event_loop), None),
        property(c"_callbacks", getter!(callbacks), None),
        property(c"_result", getter!(raw_result), None),
        property(c"_exception", getter!(raw_exception), None),
        property(c"_log_traceback", getter!(log_traceback), setter!(set_log_traceback)),
        property(c"_source_traceback", getter!(source_traceback), None),
        property(c"_cancel_message", getter!(cancel_message), setter!(set_cancel_message)),
    ]
}

pub fn native<'a, 'py>(this: This<'a, 'py>) -> FutureRef<'a, 'py> {
    // SAFETY: the interpreter calls methods and properties of a class with its objects only.
    unsafe { FutureRef::new(this) }
}

/// The future, which has to be initialised.
fn alive<'a, 'py>(this: This<'a, 'py>) -> PyResult<FutureRef<'a, 'py>> {
    let future = native(this);
    if future.with(|state| state.event_loop.is_some()) {
        Ok(future)
    } else {
        Err(completion::not_initialised())
    }
}

/// As [`alive`], where asyncio takes a future that is not initialised for one without an outcome.
fn alive_for_outcome<'a, 'py>(this: This<'a, 'py>) -> PyResult<FutureRef<'a, 'py>> {
    alive(this).map_err(|_| stock::invalid_state(this.py(), "Future object is not initialized."))
}

fn truth(py: Python<'_>, value: bool) -> PyResult<Py<PyAny>> {
    value.into_py_any(py)
}

fn result(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::result(alive_for_outcome(this)?).map(Bound::unbind)
}

fn exception(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let future = alive_for_outcome(this)?;
    match completion::outcome(future) {
        completion::Outcome::Value(_) => Ok(this.py().None()),
        completion::Outcome::Exception(exception) => Ok(exception.unbind()),
        completion::Outcome::Cancelled => Err(PyErr::from_value(completion::cancelled_error(future)?)),
        completion::Outcome::Pending => Err(stock::invalid_state(this.py(), "Exception is not set.")),
    }
}

fn done(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.status != Status::Pending))
}

fn cancelled(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.status == Status::Cancelled))
}

fn get_loop(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop =
        native(this).with(|state| state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)));
    event_loop.ok_or_else(completion::not_initialised)
}

fn make_cancelled_error(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::cancelled_error(native(this)).map(Bound::unbind)
}

fn set_result(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::set_result(native(this), value.to_owned())?;
    Ok(this.py().None())
}

fn set_exception(this: This<'_, '_>, exception: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::set_exception(alive(this)?, &exception)?;
    Ok(this.py().None())
}

/// The message of a call of `cancel(msg=None)`.
pub fn message_of<'py>(arguments: &Arguments<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if arguments.len() > 1 {
        return Err(PyTypeError::new_err(format!(
            "cancel() takes at most 1 argument ({} given)",
            arguments.len()
        )));
    }
    let mut message = (arguments.len() == 1).then(|| arguments.get(0).to_owned());
    for (name, value) in arguments.keywords() {
        if name.to_str()? != "msg" || message.is_some() {
            return Err(unexpected("cancel", name));
        }
        message = Some(value.to_owned());
    }
    Ok(message.filter(|message| !message.is_none()))
}

pub fn unexpected(function: &str, name: Borrowed<'_, '_, PyString>) -> PyErr {
    PyTypeError::new_err(format!(
        "{function}() got an unexpected keyword argument '{}'",
        name.to_string_lossy()
    ))
}

fn cancel(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), completion::cancel(alive(this)?, message_of(&arguments)?)?)
}

fn add_done_callback(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let future = alive(this)?;
    if arguments.len() != 1 {
        return Err(PyTypeError::new_err(format!(
            "add_done_callback() takes exactly 1 positional argument ({} given)",
            arguments.len()
        )));
    }
    let callback = arguments.get(0);
    let mut context = None;
    for (name, value) in arguments.keywords() {
        if !name.is(intern!(py, "context")) && name.to_str()? != "context" {
            return Err(unexpected("add_done_callback", name));
        }
        context = Some(value).filter(|value| !value.is_none());
    }
    let context = match context {
        Some(context) => context.to_owned(),
        None => context::copy_current(py)?.into_bound(py),
    };
    let mut waiter = Some(Waiter::Callback(callback.to_owned().unbind(), context.clone().unbind()));
    future.with(|state| {
        if state.status == Status::Pending
            && let Some(waiter) = waiter.take()
        {
            state.waiters.push(waiter);
        }
    });
    if let Some(waiter) = waiter {
        // It is done already.
        waiter.release(py);
        completion::call_soon(future, callback, Some(future.object()), context)?;
    }
    Ok(py.None())
}

fn remove_done_callback(this: This<'_, '_>, callback: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let future = alive(this)?;
    let known: Vec<Bound<'_, PyAny>> = future.with(|state| {
        let callbacks = state.waiters.iter().filter_map(|waiter| match waiter {
            Waiter::Callback(callback, _) => Some(callback.clone_ref(py).into_bound(py)),
            Waiter::Task(_) => None,
        });
        callbacks.collect()
    });
    // Comparing may run anything; what it changes meanwhile stays as it leaves it.
    let mut equal = Vec::new();
    for known in known {
        if known.eq(callback)? {
            equal.push(known);
        }
    }
    let removed = future.with(|state| {
        state.waiters.extract(|waiter| match waiter {
            Waiter::Callback(callback, _) => equal.iter().any(|equal| equal.as_ptr() == callback.as_ptr()),
            Waiter::Task(_) => false,
        })
    });
    let count = removed.len();
    removed.into_iter().for_each(|waiter| waiter.release(py));
    count.into_py_any(py)
}

fn state_name(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let name = match native(this).with(|state| state.status) {
        Status::Pending => intern!(py, "PENDING"),
        Status::Cancelled => intern!(py, "CANCELLED"),
        Status::Finished => intern!(py, "FINISHED"),
    };
    name.into_py_any(py)
}

fn blocking(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.blocking && state.event_loop.is_some()))
}

fn set_blocking(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<()> {
    let (future, value) = (alive(this)?, value.is_truthy()?);
    future.with(|state| state.blocking = value);
    Ok(())
}

/// A getter of one reference, None where there is none.
macro_rules! reference {
    ($name:ident, $state:ident => $reference:expr) => {
        fn $name(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
            let py = this.py();
            let reference = native(this).with(|$state| {
                let reference: Option<&Py<PyAny>> = $reference;
                reference.map(|reference| reference.clone_ref(py))
            });
            Ok(reference.unwrap_or_else(|| py.None()))
        }
    };
}

reference!(event_loop, state => state.event_loop.as_ref());
reference!(raw_result, state => state.result.as_ref());
reference!(raw_exception, state => state.exception.as_ref());
reference!(source_traceback, state => state.rare().and_then(|rare| rare.source_traceback.as_ref()));
reference!(cancel_message, state => state.rare().and_then(|rare| rare.cancel_message.as_ref()));

fn set_cancel_message(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<()> {
    let value = Some(value.to_owned().unbind());
    let old = native(this).with(|state| state.replace_rare(|rare| &mut rare.cancel_message, value));
    drop_now(this.py(), old);
    Ok(())
}

fn callbacks(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    enum Seen<'py> {
        Task(Bound<'py, PyAny>),
        Callback(Bound<'py, PyAny>, Bound<'py, PyAny>),
    }
    let seen: Vec<Seen<'_>> = alive(this)?.with(|state| {
        let waiters = state.waiters.iter().map(|waiter| match waiter {
            Waiter::Task(task) => Seen::Task(task.clone_ref(py).into_bound(py)),
            Waiter::Callback(callback, context) => {
                Seen::Callback(callback.clone_ref(py).into_bound(py), context.clone_ref(py).into_bound(py))
            }
        });
        waiters.collect()
    });
    if seen.is_empty() {
        return Ok(py.None());
    }
    let list = PyList::empty(py);
    for waiter in seen {
        list.append(match waiter {
            // As asyncio shows it: the function that will wake the task.
            Seen::Task(task) => {
                // SAFETY: only tasks wait as such.
                let task = unsafe { super::class::TaskRef::new(task.as_borrowed()) };
                let context = task.with(|state| state.context.as_ref().map(|context| context.clone_ref(py)));
                (super::step::callable(task, true)?, context).into_pyobject(py)?
            }
            Seen::Callback(callback, context) => (callback, context).into_pyobject(py)?,
        })?;
    }
    Ok(list.into_any().unbind())
}

fn log_traceback(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.log_traceback))
}

fn set_log_traceback(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<()> {
    if value.is_truthy()? {
        return Err(PyValueError::new_err("_log_traceback can only be set to False"));
    }
    native(this).with(|state| state.log_traceback = false);
    Ok(())
}

/// `repr(future)`.
pub unsafe extern "C" fn describe(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an object of the class, attached.
    unsafe { enter(this, |this| Ok(stock::describe_future(this.py())?.call1((this,))?.unbind())) }
}

/// `Future.__init__(self, *, loop=None)`.
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
pub fn begin<'py>(future: FutureRef<'_, 'py>, event_loop: Option<Bound<'py, PyAny>>) -> PyResult<()> {
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
pub fn start(
    future: FutureRef<'_, '_>,
    event_loop: Bound<'_, PyAny>,
    own_loop: bool,
    origin: Option<Py<PyAny>>,
) {
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
pub fn is_own(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    /// The class that was found to be so last.
    static KNOWN: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());
    let class = event_loop.get_type();
    if KNOWN.load(Ordering::Relaxed) == class.as_type_ptr() {
        return Ok(true);
    }
    let own = event_loop.is_instance_of::<Loop>() && !overrides_call_soon(&class)?;
    // A class made at run time may go, and another take its place in memory.
    if own && class.is(motet_loop_class(event_loop.py())?) {
        KNOWN.store(class.as_type_ptr(), Ordering::Relaxed);
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
pub fn create<'py>(event_loop: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyAny>> {
    let debug = event_loop.get().in_debug_mode();
    let event_loop = event_loop.clone().into_any();
    if debug {
        let future = super::class::allocate_future(event_loop.py())?;
        begin(native(future.as_borrowed()), Some(event_loop))?;
        return Ok(future);
    }
    let own_loop = is_own(&event_loop)?;
    let future = super::class::allocate_future(event_loop.py())?;
    start(native(future.as_borrowed()), event_loop, own_loop, None);
    Ok(future)
}

/// Tells of an exception that nobody has asked for.
pub fn finalise(future: FutureRef<'_, '_>) {
    if !future.with(|state| std::mem::take(&mut state.log_traceback)) {
        return;
    }
    super::task_methods::tell(future, |py, details| {
        let class = future.object().get_type();
        details.set_item("message", format!("{} exception was never retrieved", class.name()?))?;
        let exception =
            future.with(|state| state.exception.as_ref().map(|exception| exception.clone_ref(py)));
        details.set_item("exception", exception)?;
        details.set_item("future", future.object())
    });
}
