//! Methods in CPython's fastest calling convention, for the few that are called for every callback or packet.
//!
//! pyo3's own `#[pymethods]` make a tuple of `*args` and a dictionary of keywords; here the arguments are read where the
//! interpreter put them. Everything else uses pyo3's.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, ffi};
use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The arguments of one call, borrowed from the caller.
#[derive(Clone, Copy)]
pub struct Arguments<'a, 'py> {
    py: Python<'py>,
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    names: Option<Borrowed<'a, 'py, PyTuple>>,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// # Safety
    /// The pointers are those of one `METH_FASTCALL | METH_KEYWORDS` call, which lives as long as `'a`.
    unsafe fn new(
        py: Python<'py>,
        values: *const *mut ffi::PyObject,
        positional: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: the caller's word: `names` is null or a tuple that lives for the call.
        let names = unsafe { Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked()) };
        let positional = positional as usize;
        let count = positional + names.as_ref().map_or(0, |names: &Borrowed<'_, '_, PyTuple>| names.len());
        let values = if count == 0 {
            &[]
        } else {
            // SAFETY: the caller's word: the interpreter passes this many values.
            unsafe { std::slice::from_raw_parts(values, count) }
        };
        Self { py, values, positional, names }
    }

    /// How many positional arguments there are.
    pub fn len(&self) -> usize {
        self.positional
    }

    /// A positional argument; `index` is below [`Arguments::len`].
    pub fn get(&self, index: usize) -> Borrowed<'a, 'py, PyAny> {
        assert!(index < self.positional);
        // SAFETY: the interpreter passes valid references, which live for the call.
        unsafe { Borrowed::from_ptr(self.py, self.values[index]) }
    }

    /// The positional arguments from `start` on.
    pub fn from(
        &self,
        start: usize,
    ) -> impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>> + use<'a, 'py> {
        let py = self.py;
        // SAFETY: as in `get`.
        self.values[start..self.positional].iter().map(move |value| unsafe { Borrowed::from_ptr(py, *value) })
    }

    /// The names of the keyword arguments; nothing when there are none.
    pub fn names(&self) -> Option<Borrowed<'a, 'py, PyTuple>> {
        self.names
    }

    /// The value of a keyword argument; `index` is one of the names'.
    pub fn keyword_value(&self, index: usize) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: as in `get`; keyword values follow the positional ones.
        unsafe { Borrowed::from_ptr(self.py, self.values[self.positional + index]) }
    }

    /// The keyword arguments.
    pub fn keywords(
        &self,
    ) -> impl Iterator<Item = (Borrowed<'a, 'py, PyString>, Borrowed<'a, 'py, PyAny>)> + use<'a, 'py> {
        let (py, values, positional) = (self.py, self.values, self.positional);
        let names = self.names;
        (0..names.map_or(0, |names| names.len())).filter_map(move |index| {
            // SAFETY: as in `get`; the tuple lives for the call, has an item at this index and holds strings. Keyword values
            // follow the positional ones.
            Some(unsafe {
                let name = ffi::PyTuple_GetItem(names?.as_ptr(), index as ffi::Py_ssize_t);
                (
                    Borrowed::from_ptr(py, name).cast_unchecked(),
                    Borrowed::from_ptr(py, values[positional + index]),
                )
            })
        })
    }

    /// The same call with the parameters of these names in front, which may have been given by keyword.
    ///
    /// # Errors
    /// `TypeError`, in the interpreter's words, when one is missing.
    #[inline]
    pub fn complete<'b>(
        self,
        function: &str,
        names: &[&str],
        storage: &'b mut Storage<'py>,
    ) -> PyResult<Arguments<'b, 'py>>
    where
        'a: 'b,
    {
        if self.positional >= names.len() {
            Ok(self)
        } else {
            self.complete_by_keyword(function, names, storage)
        }
    }

    #[cold]
    fn complete_by_keyword<'b>(
        self,
        function: &str,
        names: &[&str],
        storage: &'b mut Storage<'py>,
    ) -> PyResult<Arguments<'b, 'py>>
    where
        'a: 'b,
    {
        let storage = storage.0.get_or_insert_default();
        let mut keywords: Vec<_> = self.keywords().collect();
        let mut missing = Vec::new();
        storage.values.extend(self.from(0).map(|value| value.as_ptr()));
        for name in &names[self.positional..] {
            match keywords.iter().position(|(given, _)| given.to_str().is_ok_and(|given| given == *name)) {
                Some(index) => storage.values.push(keywords.remove(index).1.as_ptr()),
                None => missing.push(format!("'{name}'")),
            }
        }
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "" } else { "s" };
            return Err(PyTypeError::new_err(format!(
                "{function}() missing {} required positional argument{plural}: {}",
                missing.len(),
                missing.join(" and ")
            )));
        }
        storage.values.extend(keywords.iter().map(|(_, value)| value.as_ptr()));
        let left = PyTuple::new(self.py, keywords.iter().map(|(name, _)| (*name).to_owned()))?;
        let left = &*storage.names.insert(left);
        Ok(Arguments {
            py: self.py,
            values: &storage.values,
            positional: names.len(),
            names: (!left.is_empty()).then(|| left.as_borrowed()),
        })
    }
}

