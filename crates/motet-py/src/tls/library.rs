//! From an `ssl.SSLObject` to a session that drives its `SSL` object.
//!
//! The pointer lies in a structure of the interpreter's module `_ssl` that no interface tells. So its layout is not trusted but
//! checked, for each object: what stands around the pointer has to be what the documented interface says of the same object.

use motet_tls::{Library, Session, Ssl, SslContext};
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use std::ffi::{CString, c_ulong};
use std::ptr::NonNull;

/// How an `_ssl._SSLSocket` begins.
#[repr(C)]
struct SslSocket {
    base: ffi::PyObject,
    /// A weak reference to a socket; null for one that works on memory.
    socket: *mut ffi::PyObject,
    ssl: *mut Ssl,
    context: *mut ffi::PyObject,
}

/// How an `ssl.SSLContext` begins.
#[repr(C)]
struct Context {
    base: ffi::PyObject,
    context: *mut SslContext,
}

/// What is needed of the modules `ssl` and `_ssl`.
struct Modules {
    library: &'static Library,
    ssl_object: Py<PyType>,
    ssl_socket: Py<PyType>,
    ssl_context: Py<PyType>,
    /// The context's own attributes: the properties of `ssl.SSLContext` wrap what they return.
    message_callback: Py<PyAny>,
    options: Py<PyAny>,
    /// Options that let clients renegotiate where they are set, or where they are not.
    allowing: u64,
    forbidding: u64,
}

static MODULES: PyOnceLock<Option<Modules>> = PyOnceLock::new();

/// The functions of the OpenSSL that `_ssl` is linked with, found once; nothing where they cannot be reached.
fn modules(py: Python<'_>) -> PyResult<Option<&Modules>> {
    MODULES.get_or_try_init(py, || find(py)).map(Option::as_ref)
}

fn find(py: Python<'_>) -> PyResult<Option<Modules>> {
    let inner = py.import("_ssl")?;
    let outer = py.import("ssl")?;
    let file: String = match inner.getattr("__file__") {
        Ok(file) => file.extract()?,
        // Built into the interpreter.
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(file) = CString::new(file) else { return Ok(None) };
    let version: c_ulong = outer.getattr("OPENSSL_VERSION_NUMBER")?.extract()?;
    // SAFETY: the interpreter's own module, which is a binding to OpenSSL.
    let Ok(library) = (unsafe { Library::of_loaded(&file, version) }) else { return Ok(None) };
    let class = |module: &Bound<'_, PyModule>, name| -> PyResult<Py<PyType>> {
        Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind())
    };
    let (ssl_socket, ssl_context) = (class(&inner, "_SSLSocket")?, class(&inner, "_SSLContext")?);
    let size = |class: &Py<PyType>| class.bind(py).getattr("__basicsize__")?.extract::<usize>();
    if size(&ssl_socket)? < size_of::<SslSocket>() || size(&ssl_context)? < size_of::<Context>() {
        return Ok(None);
    }
    // `SSL_OP_ALLOW_CLIENT_RENEGOTIATION` of OpenSSL 3, where it is off by default, and `SSL_OP_NO_RENEGOTIATION`.
    let (allowing, forbidding) = if version < 0x3000_0000 { (0, 1 << 30) } else { (1 << 8, 0) };
    Ok(Some(Modules {
        library,
        ssl_object: class(&outer, "SSLObject")?,
        message_callback: ssl_context.getattr(py, "_msg_callback")?,
        options: ssl_context.getattr(py, "options")?,
        ssl_socket,
        ssl_context,
        allowing,
        forbidding,
    }))
}

/// Whether TLS can be driven natively here.
pub fn reach(py: Python<'_>) -> PyResult<bool> {
    Ok(modules(py)?.is_some())
}

/// The `_ssl._SSLSocket` of an `ssl.SSLObject` and a session that drives it, with input and output of its own. Nothing when the
/// object is of another make: then it is left as it was.
pub fn session_of<'py>(
    object: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyAny>, Session)>> {
    let py = object.py();
    let Some(modules) = modules(py)? else { return Ok(None) };
    let plain = modules.ssl_object.bind(py);
    if !object.is_instance(plain)? || !context.is_instance(modules.ssl_context.bind(py))? {
        return Ok(None);
    }
    // A program's own way to read or write must not be passed over; and its callback for messages runs in the midst of them.
    for name in [intern!(py, "read"), intern!(py, "write")] {
        if !object.get_type().getattr(name)?.is(&plain.getattr(name)?) {
            return Ok(None);
        }
    }
    let inner = object.getattr(intern!(py, "_sslobj"))?;
    if !inner.getattr(intern!(py, "context"))?.is(context)
        || !own(&modules.message_callback, context)?.is_none()
        || lets_clients_renegotiate(modules, context)?
    {
        return Ok(None);
    }
    let Some(ssl) = ssl_of(modules, &inner)? else { return Ok(None) };
    // SAFETY: an object of this library, as `ssl_of` has checked, which `inner` keeps alive, as the caller does `inner`. The
    // program's other threads are kept from it by the GIL, or by the critical section of `Tls::with_session`; one that calls
    // the object's own methods for input and output beside the loop breaks their contract as it would without motet.
    let session = unsafe { Session::new(modules.library, ssl) };
    Ok(session.map(|session| (inner, session)))
}

/// What a context has for one of its class's own attributes.
fn own<'py>(attribute: &Py<PyAny>, context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = context.py();
    attribute.bind(py).call_method1(intern!(py, "__get__"), (context,))
}

/// Whether a handshake, with the program's callbacks in it, may come in the midst of reading.
fn lets_clients_renegotiate(modules: &Modules, context: &Bound<'_, PyAny>) -> PyResult<bool> {
    let options: u64 = own(&modules.options, context)?.extract()?;
    Ok(options & modules.allowing != 0 || options & modules.forbidding != modules.forbidding)
}

/// The `SSL` object in an `_ssl._SSLSocket`, if that is laid out as known here.
fn ssl_of(modules: &Modules, inner: &Bound<'_, PyAny>) -> PyResult<Option<NonNull<Ssl>>> {
    let py = inner.py();
    let class = modules.ssl_socket.bind(py);
    let context = inner.getattr(intern!(py, "context"))?;
    if !inner.get_type().is(class) || !context.is_instance(modules.ssl_context.bind(py))? {
        return Ok(None);
    }
    // SAFETY: live objects of classes whose instances are at least this large, as `find` has seen, so that the words can be read; what
    // they hold is checked below before it is used.
    let (inner_parts, context_parts) =
        unsafe { (&*inner.as_ptr().cast::<SslSocket>(), &*context.as_ptr().cast::<Context>()) };
    if !inner_parts.socket.is_null() || inner_parts.context != context.as_ptr() {
        return Ok(None);
    }
    let Some(ssl) = NonNull::new(inner_parts.ssl) else { return Ok(None) };
    // SAFETY: the word before the one that is known to be the context; such an object has its `SSL` object there. What OpenSSL says
    // of it must be what the context object says of itself.
    let same = unsafe { modules.library.context_of(ssl) } == context_parts.context;
    Ok((same && !context_parts.context.is_null()).then_some(ssl))
}
