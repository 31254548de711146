//! One connection's `SSL` object, driven over memory.

use crate::sys::library::{
    CONTROL_MODE, CONTROL_READ_AHEAD, Library, MODES, Ssl, WANT_READ, WANT_WRITE, ZERO_RETURN,
};
use crate::wire::{self, Shared};
use std::ffi::c_int;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

/// What one read has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing until there is more input.
    Blocked,
    /// The peer has ended its side, as TLS wants it.
    Closed,
}

/// What one write has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// So many bytes.
    Bytes(usize),
    /// Nothing until there is more input: a handshake goes on.
    Blocked,
}

/// OpenSSL has refused; why is in the thread's queue of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// An `SSL` object with its input and output in memory.
///
/// Other calls on the object, such as the handshake, are made by whoever made it, and work on the same memory.
pub struct Session {
    library: &'static Library,
    ssl: NonNull<Ssl>,
    shared: Arc<Shared>,
}

// SAFETY: OpenSSL binds no object to a thread. Every method that drives it takes `&mut self`.
unsafe impl Send for Session {}
// SAFETY: as above; what takes `&self` touches `shared` only, which has a lock.
unsafe impl Sync for Session {}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Gives the object its input and output in memory, in place of what it had, and has it hold no buffers while it is idle.
    /// Nothing when there is no memory for that.
    ///
    /// # Safety
    /// `ssl` is an object of `library` that lives for as long as the session, and that no other thread uses while a method of
    /// the session runs.
    pub unsafe fn new(library: &'static Library, ssl: NonNull<Ssl>) -> Option<Self> {
        let (bio, shared) = wire::open(library)?;
        let functions = &library.functions;
        // SAFETY: a live object, by the caller's word; it takes over the one reference to the new `BIO`, for both directions.
        unsafe {
            (functions.set_bio)(ssl.as_ptr(), bio.as_ptr(), bio.as_ptr());
            (functions.control)(ssl.as_ptr(), CONTROL_MODE, MODES, std::ptr::null_mut());
            // Several small records then cost one call for input, not two each.
            (functions.control)(ssl.as_ptr(), CONTROL_READ_AHEAD, 1, std::ptr::null_mut());
        }
        Some(Self { library, ssl, shared })
    }

    /// Puts received bytes behind those that are not read yet.
    pub fn append_input(&self, bytes: &[u8]) {
        self.shared.lock().append(bytes);
    }

    /// Makes the first `count` bytes of `buffer` the input, without a copy if nothing is left of earlier input. `buffer` is then
    /// empty until [`Session::return_input`].
    pub fn lend_input(&mut self, buffer: &mut Box<[u8]>, count: usize) {
        let count = count.min(buffer.len());
        let mut wire = self.shared.lock();
        if wire.start == wire.end {
            wire.input = std::mem::take(buffer);
            (wire.start, wire.end) = (0, count);
        } else {
            wire.append(&buffer[..count]);
        }
    }

    /// Gives a lent buffer back, and keeps a copy of what is not read yet.
    pub fn return_input(&mut self, buffer: &mut Box<[u8]>) {
        if !buffer.is_empty() {
            return;
        }
        let mut wire = self.shared.lock();
        let unread: Box<[u8]> = wire.unread().into();
        (wire.start, wire.end) = (0, unread.len());
        *buffer = std::mem::replace(&mut wire.input, unread);
    }

    /// Gives up the memory of input that was read; for after [`Session::append_input`].
    pub fn forget_input(&self) {
        let mut wire = self.shared.lock();
        if wire.unread().is_empty() {
            (wire.start, wire.end) = (0, 0);
            wire.input = Box::default();
        }
    }

    /// Bytes of input that OpenSSL has not read yet.
    pub fn unread(&self) -> usize {
        self.shared.lock().unread().len()
    }

    /// Swaps the bytes that are to be sent with `buffer`: with an empty one to take them, or to have room for what follows.
    pub fn swap_output(&self, buffer: &mut Vec<u8>) {
        std::mem::swap(&mut self.shared.lock().output, buffer);
    }

    /// Bytes that are to be sent.
    pub fn output_length(&self) -> usize {
        self.shared.lock().output.len()
    }

    /// Whether a read may give something without more input.
    pub fn has_pending(&mut self) -> bool {
        // SAFETY: a live object, by the word given to `new`.
        self.unread() > 0 || unsafe { (self.library.functions.has_pending)(self.ssl.as_ptr()) } == 1
    }

    /// Reads plaintext.
    ///
    /// # Errors
    /// [`Failed`]: broken records, or an alert of the peer.
    pub fn read(&mut self, into: &mut [MaybeUninit<u8>]) -> Result<Read, Failed> {
        self.forget_errors();
        let mut count = 0;
        // SAFETY: a live object, by the word given to `new`, and room of this length, which is only written.
        let result = unsafe {
            (self.library.functions.read)(
                self.ssl.as_ptr(),
                into.as_mut_ptr().cast(),
                into.len(),
                &raw mut count,
            )
        };
        if result == 1 {
            return Ok(Read::Bytes(count));
        }
        match self.error(result) {
            WANT_READ | WANT_WRITE => Ok(Read::Blocked),
            ZERO_RETURN => Ok(Read::Closed),
            _ => Err(Failed),
        }
    }

    /// Makes records of plaintext, which must not be empty. After [`Written::Blocked`] the same bytes have to come first again.
    ///
    /// # Errors
    /// [`Failed`]: the session is at its end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Written, Failed> {
        self.forget_errors();
        let mut count = 0;
        // SAFETY: a live object, by the word given to `new`, and bytes of this length.
        let result = unsafe {
            (self.library.functions.write)(
                self.ssl.as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len(),
                &raw mut count,
            )
        };
        if result == 1 {
            return Ok(Written::Bytes(count));
        }
        match self.error(result) {
            WANT_READ | WANT_WRITE => Ok(Written::Blocked),
            _ => Err(Failed),
        }
    }

    fn error(&self, result: c_int) -> c_int {
        // SAFETY: a live object, by the word given to `new`, and the result of its last call, on the same thread.
        unsafe { (self.library.functions.error_of)(self.ssl.as_ptr(), result) }
    }

    /// Empties the thread's queue of errors: one that an earlier call has left, on any connection, would be taken for one of the
    /// next call. [`Session::read`] and [`Session::write`] do so themselves.
    pub fn forget_errors(&self) {
        let functions = &self.library.functions;
        // SAFETY: both take nothing and touch what is the thread's own.
        unsafe {
            if (functions.peek_error)() != 0 {
                (functions.clear_errors)();
            }
        }
    }
}
