//! `get_extra_info`: what the `ssl.SSLObject` knows, asked when somebody asks.

use super::{Phase, Tls};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// What TLS knows under this name; nothing for what the socket's transport knows.
pub fn find<'py>(this: &Tls, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = name.py();
    let object = this.ssl_object.bind(py);
    let Ok(text) = name.cast::<PyString>() else { return Ok(None) };
    let text = text.to_str()?;
    if text == "sslcontext" {
        return Ok(Some(this.context.bind(py).clone()));
    }
    if !matches!(text, "ssl_object" | "peercert" | "cipher" | "compression") {
        return Ok(None);
    }
    let (known, agreed) = this.with(|layer| {
        let known = layer.extra.as_ref().map(|extra| extra.bind(py).clone());
        (known, (Phase::Open..=Phase::Shutdown).contains(&layer.phase))
    });
    if let Some(known) = &known
        && let Some(value) = known.get_item(name)?
    {
        return Ok(Some(value));
    }
    // Before the handshake nothing is agreed upon; afterwards the object tells it for as long as it lives.
    if !agreed && object.call_method0(intern!(py, "version"))?.is_none() {
        return Ok(None);
    }
    let value = match text {
        "ssl_object" => return Ok(Some(object.clone())),
        "peercert" => object.call_method0(intern!(py, "getpeercert"))?,
        "cipher" => object.call_method0(intern!(py, "cipher"))?,
        _ => object.call_method0(intern!(py, "compression"))?,
    };
    let extra = known.unwrap_or_else(|| PyDict::new(py));
    extra.set_item(name, &value)?;
    let old = this.with(|layer| layer.extra.replace(extra.unbind()));
    drop(old);
    Ok(Some(value))
}