/// Room for the arguments of a call that had to be put in order; most have not.
#[derive(Default)]
pub struct Storage<'py>(Option<Box<Stored<'py>>>);

#[derive(Default)]
struct Stored<'py> {
    values: Vec<*mut ffi::PyObject>,
    names: Option<Bound<'py, PyTuple>>,
}

/// Runs the body of a method that the interpreter has called, with errors and panics turned into exceptions.
///
/// # Safety
/// `this` is the `self` of a call by the interpreter, on a thread attached to it.
pub unsafe fn enter(
    this: *mut ffi::PyObject,
    body: impl for<'a, 'py> FnOnce(Borrowed<'a, 'py, PyAny>) -> PyResult<Py<PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's word. pyo3's own bookkeeping of attached threads is left out: it costs four look-ups of thread-local
    // storage, and all that it would change is that a `Py` dropped here, in a call from outside the running loop, is
    // decremented a little later.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the caller's word: a valid reference for the call.
    let this = unsafe { Borrowed::from_ptr(py, this) };
    match catch_unwind(AssertUnwindSafe(|| body(this))) {
        Ok(Ok(value)) => value.into_ptr(),
        Ok(Err(error)) => restore(py, error),
        Err(panic) => restore(py, internal_error(&*panic)),
    }
}

#[cold]
fn restore(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    error.restore(py);
    std::ptr::null_mut()
}

fn internal_error(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    PyRuntimeError::new_err(format!("internal error of motet, please report it: {text}"))
}

/// As [`enter`], with the arguments of a `METH_FASTCALL | METH_KEYWORDS` call.
///
/// # Safety
/// All pointers are those of one such call.
pub unsafe fn enter_fast(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl for<'a, 'py> FnOnce(Borrowed<'a, 'py, PyAny>, Arguments<'a, 'py>) -> PyResult<Py<PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's word, passed on.
    unsafe { enter(this, |this| body(this, Arguments::new(this.py(), values, count, names))) }
}

/// A method definition of the `METH_FASTCALL | METH_KEYWORDS` kind around a function
/// `fn(Borrowed<'_, 'py, PyAny>, Arguments<'_, 'py>) -> PyResult<Py<PyAny>>`.
macro_rules! fast_method {
    ($name:literal, $function:path, $doc:literal) => {{
        unsafe extern "C" fn wrapper(
            this: *mut pyo3::ffi::PyObject,
            values: *const *mut pyo3::ffi::PyObject,
            count: pyo3::ffi::Py_ssize_t,
            names: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls this with the pointers of one call.
            unsafe {
                $crate::method::enter_fast(this, values, count, names, |this, arguments| {
                    $function(this, arguments)
                })
            }
        }
        pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: wrapper },
            ml_flags: pyo3::ffi::METH_FASTCALL | pyo3::ffi::METH_KEYWORDS,
            ml_doc: $doc.as_ptr(),
        }
    }};
}
pub(crate) use fast_method;

/// Puts a method into a class that exists already.
pub fn attach_method(class: &Bound<'_, pyo3::types::PyType>, definition: ffi::PyMethodDef) -> PyResult<()> {
    let py = class.py();
    // The definition has to outlive the descriptor, and so the process: one small leak for each method.
    let definition = Box::leak(Box::new(definition));
    // SAFETY: the name of a method definition is a C string that lives for ever.
    let name = unsafe { CStr::from_ptr(definition.ml_name) };
    // SAFETY: a class and a definition that lives for ever; the result is a new reference or null with an exception set.
    let descriptor =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(name, descriptor)
}

/// A definition that lives in the program's constants.
pub struct StaticDefinition(pub ffi::PyMethodDef);

// SAFETY: it is only read, and what it points to are constants.
unsafe impl Sync for StaticDefinition {}

/// A method definition without arguments, around a function `fn(Borrowed<'_, 'py, PyAny>) -> PyResult<Py<PyAny>>`.
macro_rules! plain_method {
    ($name:literal, $function:path, $doc:literal) => {{
        unsafe extern "C" fn wrapper(
            this: *mut pyo3::ffi::PyObject,
            _: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls this with an object of the class, attached.
            unsafe { $crate::method::enter(this, |this| $function(this)) }
        }
        pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: wrapper },
            ml_flags: pyo3::ffi::METH_NOARGS,
            ml_doc: $doc.as_ptr(),
        }
    }};
}
pub(crate) use plain_method;

/// A method definition with one positional argument, around a function
/// `fn(Borrowed<'_, 'py, PyAny>, Borrowed<'_, 'py, PyAny>) -> PyResult<Py<PyAny>>`.
macro_rules! method_of_one {
    ($name:literal, $function:path, $doc:literal) => {{
        unsafe extern "C" fn wrapper(
            this: *mut pyo3::ffi::PyObject,
            argument: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls this with an object of the class and a valid argument, attached.
            unsafe {
                $crate::method::enter(this, |this| {
                    $function(this, pyo3::Borrowed::from_ptr(this.py(), argument))
                })
            }
        }
        pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: wrapper },
            ml_flags: pyo3::ffi::METH_O,
            ml_doc: $doc.as_ptr(),
        }
    }};
}
pub(crate) use method_of_one;
