//! A call, from its submission to its end.

use crate::call_future::CallFuture;
use motet_lanes::lane::parcel::{Parcel, Staged};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A function that workers know by its number, once they have its pickle.
pub struct Function {
    pub number: u32,
    pub pickle: Py<PyBytes>,
    /// Only calls that were queued before will name it. Used with the pool's lock held.
    pub given_up: AtomicBool,
}

/// What few calls have.
pub struct Options {
    /// How long it may run, in nanoseconds; 0: as long as it likes.
    pub limit_nanos: u64,
    /// The policy's object.
    pub policy: Py<PyAny>,
}

/// A call that has not ended.
pub struct Call {
    /// Counts up: an older call has a smaller one.
    pub number: u64,
    pub future: CallFuture,
    pub function: Arc<Function>,
    /// The pickled arguments; nothing when there are none.
    pub arguments: Option<Py<PyBytes>>,
    /// Buffers beside them.
    pub buffers: Box<[Staged]>,
    pub options: Option<Box<Options>>,
}

impl Call {
    /// What is sent of it.
    pub fn parcel(&self) -> Parcel<'_> {
        Parcel { buffers: &self.buffers, bytes: self.arguments.as_ref().map_or(&[], bytes_of) }
    }

    pub fn limit_nanos(&self) -> u64 {
        self.options.as_ref().map_or(0, |options| options.limit_nanos)
    }
}

/// The contents of a `bytes` object, which never change or move.
pub fn bytes_of(bytes: &Py<PyBytes>) -> &[u8] {
    // SAFETY: both functions read fields of an immutable object, which the reference keeps alive; neither counts references nor
    // runs code, so that no attachment is needed.
    unsafe {
        let start = ffi::PyBytes_AsString(bytes.as_ptr());
        let length = ffi::PyBytes_Size(bytes.as_ptr());
        std::slice::from_raw_parts(start.cast(), length as usize)
    }
}
