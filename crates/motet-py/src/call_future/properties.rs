//! The attributes of Python's own futures that the standard library and others look at, or set.

use super::callbacks::list_callbacks;
use super::condition;
use super::methods::own;
use super::state::{Stage, State};
use crate::native::future_properties::{getter, property, setter};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{Borrowed, IntoPyObjectExt, ffi};

type Object<'a, 'py> = Borrowed<'a, 'py, PyAny>;

pub fn properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        property(c"_condition", getter!(made_condition), setter!(set_condition)),
        property(c"_state", getter!(stage), setter!(set_stage)),
        property(c"_result", getter!(result), setter!(set_result)),
        property(c"_exception", getter!(exception), setter!(set_exception)),
        property(c"_waiters", getter!(waiters), setter!(set_waiters)),
        property(c"_done_callbacks", getter!(callbacks), setter!(set_callbacks)),
        property(c"_origin", getter!(origin), None),
        property(c"_number", getter!(number), None),
    ]
}

/// A copy of one of the objects in the state, or None.
fn copy(object: Object<'_, '_>, place: fn(&mut State) -> &mut Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    let py = object.py();
    let found = own(object).with(|state| place(state).as_ref().map(|found| found.clone_ref(py)));
    Ok(found.unwrap_or_else(|| py.None()))
}

/// Puts an object, or for None nothing, into the state.
fn put(
    object: Object<'_, '_>,
    place: fn(&mut State) -> &mut Option<Py<PyAny>>,
    value: Object<'_, '_>,
) -> PyResult<()> {
    let mut value = Some(value.to_owned().unbind()).filter(|value| !value.is_none(object.py()));
    own(object).with(|state| std::mem::swap(place(state), &mut value));
    if let Some(old) = value {
        old.drop_ref(object.py());
    }
    Ok(())
}

fn made_condition(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    Ok(condition::condition(own(object))?.unbind())
}

fn set_condition(object: Object<'_, '_>, value: Object<'_, '_>) -> PyResult<()> {
    // There is always one from now on, and nobody waits without it.
    condition::condition(own(object))?;
    put(object, |state| &mut state.extras_mut().condition, value)
}

fn stage(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = object.py();
    own(object).with(|state| state.stage).constant(py).into_py_any(py)
}

fn set_stage(object: Object<'_, '_>, value: Object<'_, '_>) -> PyResult<()> {
    let Some(stage) = Stage::from_constant(value) else {
        return Err(PyValueError::new_err(format!("not a state of a future: {}", value.repr()?)));
    };
    own(object).with(|state| state.stage = stage);
    Ok(())
}

fn result(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    copy(object, |state| &mut state.result)
}

fn set_result(object: Object<'_, '_>, value: Object<'_, '_>) -> PyResult<()> {
    put(object, |state| &mut state.result, value)
}

fn exception(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    copy(object, |state| &mut state.exception)
}

fn set_exception(object: Object<'_, '_>, value: Object<'_, '_>) -> PyResult<()> {
    put(object, |state| &mut state.exception, value)
}

fn waiters(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    condition::waiters(own(object))
}

fn set_waiters(object: Object<'_, '_>, value: Object<'_, '_>) -> PyResult<()> {
    replace_items(condition::waiters(own(object))?, value)
}

fn callbacks(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    list_callbacks(own(object))
}

fn set_callbacks(object: Object<'_, '_>, value: Object<'_, '_>) -> PyResult<()> {
    replace_items(list_callbacks(own(object))?, value)
}

fn replace_items(list: Py<PyAny>, items: Object<'_, '_>) -> PyResult<()> {
    let list = list.into_bound(items.py()).cast_into::<PyList>()?;
    let items = items.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    list.set_slice(0, list.len(), PyList::new(list.py(), items)?.as_any())
}

fn origin(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    copy(object, |state| &mut state.origin)
}

fn number(object: Object<'_, '_>) -> PyResult<Py<PyAny>> {
    own(object).with(|state| state.number).into_py_any(object.py())
}
