//! Memory that data is read into or written from while its owner waits.

/// A piece of memory that stays where it is for as long as this value lives, and that nobody else touches meanwhile
/// (written from: that nobody else changes).
///
/// # Safety
/// [`Memory::address`] is valid for [`Memory::length`] bytes until the value is dropped, wherever the value itself is moved to,
/// and for writing if the value is used in [`crate::Request::Read`] or [`crate::Request::Fill`].
pub unsafe trait Memory: Send {
    /// The first byte.
    fn address(&self) -> *mut u8;
    /// How many bytes there are.
    fn length(&self) -> usize;
}

// SAFETY: a vector that is not touched neither grows nor moves its elements; the address comes from it and so may be written to
// as long as nobody borrows it, which its owner, this value, does not.
unsafe impl Memory for Vec<u8> {
    fn address(&self) -> *mut u8 {
        self.as_ptr().cast_mut()
    }

    fn length(&self) -> usize {
        self.len()
    }
}
