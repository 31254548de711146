//! What only the loop's thread touches.

use crate::datagram;
use crate::files::Files;
use crate::handle::Handle;
use crate::listener::Listener;
use crate::streams::Spares;
use crate::task::Task;
use crate::watched::Watched;
use motet_reactor::{Reactor, Turn};
use motet_sync::inbox::Receiver;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::mem::MaybeUninit;

/// Size of the buffer that reads land in before they become exact `bytes`: asyncio's and libuv's.
pub const READ_BUFFER: usize = 256 * 1024;
/// Size of the buffer for plaintext of small reads.
const PLAINTEXT_BUFFER: usize = 64 * 1024;
/// Handles kept for reuse by the loop's thread while the loop is idle. A busy loop keeps all that it has used in one burst.
const SPARE_HANDLES: usize = 1024;

/// Who hears of a descriptor.
pub enum Owner {
    /// A connection's transport.
    Transport(Py<PyAny>),
    /// A datagram socket's transport.
    Datagrams(Py<PyAny>),
    /// A server's listening socket.
    Listener(Py<Listener>),
    /// `add_reader`, `add_writer` and the `sock_…` methods.
    Watched(Box<Watched>),
    /// The ring of this loop's files.
    Files,
}

/// What only the loop's thread touches: the reactor, until the loop is closed, and the books beside it.
pub struct State {
    pub reactor: Option<Reactor<Owner>>,
    books: Books,
}

impl State {
    pub fn new(reactor: Reactor<Owner>, inbox: Receiver<Task>) -> Self {
        Self {
            reactor: Some(reactor),
            books: Books {
                turn: Turn::new(inbox),
                flush: Vec::new(),
                datagram_flush: Vec::new(),
                datagram_memory: datagram::Memory::default(),
                addresses: datagram::address::AddressBook::default(),
                spare: Vec::new(),
                read_buffer: Box::default(),
                files: Files::default(),
                plaintext: Box::default(),
                records: Vec::new(),
                joined: Vec::new(),
                stream_spares: Spares::default(),
                writes_between_runs: 0,
            },
        }
    }

    /// The open reactor and the books.
    pub fn parts(&mut self) -> Option<(&mut Reactor<Owner>, &mut Books)> {
        Some((self.reactor.as_mut()?, &mut self.books))
    }
}

impl std::ops::Deref for State {
    type Target = Books;
    fn deref(&self) -> &Books {
        &self.books
    }
}

impl std::ops::DerefMut for State {
    fn deref_mut(&mut self) -> &mut Books {
        &mut self.books
    }
}

/// The loop's own books.
pub struct Books {
    pub turn: Turn<Task>,
    /// Transports that have collected data in this round.
    pub flush: Vec<Py<PyAny>>,
    /// Datagram transports that have collected datagrams in this round.
    pub datagram_flush: Vec<Py<PyAny>>,
    pub datagram_memory: datagram::Memory,
    pub addresses: datagram::address::AddressBook,
    pub spare: Vec<Py<Handle>>,
    pub read_buffer: Box<[u8]>,
    pub files: Files,
    /// TLS: plaintext before it becomes exact `bytes`.
    pub plaintext: Box<[MaybeUninit<u8>]>,
    /// TLS: records before they are sent; empty in between.
    pub records: Vec<u8>,
    /// TLS: small pieces before they become one record.
    pub joined: Vec<u8>,
    pub stream_spares: Spares,
    /// Writes made while the loop did not run: each is a round of its own.
    writes_between_runs: u64,
}

impl Books {
    /// A number for the round that is being run, for transports to see whether they have sent in it.
    pub fn round(&mut self, running: bool) -> u64 {
        if !running {
            self.writes_between_runs += 1;
        }
        self.turn.statistics.turns + self.writes_between_runs
    }

    /// What a TLS connection borrows to read.
    pub fn tls_buffers(&mut self) -> TlsBuffers<'_> {
        if self.plaintext.is_empty() {
            self.plaintext = Box::new_uninit_slice(PLAINTEXT_BUFFER);
        }
        TlsBuffers { received: &mut self.read_buffer, plaintext: &mut self.plaintext }
    }

    /// Gives back the handles that an idle loop does not keep.
    pub fn surplus(&mut self) -> Vec<Py<Handle>> {
        if self.spare.len() <= SPARE_HANDLES {
            return Vec::new();
        }
        let surplus = self.spare.split_off(SPARE_HANDLES);
        self.spare.shrink_to(SPARE_HANDLES);
        surplus
    }
}

/// What a TLS connection borrows of its loop to read.
pub struct TlsBuffers<'a> {
    /// The loop's read buffer.
    pub received: &'a mut Box<[u8]>,
    pub plaintext: &'a mut [MaybeUninit<u8>],
}

pub fn traverse_state(state: &State, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    state.turn.waiting().try_for_each(|task| task.traverse(visit))?;
    state.flush.iter().chain(&state.datagram_flush).try_for_each(|transport| visit.call(transport))?;
    state.files.traverse(visit)?;
    let owners = state.reactor.iter().flat_map(|reactor| reactor.descriptors().owners());
    for owner in owners {
        match owner {
            Owner::Transport(transport) | Owner::Datagrams(transport) => visit.call(transport)?,
            Owner::Listener(listener) => visit.call(listener)?,
            Owner::Watched(watched) => watched.traverse(visit)?,
            Owner::Files => {}
        }
    }
    Ok(())
}
