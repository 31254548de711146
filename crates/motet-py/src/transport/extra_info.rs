//! `get_extra_info`: the socket and its addresses, made into Python objects when somebody asks.

use super::{Peer, Socket, Transport};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{Borrowed, IntoPyObjectExt, intern};
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;

/// What every connection knows.
const NAMES: [&str; 3] = ["socket", "sockname", "peername"];

/// An internet address in the form of Python's sockets.
pub fn to_python<'py>(py: Python<'py>, address: SocketAddr) -> PyResult<Bound<'py, PyAny>> {
    match address {
        SocketAddr::V4(address) => (address.ip().to_string(), address.port()).into_bound_py_any(py),
        SocketAddr::V6(address) => {
            (address.ip().to_string(), address.port(), address.flowinfo(), address.scope_id())
                .into_bound_py_any(py)
        }
    }
}

/// Enters what a socket object tells of itself; addresses that it does not have are None.
pub fn describe_socket(extra: &Bound<'_, PyDict>, socket: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = extra.py();
    let wrapper = py.import(intern!(py, "asyncio.trsock"))?.getattr(intern!(py, "TransportSocket"))?;
    extra.set_item(intern!(py, "socket"), wrapper.call1((socket,))?)?;
    for (name, method) in [
        (intern!(py, "sockname"), intern!(py, "getsockname")),
        (intern!(py, "peername"), intern!(py, "getpeername")),
    ] {
        if !extra.contains(name)? {
            let address = match socket.call_method0(method) {
                Err(error) if !error.is_instance_of::<pyo3::exceptions::PyOSError>(py) => return Err(error),
                address => address.ok(),
            };
            extra.set_item(name, address)?;
        }
    }
    Ok(())
}

/// What is known under a name. Only what a connection knows anyway is made for it: asyncio's streams ask each for its TLS.
pub fn find<'py>(this: &Transport, name: Borrowed<'_, 'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let is_bare = this.with(|connection| connection.extra.is_none());
    if is_bare && name.cast::<PyString>().is_ok_and(|name| !NAMES.iter().any(|known| name == *known)) {
        return Ok(None);
    }
    all(this, name.py())?.get_item(name)
}

/// The dictionary of everything that is known.
pub fn all<'py>(this: &Transport, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let known = this.with(|connection| connection.extra.as_ref().map(|extra| extra.clone_ref(py)));
    if let Some(known) = known {
        return Ok(known.into_bound(py));
    }
    let extra = PyDict::new(py);
    let (peer, closed) = this.with(|connection| {
        let peer = connection.peer.as_ref().map(Peer::address);
        match &connection.socket {
            Socket::Closed(_, address) => (peer, Some(address.as_deref().copied())),
            _ => (peer, None),
        }
    });
    if let Some(peer) = peer {
        extra.set_item(intern!(py, "peername"), to_python(py, peer)?)?;
    }
    match closed {
        Some(address) => {
            let address = address.map(|address| to_python(py, address)).transpose()?;
            extra.set_item(intern!(py, "sockname"), address)?;
        }
        None => describe_socket(&extra, &socket_object(this, py)?)?,
    }
    this.with(|connection| connection.extra = Some(extra.clone().unbind()));
    Ok(extra)
}

/// The socket object of an accepted connection, which owns the descriptor from now on.
fn socket_object<'py>(this: &Transport, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    let class = py.import(intern!(py, "socket"))?.getattr(intern!(py, "socket"))?;
    let taken = this.with(|connection| {
        let number = connection.socket.number();
        match std::mem::replace(&mut connection.socket, Socket::Closed(number, None)) {
            Socket::Descriptor(descriptor) => Ok(descriptor),
            other => {
                let object = match &other {
                    Socket::Object(object, _) | Socket::Shared(object, _) => Some(object.clone_ref(py)),
                    _ => None,
                };
                connection.socket = other;
                Err(object)
            }
        }
    });
    let descriptor = match taken {
        Ok(descriptor) => descriptor,
        Err(object) => {
            return object
                .map(|object| object.into_bound(py))
                .ok_or_else(|| pyo3::exceptions::PyOSError::new_err("the transport is closed"));
        }
    };
    let number = descriptor.into_raw_fd();
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "fileno"), number)?;
    let made = class.call((), Some(&keywords)).and_then(|object| {
        object.setattr(intern!(py, "_io_refs"), 1)?;
        Ok(object)
    });
    match made {
        Ok(object) => {
            this.with(|connection| connection.socket = Socket::Object(object.clone().unbind(), number));
            Ok(object)
        }
        Err(error) => {
            // SAFETY: `into_raw_fd` has just given this number up, and no object has taken it.
            let descriptor = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
            this.with(|connection| connection.socket = Socket::Descriptor(descriptor));
            Err(error)
        }
    }
}
