//! asyncio's books of tasks: which there are, which one runs, and who awaits whom.
//!
//! From Python 3.14 on asyncio threads a list through the tasks themselves, and ours are derived from its class: its functions are
//! called. Before, all tasks are in a set of weak references that is written in Python (`weakref.WeakSet`); adding to it and
//! what happens when the reference dies would cost more than the rest of a short task. So the set behind it is filled here, as its
//! methods would fill it: a reference is taken out at once, or noted for later while somebody iterates.

use super::class::TaskRef;
use super::state::{Status, drop_now};
use super::visible;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PySet};
use pyo3::{Borrowed, ffi};

/// asyncio's set of tasks before Python 3.14: the parts of a `WeakSet`.
struct WeakSet {
    references: Py<PySet>,
    iterations: Py<PySet>,
    pending_removals: Py<PyList>,
    /// Called with a reference whose task has gone.
    on_death: Py<PyAny>,
}

struct Books {
    enter: Py<PyAny>,
    leave: Py<PyAny>,
    /// Loops and their current tasks, up to Python 3.13.
    current: Option<Py<PyDict>>,
    /// From Python 3.12 on.
    swap: Option<Py<PyAny>>,
    register_eager: Option<Py<PyAny>>,
    unregister_eager: Option<Py<PyAny>>,
    /// Up to Python 3.13; then `register` and `unregister`.
    tasks: Option<WeakSet>,
    register: Py<PyAny>,
    unregister: Py<PyAny>,
    /// From Python 3.14 on.
    add_awaiter: Option<Py<PyAny>>,
    discard_awaiter: Option<Py<PyAny>>,
}

static BOOKS: PyOnceLock<Books> = PyOnceLock::new();

/// Opens asyncio's books. Called once, before there is a loop.
pub fn open(py: Python<'_>) -> PyResult<()> {
    let module = py.import("_asyncio")?;
    let get = |name: &str| module.getattr(name).map(Bound::unbind);
    let get_optional = |name: &str| Ok::<_, PyErr>(module.getattr_opt(name)?.map(Bound::unbind));
    let (tasks, current) = if cfg!(Py_3_14) {
        (None, None)
    } else {
        let set = module.getattr(if cfg!(Py_3_12) { "_scheduled_tasks" } else { "_all_tasks" })?;
        let current = module.getattr("_current_tasks")?.cast_into::<PyDict>()?;
        (Some(WeakSet::of(&set)?), Some(current.unbind()))
    };
    let books = Books {
        enter: get("_enter_task")?,
        leave: get("_leave_task")?,
        current,
        swap: get_optional("_swap_current_task")?,
        register_eager: get_optional("_register_eager_task")?,
        unregister_eager: get_optional("_unregister_eager_task")?,
        tasks,
        register: get("_register_task")?,
        unregister: get("_unregister_task")?,
        add_awaiter: get_optional("future_add_to_awaited_by")?,
        discard_awaiter: get_optional("future_discard_from_awaited_by")?,
    };
    let _ = BOOKS.set(py, books);
    Ok(())
}

