//! Waiting in a thread.

use super::timeout::{Limit, Then};
use super::token::Watched;
use super::wait::Wait;
use super::work::Work;
use super::{errors, parties};
use crate::green;
use crate::home::running_loop;
use crate::idling::Idling;
use crate::imported::imported;
use crate::sys::parker::Parker;
use crate::sys::thread_token;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// What the two methods that wait for the same are called.
pub struct Names {
    pub blocking: &'static str,
    pub awaited: &'static str,
}

/// How long the main thread sleeps without a look at the signals: one that comes just before the sleep does not end it.
const SLICE: Duration = Duration::from_millis(100);

/// What threads that wait know of the machine.
static IDLING: Idling = Idling::new();

struct Sleeper(Parker);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// Does it, when it can be done. The caller keeps what it is about alive.
///
/// # Errors
/// What the wait gives when its time is over; `WouldBlock`; what the handler of a signal raises.
pub fn block(py: Python<'_>, names: &'static Names, work: Work, limit: Option<Limit>) -> PyResult<Py<PyAny>> {
    let mut work = if work.has_owner() { work.by(parties::here(py)?) } else { work };
    if work.attempt() {
        return work.take(py);
    }
    if let Some(limit) = limit.filter(|limit| limit.after.is_zero()) {
        return limit.then.outcome(py);
    }
    let watched = Watched::here(py)?;
    if let Some(me) = green::here(py)?
        && !(me.get().is_root() && (running_loop(py)?.is_some() || parties::is_in_trio(py)?))
    {
        let limit = watched.as_ref().map_or(limit, |watched| watched.sooner(limit));
        return green::park(py, &me, Wait::new(names, None, work, limit).watching(watched));
    }
    refuse_in_a_loop(py, names)?;
    park(py, work.by(parties::this_thread()), limit, watched)
}

fn park(
    py: Python<'_>,
    mut work: Work,
    limit: Option<Limit>,
    mut watched: Option<Watched>,
) -> PyResult<Py<PyAny>> {
    thread_local! {
        static SLEEPER: Arc<Sleeper> = Arc::new(Sleeper(Parker::new()));
    }
    let sleeper = SLEEPER.with(Arc::clone);
    let waker = Waker::from(Arc::clone(&sleeper));
    let limit = watched.as_ref().map_or(limit, |watched| watched.sooner(limit));
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit.after));
    // One of an earlier wait, which had ended otherwise.
    sleeper.0.take();
    loop {
        // Before a look at what it was given, which may come of the same cancellation: a lock that another has let go of.
        if watched.as_mut().is_some_and(|watched| watched.is_cancelled(&waker)) {
            return Err(errors::cancelled(py));
        }
        if let Poll::Ready(result) = work.poll(py, &waker) {
            return result;
        }
        loop {
            // What a handler raises ends the wait: what the work is given meanwhile goes to the next when it is dropped.
            py.check_signals()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let slice = if is_main_thread(py)? { Some(left.unwrap_or(SLICE).min(SLICE)) } else { left };
            py.detach(|| sleep(&sleeper.0, slice));
            if sleeper.0.take() {
                break;
            }
            if left.is_some_and(|left| left.is_zero()) {
                if let (Some(Limit { then: Then::EndScope, .. }), Some(watched)) = (limit, &watched) {
                    drop(work);
                    return Err(watched.expire(py));
                }
                // It may have been given something at this moment.
                return match work.poll(py, Waker::noop()) {
                    Poll::Ready(result) => result,
                    Poll::Pending => {
                        drop(work);
                        limit.map_or_else(|| Ok(py.None()), |limit| limit.then.outcome(py))
                    }
                };
            }
        }
    }
}

/// Looks for a moment whether it is woken, and sleeps then.
fn sleep(parker: &Parker, longest: Option<Duration>) {
    let mut look = IDLING.look();
    while !parker.is_woken() {
        if look.is_tired() || longest.is_some_and(|longest| longest.is_zero()) {
            look.sleep();
            return parker.sleep(longest);
        }
        look.give_way();
    }
    look.find();
}

/// Whether handlers of signals run in this thread.
fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static MAIN_THREAD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let main = imported(&MAIN_THREAD, py, "threading", "main_thread")?.call0()?;
    Ok(main.getattr(intern!(py, "ident"))?.extract::<usize>()? == thread_token())
}

fn refuse_in_a_loop(py: Python<'_>, names: &Names) -> PyResult<()> {
    if running_loop(py)?.is_none() && !parties::is_in_trio(py)? {
        return Ok(());
    }
    let Names { blocking, awaited } = names;
    Err(errors::would_block(
        py,
        &format!("{blocking}() would block the event loop of this thread; use 'await {awaited}()'"),
    ))
}
