//! The methods of a future that programs and executors call.

use super::CallFuture;
use super::callbacks;
use super::changes::{self, Ending, Start};
use super::class::This;
use super::state::Stage;
use super::stock;
use super::waiting::{self, Outcome, outcome, wait_for_outcome};
use crate::call;
use crate::method::{Arguments, Storage, fast_method, method_of_one, plain_method};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use pyo3::{Borrowed, IntoPyObjectExt, ffi, intern};

type Object<'a, 'py> = Borrowed<'a, 'py, PyAny>;

pub fn methods() -> Vec<ffi::PyMethodDef> {
    let mut class_getitem = method_of_one!(c"__class_getitem__", class_getitem, c"See PEP 585");
    class_getitem.ml_flags |= ffi::METH_CLASS;
    vec![
        class_getitem,
        fast_method!(c"cancel", cancel, c"cancel($self, /, *, kill=False)\n--\n\nTakes the call back if it has not begun; with kill, stops it if it has. Whether that was done."),
        plain_method!(c"cancelled", cancelled, c"cancelled($self, /)\n--\n\nWhether the call was cancelled."),
        plain_method!(c"running", running, c"running($self, /)\n--\n\nWhether the call has begun and not ended."),
        plain_method!(c"done", done, c"done($self, /)\n--\n\nWhether the call was cancelled or has ended."),
        fast_method!(c"result", result, c"result($self, /, timeout=None)\n--\n\nWhat the call has returned or raised; waits for it."),
        fast_method!(c"exception", exception, c"exception($self, /, timeout=None)\n--\n\nWhat the call has raised, or None; waits for it."),
        fast_method!(c"add_done_callback", add_done_callback, c"add_done_callback($self, /, fn)\n--\n\nHas fn(future) called when the future is done, or at once."),
        plain_method!(c"set_running_or_notify_cancel", set_running_or_notify_cancel, c"set_running_or_notify_cancel($self, /)\n--\n\nFor executors: begins the call; False if it was cancelled."),
        fast_method!(c"set_result", set_result, c"set_result($self, /, result)\n--\n\nFor executors: the call has returned."),
        fast_method!(c"set_exception", set_exception, c"set_exception($self, /, exception)\n--\n\nFor executors: the call has raised."),
        plain_method!(c"_invoke_callbacks", invoke_callbacks, c"_invoke_callbacks($self, /)\n--\n\nCalls the callbacks."),
        plain_method!(c"_get_snapshot", get_snapshot, c"_get_snapshot($self, /)\n--\n\n(done, cancelled, result, exception)"),
        plain_method!(c"_start", start, c"_start($self, /)\n--\n\nFor pools: begins the call; False if it was cancelled."),
        fast_method!(c"_finish", finish, c"_finish($self, /, result)\n--\n\nFor pools: the call has returned; False if it was cancelled."),
        fast_method!(c"_fail", fail, c"_fail($self, /, exception)\n--\n\nFor pools: the call has raised; False if it was cancelled."),
        plain_method!(c"_end_cancelled", end_cancelled, c"_end_cancelled($self, /)\n--\n\nFor pools: the call was stopped; False if it has ended."),
    ]
}

/// The class with type arguments, for annotations.
fn class_getitem(class: Object<'_, '_>, item: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    // SAFETY: two valid references; the result is a new one, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::Py_GenericAlias(class.as_ptr(), item.as_ptr())) }
        .map(Bound::unbind)
}

/// The future that a method of the class was called on.
pub fn own<'a, 'py>(object: Object<'a, 'py>) -> This<'a, 'py> {
    // SAFETY: method descriptors check the class.
    unsafe { This::new(object) }
}

fn truth(py: Python<'_>, value: bool) -> PyResult<Py<PyAny>> {
    Ok(PyBool::new(py, value).to_owned().into_any().unbind())
}

fn stage(this: This<'_, '_>) -> Stage {
    this.with(|state| state.stage)
}

/// The one argument of a call.
fn one<'a, 'py>(
    arguments: Arguments<'a, 'py>,
    function: &str,
    name: &'static str,
) -> PyResult<Bound<'py, PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete(function, &[name], &mut storage)?;
    if arguments.len() > 1 {
        let count = arguments.len();
        return Err(PyTypeError::new_err(format!(
            "{function}() takes 1 positional argument but {count} were given"
        )));
    }
    match arguments.keywords().next() {
        Some((name, _)) => Err(unexpected_keyword(function, &name.to_string())),
        None => Ok(arguments.get(0).to_owned()),
    }
}

fn unexpected_keyword(function: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'"))
}

fn timeout<'py>(arguments: Arguments<'_, 'py>, function: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    if arguments.len() == 0 && arguments.names().is_none() {
        return Ok(None);
    }
    let timeout = one(arguments, function, "timeout")?;
    Ok(Some(timeout).filter(|timeout| !timeout.is_none()))
}

fn cancel(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = object.py();
    if arguments.len() > 0 {
        return Err(PyTypeError::new_err("cancel() takes no positional arguments"));
    }
    let mut kill = false;
    for (name, value) in arguments.keywords() {
        match name.to_str()? {
            "kill" => kill = value.is_truthy()?,
            name => return Err(unexpected_keyword("cancel", name)),
        }
    }
    let this = own(object);
    let (stage, number, origin) = this
        .with(|state| (state.stage, state.number, state.origin.as_ref().map(|origin| origin.clone_ref(py))));
    let origin = origin.map(|origin| origin.into_bound(py));
    if stage.is_done() {
        return truth(py, stage.is_cancelled());
    }
    let Some(origin) = origin else {
        changes::complete(this, Ending::Cancelled)?;
        return cancelled(object);
    };
    let number = number.into_pyobject(py)?;
    if stage == Stage::Pending
        && call::method_with(&origin, intern!(py, "_withdraw"), &number)?.is_truthy()?
    {
        // No executor will come across it any more.
        changes::complete(this, Ending::CancelledAndNotified)?;
    } else if kill && !this.with(|state| state.stage.is_done()) {
        return truth(py, call::method_with(&origin, intern!(py, "_kill"), &number)?.is_truthy()?);
    }
    cancelled(object)
}

