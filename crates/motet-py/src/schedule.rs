//! `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at` and `create_task`: called for every callback of a program.

use crate::context;
use crate::event_loop::{Loop, State};
use crate::handle::{Handle, Payload, TimerHandle, given_or_current};
use crate::method::{Arguments, Storage, attach_method, fast_method, plain_method};
use crate::native;
use crate::task::Task;
use motet_reactor::clock::{Clock, MonotonicClock};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, ffi, intern};

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
    // The stock task passes one tuple for ever, whose string is not the interned one.
    static SEEN: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    if SEEN.get(names.py()).is_some_and(|seen| names.is(seen)) {
        return Ok(arguments.keywords().next().map(|(_, value)| value));
    }
    let mut context = None;
    for (name, value) in arguments.keywords() {
        if name.is(intern!(name.py(), "context")) {
            context = Some(value);
        } else if name.to_str()? == "context" {
            context = Some(value);
            if names.len() == 1 {
                let _ = SEEN.set(names.py(), names.to_owned().unbind());
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

/// Puts a callback into the ready ring, in a handle that has been used before where there is one.
#[inline]
pub fn push_callback(event_loop: &Loop, py: Python<'_>, payload: Payload) -> PyResult<Py<PyAny>> {
    let mut payload = Some(payload);
    let reused = event_loop.state.with(|state| {
        let spare = state.spare.pop()?;
        // SAFETY: only handles whose last reference the loop holds are kept as spare.
        unsafe { spare.get().refill(payload.take()?) };
        state.turn.collect_inbox();
        state.turn.push(Task::Callback(spare.clone_ref(py)));
        Some(spare)
    });
    if let Ok(Some(handle)) = reused {
        return Ok(handle.into_any());
    }
    let payload = payload.unwrap_or_default();
    if reused.is_err() {
        return send_callback(event_loop, py, payload);
    }
    let handle = Handle::create(py, payload)?;
    event_loop.push(Task::Callback(handle.clone().unbind()))?;
    Ok(handle.into_any().unbind())
}

/// Has the loop call `callback(argument)` in a later round; `context` is known to be one.
#[inline]
pub fn push_call(
    event_loop: &Loop,
    py: Python<'_>,
    callback: Py<PyAny>,
    argument: Py<PyAny>,
    context: Py<PyAny>,
) -> PyResult<()> {
    event_loop.require_open()?;
    let handle = push_callback(event_loop, py, Payload::of_one(callback, argument, context))?;
    drop(handle.into_bound(py));
    Ok(())
}

/// Puts a callback into the inbox.
fn send_callback(event_loop: &Loop, py: Python<'_>, payload: Payload) -> PyResult<Py<PyAny>> {
    let handle = match event_loop.take_shared_spare() {
        Some(spare) => {
            // SAFETY: only handles whose last reference the loop held are shared.
            unsafe { spare.get().refill(payload) };
            spare.into_bound(py)
        }
        None => Handle::create(py, payload)?,
    };
    event_loop.send(Task::Callback(handle.clone().unbind()))?;
    Ok(handle.into_any().unbind())
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

fn call_soon(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this).get();
    event_loop.require_open()?;
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_soon", &["callback"], &mut storage)?;
    let callback = arguments.get(0);
    if event_loop.in_debug_mode() {
        return call_soon_in_debug_mode(this, callback, &arguments, "call_soon", true);
    }
    let context = given_or_current(py, context_of(&arguments, "call_soon")?)?;
    push_callback(event_loop, py, Payload::new(py, callback, arguments.from(1), context)?)
}

fn call_soon_threadsafe(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this).get();
    event_loop.require_open()?;
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_soon_threadsafe", &["callback"], &mut storage)?;
    let callback = arguments.get(0);
    if event_loop.in_debug_mode() {
        return call_soon_in_debug_mode(this, callback, &arguments, "call_soon_threadsafe", false);
    }
    let context = given_or_current(py, context_of(&arguments, "call_soon_threadsafe")?)?;
    let payload = Payload::new(py, callback, arguments.from(1), context)?;
    if cfg!(Py_GIL_DISABLED) && !event_loop.state.is_mine() {
        // Not even for a moment may this thread claim the loop: its own may be about to run it. (Under the GIL nobody sees a
        // claim that is given back before the GIL is.)
        return send_callback(event_loop, py, payload);
    }
    push_callback(event_loop, py, payload)
}

#[cold]
fn call_soon_in_debug_mode(
    this: This<'_, '_>,
    callback: This<'_, '_>,
    arguments: &Arguments<'_, '_>,
    function: &str,
    own_thread: bool,
) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this).get();
    check_in_debug_mode(this, callback, function, own_thread)?;
    let context = given_or_current(py, context_of(arguments, function)?)?;
    let handle = Handle::create(py, Payload::new(py, callback, arguments.from(1), context)?)?;
    note_origin(py, handle.get())?;
    let task = Task::Callback(handle.clone().unbind());
    if own_thread || event_loop.state.is_mine() {
        event_loop.push(task)?
    } else {
        event_loop.send(task)?
    }
    Ok(handle.into_any().unbind())
}

