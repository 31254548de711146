//! Which memory is asked for, for what: numbers only.

/// What a piece of an arena is for, which decides how finely memory is cut for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read by the peer in place and soon given back: cut in steps of 64 bytes.
    Message,
    /// Mapped privately by the peer, perhaps for long: cut in pages, of which no two pieces share one.
    Buffer,
    /// Written by its owner and by all peers that it is lent to. Each has a segment of its own, which is not used again.
    Common,
}

/// A cache line: the cores of two processes that read neighbouring messages do not disturb each other.
const MESSAGE_GRANULE: usize = 64;

impl Kind {
    /// The unit that memory is cut into.
    pub(super) fn granule(self, page: usize) -> usize {
        match self {
            Self::Message => MESSAGE_GRANULE,
            Self::Buffer | Self::Common => page,
        }
    }

    /// The size of the first segment: what a program that sends little costs.
    fn smallest_segment(self) -> usize {
        match self {
            Self::Message => 256 << 10,
            Self::Buffer | Self::Common => 1 << 20,
        }
    }

    /// The size that segments do not grow beyond. Each one costs a descriptor here and in every peer, so small ones
    /// would run into the system's limit (often 1024); large ones are taken whole where a little was needed.
    fn largest_segment(self) -> usize {
        match self {
            Self::Message => 16 << 20,
            Self::Buffer | Self::Common => 64 << 20,
        }
    }

    /// Whether a piece shares a segment with others. A large one gets its own, of just its size, which can be returned
    /// to the system or used again no matter what else lives.
    pub(super) fn shares(self, length: usize) -> bool {
        self != Self::Common && length <= self.largest_segment() / 4
    }

    /// The number of pieces that one segment is prepared for. A place is 32 bytes of the owner's private memory, so
    /// small messages get fewer places than granules, and, if it comes to that, another segment.
    pub(super) fn places(self, granules: u32) -> u32 {
        let places = match self {
            Self::Message => granules / 4,
            Self::Buffer | Self::Common => granules,
        };
        places.clamp(1, 1 << 16) + 3
    }

    /// The size of the next segment for this kind when its segments have `held` bytes together: as much again, so that
    /// few segments hold much and what is taken in vain stays in proportion to what is used.
    pub(super) fn next_segment(self, held: usize, least: usize, page: usize) -> usize {
        let size = held.clamp(self.smallest_segment(), self.largest_segment()).max(least);
        size.next_multiple_of(page)
    }

    /// The least size of a segment in which so many granules are found again: free ranges are kept by size in bins,
    /// eight for each power of two, and a search begins at the first bin in which every range is large enough.
    pub(super) fn least_segment(self, granules: u32, page: usize) -> usize {
        round_to_eighths(granules as usize) * self.granule(page)
    }
}

/// The next number of which only the first four binary digits are not zero.
fn round_to_eighths(number: usize) -> usize {
    match number.checked_ilog2() {
        Some(digits @ 4..) => number.next_multiple_of(1 << (digits - 3)),
        _ => number,
    }
}

/// The size of a segment for one large piece: a sixteenth more at most, so that the next piece of about this length
/// finds it large enough.
pub(super) fn own_segment(length: usize, page: usize) -> Option<usize> {
    let step = length.checked_ilog2().map_or(1, |digits| 1usize << digits.saturating_sub(4));
    length.checked_next_multiple_of(step.max(page))
}

/// The longest idle segment that a piece is put into which needs one of its own.
pub(super) fn longest_reused(length: usize) -> usize {
    length.saturating_add(length / 2)
}

/// How much memory an arena keeps, of what nobody uses, before it returns some to the system.
///
/// The kernel clears what it gives out and maps it page by page, which takes ten times as long as filling it.
pub(super) fn idle_limit(limit: usize) -> usize {
    limit / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_round_up() {
        for (number, rounded) in [(0, 0), (1, 1), (15, 15), (16, 16), (17, 18), (100, 104), (1025, 1152)] {
            assert_eq!(round_to_eighths(number), rounded, "{number}");
        }
    }

    #[test]
    fn segments_double_up_to_a_size() {
        let (mut held, mut sizes) = (0, Vec::new());
        for _ in 0..10 {
            let size = Kind::Message.next_segment(held, 64, 4096);
            sizes.push(size >> 10);
            held += size;
        }
        assert_eq!(sizes, [256, 256, 512, 1024, 2048, 4096, 8192, 16384, 16384, 16384]);
        assert_eq!(Kind::Buffer.next_segment(0, 5 << 20, 4096), 5 << 20);
    }

    #[test]
    fn an_own_segment_is_little_more_than_its_piece() {
        assert_eq!(own_segment(100, 4096), Some(4096));
        assert_eq!(own_segment(usize::MAX, 4096), None);
        for length in [5 << 20, 100_000_000, (1 << 30) + 1] {
            let size = own_segment(length, 4096).unwrap();
            assert!(size >= length && size - length <= length / 16 && size.is_multiple_of(4096));
        }
    }
}
