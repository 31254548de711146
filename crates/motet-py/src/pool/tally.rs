//! What lanes have done, for statistics. Changed under the pool's lock, which is held anyway.

use motet_lanes::lane::parcel::Parcel;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Bytes that went one way.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    /// In messages: pickles, which the receiver copies.
    copied: u64,
    /// In buffers of an arena, which the receiver maps.
    shared: u64,
}

impl Traffic {
    pub fn note(&mut self, copied: usize, shared: u64) {
        // What comes from another process may be any number.
        self.copied = self.copied.wrapping_add(copied as u64);
        self.shared = self.shared.wrapping_add(shared);
    }

    pub fn note_parcel(&mut self, parcel: &Parcel<'_>) {
        self.note(parcel.bytes.len(), parcel.buffers.iter().map(|staged| staged.location.length).sum());
    }
}

/// What has gone through a lane.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub finished: u64,
    pub busy_nanos: u64,
    pub sent: Traffic,
    pub received: Traffic,
}

impl Tally {
    pub fn note_end(&mut self, nanos: u64) {
        self.finished += 1;
        self.busy_nanos = self.busy_nanos.wrapping_add(nanos);
    }

    pub fn add(&mut self, other: &Self) {
        self.finished += other.finished;
        self.busy_nanos = self.busy_nanos.wrapping_add(other.busy_nanos);
        for (total, more) in [(&mut self.sent, &other.sent), (&mut self.received, &other.received)] {
            total.copied = total.copied.wrapping_add(more.copied);
            total.shared = total.shared.wrapping_add(more.shared);
        }
    }

    /// Puts the totals where a program finds them.
    pub fn tell(&self, found: &Bound<'_, PyDict>) -> PyResult<()> {
        found.set_item("finished", self.finished)?;
        found.set_item("busy_nanos", self.busy_nanos)?;
        let [copied, shared] = [(); 2].map(|()| PyDict::new(found.py()));
        for (way, traffic) in [("to_workers", self.sent), ("from_workers", self.received)] {
            copied.set_item(way, traffic.copied)?;
            shared.set_item(way, traffic.shared)?;
        }
        found.set_item("bytes_copied", copied)?;
        found.set_item("bytes_shared", shared)
    }
}
