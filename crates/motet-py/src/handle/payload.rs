//! A callback with its arguments, as a handle holds it.

use crate::call;
use crate::event_loop::Loop;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, PyTraverseError, PyVisit};

/// How many arguments lie in the handle itself; a call with more keeps a tuple.
const INLINE: usize = 3;

/// What a handle calls.
#[derive(Default)]
pub struct Payload {
    pub callback: Option<Py<PyAny>>,
    pub context: Option<Py<PyAny>>,
    inline: [Option<Py<PyAny>>; INLINE],
    more: Option<Py<PyTuple>>,
    /// The loop of a timer, for `cancel`.
    pub(super) event_loop: Option<Py<Loop>>,
}

impl Payload {
    /// `arguments` are those of the callback, without the callback.
    #[inline(always)]
    pub fn new<'a, 'py: 'a>(
        py: Python<'py>,
        callback: Borrowed<'_, 'py, PyAny>,
        arguments: impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>>,
        context: Py<PyAny>,
    ) -> PyResult<Self> {
        let mut payload =
            Self { callback: Some(callback.to_owned().unbind()), context: Some(context), ..Self::default() };
        if arguments.len() <= INLINE {
            for (place, argument) in payload.inline.iter_mut().zip(arguments) {
                *place = Some(argument.to_owned().unbind());
            }
        } else {
            payload.more = Some(PyTuple::new(py, arguments.map(|argument| argument.to_owned()))?.unbind());
        }
        Ok(payload)
    }

    /// For a callback with one argument.
    #[inline]
    pub fn of_one(callback: Py<PyAny>, argument: Py<PyAny>, context: Py<PyAny>) -> Self {
        let inline = [Some(argument), None, None];
        Self { callback: Some(callback), context: Some(context), inline, ..Self::default() }
    }

    /// The same, for a timer of `event_loop`.
    #[inline]
    pub(super) fn with_loop(mut self, event_loop: Py<Loop>) -> Self {
        self.event_loop = Some(event_loop);
        self
    }

    /// Drops everything at once. Dropping a `Py` would ask pyo3 each time whether this thread is attached.
    #[inline(always)]
    pub fn release(&mut self, py: Python<'_>) {
        drop(self.callback.take().map(|callback| callback.into_bound(py)));
        drop(self.context.take().map(|context| context.into_bound(py)));
        // They fill the first places.
        for argument in &mut self.inline {
            let Some(argument) = argument.take() else { break };
            drop(argument.into_bound(py));
        }
        drop(self.more.take().map(|more| more.into_bound(py)));
        drop(self.event_loop.take().map(|event_loop| event_loop.into_bound(py)));
    }

    /// Calls the callback.
    #[inline(always)]
    pub fn call(&self, py: Python<'_>) -> PyResult<()> {
        let Some(callback) = &self.callback else { return Ok(()) };
        let callback = callback.bind(py);
        if let Some(more) = &self.more {
            return callback.call1(more.bind(py)).map(drop);
        }
        let mut arguments = [std::ptr::null_mut(); INLINE + 1];
        let mut count = 1;
        // They fill the first places.
        while let Some(Some(argument)) = self.inline.get(count - 1) {
            arguments[count] = argument.as_ptr();
            count += 1;
        }
        // SAFETY: the payload owns its arguments and outlives the call.
        unsafe { call::call_with_room(callback, &mut arguments[..count]).map(drop) }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        let copy = |object: &Option<Py<PyAny>>| object.as_ref().map(|object| object.clone_ref(py));
        Self {
            callback: copy(&self.callback),
            context: copy(&self.context),
            inline: self.inline.each_ref().map(copy),
            more: self.more.as_ref().map(|more| more.clone_ref(py)),
            event_loop: self.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)),
        }
    }

    /// The arguments as a tuple, for messages.
    pub fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match &self.more {
            Some(more) => Ok(more.bind(py).clone()),
            None => PyTuple::new(
                py,
                self.inline.iter().flatten().map(|argument| argument.bind(py)).collect::<Vec<_>>(),
            ),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callback)?;
        visit.call(&self.context)?;
        self.inline.iter().try_for_each(|argument| visit.call(argument))?;
        visit.call(&self.more)?;
        visit.call(&self.event_loop)
    }
}
