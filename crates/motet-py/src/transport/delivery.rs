//! How data reaches a protocol.

use crate::{call, tls};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// The way of one protocol, found out when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// `data_received(data)`.
    Data,
    /// Into buffers that the protocol lends (`asyncio.BufferedProtocol`).
    Buffer,
    /// Straight to the reader of a native stream.
    Native,
    /// Straight to the reader of a stock `asyncio.StreamReaderProtocol`, whose `data_received` does nothing but pass the data on:
    /// two Python frames less for each read of a stream.
    Reader,
    /// To the TLS between this transport and a protocol: ciphertext in the loop's buffer.
    Tls,
}

impl Delivery {
    pub fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        static BUFFERED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = protocol.py();
        if tls::is_tls(protocol) {
            return Ok(Self::Tls);
        }
        if crate::streams::is_native(protocol)? {
            return Ok(Self::Native);
        }
        let buffered = BUFFERED.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("asyncio.protocols")?.getattr("BufferedProtocol")?.unbind())
        })?;
        if protocol.is_instance(buffered.bind(py))? {
            return Ok(Self::Buffer);
        }
        Ok(if passes_on_to_reader(protocol)? { Self::Reader } else { Self::Data })
    }
}

/// Whether a protocol is of the stock class itself, with the method that the class was born with.
fn passes_on_to_reader(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    static STOCK: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
    let py = protocol.py();
    let (class, method) = STOCK.get_or_try_init(py, || {
        let class = py.import("asyncio.streams")?.getattr("StreamReaderProtocol")?;
        let method = class.getattr("data_received")?.unbind();
        Ok::<_, PyErr>((class.unbind(), method))
    })?;
    if !protocol.get_type().is(class) {
        return Ok(false);
    }
    let unchanged = protocol
        .getattr(intern!(py, "data_received"))?
        .getattr(intern!(py, "__func__"))
        .is_ok_and(|function| function.is(method));
    Ok(unchanged && protocol.hasattr(intern!(py, "_stream_reader_wr"))?)
}

/// Hands data to the reader of a stock protocol; a reader that is gone wants none, as the protocol itself has it.
pub fn feed_reader(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
    let py = protocol.py();
    let reference = protocol.getattr(intern!(py, "_stream_reader_wr"))?;
    if reference.is_none() {
        return Ok(());
    }
    let reader = reference.call0()?;
    if reader.is_none() {
        return Ok(());
    }
    call::method_with(&reader, intern!(py, "feed_data"), data.as_any()).map(drop)
}
