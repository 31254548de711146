//! Data that waits to be sent, in pieces that are not copied together.

use std::collections::VecDeque;
use std::io::IoSlice;

/// The most pieces handed out at once.
pub const MAXIMUM_QUEUED_PIECES: usize = 64;

/// A queue of pieces, the first of them perhaps sent in part.
///
/// Invariant: no piece is empty from `sent` on, and `bytes` is the sum of what is left.
#[derive(Debug)]
pub struct WriteQueue<B> {
    /// Boxed, for an idle connection to hold one word.
    #[expect(clippy::box_collection, reason = "one word for a connection that has nothing queued")]
    pieces: Option<Box<VecDeque<B>>>,
    sent: usize,
    bytes: usize,
}

impl<B> Default for WriteQueue<B> {
    fn default() -> Self {
        Self { pieces: None, sent: 0, bytes: 0 }
    }
}

impl<B: AsRef<[u8]>> WriteQueue<B> {
    /// Appends a piece, from byte `start` on; an empty rest is left out.
    pub fn push(&mut self, piece: B, start: usize) {
        let length = piece.as_ref().len().saturating_sub(start);
        if length == 0 {
            return;
        }
        let pieces = self.pieces.get_or_insert_default();
        if pieces.is_empty() {
            self.sent = start;
        } else {
            debug_assert_eq!(start, 0, "only the first piece can be sent in part");
        }
        pieces.push_back(piece);
        self.bytes += length;
    }

    /// Calls `use_pieces` with the first pieces, at most [`MAXIMUM_QUEUED_PIECES`].
    pub fn with_pieces<R>(&self, use_pieces: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); MAXIMUM_QUEUED_PIECES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(self.pieces.iter().flat_map(|pieces| pieces.iter())) {
            let start = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(&piece.as_ref()[start..]);
            count += 1;
        }
        use_pieces(&slices[..count])
    }

    /// So many bytes were sent.
    ///
    /// # Panics
    /// When more were sent than are queued.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.checked_sub(count).expect("no more is sent than was queued");
        let Some(pieces) = &mut self.pieces else { return };
        while let Some(first) = pieces.front() {
            let left = first.as_ref().len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            pieces.pop_front();
        }
        self.pieces = None;
    }

    /// Bytes that are left.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}