fn cancelled(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(object.py(), stage(own(object)).is_cancelled())
}

fn running(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = object.py();
    let (stage, number, origin) = own(object).with(|state| {
        let origin = state.origin.as_ref().filter(|_| state.stage == Stage::Pending);
        (state.stage, state.number, origin.map(|origin| origin.clone_ref(py)))
    });
    match origin {
        Some(origin) => {
            let (origin, number) = (origin.into_bound(py), number.into_pyobject(py)?);
            truth(py, call::method_with(&origin, intern!(py, "_is_running"), &number)?.is_truthy()?)
        }
        None => truth(py, stage == Stage::Running),
    }
}

fn done(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(object.py(), stage(own(object)).is_done())
}

fn result(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    match wait_for_outcome(own(object), timeout(arguments, "result")?)? {
        Outcome::Result(result) => Ok(result.unbind()),
        Outcome::Exception(exception) => Err(waiting::raised(exception)),
    }
}

fn exception(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    match wait_for_outcome(own(object), timeout(arguments, "exception")?)? {
        Outcome::Result(_) => Ok(object.py().None()),
        Outcome::Exception(exception) => Ok(exception.unbind()),
    }
}

fn add_done_callback(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    callbacks::add_callback(own(object), one(arguments, "add_done_callback", "fn")?)?;
    Ok(object.py().None())
}

fn set_running_or_notify_cancel(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    match changes::start(own(object))? {
        Start::Unexpected(stage) => Err(changes::unexpected(own(object), stage)),
        start => truth(object.py(), start == Start::Begun),
    }
}

fn set_result(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    set(object, Ending::Result(one(arguments, "set_result", "result")?.unbind()))
}

fn set_exception(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let exception = one(arguments, "set_exception", "exception")?;
    // As with Python's own, a call that has raised None has returned None.
    let ending = if exception.is_none() { Ending::Result } else { Ending::Exception };
    set(object, ending(exception.unbind()))
}

fn set(object: Object<'_, '_>, ending: Ending) -> PyResult<Py<PyAny>> {
    let py = object.py();
    if changes::complete(own(object), ending)? {
        return Ok(py.None());
    }
    let text = format!("{}: {}", stage(own(object)).constant(py), object.repr()?);
    Err(stock::error(stock::invalid_state_error(py), Some(text)))
}

fn invoke_callbacks(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    let (py, this) = (object.py(), own(object));
    // As a list they stay, as they do with Python's own.
    callbacks::list_callbacks(this)?.drop_ref(py);
    callbacks::invoke_listed(this)?;
    Ok(py.None())
}

fn get_snapshot(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    let (py, this) = (object.py(), own(object));
    let none = || py.None().into_bound(py);
    if stage(this).is_cancelled() {
        return (true, true, none(), none()).into_py_any(py);
    }
    match outcome(this)? {
        None => (false, false, none(), none()).into_py_any(py),
        Some(Outcome::Result(result)) => (true, false, result, none()).into_py_any(py),
        Some(Outcome::Exception(exception)) => (true, false, none(), exception).into_py_any(py),
    }
}

/// What a pool does to the future, by the same functions as one written in Rust.
fn by_pool(
    object: Object<'_, '_>,
    act: impl FnOnce(Python<'_>, &CallFuture) -> PyResult<bool>,
) -> PyResult<Py<PyAny>> {
    let py = object.py();
    let future = CallFuture::of(own(object));
    let done = act(py, &future);
    future.drop_ref(py);
    truth(py, done?)
}

fn start(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    by_pool(object, super::start)
}

fn finish(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let result = one(arguments, "_finish", "result")?.unbind();
    by_pool(object, |py, future| super::finish(py, future, Ok(result)))
}

fn fail(object: Object<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let exception = one(arguments, "_fail", "exception")?.unbind();
    by_pool(object, |py, future| super::finish(py, future, Err(exception)))
}

fn end_cancelled(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    by_pool(object, super::finish_cancelled)
}

fn class_name<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    object.getattr(intern!(py, "__class__"))?.getattr(intern!(py, "__name__"))
}

/// What `repr(future)` returns.
pub fn describe(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let (stage, result, exception) = this.with(|state| {
        let copy = |object: &Option<Py<PyAny>>| object.as_ref().map(|object| object.clone_ref(py));
        (state.stage, copy(&state.result), copy(&state.exception))
    });
    let bound = |object: Option<Py<PyAny>>| object.map(|object| object.into_bound(py));
    let (result, exception) = (bound(result), bound(exception));
    let ending = match (stage, exception) {
        (Stage::Finished, Some(exception)) => format!(" raised {}", class_name(&exception)?),
        (Stage::Finished, None) => {
            format!(" returned {}", class_name(&result.unwrap_or_else(|| py.None().into_bound(py)))?)
        }
        _ => String::new(),
    };
    let (name, address) = (class_name(&this.object())?, this.object().as_ptr());
    format!("<{name} at {address:p} state={}{ending}>", stage.word()).into_py_any(py)
}
