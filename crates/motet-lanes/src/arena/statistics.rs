//! What an arena tells of itself.

/// What an arena holds and has held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes in live pieces, as they were asked for.
    pub live_bytes: usize,
    /// The most that this has been.
    pub peak_live_bytes: usize,
    /// Bytes in segments, used or idle: what the arena holds from the system.
    pub held_bytes: usize,
    /// The most that this has been.
    pub peak_held_bytes: usize,
    /// Bytes in segments without a piece, kept for the next one.
    pub idle_bytes: usize,
    /// Bytes in pieces that peers keep, which do not count against the limit ([`super::Arena::let_peers_keep`]).
    pub kept_bytes: usize,
    /// Bytes of segments that peers have got for good so far.
    pub given_bytes: u64,
    /// Live pieces.
    pub pieces: usize,
    /// Segments, each of which has a descriptor.
    pub segments: usize,
    /// Pieces allocated so far.
    pub allocations: u64,
    /// Segments asked for so far. Few beside `allocations` if memory is reused well.
    pub growths: u64,
}
