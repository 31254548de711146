//! What asyncio keeps inside a task, for those who look for it there. The methods of asyncio's class, called as `asyncio.Task.get_coro(task)`,
//! know no other place, and some take it for granted that something is there. From Python 3.14 on `python -m asyncio ps` reads the
//! coroutine and the name of what is marked as a task out of a process's memory. A free-threaded interpreter asks which thread
//! has registered a task, and stops all threads when another one takes it out again.
//!
//! Nothing sets these fields but the constructor of asyncio's task, which would also schedule a step. Where they lie is not
//! published either. So one task of asyncio's is made beforehand, and looked at: its fields lie where its values are found.
//! What is not found stays empty, and costs what it is good for.

use super::class::TaskRef;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyDict;

/// Offsets of fields in an `_asyncio.Task`.
#[derive(Default)]
struct Places {
    coroutine: Option<usize>,
    context: Option<usize>,
    // These three from Python 3.14 on: nobody needs them before.
    name: Option<usize>,
    thread: Option<usize>,
    /// A byte that is 1 in tasks and 0 in other futures.
    is_task: Option<usize>,
}

static PLACES: PyOnceLock<Places> = PyOnceLock::new();

const SPECIMEN: &std::ffi::CStr = c"
import _asyncio
from contextvars import Context
from types import SimpleNamespace

async def nothing():
    pass

coroutine = nothing()
context = Context()
name = 'motet looks where asyncio keeps this'
loop = SimpleNamespace(get_debug=lambda: False, call_soon=lambda *_, **__: None)
task = _asyncio.Task(coroutine, loop=loop, name=name, context=context)
task._log_destroy_pending = False
_asyncio._unregister_task(task)
coroutine.close()
future = _asyncio.Future(loop=loop)
sizes = _asyncio.Future.__basicsize__, _asyncio.Task.__basicsize__
";

/// Finds the fields. Called once, before there is a loop.
pub fn look(py: Python<'_>) -> PyResult<()> {
    let made = PyDict::new(py);
    py.run(SPECIMEN, Some(&made), None)?;
    let get = |name: &str| -> PyResult<Bound<'_, PyAny>> { made.as_any().get_item(name) };
    let (task, future) = (get("task")?, get("future")?);
    let (future_size, task_size): (usize, usize) = get("sizes")?.extract()?;
    let words = |object: &Bound<'_, PyAny>, size: usize| -> Vec<(usize, usize)> {
        let offsets = (size_of::<ffi::PyObject>()..size).step_by(size_of::<usize>());
        // SAFETY: within an object of this size, which is not used by anybody else.
        offsets
            .map(|offset| (offset, unsafe { object.as_ptr().byte_add(offset).cast::<usize>().read() }))
            .collect()
    };
    let of_task = words(&task, task_size);
    let find = |value: usize| of_task.iter().find(|(_, found)| *found == value).map(|(offset, _)| *offset);
    let find_made = |name: &str| get(name).map(|made| find(made.as_ptr() as usize));
    let mut places =
        Places { coroutine: find_made("coroutine")?, context: find_made("context")?, ..Default::default() };
    if cfg!(Py_3_14) {
        let in_both = of_task.iter().zip(words(&future, future_size));
        let mut set_in_tasks = in_both.filter_map(|((offset, in_task), (_, in_future))| {
            let differing = in_task ^ in_future;
            let byte = (in_task & differing).to_ne_bytes().iter().position(|byte| *byte == 1);
            byte.filter(|_| differing.count_ones() == 1).map(|byte| offset + byte)
        });
        places.is_task = set_in_tasks.next().filter(|_| set_in_tasks.next().is_none());
        places.name = find_made("name")?;
        places.thread = find(thread_of(&task));
    }
    let _ = PLACES.set(py, places);
    Ok(())
}

/// The thread that has made an object, as a free-threaded interpreter notes it; elsewhere a value that no field has.
fn thread_of(object: &Bound<'_, PyAny>) -> usize {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: a field of a valid object, which the interpreter changes only when the object has no references.
    unsafe {
        (*object.as_ptr()).ob_tid
    }
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let _ = object;
        usize::MAX
    }
}

/// Fills the fields of a task that is about to be registered by the thread that has made it.
pub fn show(task: TaskRef<'_, '_>) {
    let py = task.py();
    let Some(places) = PLACES.get(py) else { return };
    let (coroutine, context) = task.with(|state| {
        let copy = |field: &Option<Py<PyAny>>| field.as_ref().map(|object| object.clone_ref(py));
        (copy(&state.coroutine), copy(&state.context))
    });
    put(task, places.coroutine, coroutine);
    put(task, places.context, context);
    if let Some(offset) = places.is_task {
        // SAFETY: a field of the base's part, found in an object of that class.
        unsafe { *task.object().as_ptr().byte_add(offset).cast::<u8>() |= 1 };
    }
    if let Some(offset) = places.thread {
        // SAFETY: a field of the base's part, found in an object of that class.
        unsafe {
            let field = task.object().as_ptr().byte_add(offset).cast::<usize>();
            field.write(thread_of(&task.object()));
        }
    }
    #[cfg(all(Py_3_14, Py_GIL_DISABLED))]
    // SAFETY: a valid object that this thread has made.
    unsafe {
        PyUnstable_EnableTryIncRef(task.object().as_ptr());
    }
}

/// Puts something where asyncio takes for granted that there is something, into a task that has nothing yet.
pub fn show_nothing(task: TaskRef<'_, '_>) {
    let py = task.py();
    if let Some(places) = PLACES.get(py) {
        put(task, places.coroutine, Some(py.None()));
        put(task, places.context, Some(py.None()));
    }
}

/// Takes a coroutine back that is of no use any more.
pub fn hide_coroutine(task: TaskRef<'_, '_>) {
    if let Some(places) = PLACES.get(task.py()) {
        put(task, places.coroutine, None);
    }
}

/// Shows a name, or the number that one is made of.
pub fn show_name(task: TaskRef<'_, '_>, name: impl FnOnce() -> Option<Py<PyAny>>) {
    let place = PLACES.get(task.py()).and_then(|places| places.name);
    if place.is_some() {
        put(task, place, name());
    }
}

#[cfg(all(Py_3_14, Py_GIL_DISABLED))]
unsafe extern "C" {
    fn PyUnstable_EnableTryIncRef(object: *mut ffi::PyObject);
}

/// Replaces a reference in the base's part, which the base shows to the collector and drops.
fn put(task: TaskRef<'_, '_>, place: Option<usize>, value: Option<Py<PyAny>>) {
    let Some(offset) = place else { return };
    let mut value = value.map_or(std::ptr::null_mut(), Py::into_ptr);
    // The base's methods look at its fields under the object's lock, where the interpreter has such.
    with_critical_section(&task.object(), || {
        // SAFETY: a field of the base's part, found in an object of that class; it owns its reference or is null.
        unsafe {
            let field = task.object().as_ptr().byte_add(offset).cast::<*mut ffi::PyObject>();
            value = field.replace(value);
        }
    });
    // SAFETY: the reference that the field has owned, or null.
    unsafe { ffi::Py_XDECREF(value) };
}
