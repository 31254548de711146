//! What travels through a lane: plain data, valid whatever its bits.

use crate::arena::Location;

/// Bytes that fit into a slot; what is longer goes through an arena.
pub const INLINE: usize = 432;

/// In the place of a length: the bytes are in an arena.
pub const OUTSIDE: u32 = u32::MAX;

/// Bytes, in the slot or in an arena: first the locations of the buffers out of band, then a pickle.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Where the bytes are if they are outside.
    pub location: Location,
    /// How many bytes, or [`OUTSIDE`].
    pub length: u32,
    /// How many [`Location`]s stand before the pickle.
    pub buffers: u32,
    /// The bytes, if they fit.
    pub inline: [u8; INLINE],
}

impl Message {
    /// The bytes if they are in the slot itself.
    #[must_use]
    pub fn inline(&self) -> Option<&[u8]> {
        self.inline.get(..self.length as usize)
    }

    /// Puts bytes into the slot, without buffers.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn set_inline(&mut self, bytes: &[u8]) {
        self.inline[..bytes.len()].copy_from_slice(bytes);
        self.length = bytes.len() as u32;
        self.buffers = 0;
    }
}

/// What a request is about.
pub mod request_kind {
    /// Run a function with the arguments of the message.
    pub const CALL: u32 = 0;
    /// The message is a function: keep it under its number.
    pub const DEFINE: u32 = 1;
    /// Forget the function of this number.
    pub const FORGET: u32 = 2;
    /// The segment of this number is no more: let go of it.
    pub const RETIRE: u32 = 3;
    /// End the process.
    pub const STOP: u32 = 4;
}

/// What the parent asks of a worker.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// One of [`request_kind`].
    pub kind: u32,
    /// The function's number.
    pub function: u32,
    /// The arguments.
    pub message: Message,
}

/// What a reply is about.
pub mod reply_kind {
    /// The call returned; the message is its value.
    pub const RETURNED: u32 = 0;
    /// The call raised; the message is the exception.
    pub const RAISED: u32 = 1;
    /// The call was stopped because the parent asked for it.
    pub const STOPPED: u32 = 2;
    /// The request that is no call has been carried out.
    pub const DONE: u32 = 3;
    /// The worker has no more use for the locations that are the message's bytes.
    pub const RELEASED: u32 = 4;
    /// The segment whose number is the position is no more: let go of it.
    pub const RETIRED: u32 = 5;
    /// The message is a log record.
    pub const LOGGED: u32 = 6;
    /// The worker's arena is full: it waits for what the parent gives back.
    pub const STARVED: u32 = 7;
    /// The message tells what a call has cost that was measured.
    pub const MEASURED: u32 = 8;
}

/// What a worker answers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// One of [`reply_kind`].
    pub kind: u32,
    /// Spare.
    pub reserved: u32,
    /// The position of the request that this answers.
    pub position: u64,
    /// How long the call took, by the clock.
    pub wall_nanos: u64,
    /// How much processor time it took.
    pub cpu_nanos: u64,
    /// The value or the exception.
    pub message: Message,
}

/// Whether it is one to a request, and the last.
#[must_use]
pub fn is_answer(reply: &Reply) -> bool {
    use reply_kind::{DONE, RAISED, RETURNED, STOPPED};
    matches!(reply.kind, RETURNED | RAISED | STOPPED | DONE)
}
