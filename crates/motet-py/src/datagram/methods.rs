//! What the program calls on a datagram transport.

use super::{DatagramTransport, Peer, TYPE, address, apply, body, input_output, lifecycle};
use crate::errors::os_error;
use crate::event_loop::State;
use crate::heap_type::HeapType;
use crate::method::{Arguments, fast_method};
use crate::thread_bound::Claim;
use crate::transport::common::{
    self, DEFAULT_HIGH_WATER, DROPPED_WRITES_BEFORE_WARNING, This, bind, claim, exact_bytes, found_or,
    getter, none, property, warn_dropped, water_marks,
};
use motet_reactor::endpoint::Admission;
use motet_reactor::stream::Actions;
use motet_reactor::sys::datagram::{self, Address};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use pyo3::{Borrowed, IntoPyObjectExt};
use std::io;

/// The class, made on first use.
pub fn transport_type(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    let class = TYPE.get_or_try_init(py, || {
        common::warnings_warn(py)?;
        let asyncio = py.import("asyncio.transports")?;
        // asyncio's own datagram transport is an instance of both, and programs ask for either.
        let bases = [asyncio.getattr("Transport")?, asyncio.getattr("DatagramTransport")?];
        let methods = vec![
            fast_method!(c"sendto", send_to, c"sendto($self, /, data, addr=None)\n--\n\nSends a datagram; one for which there is no room is queued."),
            fast_method!(c"close", close, c"close($self, /)\n--\n\nCloses the socket when what is queued has been sent."),
            fast_method!(c"abort", abort, c"abort($self, /)\n--\n\nCloses the socket at once; what is queued is dropped."),
            fast_method!(c"is_closing", is_closing, c"is_closing($self, /)\n--\n\nWhether the transport is closing or closed."),
            fast_method!(c"is_reading", is_reading, c"is_reading($self, /)\n--\n\nWhether the protocol receives datagrams."),
            fast_method!(c"pause_reading", pause_reading, c"pause_reading($self, /)\n--\n\nStops calling datagram_received()."),
            fast_method!(c"resume_reading", resume_reading, c"resume_reading($self, /)\n--\n\nGoes on calling datagram_received()."),
            fast_method!(c"set_protocol", set_protocol, c"set_protocol($self, /, protocol)\n--\n\nGives the socket to another protocol."),
            fast_method!(c"get_protocol", get_protocol, c"get_protocol($self, /)\n--\n\nThe protocol; None when the transport has ended."),
            fast_method!(c"get_extra_info", get_extra_info, c"get_extra_info($self, /, name, default=None)\n--\n\n'socket', 'sockname', 'peername'."),
            fast_method!(c"get_write_buffer_size", get_write_buffer_size, c"get_write_buffer_size($self, /)\n--\n\nBytes that wait to be sent, with 8 more for each datagram."),
            fast_method!(c"get_write_buffer_limits", get_write_buffer_limits, c"get_write_buffer_limits($self, /)\n--\n\nThe low and the high water mark, in bytes."),
            fast_method!(c"set_write_buffer_limits", set_write_buffer_limits, c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSets the water marks, in bytes."),
        ];
        let properties = vec![
            property(c"_extra", extra),
            property(c"_loop", event_loop),
            property(c"_protocol", protocol),
        ];
        HeapType::new(
            py,
            c"motet._motet.DatagramTransport",
            c"A transport over a UDP socket or a Unix datagram socket. Not thread-safe.",
            &bases,
            methods,
            properties,
        )
    })?;
    Ok(class.class(py).clone())
}

getter!(extra, |this: This<'_, '_>| {
    let (transport, _claim) = claimed(this, "transport._extra")?;
    let extra = transport.with(|inner| inner.extra.as_ref().map(|extra| extra.bind(this.py()).clone()));
    extra.into_py_any(this.py())
});
getter!(event_loop, |this: This<'_, '_>| Ok(body(this).event_loop.clone_ref(this.py()).into_any()));
getter!(protocol, |this: This<'_, '_>| {
    let (transport, _claim) = claimed(this, "transport._protocol")?;
    transport.protocol(this.py()).into_py_any(this.py())
});

/// The Rust part, with the loop claimed for the call.
#[inline]
fn claimed<'a>(this: This<'a, '_>, what: &str) -> PyResult<(&'a DatagramTransport, Claim<'a, State>)> {
    let transport = body(this);
    Ok((transport, claim(&transport.event_loop, what)?))
}

