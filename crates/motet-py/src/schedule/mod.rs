//! `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at` and `create_task`: called for every callback of a program.

mod callbacks;
mod tasks;
mod timers;

pub use callbacks::{new_handle, push_call, push_callback, send_call};
pub use tasks::create_future;
pub use timers::start_sent_timer;

use crate::event_loop::Loop;
use crate::handle::Handle;
use crate::method::{Arguments, attach_method, fast_method, plain_method};
use callbacks::{call_soon, call_soon_threadsafe};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, intern};
use tasks::{create_future_of, create_task};
use timers::{call_at, call_later};

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// Puts the methods into [`Loop`].
pub fn add_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Loop>();
    for definition in [
        fast_method!(c"call_soon", call_soon, c"call_soon($self, callback, *args, context=None)\n--\n\nRuns callback(*args) in the next round of the loop; returns its Handle."),
        fast_method!(c"call_soon_threadsafe", call_soon_threadsafe, c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nAs call_soon(), from any thread: wakes the loop."),
        fast_method!(c"call_later", call_later, c"call_later($self, delay, callback, *args, context=None)\n--\n\nRuns callback(*args) after delay seconds; returns its TimerHandle."),
        fast_method!(c"call_at", call_at, c"call_at($self, when, callback, *args, context=None)\n--\n\nRuns callback(*args) at a time of loop.time(); returns its TimerHandle."),
        fast_method!(c"create_task", create_task, c"create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\nRuns a coroutine as a task; returns the task."),
        plain_method!(c"create_future", create_future_of, c"create_future($self, /)\n--\n\nA future of this loop."),
    ] {
        attach_method(&class, definition)?;
    }
    Ok(())
}

fn as_loop<'a, 'py>(this: This<'a, 'py>) -> Borrowed<'a, 'py, Loop> {
    // SAFETY: the interpreter calls a method descriptor of `Loop` with instances of `Loop` only.
    unsafe { this.cast_unchecked() }
}

/// The `context` keyword, the only one there is.
#[inline]
fn context_of<'a, 'py>(
    arguments: &Arguments<'a, 'py>,
    function: &str,
) -> PyResult<Option<Borrowed<'a, 'py, PyAny>>> {
    let Some(names) = arguments.names() else { return Ok(None) };
    if SEEN_NAMES.get(names.py()).is_some_and(|seen| names.is(seen)) {
        return Ok(Some(arguments.keyword_value(0)));
    }
    find_context(arguments, names, function)
}

/// The stock task passes one tuple for ever, whose string is not the interned one.
static SEEN_NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();

#[inline(never)]
fn find_context<'a, 'py>(
    arguments: &Arguments<'a, 'py>,
    names: Borrowed<'a, 'py, PyTuple>,
    function: &str,
) -> PyResult<Option<Borrowed<'a, 'py, PyAny>>> {
    let mut context = None;
    for (name, value) in arguments.keywords() {
        if name.is(intern!(name.py(), "context")) {
            context = Some(value);
        } else if name.to_str()? == "context" {
            context = Some(value);
            if names.len() == 1 {
                let _ = SEEN_NAMES.set(names.py(), names.to_owned().unbind());
            }
        } else {
            return Err(PyTypeError::new_err(format!(
                "{function}() got an unexpected keyword argument '{}'",
                name.to_str()?
            )));
        }
    }
    Ok(context)
}

/// Debug mode: checks the call and notes where it was made.
#[cold]
fn check_in_debug_mode(
    this: This<'_, '_>,
    callback: This<'_, '_>,
    function: &str,
    thread: bool,
) -> PyResult<()> {
    let py = this.py();
    if thread {
        this.call_method0(intern!(py, "_check_thread"))?;
    }
    this.call_method1(intern!(py, "_check_callback"), (callback, function)).map(drop)
}

#[cold]
fn note_origin(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    let frames = py.import(intern!(py, "motet._handles"))?.call_method0(intern!(py, "origin"))?;
    handle.note_origin(py, frames.unbind());
    Ok(())
}