fn call_later(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_later", &["delay", "callback"], &mut storage)?;
    let delay = arguments.get(0);
    if delay.is_none() {
        return Err(PyTypeError::new_err("delay must not be None"));
    }
    let when = MonotonicClock.now() as f64 / 1e9 + delay.extract::<f64>()?;
    schedule(this, when, &arguments, "call_later")
}

fn call_at(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_at", &["when", "callback"], &mut storage)?;
    let when = arguments.get(0);
    if when.is_none() {
        return Err(PyTypeError::new_err("when cannot be None"));
    }
    schedule(this, when.extract::<f64>()?, &arguments, "call_at")
}

fn schedule(
    this: This<'_, '_>,
    when: f64,
    arguments: &Arguments<'_, '_>,
    function: &str,
) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this);
    event_loop.get().require_open()?;
    let callback = arguments.get(1);
    let debug = event_loop.get().in_debug_mode();
    if debug {
        check_in_debug_mode(this, callback, function, true)?;
    }
    let context = given_or_current(py, context_of(arguments, function)?)?;
    let payload = Payload::new(py, callback, arguments.from(2), context)?;
    let timer = TimerHandle::create(py, event_loop.to_owned().unbind(), when, payload)?;
    if debug {
        note_origin(py, timer.as_super().get())?;
    }
    start_timer(event_loop.get(), &timer)?;
    Ok(timer.into_any().unbind())
}

/// Enters a timer into the loop's queue, from whichever thread.
fn start_timer(event_loop: &Loop, timer: &Bound<'_, TimerHandle>) -> PyResult<()> {
    let handle = timer.as_super().clone().unbind();
    let deadline = timer.get().deadline();
    let mut task = Some(Task::Callback(handle));
    let started = event_loop
        .state
        .with(|state: &mut State| state.turn.schedule(deadline, task.take().expect("the closure runs once")));
    match started {
        Ok(key) => timer.get().set_key(key),
        Err(_) => event_loop.send(Task::StartTimer(timer.clone().unbind()))?,
    }
    Ok(())
}

/// A timer that another thread has started arrives at its loop.
pub fn start_sent_timer(event_loop: &Loop, timer: &Bound<'_, TimerHandle>) -> PyResult<()> {
    if timer.as_super().get().is_cancelled() { Ok(()) } else { start_timer(event_loop, timer) }
}

