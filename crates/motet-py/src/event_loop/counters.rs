//! What a loop has done, as numbers.

use super::{Loop, Owner};
use motet_reactor::Reactor;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// For `EventLoop.statistics()`.
pub fn counters<'py>(event_loop: &Loop, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let counters = PyDict::new(py);
    let lag = PyDict::new(py);
    event_loop
        .with("loop.statistics()", |state| {
            let statistics = &state.turn.statistics;
            let histogram = &statistics.lag;
            let counts = [
                ("turns", statistics.turns),
                ("polls", statistics.polls),
                ("callbacks", statistics.callbacks),
                ("timers_fired", statistics.timers_fired),
                ("tasks_started", statistics.tasks_started),
                ("connections_opened", statistics.connections_opened),
                ("connections_accepted", statistics.connections_accepted),
                ("bytes_received", statistics.bytes_received),
                ("bytes_sent", statistics.bytes_sent),
                ("callbacks_ready", state.turn.ready_len() as u64),
                ("timers_pending", state.turn.timers_len() as u64),
                (
                    "descriptors",
                    state.reactor.as_ref().map_or(0, |reactor: &Reactor<Owner>| reactor.descriptors().len())
                        as u64,
                ),
            ];
            let times = [
                ("busy_seconds", statistics.busy_nanoseconds),
                ("idle_seconds", statistics.idle_nanoseconds),
            ];
            let lags = [
                ("p50", histogram.quantile(0.5)),
                ("p99", histogram.quantile(0.99)),
                ("max", histogram.max()),
            ];
            (counts, times, lags, histogram.count())
        })
        .and_then(|(counts, times, lags, count)| {
            counts.into_iter().try_for_each(|(name, value)| counters.set_item(name, value))?;
            times.into_iter().try_for_each(|(name, value)| counters.set_item(name, value as f64 / 1e9))?;
            lags.into_iter().try_for_each(|(name, value)| lag.set_item(name, value as f64 / 1e9))?;
            lag.set_item("count", count)
        })?;
    counters.set_item("lag", lag)?;
    counters.set_item("files", event_loop.with("loop.statistics()", |state| state.files.means())?)?;
    let blocked = PyList::empty(py);
    for record in event_loop.watch.records() {
        blocked.append(record.to_dict(py)?)?;
    }
    counters.set_item("blocked", blocked)?;
    Ok(counters)
}
