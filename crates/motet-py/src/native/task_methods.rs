//! What tasks have beyond futures.

use super::class::{FutureRef, TaskRef};
use super::future_methods::{This, message_of, native, unexpected};
use super::future_properties::{getter, property, setter};
use super::state::{Name, Status, drop_now};
use super::{completion, stock, visible, waiting};
use crate::method::{Arguments, enter, fast_method, method_of_one, plain_method};
use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{Borrowed, IntoPyObjectExt, ffi};

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

pub fn task<'a, 'py>(this: This<'a, 'py>) -> TaskRef<'a, 'py> {
    // SAFETY: the interpreter calls methods and properties of a class with its objects only.
    unsafe { TaskRef::new(this) }
}

fn cancel(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    request_cancellation(task(this), message_of(&arguments)?)?.into_py_any(this.py())
}

/// As many tasks may wait for each other in a row as Python functions may call each other in a row.
const LONGEST_CHAIN: usize = 10_000;

/// Cancels what the task waits for, and the task itself where that does not take notice. Tasks that wait for tasks are gone
/// through one by one: a chain of them may be longer than the stack.
fn request_cancellation(task: TaskRef<'_, '_>, message: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = task.py();
    let mut chain = vec![task.object().to_owned()];
    let mut taken_notice = loop {
        let last = chain.last().expect("it begins with the task");
        let task = self::task(last.as_borrowed());
        let pending = task.future().with(|state| {
            state.log_traceback = false;
            state.event_loop.as_ref().map(|_| state.status == Status::Pending)
        });
        if !pending.ok_or_else(completion::not_initialised)? {
            chain.pop();
            break false;
        }
        let waiting_for = task.with(|state| {
            state.cancel_requests += 1;
            state.waiting_for.as_ref().map(|future| future.clone_ref(py))
        });
        match waiting_for.map(|future| future.into_bound(py)) {
            Some(future) if is_exact_task(&future) => {
                if chain.len() == LONGEST_CHAIN {
                    let text = "maximum recursion depth exceeded: tasks wait for each other in a circle";
                    return Err(PyRecursionError::new_err(text));
                }
                chain.push(future);
            }
            Some(future) => break waiting::cancel_any(future.as_borrowed(), message.clone())?,
            None => break false,
        }
    };
    let is_pending = !chain.is_empty();
    while let Some(task) = chain.pop() {
        // What it waits for may be a task that goes on in spite of it, to be cancelled again later.
        if !taken_notice {
            cancel_next_step(self::task(task.as_borrowed()), message.clone());
            taken_notice = true;
        }
    }
    Ok(is_pending)
}

fn is_exact_task(future: &Bound<'_, PyAny>) -> bool {
    FutureRef::exact(future.as_borrowed()).is_some_and(|native| native.exact_task().is_some())
}

/// The task's next step raises `CancelledError`.
fn cancel_next_step(task: TaskRef<'_, '_>, message: Option<Bound<'_, PyAny>>) {
    task.with(|state| state.must_cancel = true);
    let old = task
        .future()
        .with(|state| state.replace_rare(|rare| &mut rare.cancel_message, message.map(Bound::unbind)));
    drop_now(task.py(), old);
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

pub fn name_from(value: Borrowed<'_, '_, PyAny>) -> PyResult<Py<PyAny>> {
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