fn send_to(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let [data, given] = bind("sendto", ["data", "addr"], &arguments)?;
    let Some(data) = data else {
        return Err(PyTypeError::new_err("sendto() missing 1 required positional argument: 'data'"));
    };
    let data = exact_bytes(data)?;
    let (transport, _claim) = claimed(this, "transport.sendto()")?;
    let address = match destination(this, transport, given.filter(|given| !given.is_none())) {
        Ok(address) => address,
        Err(error) if error.is_instance_of::<PyOSError>(this.py()) => {
            lifecycle::tell_error(&this, error)?;
            return none(this);
        }
        Err(error) => return Err(error),
    };
    let event_loop = transport.event_loop.get();
    let running = event_loop.is_in_run();
    let round = event_loop.with("transport.sendto()", |state| state.round(running))?;
    let collect = transport.peer == Peer::Nobody;
    match transport.with(|inner| inner.endpoint.admit(round, collect)) {
        Admission::Send => send_now(this, transport, data, address)?,
        Admission::Enqueue => enqueue(this, transport, data, address)?,
        Admission::Refuse(earlier) => {
            if earlier >= DROPPED_WRITES_BEFORE_WARNING {
                warn_dropped(this.py(), "socket.send() raised exception.")?;
            }
        }
    }
    none(this)
}

/// Where a datagram goes; None is to whom the socket is connected.
fn destination(
    this: This<'_, '_>,
    transport: &DatagramTransport,
    given: Option<Borrowed<'_, '_, PyAny>>,
) -> PyResult<Option<Address>> {
    let py = this.py();
    let remote = transport.with(|inner| inner.remote.as_ref().map(|remote| remote.bind(py).clone()));
    if let (Some(given), Some(remote)) = (given, &remote)
        && !given.is(remote)
        && !given.eq(remote)?
    {
        return Err(PyValueError::new_err(format!("Invalid address: must be None or {}", remote.str()?)));
    }
    if transport.peer == Peer::Named {
        return Ok(None);
    }
    let Some(object) = remote.as_ref().map(Bound::as_borrowed).or(given) else {
        return match transport.peer {
            Peer::Nobody => Err(PyTypeError::new_err(
                "sendto() needs an address: the socket is not connected; give addr, or remote_addr to \
                 create_datagram_endpoint()",
            )),
            _ => Ok(None),
        };
    };
    let event_loop = transport.event_loop.get();
    let family = transport.family;
    let known = event_loop.with("transport.sendto()", |state| state.addresses.address(object, family))?;
    if known.is_some() {
        return Ok(known);
    }
    let (address, lasting) = address::from_python(object, family)?;
    if lasting {
        let (kept, object) = (address.clone(), object.to_owned().unbind());
        let old = event_loop.with("transport.sendto()", |state| state.addresses.note_object(kept, object))?;
        drop(old);
    }
    Ok(Some(address))
}

/// Sends at once; what there is no room for waits for the poller.
fn send_now(
    this: This<'_, '_>,
    transport: &DatagramTransport,
    data: Bound<'_, PyBytes>,
    address: Option<Address>,
) -> PyResult<()> {
    if let Err(error) = transport.require_socket(this.py())? {
        return lifecycle::fail(&this, os_error(error));
    }
    let slice = data.as_bytes();
    match transport.with(|inner| datagram::send(inner.descriptor()?, slice, address.as_ref())) {
        Ok(()) => input_output::count_sent(transport, slice.len()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let actions = transport.with(|inner| {
                inner.endpoint.blocked();
                inner.endpoint.enqueue(data.into(), address);
                inner.endpoint.check_limits()
            });
            input_output::retry_later(transport, &this)?;
            apply(&this, actions)
        }
        Err(error) => lifecycle::tell_error(&this, os_error(error)),
    }
}

