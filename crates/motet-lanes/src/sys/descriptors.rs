//! Segments' descriptors on their way to a peer, over a Unix socket of the kind `SOCK_SEQPACKET`.
//!
//! A datagram of this kind is whole or not there, so nothing has to be put together again.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// What to do when the socket has no room, or nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Block the thread, whatever mode the socket is in, unless that is non-blocking. A signal ends it with
    /// [`io::ErrorKind::Interrupted`], so that the caller can look at what it was.
    Block,
    /// Fail with [`io::ErrorKind::WouldBlock`].
    Never,
}

/// A pair of connected sockets, both closed when a program is executed.
///
/// # Errors
/// Of the system.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a segment's descriptor with its number. The receiver gets a descriptor of its own.
///
/// # Errors
/// [`io::ErrorKind::BrokenPipe`] if the peer is gone (no signal is raised); see [`Wait`] for others.
pub fn send(socket: BorrowedFd<'_>, segment: u32, descriptor: BorrowedFd<'_>, wait: Wait) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = match wait {
        Wait::Block => SendFlags::NOSIGNAL,
        Wait::Never => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    };
    rustix::net::sendmsg(socket, &[IoSlice::new(&segment.to_ne_bytes())], &mut control, flags)?;
    Ok(())
}

/// Receives what [`send`] sent: the segment's number and a descriptor, which is closed when a program is executed. `None`
/// when the peer has closed its end and all that it had sent was received.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for anything else than one number and one descriptor, also if this process may have no
/// more descriptors; what came along is closed. See [`Wait`] for others.
pub fn receive(socket: BorrowedFd<'_>, wait: Wait) -> io::Result<Option<(u32, OwnedFd)>> {
    match receive_next(socket, wait) {
        // That the peer is gone and has left something unread is told first, and once.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive_next(socket, wait),
        received => received,
    }
}

fn receive_next(socket: BorrowedFd<'_>, wait: Wait) -> io::Result<Option<(u32, OwnedFd)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut number = [0; 4];
    let flags = match wait {
        Wait::Block => RecvFlags::CMSG_CLOEXEC,
        Wait::Never => RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    };
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut number)], &mut control, flags)?;
    let mut descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    let whole = received.bytes == number.len()
        && !received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    match (descriptors.pop(), descriptors.is_empty()) {
        (Some(descriptor), true) if whole => Ok(Some((u32::from_ne_bytes(number), descriptor))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a segment's number and descriptor")),
    }
}
