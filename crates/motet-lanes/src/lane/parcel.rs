//! Bytes and the places of buffers as a message: in the slot, or in a piece of the sender's arena.

use super::message::{INLINE, Message, OUTSIDE};
use super::peer::Peer;
use crate::arena::{Location, Piece};
use std::io;

/// What a message is to say.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// Buffers, each in the sender's arena.
    pub buffers: &'a [Staged],
    /// The rest.
    pub bytes: &'a [u8],
}

/// Bytes in this process's arena, ready to be lent.
#[derive(Clone, Debug)]
pub struct Staged {
    /// A share of the piece that they are in.
    pub piece: Piece,
    /// Where they are.
    pub location: Location,
}

/// The memory that a parcel takes beside its buffers: none if it fits into a slot.
#[derive(Debug)]
pub struct Packed {
    piece: Option<Piece>,
}

impl Parcel<'_> {
    fn length(&self) -> usize {
        self.buffers.len() * Location::SIZE + self.bytes.len()
    }

    fn write(&self, mut place: &mut [u8]) {
        for staged in self.buffers {
            let (first, rest) = place.split_at_mut(Location::SIZE);
            first.copy_from_slice(&staged.location.to_bytes());
            place = rest;
        }
        place[..self.bytes.len()].copy_from_slice(self.bytes);
    }

    /// Gets the memory that the message takes, if it takes any: of kind [`Message`](crate::arena::Kind::Message).
    ///
    /// # Errors
    /// Those of `allocate`.
    pub fn pack<E>(&self, allocate: impl FnOnce(usize) -> Result<Piece, E>) -> Result<Packed, E> {
        if self.length() <= INLINE {
            return Ok(Packed { piece: None });
        }
        let mut piece = allocate(self.length())?;
        self.write(piece.as_mut_slice().expect("nobody else has a share of it"));
        Ok(Packed { piece: Some(piece) })
    }
}

impl Packed {
    /// Lends the parcel to the receiver, and gives the place of the message itself, which returns by a word of the receiver's, or
    /// with its answer.
    ///
    /// # Errors
    /// The system's: a segment's descriptor could not be sent. Nothing is lent then.
    pub fn lend(&self, parcel: &Parcel<'_>, peer: &mut Peer) -> io::Result<Option<Location>> {
        for piece in parcel.buffers.iter().map(|staged| &staged.piece).chain(&self.piece) {
            peer.introduce(piece)?;
        }
        for staged in parcel.buffers {
            peer.lend(staged);
        }
        Ok(self.piece.as_ref().map(|piece| peer.lend_all(piece)))
    }

    /// Writes the message, in place.
    pub fn write(&self, parcel: &Parcel<'_>, message: &mut Message) {
        message.buffers = parcel.buffers.len() as u32;
        match &self.piece {
            None => {
                let length = parcel.length();
                parcel.write(&mut message.inline[..length]);
                message.length = length as u32;
            }
            Some(piece) => {
                message.location = piece.location();
                message.length = OUTSIDE;
            }
        }
    }
}

/// Takes back what was lent for a message that the receiver has not seen.
pub fn take_back(buffers: &[Staged], message: Option<Location>, peer: &mut Peer) {
    for location in buffers.iter().map(|staged| staged.location).chain(message) {
        peer.returned(location);
    }
}