/// Queues a datagram: others wait before it, or it goes out with those of this round.
fn enqueue(
    this: This<'_, '_>,
    transport: &DatagramTransport,
    data: Bound<'_, PyBytes>,
    address: Option<Address>,
) -> PyResult<()> {
    if transport.with(|inner| inner.endpoint.enqueue(data.into(), address)) {
        return input_output::send_queue(transport, &this);
    }
    input_output::request_flush(transport, &this)?;
    let actions = transport.with(|inner| {
        if inner.endpoint.is_blocked() { inner.endpoint.check_limits() } else { Actions::NONE }
    });
    apply(&this, actions)
}

fn close(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.close()")?;
    // As asyncio: a transport whose loop is closed cannot tell its protocol anything.
    if !transport.with(|inner| inner.endpoint.is_closing()) {
        transport.event_loop.get().require_open()?;
        let actions = transport.with(|inner| inner.endpoint.close());
        apply(&this, actions)?;
    }
    none(this)
}

fn abort(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.abort()")?;
    if !transport.with(|inner| inner.endpoint.is_lost()) {
        transport.event_loop.get().require_open()?;
        lifecycle::abort(&this, None)?;
    }
    none(this)
}

fn is_closing(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.is_closing()")?;
    transport.with(|inner| inner.endpoint.is_closing()).into_py_any(this.py())
}

fn is_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.is_reading()")?;
    transport.with(|inner| inner.endpoint.is_reading()).into_py_any(this.py())
}

fn pause_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.pause_reading()")?;
    transport.with(|inner| inner.endpoint.pause_reading());
    none(this)
}

fn resume_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.resume_reading()")?;
    if let Some(actions) = transport.with(|inner| inner.endpoint.resume_reading()) {
        apply(&this, actions)?;
    }
    none(this)
}

fn set_protocol(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Default::default();
    let arguments = arguments.complete("set_protocol", &["protocol"], &mut storage)?;
    let protocol = arguments.get(0).to_owned().unbind();
    let (transport, _claim) = claimed(this, "transport.set_protocol()")?;
    let old = transport.with(|inner| inner.protocol.replace(protocol));
    drop(old);
    none(this)
}

fn get_protocol(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.get_protocol()")?;
    transport.protocol(this.py()).into_py_any(this.py())
}

fn get_extra_info(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let mut storage = Default::default();
    let arguments = arguments.complete("get_extra_info", &["name"], &mut storage)?;
    let [name, default] = bind("get_extra_info", ["name", "default"], &arguments)?;
    let (transport, _claim) = claimed(this, "transport.get_extra_info()")?;
    let extra = transport.with(|inner| inner.extra.as_ref().map(|extra| extra.bind(py).clone()));
    let found = match extra {
        Some(extra) => extra.get_item(name)?,
        None => None,
    };
    Ok(found_or(py, found, default))
}

fn get_write_buffer_size(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.get_write_buffer_size()")?;
    transport.with(|inner| inner.endpoint.queued_bytes()).into_py_any(this.py())
}

fn get_write_buffer_limits(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.get_write_buffer_limits()")?;
    transport.with(|inner| inner.endpoint.limits()).into_py_any(this.py())
}

fn set_write_buffer_limits(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (low, high) = water_marks("set_write_buffer_limits", &arguments, DEFAULT_HIGH_WATER)?;
    let (transport, _claim) = claimed(this, "transport.set_write_buffer_limits()")?;
    let actions = transport.with(|inner| inner.endpoint.set_limits(low, high));
    apply(&this, actions)?;
    none(this)
}

/// What `repr(transport)` returns.
pub fn describe(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "repr(transport)")?;
    transport
        .with(|inner| {
            let endpoint = &inner.endpoint;
            let state = if inner.socket.is_none() {
                " closed"
            } else if endpoint.is_closing() {
                " closing"
            } else {
                ""
            };
            let reading = if inner.token.is_some() && endpoint.is_reading() { "polling" } else { "idle" };
            let writing = if endpoint.is_blocked() { "polling" } else { "idle" };
            format!(
                "<DatagramTransport{state} fd={} read={reading} write=<{writing}, bufsize={}>>",
                inner.number,
                endpoint.queued_bytes()
            )
        })
        .into_py_any(this.py())
}
