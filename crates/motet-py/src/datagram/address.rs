//! Addresses of datagrams: in the form of Python's `socket` module, and in the system's.

use crate::event_loop::Loop;
use motet_reactor::sys::datagram::{Address, unix_address_fits};
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};
use pyo3::{Borrowed, IntoPyObjectExt, ffi, intern};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The families whose addresses are known here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    Unix,
}

impl Family {
    pub fn of(number: i32) -> Option<Self> {
        match number {
            libc::AF_INET => Some(Self::V4),
            libc::AF_INET6 => Some(Self::V6),
            libc::AF_UNIX => Some(Self::Unix),
            _ => None,
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
            Self::Unix => libc::AF_UNIX,
        }
    }

    /// Bytes that the longest datagram may have: the internet's have a length of 16 bits, Unix sockets' are cut where asyncio cuts.
    pub fn room(self) -> usize {
        match self {
            Self::V4 | Self::V6 => 64 * 1024,
            Self::Unix => 256 * 1024,
        }
    }

    fn has(self, address: &Address) -> bool {
        match address {
            Address::Internet(SocketAddr::V4(_)) => self == Self::V4,
            Address::Internet(SocketAddr::V6(_)) => self == Self::V6,
            Address::Unix(_) | Address::Unnamed => self == Self::Unix,
        }
    }
}

/// Entries of each table: peers that are in touch at the same time.
const PLACES: usize = 256;

pub type Entry = Option<(Address, Py<PyAny>)>;

/// Addresses that a loop has seen lately, in both forms, so that a peer's is converted once. An address has one place in each table
/// and gives way to the next one that belongs there.
#[derive(Default)]
pub struct AddressBook {
    by_address: Vec<Entry>,
    by_object: Vec<Entry>,
}

impl AddressBook {
    /// The object for an address that was seen lately.
    fn object(&self, py: Python<'_>, address: &Address) -> Option<Py<PyAny>> {
        let (known, object) = self.by_address.get(place_of_address(address))?.as_ref()?;
        (known == address).then(|| object.clone_ref(py))
    }

    /// The address that an object is known to stand for. An object here is alive and cannot change, so that it is enough to compare
    /// identities.
    pub fn address(&self, object: Borrowed<'_, '_, PyAny>, family: Family) -> Option<Address> {
        let (address, known) = self.by_object.get(place_of_object(object.as_ptr()))?.as_ref()?;
        (known.as_ptr() == object.as_ptr() && family.has(address)).then(|| address.clone())
    }

    /// Keeps the object of an address that was received. What comes back is for the caller to drop.
    #[must_use]
    fn note_address(&mut self, address: Address, object: Py<PyAny>) -> Entry {
        let place = place_of_address(&address);
        put(&mut self.by_address, place, (address, object))
    }

    /// Keeps what an object stands for. It must be of exact built-in classes that cannot change. What comes back is for the caller to
    /// drop.
    #[must_use]
    pub fn note_object(&mut self, address: Address, object: Py<PyAny>) -> Entry {
        let place = place_of_object(object.as_ptr());
        put(&mut self.by_object, place, (address, object))
    }
}

fn put(table: &mut Vec<Entry>, place: usize, entry: (Address, Py<PyAny>)) -> Entry {
    if table.is_empty() {
        table.resize_with(PLACES, || None);
    }
    table[place].replace(entry)
}

fn place_of_address(address: &Address) -> usize {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish() as usize % PLACES
}

/// Objects lie at multiples of 16.
fn place_of_object(object: *mut ffi::PyObject) -> usize {
    (object as usize >> 4) % PLACES
}

/// The object for an address: for a peer that repeats, the same one.
pub fn to_python(event_loop: &Loop, py: Python<'_>, address: Address) -> PyResult<Py<PyAny>> {
    if address == Address::Unnamed {
        return Ok(py.None());
    }
    let with_book = "loop.run_forever()";
    let known = event_loop.with(with_book, |state| state.addresses.object(py, &address))?;
    if let Some(known) = known {
        return Ok(known);
    }
    let object = new_object(py, &address)?;
    let (first, second) = (object.clone_ref(py), object.clone_ref(py));
    let old = event_loop.with(with_book, |state| {
        (state.addresses.note_address(address.clone(), first), state.addresses.note_object(address, second))
    })?;
    drop(old);
    Ok(object)
}

fn new_object(py: Python<'_>, address: &Address) -> PyResult<Py<PyAny>> {
    match address {
        Address::Internet(address) => Ok(crate::transport::extra_info::to_python(py, *address)?.unbind()),
        Address::Unix(name) if name.first() == Some(&0) => Ok(PyBytes::new(py, name).into_any().unbind()),
        Address::Unix(name) => {
            let name = PyBytes::new(py, name);
            Ok(py.import(intern!(py, "os"))?.call_method1(intern!(py, "fsdecode"), (name,))?.unbind())
        }
        Address::Unnamed => Ok(py.None()),
    }
}

