//! What a future knows.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use pyo3::{Borrowed, intern};

/// How far a call has come; the names are those of `concurrent.futures`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Pending,
    Running,
    /// Cancelled, and the executor has not come across it yet.
    Cancelled,
    CancelledAndNotified,
    Finished,
}

const STAGES: [Stage; 5] =
    [Stage::Pending, Stage::Running, Stage::Cancelled, Stage::CancelledAndNotified, Stage::Finished];

impl Stage {
    pub fn is_cancelled(self) -> bool {
        matches!(self, Self::Cancelled | Self::CancelledAndNotified)
    }

    #[inline]
    pub fn is_done(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The constant of `concurrent.futures._base`.
    pub fn constant(self, py: Python<'_>) -> &Bound<'_, PyString> {
        match self {
            Self::Pending => intern!(py, "PENDING"),
            Self::Running => intern!(py, "RUNNING"),
            Self::Cancelled => intern!(py, "CANCELLED"),
            Self::CancelledAndNotified => intern!(py, "CANCELLED_AND_NOTIFIED"),
            Self::Finished => intern!(py, "FINISHED"),
        }
    }

    /// What a future says of itself.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelled | Self::CancelledAndNotified => "cancelled",
            Self::Finished => "finished",
        }
    }

    /// The stage with this constant.
    pub fn from_constant(constant: Borrowed<'_, '_, PyAny>) -> Option<Self> {
        let py = constant.py();
        STAGES.into_iter().find(|stage| constant.eq(stage.constant(py)).unwrap_or(false))
    }
}

/// The state of a future.
#[derive(Default)]
pub struct State {
    pub stage: Stage,
    /// What the call is called by `origin`.
    pub number: u64,
    /// Who runs the call; gone when it is done.
    pub origin: Option<Py<PyAny>>,
    pub result: Option<Py<PyAny>>,
    pub exception: Option<Py<PyAny>>,
    extras: Option<Box<Extras>>,
}

/// What only futures have that somebody waits for.
#[derive(Default)]
pub struct Extras {
    /// Once made it stays, and the stage changes only while it is held.
    pub condition: Option<Py<PyAny>>,
    /// What `wait()` and `as_completed()` have put here, holding the condition.
    pub waiters: Option<Py<PyList>>,
    /// The callbacks, as soon as somebody has asked for the list of them; only together with a condition.
    pub listed: Option<Py<PyList>>,
    /// The callbacks otherwise.
    pub callbacks: Vec<Py<PyAny>>,
    /// The locks of the threads that wait for the stage to change or a condition to be made.
    pub parked: Vec<Py<PyAny>>,
}

impl State {
    /// A call that `origin` runs by this number.
    pub fn of(origin: Option<Py<PyAny>>, number: u64) -> Self {
        Self { origin, number, ..Self::default() }
    }

    /// A call of which only the stage is left.
    pub fn at(stage: Stage) -> Self {
        Self { stage, ..Self::default() }
    }

    pub fn extras(&self) -> Option<&Extras> {
        self.extras.as_deref()
    }

    pub fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    pub fn condition(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.extras.as_ref()?.condition.as_ref().map(|condition| condition.clone_ref(py))
    }

    /// The callbacks and parked threads, which are nobody's any more.
    pub fn set_free(&mut self) -> (Vec<Py<PyAny>>, Vec<Py<PyAny>>) {
        let Some(extras) = &mut self.extras else { return Default::default() };
        let freed = (std::mem::take(&mut extras.callbacks), std::mem::take(&mut extras.parked));
        if extras.condition.is_none() {
            self.extras = None;
        }
        freed
    }

    /// Shows each object that the state keeps alive, until `show` returns something else than 0.
    pub fn show(&self, show: &mut dyn FnMut(*mut pyo3::ffi::PyObject) -> i32) -> i32 {
        let own = [&self.origin, &self.result, &self.exception].into_iter().flatten().map(Py::as_ptr);
        let lists = self.extras().into_iter().flat_map(|extras| {
            let lists = [&extras.waiters, &extras.listed].into_iter().flatten().map(Py::as_ptr);
            let others = extras.condition.iter().chain(&extras.callbacks).chain(&extras.parked);
            lists.chain(others.map(Py::as_ptr))
        });
        own.chain(lists).map(show).find(|&answer| answer != 0).unwrap_or(0)
    }

    /// Lets go of everything at once, without leaving it to the next thread that attaches.
    pub fn release(self, py: Python<'_>) {
        [self.origin, self.result, self.exception]
            .into_iter()
            .flatten()
            .for_each(|object| object.drop_ref(py));
        let Some(extras) = self.extras else { return };
        let Extras { condition, waiters, listed, callbacks, parked } = *extras;
        [waiters, listed].into_iter().flatten().for_each(|list| list.drop_ref(py));
        condition.into_iter().chain(callbacks).chain(parked).for_each(|object| object.drop_ref(py));
    }
}
