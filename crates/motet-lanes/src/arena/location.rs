//! Where bytes lie in another process's arena.

/// A range of bytes in one segment of one arena: what a message carries instead of the bytes.
///
/// It means nothing without knowing whose arena it is. Whoever receives one from another process must take it for what
/// it is, four numbers: [`Attached`](super::Attached) and [`Leased`](super::Leased) check them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Location {
    /// The segment's number; the owner never gives a number twice.
    pub segment: u32,
    /// Tells this piece from the ones that lay in the same place before and will lie there after it.
    pub generation: u32,
    /// Where the range begins, in bytes from the beginning of the segment.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl Location {
    /// The size of its form in bytes.
    pub const SIZE: usize = 24;

    /// Set in the numbers of segments that peers may write to.
    pub(super) const COMMON: u32 = 1 << 31;

    /// Whether peers write there too ([`super::Kind::Common`]).
    pub fn is_common(self) -> bool {
        self.segment & Self::COMMON != 0
    }

    /// Its form in bytes, for a message on this machine.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.segment.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.generation.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.length.to_ne_bytes());
        bytes
    }

    /// What [`Self::to_bytes`] wrote. Any bytes are a location, perhaps of nothing.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(eight)
        };
        Self { segment: word(0), generation: word(4), offset: long(8), length: long(16) }
    }

    /// Whether all of `other` lies in this range of the same piece.
    pub fn contains(&self, other: &Self) -> bool {
        let ends = |it: &Self| it.offset.checked_add(it.length);
        self.segment == other.segment
            && self.generation == other.generation
            && other.offset >= self.offset
            && matches!((ends(self), ends(other)), (Some(own), Some(others)) if others <= own)
    }
}

const _: () = assert!(size_of::<Location>() == Location::SIZE);