/// The address that an object of the program's stands for, and whether it always will: names of hosts may move.
///
/// # Errors
/// As `socket.sendto`: `TypeError` and `OverflowError` for what is no address, `OSError` for a name that cannot be resolved and a
/// path that is too long.
pub fn from_python(object: Borrowed<'_, '_, PyAny>, family: Family) -> PyResult<(Address, bool)> {
    match family {
        Family::Unix => unix(object),
        Family::V4 | Family::V6 => internet(object, family),
    }
}

fn unix(object: Borrowed<'_, '_, PyAny>) -> PyResult<(Address, bool)> {
    let py = object.py();
    let name = if object.is_instance_of::<PyString>() {
        py.import(intern!(py, "os"))?.call_method1(intern!(py, "fsencode"), (object,))?
    } else if let Ok(buffer) = pyo3::buffer::PyBuffer::<u8>::get(&object) {
        PyBytes::new(py, &buffer.to_vec(py)?).into_any()
    } else {
        let class = object.get_type();
        let class = class.name()?;
        return Err(PyTypeError::new_err(format!(
            "sendto(): AF_UNIX address must be a string or a bytes-like object, not {class}"
        )));
    };
    let name = name.cast::<PyBytes>()?.as_bytes();
    if !unix_address_fits(name) {
        return Err(PyOSError::new_err("AF_UNIX path too long"));
    }
    let lasting = object.cast_exact::<PyString>().is_ok() || object.cast_exact::<PyBytes>().is_ok();
    Ok((Address::Unix(name.into()), lasting))
}

fn internet(object: Borrowed<'_, '_, PyAny>, family: Family) -> PyResult<(Address, bool)> {
    let (name, form, most) = match family {
        Family::V4 => ("AF_INET", "a pair (host, port)", 2),
        _ => ("AF_INET6", "a tuple (host, port[, flowinfo[, scopeid]])", 4),
    };
    let Ok(parts) = object.cast::<PyTuple>() else {
        let class = object.get_type();
        let class = class.name()?;
        return Err(PyTypeError::new_err(format!("sendto(): {name} address must be tuple, not {class}")));
    };
    if !(2..=most).contains(&parts.len()) {
        return Err(PyTypeError::new_err(format!("sendto(): {name} address must be {form}")));
    }
    let number = |index: usize, what: &str, most: u32| match parts.get_item(index) {
        Err(_) => Ok(0),
        Ok(item) => {
            let value: i64 = item.extract()?;
            u32::try_from(value)
                .ok()
                .filter(|value| *value <= most)
                .ok_or_else(|| PyOverflowError::new_err(format!("sendto(): {what} must be 0-{most}.")))
        }
    };
    let host = parts.get_item(0)?;
    let port = number(1, "port", u32::from(u16::MAX))? as u16;
    let flow = number(2, "flowinfo", 0xf_ffff)?;
    let scope = number(3, "scopeid", u32::MAX)?;
    let given = host.cast::<PyString>().ok().and_then(|host| numeric(host.to_str().ok()?, family));
    let lasting = given.is_some()
        && object.cast_exact::<PyTuple>().is_ok()
        && host.cast_exact::<PyString>().is_ok()
        && parts.iter().skip(1).all(|part| part.cast_exact::<PyInt>().is_ok());
    let host = match given {
        Some(host) => host,
        None => resolve(&host, family)?,
    };
    let address = match host {
        IpAddr::V4(host) => SocketAddr::V4(SocketAddrV4::new(host, port)),
        IpAddr::V6(host) => SocketAddr::V6(SocketAddrV6::new(host, port, flow, scope)),
    };
    Ok((Address::Internet(address), lasting))
}

/// The address that a text is, without asking anybody.
fn numeric(host: &str, family: Family) -> Option<IpAddr> {
    match (family, host) {
        (Family::V4, "<broadcast>") => Some(Ipv4Addr::BROADCAST.into()),
        (Family::V4, _) => host.parse().ok().map(IpAddr::V4),
        _ => host.parse().ok().map(IpAddr::V6),
    }
}

/// Looks a name up, as `socket.sendto` does: at once, whatever time it takes. An empty one is any address.
fn resolve(host: &Bound<'_, PyAny>, family: Family) -> PyResult<IpAddr> {
    let py = host.py();
    if !(host.is_instance_of::<PyString>() || host.is_instance_of::<PyBytes>()) {
        let class = host.get_type();
        let class = class.name()?;
        return Err(PyTypeError::new_err(format!("sendto(): host must be str or bytes, not {class}")));
    }
    if !host.is_truthy()? {
        return Ok(match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
        });
    }
    let port = 0.into_bound_py_any(py)?;
    let socket = py.import(intern!(py, "socket"))?;
    let found =
        socket.call_method1(intern!(py, "getaddrinfo"), (host, port, family.number(), libc::SOCK_DGRAM))?;
    let address: String = found.get_item(0)?.get_item(4)?.get_item(0)?.extract()?;
    let address = address.split('%').next().unwrap_or_default();
    numeric(address, family)
        .ok_or_else(|| PyOSError::new_err(format!("getaddrinfo() returned no numeric address for {host}")))
}
