//! `add_reader`, `add_writer` and their removal.

use super::{Side, Watched, end_stale, enter, refresh, watched_mut, watched_token};
use crate::errors::os_error;
use crate::event_loop::Loop;
use crate::handle::Handle;
use crate::schedule;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::os::fd::RawFd;

/// Has `callback` called whenever the descriptor is ready. Returns the handle.
pub fn add_callback(
    event_loop: &Bound<'_, Loop>,
    descriptor: RawFd,
    side: Side,
    callback: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Py<Handle>> {
    let py = event_loop.py();
    let inner = event_loop.get();
    inner.require_open()?;
    let handle = schedule::new_handle(py, callback, arguments)?;
    let kept = handle.clone_ref(py);
    let mut replaced = None;
    let stale = inner
        .with_reactor(side.adding(), |reactor| {
            refresh(reactor, descriptor, |watched| replaced = watched.side(side).callback.replace(kept))
        })?
        .map_err(os_error)?;
    if let Some(replaced) = replaced {
        drop(replaced.get().cancel_pending());
    }
    end_stale(py, stale)?;
    let kept = handle.clone_ref(py);
    inner
        .with_reactor(side.adding(), |reactor| {
            if watched_token(reactor, descriptor).is_some() {
                return Ok(());
            }
            let mut watched = Watched::default();
            watched.side(side).callback = Some(kept);
            enter(reactor, descriptor, watched)
        })?
        .map_err(os_error)?;
    Ok(handle)
}

/// Stops calling. Returns whether there was a callback.
pub fn remove_callback(event_loop: &Bound<'_, Loop>, descriptor: RawFd, side: Side) -> PyResult<bool> {
    let inner = event_loop.get();
    if !inner.is_open() {
        return Ok(false);
    }
    let removed = inner.with_reactor(side.removing(), |reactor| {
        let token = watched_token(reactor, descriptor)?;
        let watched = watched_mut(reactor, token)?;
        let removed = watched.side(side).callback.take();
        let mut empty = None;
        match watched.interest() {
            // Fails only where the descriptor was closed: then there is nothing to hear of.
            Some(interest) => drop(reactor.reregister(token, interest)),
            None => {
                empty = reactor.deregister(token);
            }
        }
        Some((removed, empty))
    })?;
    let Some((Some(handle), _)) = removed else { return Ok(false) };
    drop(handle.get().cancel_pending());
    Ok(true)
}
