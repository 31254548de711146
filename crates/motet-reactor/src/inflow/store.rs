//! Bytes in the order of their arrival: one piece as it came, or several copied together.

/// Below this size nothing is moved to give memory back.
const SMALL: usize = 4096;

/// Received bytes. Nothing but a few words while it is empty.
///
/// Invariant: while there is a `piece`, `joined` is empty; `start` is within whichever holds the bytes.
#[derive(Debug)]
pub struct Store<P> {
    piece: Option<P>,
    joined: Vec<u8>,
    /// Bytes of it that have been read.
    start: usize,
    /// Bytes of the whole stream that have been read.
    position: u64,
}

impl<P> Default for Store<P> {
    fn default() -> Self {
        Self { piece: None, joined: Vec::new(), start: 0, position: 0 }
    }
}

impl<P: AsRef<[u8]>> Store<P> {
    /// What is there.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.piece {
            Some(piece) => &piece.as_ref()[self.start..],
            None => &self.joined[self.start..],
        }
    }

    /// How many bytes have been read before, of the whole stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: P) {
        if piece.as_ref().is_empty() {
            return;
        }
        if self.bytes().is_empty() {
            self.clear();
            self.piece = Some(piece);
            return;
        }
        if let Some(first) = self.piece.take() {
            let first = &first.as_ref()[self.start..];
            self.joined.reserve_exact(first.len() + piece.as_ref().len());
            self.joined.extend_from_slice(first);
            self.start = 0;
        }
        self.joined.extend_from_slice(piece.as_ref());
    }

    /// Takes the first `count` bytes: the piece itself if these are all that it has, else what `copy` makes of them.
    ///
    /// # Panics
    /// When there are fewer.
    #[inline]
    pub fn take(&mut self, count: usize, copy: impl FnOnce(&[u8]) -> P) -> P {
        if self.start == 0
            && let Some(piece) = self.piece.take_if(|piece| piece.as_ref().len() == count)
        {
            self.position += count as u64;
            return piece;
        }
        let taken = copy(&self.bytes()[..count]);
        self.skip(count);
        taken
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn skip(&mut self, count: usize) {
        let left = self.bytes()[count..].len();
        self.position += count as u64;
        self.start += count;
        if left == 0 {
            self.clear();
        } else if self.start > SMALL.max(left) {
            // More is held than is used: what is moved is less than what was read since the last time.
            let rest = self.bytes().to_vec();
            self.clear();
            self.joined = rest;
        }
    }

    fn clear(&mut self) {
        self.piece = None;
        self.joined = Vec::new();
        self.start = 0;
    }
}
