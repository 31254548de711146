//! Runs a loop: carries out the steps that [`motet_reactor::Turn`] asks for.
//!
//! The GIL is held from the first callback of a round to the next wait that may block; all events of one poll are handled
//! under it.

use crate::call;
use crate::context;
use crate::datagram;
use crate::errors::os_error;
use crate::event_loop::{Loop, Owner, READ_BUFFER, State, wrong_thread};
use crate::exit::{self, Busy};
use crate::files;
use crate::green;
use crate::handle::{Handle, Payload};
use crate::listener::{self, Listener};
use crate::native;
use crate::task::Task;
use crate::thread_bound::Claim;
use crate::transport;
use crate::watched;
use motet_reactor::Event;
use motet_reactor::clock::{Clock, MonotonicClock};
use motet_reactor::sys::Interest;
use motet_reactor::turn::{Step, Wait};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};
use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Who is told of an event.
enum Target<'py> {
    Transport(Bound<'py, PyAny>),
    Datagrams(Bound<'py, PyAny>),
    Listener(Bound<'py, Listener>),
    Watched,
    Files,
}

/// What runs needs at every step.
pub struct Runner<'a, 'py> {
    event_loop: &'a Bound<'py, Loop>,
    claim: Claim<'a, State>,
    busy: Busy,
    /// The task of motet's own that asyncio holds for the current one. It stays so until something else than the step of a task
    /// runs: asyncio's books are slow.
    current: Option<Bound<'py, PyAny>>,
}

/// Runs until `stop()`, `KeyboardInterrupt` or `SystemExit`.
pub fn run(event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    let inner = event_loop.get();
    inner.require_open()?;
    let claim = inner.state.claim().map_err(|_| wrong_thread("loop.run_forever()"))?;
    let _watching = inner.watch.begin()?;
    inner.with("loop.run_forever()", |state| {
        if state.read_buffer.is_empty() {
            state.read_buffer = vec![0; READ_BUFFER].into_boxed_slice();
        }
        state.turn.begin(&MonotonicClock);
    })?;
    LAST.store(event_loop.as_ptr(), Ordering::Relaxed);
    let mut runner = Runner { event_loop, claim, busy: Busy::begin(), current: None };
    let result = loop {
        match runner.step() {
            Ok(true) => (),
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let left = runner.leave_task();
    let _ = LAST.compare_exchange(
        event_loop.as_ptr(),
        std::ptr::null_mut(),
        Ordering::Relaxed,
        Ordering::Relaxed,
    );
    result.and(left)
}

/// The loop that has begun to run last, while it runs.
static LAST: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

/// A loop in the midst of a callback runs on, or stands still while other code of its thread runs outside of it.
pub fn mark_running(event_loop: &Py<Loop>, runs: bool) {
    let (from, to) = match runs {
        true => (std::ptr::null_mut(), event_loop.as_ptr()),
        false => (event_loop.as_ptr(), std::ptr::null_mut()),
    };
    let _ = LAST.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
}

/// The loop of motet's that runs in this thread, if it is found at once: nearly always.
pub fn running(py: Python<'_>) -> Option<Py<Loop>> {
    if cfg!(Py_GIL_DISABLED) {
        // It might go while this thread looks.
        return None;
    }
    // SAFETY: under the GIL, nobody leaves `run`, which keeps the loop alive and takes it out of here.
    let last = unsafe { Borrowed::from_ptr_or_opt(py, LAST.load(Ordering::Relaxed)) }?;
    // SAFETY: nothing else is put there.
    let last: Borrowed<'_, '_, Loop> = unsafe { last.cast_unchecked() };
    last.get().state.is_mine().then(|| last.to_owned().unbind())
}

impl<'py> Runner<'_, 'py> {
    #[inline]
    pub fn py(&self) -> Python<'py> {
        self.event_loop.py()
    }

    /// Uses the loop's state.
    #[inline]
    fn with<R>(&self, use_state: impl FnOnce(&mut State) -> R) -> R {
        self.claim.with(use_state)
    }

    // One frame for all steps of a run; so are the functions below that a callback goes through.
    #[inline(always)]
    fn step(&mut self) -> PyResult<bool> {
        if self.busy.must_freeze() {
            exit::freeze_attached(self.py());
        }
        let stopping = self.event_loop.get().is_stopping();
        let step = self.with(|state| state.turn.next(stopping, &MonotonicClock));
        if self.current.is_some() && !matches!(step, Step::Run(Task::Step(_))) {
            self.leave_task()?;
        }
        match step {
            Step::Run(task) => self.run_task(task)?,
            Step::Flush => self.flush()?,
            Step::Poll(wait) => self.poll(wait)?,
            Step::Stopped => return Ok(false),
        }
        Ok(true)
    }

    #[inline(always)]
    fn run_task(&mut self, task: Task) -> PyResult<()> {
        let watch = &self.event_loop.get().watch;
        watch.pulse.beat();
        let result = match task {
            Task::Callback(handle) => self.run_handle(handle),
            Task::Step(task) => self.run_step(task),
            other => self.run_other(other),
        };
        if watch.pulse.take_flag() {
            watch.pulse.finish(MonotonicClock.now());
        }
        result
    }

    /// Runs what is not one of the two that most rounds are made of.
    #[inline(never)]
    fn run_other(&mut self, task: Task) -> PyResult<()> {
        match task {
            Task::Callback(_) | Task::Step(_) => unreachable!("`run_task` runs these"),
            Task::Repeated(handle) => self.run_repeated(handle.bind(self.py())),
            Task::Transport(transport, deferred) => {
                transport::run_deferred(transport.bind(self.py()), deferred)
            }
            Task::Datagrams(transport, step) => datagram::run_step(transport.bind(self.py()), step),
            Task::StartTimer(timer) => {
                crate::schedule::start_sent_timer(self.event_loop.get(), timer.bind(self.py()))
            }
            Task::CancelTimer(key) => {
                self.event_loop.get().cancel_timer(key);
                Ok(())
            }
            Task::Accept(listener) => listener::accept(self.event_loop, listener.bind(self.py())),
            Task::File(completion) => files::complete(self.event_loop, *completion),
            Task::Files => files::flush(self.event_loop),
            Task::Green(hub) => green::take_turn(self.py(), &hub),
            Task::GreenReady(body) => green::wake(self.py(), body.bind(self.py())),
        }
    }

    #[inline(always)]
    fn run_handle(&mut self, handle: Py<Handle>) -> PyResult<()> {
        let py = self.py();
        let handle = handle.into_bound(py);
        // SAFETY: the payload is used up before the handle can be filled again, which happens below or after the last reference
        // to it is gone.
        if let Some(payload) = unsafe { handle.get().begin() } {
            let result = self.call(&handle, payload);
            payload.release(py);
            result?;
        }
        if Handle::is_reusable(&handle) {
            self.with(|state| state.spare.push(handle.unbind()));
        }
        Ok(())
    }

    #[inline]
    fn run_step(&mut self, task: Py<PyAny>) -> PyResult<()> {
        let py = self.py();
        let task = task.into_bound(py);
        let result = self.enter_task(&task).and_then(|()| native::run_step(&task));
        match result {
            Err(error) if !call::ends_the_run(py, &error) => {
                self.leave_task()?;
                self.tell_of_step(&task, error)
            }
            result => result,
        }
    }

    #[cold]
    fn tell_of_step(&self, task: &Bound<'py, PyAny>, error: PyErr) -> PyResult<()> {
        let py = self.py();
        let arguments = (task, error.into_value(py));
        self.event_loop.call_method1(intern!(py, "_step_failed"), arguments).map(drop)
    }

    #[inline]
    fn enter_task(&mut self, task: &Bound<'py, PyAny>) -> PyResult<()> {
        let event_loop = self.event_loop.as_any();
        match self.current.take() {
            Some(current) if current.is(task) => (),
            Some(current) => native::swap(event_loop, current, task)?,
            None => native::enter(event_loop, task.as_borrowed())?,
        }
        self.current = Some(task.clone());
        Ok(())
    }

    /// No task is the current one any more.
    fn leave_task(&mut self) -> PyResult<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        native::leave(self.event_loop.as_any(), current.as_borrowed())
            .or_else(|error| self.tell_of_step(&current, error))
    }

    fn run_repeated(&mut self, handle: &Bound<'py, Handle>) -> PyResult<()> {
        match handle.get().copy(self.py()) {
            Some(payload) => self.call(handle, &payload),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn call(&mut self, handle: &Bound<'py, Handle>, payload: &Payload) -> PyResult<()> {
        let py = self.py();
        let began = self.event_loop.get().in_debug_mode().then(|| MonotonicClock.now());
        let context = payload.context.as_ref().map(|context| context.bind(py));
        let entered = match context.map(context::enter).transpose() {
            Ok(entered) => entered,
            Err(error) => return self.after_call(handle, payload, Some(error), began),
        };
        let result = payload.call(py);
        drop(entered);
        if result.is_ok() && began.is_none() {
            return Ok(());
        }
        self.called(handle, payload, result, began)
    }

    /// As [`Runner::after_call`], where the callback has run in its context.
    #[cold]
    fn called(
        &mut self,
        handle: &Bound<'py, Handle>,
        payload: &Payload,
        result: PyResult<()>,
        began: Option<u64>,
    ) -> PyResult<()> {
        let py = self.py();
        match result {
            Err(error) if call::ends_the_run(py, &error) => Err(error),
            Err(error) => {
                handle.get().note_context(payload.context.as_ref().map(|context| context.clone_ref(py)));
                self.after_call(handle, payload, Some(error), began)
            }
            Ok(()) => self.after_call(handle, payload, None, began),
        }
    }

    /// A callback has raised, or debug mode wants to know how long it took.
    #[cold]
    fn after_call(
        &mut self,
        handle: &Bound<'py, Handle>,
        payload: &Payload,
        error: Option<PyErr>,
        began: Option<u64>,
    ) -> PyResult<()> {
        let py = self.py();
        let callback = payload.callback.as_ref();
        if let Some(error) = error {
            let arguments = (handle, callback, payload.arguments(py)?, error.into_value(py));
            self.event_loop.call_method1(intern!(py, "_callback_failed"), arguments)?;
        }
        if let Some(began) = began {
            let seconds = MonotonicClock.now().saturating_sub(began) as f64 / 1e9;
            let arguments = (handle, callback, payload.arguments(py)?, seconds);
            self.event_loop.call_method1(intern!(py, "_callback_took"), arguments)?;
        }
        Ok(())
    }

    /// Sends what transports have collected in this round.
    fn flush(&mut self) -> PyResult<()> {
        let py = self.py();
        let (mut transports, mut datagrams) =
            self.with(|state| (std::mem::take(&mut state.flush), std::mem::take(&mut state.datagram_flush)));
        let mut result = Ok(());
        for transport in transports.drain(..) {
            // Each is tried even when an earlier one asks to end the run.
            let flushed = transport::flush(transport.bind(py));
            result = result.and(flushed);
        }
        for transport in datagrams.drain(..) {
            let flushed = datagram::flush(transport.bind(py));
            result = result.and(flushed);
        }
        self.with(|state| {
            if state.flush.is_empty() {
                state.flush = transports;
            }
            if state.datagram_flush.is_empty() {
                state.datagram_flush = datagrams;
            }
        });
        result.and(files::flush(self.event_loop))
    }

    fn poll(&mut self, wait: Wait) -> PyResult<()> {
        let py = self.py();
        let inner = self.event_loop.get();
        let pulse = &inner.watch.pulse;
        let look = |wait: Wait| {
            inner.state.with_mine(|state| match &mut state.reactor {
                Some(reactor) => reactor.wait(wait.timeout()),
                None => Err(io::Error::other("the loop was closed while it ran")),
            })
        };
        let polled = match wait {
            Wait::Never => look(wait),
            _ => {
                drop(inner.share_spare(self.with(|state| state.surplus())));
                pulse.set_idle();
                inner.state.while_away(|| self.busy.wait(py, || look(wait)))
            }
        };
        let now = MonotonicClock.now();
        pulse.set_busy(now);
        let result = match polled {
            Some(Err(error)) if error.kind() != io::ErrorKind::Interrupted => Err(os_error(error)),
            _ => py.check_signals().and_then(|()| self.dispatch()),
        };
        self.with(|state| state.turn.polled(now));
        result
    }

    /// Tells the owners of what happened. An event that a `KeyboardInterrupt` leaves over is told when the loop runs again.
    fn dispatch(&mut self) -> PyResult<()> {
        let py = self.py();
        let others_first = self.with(|state| state.turn.ready_len() > 0);
        while let Some((event, target)) = self.with(|state| next_target(py, state)) {
            let watch = &self.event_loop.get().watch;
            watch.pulse.beat();
            let interest =
                if matches!(target, Target::Listener(_)) { Interest::Read } else { Interest::Both };
            let result = match target {
                Target::Transport(transport) => transport::ready(&transport, event.readiness),
                Target::Datagrams(transport) => datagram::ready(&transport, event.readiness, others_first),
                Target::Listener(listener) => listener::accept(self.event_loop, &listener),
                Target::Watched => watched::ready(self.event_loop, event.token, event.readiness),
                Target::Files => files::ready(self.event_loop),
            };
            if watch.pulse.take_flag() {
                watch.pulse.finish(MonotonicClock.now());
            }
            if result.is_err() {
                // The run ends in the middle of it: what is left is told again when the loop runs next.
                self.with(|state| {
                    if let Some(reactor) = &mut state.reactor {
                        reactor.rearm_before_wait(event.token, interest);
                    }
                });
            }
            result?;
        }
        Ok(())
    }
}

fn next_target<'py>(py: Python<'py>, state: &mut State) -> Option<(Event, Target<'py>)> {
    let (event, owner) = state.reactor.as_mut()?.next_event()?;
    let target = match owner {
        Owner::Transport(transport) => Target::Transport(transport.bind(py).clone()),
        Owner::Datagrams(transport) => Target::Datagrams(transport.bind(py).clone()),
        Owner::Listener(listener) => Target::Listener(listener.bind(py).clone()),
        Owner::Watched(_) => Target::Watched,
        Owner::Files => Target::Files,
    };
    state.turn.statistics.callbacks += 1;
    Some((event, target))
}