#[inline]
fn books(py: Python<'_>) -> PyResult<&'static Books> {
    BOOKS.get(py).ok_or_else(|| PyRuntimeError::new_err("motet._motet was not imported to its end"))
}

impl WeakSet {
    fn of(set: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = set.py();
        Ok(Self {
            references: set.getattr("data")?.cast_into::<PySet>()?.unbind(),
            iterations: set.getattr("_iterating")?.cast_into::<PySet>()?.unbind(),
            pending_removals: set.getattr("_pending_removals")?.cast_into::<PyList>()?.unbind(),
            on_death: wrap_pyfunction!(task_died, py)?.into_any().unbind(),
        })
    }

    fn add(&self, task: TaskRef<'_, '_>) -> PyResult<()> {
        let py = task.py();
        // SAFETY: two valid references; a new reference or null with an exception set.
        let reference = unsafe {
            let reference = ffi::PyWeakref_NewRef(task.object().as_ptr(), self.on_death.as_ptr());
            Bound::from_owned_ptr_or_err(py, reference)?
        };
        self.references.bind(py).add(&reference)?;
        task.with(|state| state.registration = Some(reference.unbind()));
        Ok(())
    }

    fn discard(&self, reference: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = reference.py();
        if self.iterations.bind(py).is_empty() {
            self.references.bind(py).discard(reference).map(drop)
        } else {
            self.pending_removals.bind(py).append(reference)
        }
    }
}

/// A task has gone that was not done.
#[pyfunction]
fn task_died(reference: &Bound<'_, PyAny>) -> PyResult<()> {
    match &books(reference.py())?.tasks {
        Some(tasks) => tasks.discard(reference),
        None => Ok(()),
    }
}

/// Calls a function of asyncio's with two arguments.
#[inline]
fn call(
    function: &Py<PyAny>,
    first: Borrowed<'_, '_, PyAny>,
    second: Borrowed<'_, '_, PyAny>,
) -> PyResult<()> {
    let py = first.py();
    let mut arguments = [std::ptr::null_mut(), first.as_ptr(), second.as_ptr()];
    // SAFETY: valid references for the length of the call.
    unsafe { crate::call::call_with_room(function.bind(py), &mut arguments).map(drop) }
}

/// `all_tasks()` names the task from now on, until it is done.
pub fn register(task: TaskRef<'_, '_>) -> PyResult<()> {
    let py = task.py();
    let books = books(py)?;
    match &books.tasks {
        Some(tasks) => tasks.add(task),
        None => books.register.bind(py).call1((task.object(),)).map(drop),
    }
}

/// The task is done.
#[inline]
pub fn forget(task: TaskRef<'_, '_>) {
    let py = task.py();
    let forgotten = books(py).and_then(|books| match &books.tasks {
        Some(tasks) => match task.with(|state| state.registration.take()) {
            Some(reference) => {
                let reference = reference.into_bound(py);
                tasks.discard(&reference)
            }
            None => Ok(()),
        },
        None => books.unregister.bind(py).call1((task.object(),)).map(drop),
    });
    if let Err(error) = forgotten {
        error.write_unraisable(py, Some(&task.object()));
    }
}

/// `current_task()` names the task from now on.
#[inline]
pub fn enter(event_loop: &Bound<'_, PyAny>, task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    call(&books(event_loop.py())?.enter, event_loop.as_borrowed(), task)
}

/// `current_task()` names no task any more.
#[inline]
pub fn leave(event_loop: &Bound<'_, PyAny>, task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    call(&books(event_loop.py())?.leave, event_loop.as_borrowed(), task)
}

/// Puts one task in the place of another one as the current task.
#[inline]
pub fn swap(
    event_loop: &Bound<'_, PyAny>,
    before: Bound<'_, PyAny>,
    task: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    // SAFETY: the reference count of a valid reference.
    if unsafe { ffi::Py_REFCNT(before.as_ptr()) } <= REFERENCES_TO_CURRENT {
        // It goes: what its finaliser runs must not take the next task for the current one.
        leave(event_loop, before.as_borrowed())?;
        drop(before);
        return enter(event_loop, task.as_borrowed());
    }
    let books = books(py)?;
    match (&books.current, &books.swap) {
        (Some(current), _) => current.bind(py).set_item(event_loop, task),
        (None, Some(swap)) => call(swap, event_loop.as_borrowed(), task.as_borrowed()),
        (None, None) => {
            leave(event_loop, before.as_borrowed()).and_then(|()| enter(event_loop, task.as_borrowed()))
        }
    }
}

/// A current task that nobody knows but the loop that runs it and asyncio's books.
const REFERENCES_TO_CURRENT: isize = 2;

/// Runs `step` as the first step of a task, in the midst of another one.
pub fn eagerly(
    event_loop: &Bound<'_, PyAny>,
    task: TaskRef<'_, '_>,
    step: impl FnOnce() -> PyResult<()>,
) -> PyResult<()> {
    let py = task.py();
    let books = books(py)?;
    let (Some(swap), Some(register_eager), Some(unregister_eager)) =
        (&books.swap, &books.register_eager, &books.unregister_eager)
    else {
        return Err(PyTypeError::new_err("eager_start needs Python 3.12 or later"));
    };
    let before = swap.bind(py).call1((event_loop, task.object()))?;
    let result = register_eager.bind(py).call1((task.object(),)).and_then(|_| {
        let result = step();
        result.and(unregister_eager.bind(py).call1((task.object(),)).map(drop))
    });
    let after = swap.bind(py).call1((event_loop, before)).map(drop);
    let pending = task.future().with(|state| state.status == Status::Pending);
    let registered = if pending {
        register(task)
    } else {
        // It waits for nothing any more: what its frame holds can go.
        let coroutine = task.with(|state| state.coroutine.take());
        drop_now(py, coroutine);
        visible::hide_coroutine(task);
        Ok(())
    };
    result.and(after).and(registered)
}

/// The call graph: `task` awaits `future`.
#[inline]
pub fn start_awaiting(future: Borrowed<'_, '_, PyAny>, task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    match &books(future.py())?.add_awaiter {
        Some(add) => call(add, future, task),
        None => Ok(()),
    }
}

/// The call graph: `task` does not await `future` any more.
#[inline]
pub fn stop_awaiting(future: &Bound<'_, PyAny>, task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    match &books(future.py())?.discard_awaiter {
        Some(discard) => call(discard, future.as_borrowed(), task),
        None => Ok(()),
    }
}
