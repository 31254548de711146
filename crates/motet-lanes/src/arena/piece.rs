//! Memory in an arena, from allocation to its last share.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use super::location::Location;
use super::owner::Shared;
use super::segment::Place;

/// A share of a piece of memory in this process's arena. Cloning makes another share; when the last one is dropped, the
/// arena may give the memory out again.
///
/// What it holds at first is whatever was there before: zeros, or an earlier piece's bytes.
///
/// Shares may be made and dropped in any thread; dropping one takes the arena's lock for a moment.
#[derive(Clone)]
pub struct Piece {
    inner: Arc<Inner>,
}

/// One piece. It lives as long as its shares, and frees its place when they are gone.
pub(super) struct Inner {
    shared: Arc<Shared>,
    place: Place,
    length: usize,
}

impl Piece {
    pub(super) fn new(shared: Arc<Shared>, place: Place, length: usize) -> Self {
        Self { inner: Arc::new(Inner { shared, place, length }) }
    }

    pub(super) fn from_inner(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Where the piece lies, for a peer. It is to be passed on only with a lease: see [`super::Leased::lend`].
    pub fn location(&self) -> Location {
        let Inner { place, length, .. } = &*self.inner;
        Location {
            segment: place.segment,
            generation: place.generation,
            offset: place.offset as u64,
            length: *length as u64,
        }
    }

    /// The number of bytes, as it was asked for.
    pub fn len(&self) -> usize {
        self.inner.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.inner.length == 0
    }

    /// The bytes.
    ///
    /// # Panics
    /// If the piece is common, for others may be writing it.
    pub fn as_slice(&self) -> &[u8] {
        assert!(!self.location().is_common(), "a common piece is no slice");
        // SAFETY: the place is this piece's own and lives as long as it, initialised (`Backing`). Safe code writes it only
        // with the sole share in hand (`as_mut_slice`); who writes through `expose` answers for it.
        unsafe { slice::from_raw_parts(self.inner.pointer().as_ptr(), self.inner.length) }
    }

    /// The bytes, to be written: only while this is the only share and the piece has never been exposed. A lease is a
    /// share, so what a peer may be reading is not written.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        // To a forked child the bytes are the parent's.
        if !self.inner.shared.is_own_process() || self.location().is_common() {
            return None;
        }
        // An exposed piece has a weak share too, and is refused.
        let inner = Arc::get_mut(&mut self.inner)?;
        // SAFETY: as in `as_slice`; and no other share exists or can be made while this one is borrowed.
        Some(unsafe { slice::from_raw_parts_mut(inner.pointer().as_ptr(), inner.length) })
    }

    /// Hands the address to code that Rust does not check, such as a NumPy array. From now on [`super::Arena::find`] knows
    /// the piece, and [`Self::as_mut_slice`] refuses.
    ///
    /// The address is good, for reading and writing, as long as any share lives. Who writes there must see to it that
    /// nobody reads the same bytes meanwhile: no slice of this piece and no peer. (A peer with a private mapping sees what is
    /// written late in the pages that it has not written itself.) In a forked child the address leads to the parent's
    /// bytes, not to a copy of them.
    pub fn expose(&self) -> NonNull<u8> {
        let Inner { shared, place, length } = &*self.inner;
        if shared.is_own_process() {
            shared.space().expose(place, *length, Arc::downgrade(&self.inner));
        }
        self.inner.pointer()
    }

    /// The segment's descriptor, if its source has one: what a peer needs to see the piece.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.place.backing.descriptor()
    }

    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.inner.shared, shared)
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Piece").field(&self.location()).finish()
    }
}

impl Inner {
    fn pointer(&self) -> NonNull<u8> {
        // SAFETY: the offset is inside the segment: its allocator gave it out.
        unsafe { self.place.backing.pointer().add(self.place.offset) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A forked child has copies of the shares, and no say. Another thread of the parent may even have held the
        // lock at that moment: in the child it is then held for ever.
        if !self.shared.is_own_process() {
            return;
        }
        let evicted = self.shared.space().give_back(&self.place, self.length);
        self.shared.retire(evicted);
    }
}