fn create_task(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this).get();
    event_loop.require_open()?;
    let native = event_loop.makes_native_tasks();
    let slow =
        !native && (event_loop.has_task_factory() || event_loop.in_debug_mode()) || arguments.len() != 1;
    // Counted where the task is asked for; a refused call (no coroutine) counts too, which nobody will miss.
    let _ = event_loop.state.with(|state| state.turn.statistics.tasks_started += 1);
    if slow {
        return create_task_by_base(this, &arguments);
    }
    if native {
        return create_native_task(this, &arguments);
    }
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let class = MODULE.import_once(py, "asyncio.tasks")?.getattr(intern!(py, "Task"))?;
    // The stock task's own keywords, with the loop in front: Task(coro, loop=…, name=…, context=…, eager_start=…).
    let given = arguments.keywords();
    let mut values = [std::ptr::null_mut(); 8];
    values[1] = arguments.get(0).as_ptr();
    values[2] = this.as_ptr();
    let mut count = 3;
    let mut names: [Option<Borrowed<'_, '_, PyString>>; 5] = [None; 5];
    for (name, value) in given {
        // A second `loop` is refused there.
        if count == values.len() || name.to_str()? == "loop" {
            return create_task_by_base(this, &arguments);
        }
        names[count - 3] = Some(name);
        values[count] = value.as_ptr();
        count += 1;
    }
    let names = match count {
        3 => names_of_loop(py)?.clone_ref(py).into_bound(py),
        _ => PyTuple::new(
            py,
            std::iter::once(intern!(py, "loop").clone())
                .chain(names.iter().flatten().map(|name| (*name).to_owned()))
                .collect::<Vec<_>>(),
        )?,
    };
    // SAFETY: the values are borrowed from the caller and from `this` for the call; one positional argument, then as many
    // keyword values as there are names; the element before the first is ours.
    unsafe {
        let result = ffi::PyObject_Vectorcall(
            class.as_ptr(),
            values.as_mut_ptr().add(1),
            1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            names.as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, result).map(Bound::unbind)
    }
}

#[inline]
fn create_native_task(this: This<'_, '_>, arguments: &Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut options = native::Options::default();
    for (name, value) in arguments.keywords() {
        if !options.take(name.to_str()?, value.to_owned())? {
            return create_task_by_base(this, arguments);
        }
    }
    native::create_task(as_loop(this), arguments.get(0).to_owned(), options).map(Bound::unbind)
}

/// The keyword names of a task made with nothing but its loop.
fn names_of_loop(py: Python<'_>) -> PyResult<&Py<PyTuple>> {
    static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    NAMES.get_or_try_init(py, || Ok(PyTuple::new(py, [intern!(py, "loop")])?.unbind()))
}

fn create_future_of(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    create_future(&as_loop(this)).map(Bound::unbind)
}

/// A future of this loop: a stock one, or one of motet's own where tasks are.
pub fn create_future<'py>(event_loop: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyAny>> {
    if event_loop.get().makes_native_tasks() {
        return native::create_future(event_loop);
    }
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let py = event_loop.py();
    let class = MODULE.import_once(py, "asyncio.futures")?.getattr(intern!(py, "Future"))?;
    let mut values = [std::ptr::null_mut(), event_loop.as_ptr()];
    let names = names_of_loop(py)?;
    // SAFETY: one keyword value for one name, borrowed for the call; the element before it is ours.
    unsafe {
        let arguments = values.as_mut_ptr().add(1);
        let result = ffi::PyObject_Vectorcall(
            class.as_ptr(),
            arguments,
            ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            names.as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// A module that is imported once. Its classes are looked up at each use, as asyncio does: programs may replace them.
trait ImportOnce {
    fn import_once<'py>(&self, py: Python<'py>, name: &str) -> PyResult<&Bound<'py, PyModule>>;
}

impl ImportOnce for PyOnceLock<Py<PyModule>> {
    fn import_once<'py>(&self, py: Python<'py>, name: &str) -> PyResult<&Bound<'py, PyModule>> {
        self.get_or_try_init(py, || py.import(name).map(Bound::unbind)).map(|module| module.bind(py))
    }
}

/// Task factories, debug mode and unusual arguments: asyncio's own method.
#[cold]
fn create_task_by_base(this: This<'_, '_>, arguments: &Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let positional = PyTuple::new(
        py,
        std::iter::once(this.to_owned())
            .chain(arguments.from(0).map(|argument| argument.to_owned()))
            .collect::<Vec<_>>(),
    )?;
    let keywords = pyo3::types::PyDict::new(py);
    for (name, value) in arguments.keywords() {
        keywords.set_item(name, value)?;
    }
    let base = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?;
    Ok(base.getattr("create_task")?.call(positional, Some(&keywords))?.unbind())
}

/// A handle of the loop's own making, for callbacks that it keeps (`add_reader`).
pub fn new_handle(
    py: Python<'_>,
    callback: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Py<Handle>> {
    let context = context::copy_current(py)?;
    let arguments: Vec<_> = arguments.iter_borrowed().collect();
    Handle::create(py, Payload::new(py, callback.as_borrowed(), arguments.into_iter(), context)?)
        .map(Bound::unbind)
}
