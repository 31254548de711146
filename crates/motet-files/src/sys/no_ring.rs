//! Where there is no io_uring.

use super::Entry;
use std::io;
use std::os::fd::RawFd;

/// Cannot be had.
#[derive(Debug)]
pub(crate) enum Uring {}

pub(crate) fn probe() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Uring {
    pub(crate) fn new(_entries: u32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn number(&self) -> RawFd {
        match *self {}
    }

    pub(crate) unsafe fn push(&mut self, _entry: Entry, _key: u64) -> bool {
        match *self {}
    }

    pub(crate) fn enter(&mut self, _wait: bool) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn next(&mut self) -> Option<(u64, i32)> {
        match *self {}
    }
}
