//! Non-blocking socket calls, without copies and with interrupted calls repeated.

use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketAddrAny};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most pieces that one [`send_vectored`] takes (the least `IOV_MAX` of the systems supported).
pub const MAXIMUM_PIECES: usize = 1024;

/// No waiting, and no signal where the connection is broken. Apple's systems have no such flag; the interpreter ignores
/// SIGPIPE anyway.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::DONTWAIT;

fn repeat<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Receives into `buffer`; 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` when there is nothing yet; the system's otherwise.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    repeat(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT)).map(|(count, _)| count)
}

/// Sends what fits; a broken connection is an error, not a signal.
///
/// # Errors
/// `WouldBlock` when nothing fits; the system's otherwise.
pub fn send(socket: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    repeat(|| rustix::net::send(socket, data, SEND))
}

/// Sends what fits of several pieces, at most [`MAXIMUM_PIECES`], in one call.
///
/// # Errors
/// As [`send`].
pub fn send_vectored(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    repeat(|| rustix::net::sendmsg(socket, pieces, &mut Default::default(), SEND))
}

/// Sends a part of a file from `offset` on and returns its length; 0 at the end of the file.
///
/// # Errors
/// `WouldBlock` when nothing fits; `Unsupported` on systems without this call; the system's otherwise, for files too that it cannot
/// send this way.
pub fn send_file(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    size: usize,
) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    return repeat(|| {
        let mut position = offset;
        rustix::fs::sendfile(socket, file, Some(&mut position), size)
    });
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, file, offset, size);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Accepts one connection, non-blocking and not inherited by programs that are executed.
///
/// # Errors
/// `WouldBlock` when there is none; the system's otherwise.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    #[cfg(not(target_vendor = "apple"))]
    {
        use rustix::net::SocketFlags;
        repeat(|| rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC))
    }
    #[cfg(target_vendor = "apple")]
    {
        let (socket, peer) = repeat(|| rustix::net::acceptfrom(listener))?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        Ok((socket, peer))
    }
}

/// Sends the end of the stream; the other direction stays open.
///
/// # Errors
/// The system's.
pub fn shutdown_write(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, Shutdown::Write)?)
}

/// Sends small writes at once (no Nagle delay); sockets that are not TCP are left alone.
pub fn set_no_delay(socket: BorrowedFd<'_>) {
    // A refusal means that this is no TCP socket, where there is no delay to switch off.
    let _ = rustix::net::sockopt::set_tcp_nodelay(socket, true);
}

/// The local address of an internet socket; nothing for others.
pub fn local_address(socket: BorrowedFd<'_>) -> Option<std::net::SocketAddr> {
    rustix::net::getsockname(socket).ok()?.try_into().ok()
}
