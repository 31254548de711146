//! A call, from its submission to its end.

use crate::call_future::{self, CallFuture};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::time::Duration;

/// What is called.
pub struct Body {
    pub function: Py<PyAny>,
    pub arguments: Py<PyTuple>,
    /// Nothing when there are none.
    pub keywords: Option<Py<PyDict>>,
}

impl Body {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            function: self.function.clone_ref(py),
            arguments: self.arguments.clone_ref(py),
            keywords: self.keywords.as_ref().map(|keywords| keywords.clone_ref(py)),
        }
    }

    /// The function, its arguments, its keywords or null: for the interpreter, as long as this lives.
    pub fn pointers(&self) -> [*mut ffi::PyObject; 3] {
        let keywords = self.keywords.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr);
        [self.function.as_ptr(), self.arguments.as_ptr(), keywords]
    }

    pub fn drop_ref(self, py: Python<'_>) {
        self.function.drop_ref(py);
        self.arguments.drop_ref(py);
        if let Some(keywords) = self.keywords {
            keywords.drop_ref(py);
        }
    }
}

/// What few calls have.
pub struct Options {
    /// How long each attempt may take.
    pub limit: Option<Duration>,
    /// The policy's object: a `motet._executor.calls.Call`.
    pub policy: Py<PyAny>,
    /// Whether an earlier attempt has begun.
    pub tried: bool,
}

/// A call that has not ended.
pub struct Call {
    pub number: u64,
    /// Nothing once the future was finished, though the call still runs.
    pub future: Option<CallFuture>,
    /// Nothing while a call runs that will not be tried again.
    pub body: Option<Body>,
    pub options: Option<Box<Options>>,
}

impl Call {
    /// What a worker is to run.
    pub fn body_to_run(&mut self, py: Python<'_>) -> Option<Body> {
        match &self.options {
            // It may run once more.
            Some(_) => self.body.as_ref().map(|body| body.clone_ref(py)),
            None => self.body.take(),
        }
    }

    pub fn limit(&self) -> Option<Duration> {
        self.options.as_ref()?.limit
    }

    /// Whether its future is running already.
    pub fn was_tried(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.tried)
    }

    /// Counts a failed attempt; whether there is to be another.
    pub fn may_try_again(&self, py: Python<'_>) -> bool {
        let Some(options) = &self.options else { return false };
        let answer = options.policy.bind(py).call_method0(intern!(py, "may_try_again"));
        unless_raised(py, answer.and_then(|answer| answer.is_truthy())).unwrap_or(false)
    }

    /// Ends it. A future that is done is left alone. What was called goes before anybody hears of the end.
    pub fn finish(mut self, py: Python<'_>, ending: Ending) {
        if let Some(body) = self.body.take() {
            body.drop_ref(py);
        }
        if let Some(options) = self.options.take() {
            options.policy.drop_ref(py);
        }
        match self.future {
            Some(future) => {
                let done = match ending {
                    Ending::Outcome(outcome) => call_future::finish(py, &future, outcome),
                    Ending::Cancelled => call_future::finish_cancelled(py, &future),
                };
                unless_raised(py, done);
                future.drop_ref(py);
            }
            None => match ending {
                Ending::Outcome(Ok(object) | Err(object)) => object.drop_ref(py),
                Ending::Cancelled => {}
            },
        }
    }
}

/// How a call ends.
pub enum Ending {
    /// It has returned, or raised an exception.
    Outcome(Result<Py<PyAny>, Py<PyAny>>),
    Cancelled,
}

/// The value; an error is nobody's to handle, and shown.
pub fn unless_raised<T>(py: Python<'_>, result: PyResult<T>) -> Option<T> {
    result.map_err(|error| error.write_unraisable(py, None)).ok()
}
