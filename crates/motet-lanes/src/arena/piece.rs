//! Memory in an arena, from allocation to its last share.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::location::Location;
use super::owner::Shared;
use super::policy::Kind;
use super::segment::{Place, Segment};

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
    kind: Kind,
    /// How many shares are in tables of what is lent.
    pub(super) loans: AtomicUsize,
    /// How many have said that it does not come back by itself. Changed with the books' lock held.
    settled: AtomicUsize,
    /// The bytes that do not count against the limit, since peers keep it. Changed with the books' lock held.
    kept: AtomicUsize,
}

impl Piece {
    pub(super) fn new(shared: Arc<Shared>, place: Place, length: usize, kind: Kind) -> Self {
        let [loans, settled, kept] = [(); 3].map(|()| AtomicUsize::new(0));
        Self { inner: Arc::new(Inner { shared, place, length, kind, loans, settled, kept }) }
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
        let Inner { shared, place, length, .. } = &*self.inner;
        if shared.is_own_process() {
            shared.space().expose(place, *length, Arc::downgrade(&self.inner));
        }
        self.inner.pointer()
    }

    /// The segment's descriptor, if its source has one: what a peer needs to see the piece.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.place.backing.descriptor()
    }

    /// Says that the piece does not come back by itself: somebody holds it who may wait for memory, or do so for ever. Needs
    /// an [`Self::unsettle`] when that is over, unless this ends with the last share.
    pub fn settle(&self) {
        self.inner.settle();
    }

    /// Takes back one [`Self::settle`].
    pub fn unsettle(&self) {
        let Inner { shared, settled, .. } = &*self.inner;
        if shared.is_own_process() {
            let mut space = shared.space();
            if settled.fetch_sub(1, Ordering::Relaxed) == 1 {
                space.settle(false);
            }
        }
    }

    pub(super) fn loans(&self) -> &AtomicUsize {
        &self.inner.loans
    }

    /// Whether it is a buffer that only tables of what is lent have shares of, and does not count as kept yet.
    pub(super) fn is_peers_alone(&self) -> bool {
        let Inner { kind, loans, kept, .. } = &*self.inner;
        // Who has no share cannot get one now: none is made but from another.
        *kind == Kind::Buffer
            && Arc::strong_count(&self.inner) == loans.load(Ordering::Relaxed)
            && kept.load(Ordering::Relaxed) == 0
    }

    /// Lets the peers keep it: the bytes that do not count any more, and the segment if it has been given up.
    pub(super) fn let_keep(&self) -> (usize, Option<Segment>) {
        let Inner { shared, place, length, kept, .. } = &*self.inner;
        let wholly = Arc::strong_count(&self.inner) == 1;
        let mut space = shared.space();
        let (bytes, segment) = space.let_keep(place, *length, wholly);
        drop(space);
        if segment.is_none() {
            kept.store(bytes, Ordering::Relaxed);
            self.inner.settle();
        }
        (bytes, segment)
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
    fn settle(&self) {
        if self.shared.is_own_process() {
            let mut space = self.shared.space();
            if self.settled.fetch_add(1, Ordering::Relaxed) == 0 {
                space.settle(true);
            }
        }
    }

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
        let mut space = self.shared.space();
        if *self.settled.get_mut() > 0 {
            space.settle(false);
        }
        space.returned += u64::from(self.kind == Kind::Buffer);
        let evicted = space.give_back(&self.place, self.length, *self.kept.get_mut());
        drop(space);
        self.shared.retire(evicted);
    }
}
