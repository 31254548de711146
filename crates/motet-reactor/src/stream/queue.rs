//! Data that waits to be sent, in pieces that are not copied together.

use std::collections::VecDeque;
use std::io::IoSlice;

/// The most pieces handed out at once.
pub const MAXIMUM_QUEUED_PIECES: usize = 64;

/// A queue of pieces, the first of them perhaps sent in part.
///
/// One word while nothing is queued, as on an idle connection.
#[derive(Debug)]
pub struct WriteQueue<B>(Option<Box<Queued<B>>>);

/// Invariant: there is a piece, none is empty from `sent` on, and `bytes` is the sum of what is left.
#[derive(Debug)]
struct Queued<B> {
    pieces: VecDeque<B>,
    sent: usize,
    bytes: usize,
}

impl<B> Default for WriteQueue<B> {
    fn default() -> Self {
        Self(None)
    }
}

impl<B: AsRef<[u8]>> WriteQueue<B> {
    /// Appends a piece, from byte `start` on; an empty rest is left out.
    pub fn push(&mut self, piece: B, start: usize) {
        let length = piece.as_ref().len().saturating_sub(start);
        if length == 0 {
            return;
        }
        match &mut self.0 {
            Some(queued) => {
                debug_assert_eq!(start, 0, "only the first piece can be sent in part");
                queued.pieces.push_back(piece);
                queued.bytes += length;
            }
            None => {
                let mut pieces = VecDeque::new();
                pieces.push_back(piece);
                self.0 = Some(Box::new(Queued { pieces, sent: start, bytes: length }));
            }
        }
    }

    /// Calls `use_pieces` with the first pieces, at most [`MAXIMUM_QUEUED_PIECES`].
    pub fn with_pieces<R>(&self, use_pieces: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); MAXIMUM_QUEUED_PIECES];
        let mut count = 0;
        if let Some(queued) = &self.0 {
            for (slice, piece) in slices.iter_mut().zip(&queued.pieces) {
                let start = if count == 0 { queued.sent } else { 0 };
                *slice = IoSlice::new(&piece.as_ref()[start..]);
                count += 1;
            }
        }
        use_pieces(&slices[..count])
    }

    /// So many bytes were sent.
    ///
    /// # Panics
    /// When more were sent than are queued.
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes(), "no more is sent than was queued");
        let Some(queued) = &mut self.0 else { return };
        queued.bytes -= count;
        while let Some(first) = queued.pieces.front() {
            let left = first.as_ref().len() - queued.sent;
            if count < left {
                queued.sent += count;
                return;
            }
            count -= left;
            queued.sent = 0;
            queued.pieces.pop_front();
        }
        self.0 = None;
    }

    /// Bytes that are left.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queued| queued.bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
