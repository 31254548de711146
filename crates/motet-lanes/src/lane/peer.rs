//! What two processes with a lane between them know of each other's arenas.

use super::message::{Message, OUTSIDE};
use super::parcel::Staged;
use crate::arena::{Arena, Attached, Leased, Location, MapError, Mapping, Piece, View};
use crate::sys::descriptors::{self, Wait};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Places in the other's arena that this process has no more use for, and has not said so yet. Any thread may add to it.
#[derive(Clone, Debug, Default)]
pub struct Returns(Arc<Mutex<Vec<Location>>>);

impl Returns {
    /// Adds one. What was mapped or read there must be gone.
    pub fn add(&self, location: Location) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(location);
    }

    /// Takes them all.
    #[must_use]
    pub fn take(&self) -> Vec<Location> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The other end of a lane: what it holds of this process's arena, and what this one sees of its.
#[derive(Debug)]
pub struct Peer {
    leased: Leased,
    attached: Attached,
    /// Segments' descriptors travel here, both ways.
    control: OwnedFd,
    returns: Returns,
}

/// A message as it was received.
#[derive(Debug)]
pub struct Received {
    /// The bytes, if they are not in the slot.
    pub view: Option<View>,
    /// The place that is to be returned once the view is gone.
    pub message: Option<Location>,
    /// The buffers, with their places, which are to be returned once the mappings are gone.
    pub buffers: Vec<(Mapping, Location)>,
}

/// A message that says what cannot be.
#[derive(Debug)]
pub enum Garbled {
    /// Lengths that contradict each other.
    Lengths,
    /// A place that cannot be mapped.
    Place(MapError),
    /// The descriptor of a segment did not come.
    Segment(io::Error),
}

impl fmt::Display for Garbled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lengths => write!(formatter, "a damaged message came from the other process"),
            Self::Place(error) => write!(formatter, "a message of the other process cannot be read: {error}"),
            Self::Segment(error) => write!(formatter, "memory of the other process did not arrive: {error}"),
        }
    }
}

impl std::error::Error for Garbled {}

impl Peer {
    /// A peer that knows nothing yet. `control` is a socket of [`descriptors::socket_pair`] to it.
    ///
    /// # Safety
    /// The other process is one that uses its arena by this crate's rules ([`Attached::new`]).
    #[must_use]
    pub unsafe fn new(arena: &Arena, control: OwnedFd) -> Self {
        // SAFETY: the caller's word; views are returned by `Received`'s users once they are gone.
        let attached = unsafe { Attached::new() };
        Self { leased: Leased::new(arena), attached, control, returns: Returns::default() }
    }

    /// Where to put what this process has no more use for.
    #[must_use]
    pub fn returns(&self) -> &Returns {
        &self.returns
    }

    /// Sees to it that the peer has the piece's segment.
    pub(super) fn introduce(&mut self, piece: &Piece) -> io::Result<()> {
        if let Some((segment, descriptor)) = self.leased.unintroduced(piece) {
            descriptors::send(self.control.as_fd(), segment, descriptor, Wait::Never)?;
            self.leased.introduced(segment);
        }
        Ok(())
    }

    pub(super) fn lend(&mut self, staged: &Staged) {
        self.leased.lend_range(&staged.piece, staged.location).expect("a staged range is in its piece");
    }

    pub(super) fn lend_all(&mut self, piece: &Piece) -> Location {
        self.leased.lend(piece)
    }

    /// The peer has no more use for a place. One that it does not hold is ignored: it is not to be trusted.
    pub fn returned(&mut self, location: Location) {
        let _ = self.leased.returned(location);
    }

    /// Segments that the peer knows and that are no more: it is to be told.
    pub fn retired(&mut self) -> Vec<u32> {
        self.leased.retired()
    }

    /// The peer has said that a segment is no more.
    pub fn let_go(&mut self, segment: u32) {
        self.attached.remove(segment);
    }

    /// Opens a message. `bytes` gets what its view or its slot holds behind the buffers' places.
    ///
    /// # Errors
    /// See [`Garbled`].
    pub fn open(&mut self, message: &Message) -> Result<Received, Garbled> {
        let outside = message.length == OUTSIDE;
        let view = if outside { Some(self.view(message.location)?) } else { None };
        let bytes = match &view {
            Some(view) => view,
            None => message.inline().ok_or(Garbled::Lengths)?,
        };
        let count = message.buffers as usize;
        let places = count.checked_mul(Location::SIZE).and_then(|length| bytes.get(..length));
        let places = places.ok_or(Garbled::Lengths)?;
        let places: Vec<Location> =
            places.as_chunks::<{ Location::SIZE }>().0.iter().map(Location::from_bytes).collect();
        let mut buffers = Vec::with_capacity(count);
        for location in places {
            self.attach(location.segment)?;
            buffers.push((self.attached.map_array(location).map_err(Garbled::Place)?, location));
        }
        Ok(Received { view, message: outside.then_some(message.location), buffers })
    }

    fn view(&mut self, location: Location) -> Result<View, Garbled> {
        self.attach(location.segment)?;
        self.attached.read(location).map_err(Garbled::Place)
    }

    /// Takes descriptors from the socket until this segment's is there. It was sent before it was named.
    fn attach(&mut self, segment: u32) -> Result<(), Garbled> {
        while !self.attached.contains(segment) {
            let received =
                descriptors::receive(self.control.as_fd(), Wait::Never).map_err(Garbled::Segment)?;
            let Some((number, descriptor)) = received else {
                return Err(Garbled::Segment(io::ErrorKind::UnexpectedEof.into()));
            };
            // What cannot be attached is told of when it is used.
            let _ = self.attached.add(number, descriptor);
            if number == segment && !self.attached.contains(segment) {
                return Err(Garbled::Lengths);
            }
        }
        Ok(())
    }
}

/// What of a message's bytes is behind its buffers' places.
#[must_use]
pub fn behind_places<'a>(message: &'a Message, received: &'a Received) -> &'a [u8] {
    let bytes = received.view.as_deref().or_else(|| message.inline()).unwrap_or_default();
    bytes.get(received.buffers.len() * Location::SIZE..).unwrap_or_default()
}
