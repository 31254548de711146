//! `create_task` and `create_future`.

use super::{This, as_loop};
use crate::event_loop::Loop;
use crate::method::Arguments;
use crate::native;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{Borrowed, ffi, intern};

pub fn create_task(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
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

pub fn create_future_of(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
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
    let keywords = PyDict::new(py);
    for (name, value) in arguments.keywords() {
        keywords.set_item(name, value)?;
    }
    let base = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?;
    Ok(base.getattr("create_task")?.call(positional, Some(&keywords))?.unbind())
}
