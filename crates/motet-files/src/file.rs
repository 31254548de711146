//! An open file, shared by its user and by the requests under way.

use crate::sys;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// An open descriptor. It is closed when its last owner is gone: as long as a request is under way its number names this file
/// and no other, even if the program has lost interest.
#[derive(Debug)]
pub struct File {
    descriptor: ManuallyDrop<OwnedFd>,
    closes: bool,
    regular: bool,
}

impl File {
    pub(crate) fn new(descriptor: OwnedFd, regular: bool) -> Self {
        Self { descriptor: ManuallyDrop::new(descriptor), closes: true, regular }
    }

    /// Takes over a descriptor of the caller's; `closes` tells whether it is closed in the end.
    ///
    /// # Safety
    /// The descriptor is open, and stays so for as long as the file lives.
    ///
    /// # Errors
    /// The system's: it is not open after all; `EISDIR` for a folder. Then it is not closed.
    pub unsafe fn adopt(descriptor: RawFd, closes: bool) -> io::Result<Self> {
        // SAFETY: the caller's word. Not dropped, so not closed, until the file is.
        let descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(descriptor) });
        let regular = sys::require_file(&*descriptor)?.regular;
        Ok(Self { descriptor, closes, regular })
    }

    /// Whether it is an ordinary file: reads and writes of it end in bounded time.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.regular
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.descriptor.as_fd()
    }

    /// Closes it and says how that went.
    pub(crate) fn close(mut self) -> io::Result<()> {
        if !self.closes {
            return Ok(());
        }
        self.closes = false;
        // SAFETY: taken once: `drop` leaves the descriptor alone from here on.
        sys::close(unsafe { ManuallyDrop::take(&mut self.descriptor) })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.closes {
            // SAFETY: nobody uses the value after `drop`, and `close` did not take it.
            unsafe { ManuallyDrop::drop(&mut self.descriptor) };
        }
    }
}
