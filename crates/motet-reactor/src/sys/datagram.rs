//! Datagrams, several for one system call where the system can do that (`recvmmsg`, `sendmmsg`).

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// The most datagrams that one [`receive_batch`] delivers.
pub const MAXIMUM_RECEIVED: usize = 16;
/// The most datagrams that one [`send_batch`] takes.
pub const MAXIMUM_SENT: usize = 32;

/// Where a datagram comes from or goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An internet address. The flow information of IPv6 is in the host's order.
    Internet(SocketAddr),
    /// A Unix socket's path, or its abstract name, which begins with a NUL.
    Unix(Box<[u8]>),
    /// A Unix socket without a name.
    Unnamed,
}

/// Whether a Unix address fits into the system's structure: a path needs room for a NUL after it, an abstract name does not.
pub fn unix_address_fits(name: &[u8]) -> bool {
    name.len() + usize::from(!is_abstract(name)) <= PATH_ROOM
}

const PATH_ROOM: usize = size_of::<libc::sockaddr_un>() - offset_of!(libc::sockaddr_un, sun_path);

fn is_abstract(name: &[u8]) -> bool {
    matches!(name.first(), None | Some(0))
}

/// An address in the system's form.
#[derive(Clone, Copy)]
#[repr(C)]
union Raw {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
}

impl Raw {
    fn zeroed() -> Self {
        // SAFETY: every field is made of integers, for which all zeros are a value.
        unsafe { std::mem::zeroed() }
    }

    /// The address and how many bytes of it count.
    fn encode(address: &Address) -> (Self, libc::socklen_t) {
        let mut raw = Self::zeroed();
        let length = match address {
            Address::Internet(SocketAddr::V4(address)) => {
                // SAFETY: all fields are initialised and made of integers.
                let v4 = unsafe { &mut raw.v4 };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_port = address.port().to_be();
                v4.sin_addr.s_addr = u32::from(*address.ip()).to_be();
                size_of::<libc::sockaddr_in>()
            }
            Address::Internet(SocketAddr::V6(address)) => {
                // SAFETY: as above.
                let v6 = unsafe { &mut raw.v6 };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_port = address.port().to_be();
                v6.sin6_flowinfo = address.flowinfo().to_be();
                v6.sin6_addr.s6_addr = address.ip().octets();
                v6.sin6_scope_id = address.scope_id();
                size_of::<libc::sockaddr_in6>()
            }
            Address::Unix(_) | Address::Unnamed => {
                let name: &[u8] = if let Address::Unix(name) = address { name } else { &[] };
                // SAFETY: as above.
                let unix = unsafe { &mut raw.unix };
                unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
                let room = name.len().min(PATH_ROOM);
                for (byte, given) in unix.sun_path[..room].iter_mut().zip(name) {
                    *byte = *given as libc::c_char;
                }
                offset_of!(libc::sockaddr_un, sun_path)
                    + (room + usize::from(!is_abstract(name))).min(PATH_ROOM)
            }
        };
        (raw, length as libc::socklen_t)
    }

    /// The address of which the system has written `length` bytes; nothing for families that are not known here.
    ///
    /// # Safety
    /// The system has written an address of this length, or as much of it as there is room for.
    unsafe fn decode(raw: &MaybeUninit<Self>, length: libc::socklen_t) -> Option<Address> {
        if length == 0 {
            return Some(Address::Unnamed);
        }
        // SAFETY: each address begins with its family, and one of IPv4 or IPv6 is written whole. Of a Unix one only the bytes that were
        // written are looked at.
        unsafe {
            let raw = raw.as_ptr();
            match libc::c_int::from((&raw const (*raw).v4.sin_family).read()) {
                libc::AF_INET => {
                    let v4 = (&raw const (*raw).v4).read();
                    let host = u32::from_be(v4.sin_addr.s_addr);
                    let address = SocketAddrV4::new(host.into(), u16::from_be(v4.sin_port));
                    Some(Address::Internet(SocketAddr::V4(address)))
                }
                libc::AF_INET6 => {
                    let v6 = (&raw const (*raw).v6).read();
                    Some(Address::Internet(SocketAddr::V6(SocketAddrV6::new(
                        Ipv6Addr::from(v6.sin6_addr.s6_addr),
                        u16::from_be(v6.sin6_port),
                        u32::from_be(v6.sin6_flowinfo),
                        v6.sin6_scope_id,
                    ))))
                }
                libc::AF_UNIX => {
                    let written = (length as usize).saturating_sub(offset_of!(libc::sockaddr_un, sun_path));
                    let path = (&raw const (*raw).unix.sun_path).cast::<u8>();
                    let name = std::slice::from_raw_parts(path, written.min(PATH_ROOM));
                    let end = if is_abstract(name) { None } else { name.iter().position(|byte| *byte == 0) };
                    Some(Address::Unix(name[..end.unwrap_or(name.len())].into()))
                }
                _ => None,
            }
        }
    }
}

fn repeat(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Receives datagrams, each into `room` bytes of `buffer`, and passes them on. A longer one is cut, as `recvfrom` does it. Returns
/// whether there are no more for now.
///
/// # Errors
/// `WouldBlock` when there is none; the system's otherwise. Nothing was delivered then.
pub fn receive_batch(
    socket: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    room: usize,
    mut deliver: impl FnMut(&[u8], Address),
) -> io::Result<bool> {
    let limit = if cfg!(target_os = "linux") { MAXIMUM_RECEIVED } else { 1 };
    let mut names = [const { MaybeUninit::<Raw>::uninit() }; MAXIMUM_RECEIVED];
    let mut received = [(0, 0); MAXIMUM_RECEIVED];
    let mut parts = [const { None }; MAXIMUM_RECEIVED];
    let mut wanted = 0;
    for (part, memory) in parts.iter_mut().zip(buffer.chunks_exact_mut(room)).take(limit) {
        *part = Some(memory);
        wanted += 1;
    }
    let count = receive_parts(socket, &mut parts[..wanted], &mut names, &mut received)?;
    for (index, part) in parts.iter().flatten().enumerate().take(count) {
        let (length, name_length) = received[index];
        // SAFETY: the system has written so many bytes of this part and of its name.
        let (data, address) =
            unsafe { (part[..length].assume_init_ref(), Raw::decode(&names[index], name_length)) };
        deliver(data, address.unwrap_or(Address::Unnamed));
    }
    Ok(limit > 1 && count < wanted)
}

/// The lengths of a datagram and of its sender's address.
type Lengths = (usize, libc::socklen_t);
type Part<'a> = Option<&'a mut [MaybeUninit<u8>]>;

/// Fills as many parts as there are datagrams for.
#[cfg(target_os = "linux")]
fn receive_parts(
    socket: BorrowedFd<'_>,
    parts: &mut [Part<'_>],
    names: &mut [MaybeUninit<Raw>],
    received: &mut [Lengths],
) -> io::Result<usize> {
    let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; MAXIMUM_RECEIVED];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAXIMUM_RECEIVED];
    for (index, part) in parts.iter_mut().flatten().enumerate() {
        let piece =
            pieces[index].write(libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
        headers[index].write(header(piece, names[index].as_mut_ptr(), size_of::<Raw>() as libc::socklen_t));
    }
    // SAFETY: as many headers as there are parts, each with one piece of memory and room for one name, all of which live on and are
    // nobody else's during the call.
    let count = repeat(|| unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            parts.len() as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        ) as isize
    })?;
    for (lengths, header) in received.iter_mut().zip(&headers[..count]) {
        // SAFETY: the headers up to `count` were written above.
        let header = unsafe { header.assume_init_ref() };
        *lengths = (header.msg_len as usize, header.msg_hdr.msg_namelen);
    }
    Ok(count)
}

#[cfg(not(target_os = "linux"))]
fn receive_parts(
    socket: BorrowedFd<'_>,
    parts: &mut [Part<'_>],
    names: &mut [MaybeUninit<Raw>],
    received: &mut [Lengths],
) -> io::Result<usize> {
    let Some(part) = parts.iter_mut().flatten().next() else { return Ok(0) };
    let mut name_length = size_of::<Raw>() as libc::socklen_t;
    // SAFETY: memory of this length and room for one name, which live on and are nobody else's during the call.
    let length = repeat(|| unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            part.as_mut_ptr().cast(),
            part.len(),
            libc::MSG_DONTWAIT,
            names[0].as_mut_ptr().cast(),
            &raw mut name_length,
        )
    })?;
    received[0] = (length, name_length);
    Ok(1)
}

#[cfg(target_os = "linux")]
fn header(piece: *mut libc::iovec, name: *mut Raw, name_length: libc::socklen_t) -> libc::mmsghdr {
    // SAFETY: integers and pointers, for which all zeros are a value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = piece;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = name_length;
    header
}

/// Sends one datagram: to `address`, or to whom the socket is connected.
///
/// # Errors
/// `WouldBlock` when there is no room for it; the system's otherwise.
pub fn send(socket: BorrowedFd<'_>, data: &[u8], address: Option<&Address>) -> io::Result<()> {
    let (name, length) = address.map_or((Raw::zeroed(), 0), Raw::encode);
    let name = if length == 0 { ptr::null() } else { &raw const name };
    // SAFETY: data and a name of these lengths, which live on during the call; no name where the length is 0.
    repeat(|| unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            name.cast(),
            length,
        )
    })
    .map(drop)
}

/// Sends datagrams in order, at most [`MAXIMUM_SENT`], until one does not go. Returns how many went out; the error of the one after
/// them comes when it is tried again.
///
/// A connected socket's past error (a datagram that was refused) may be lost by this: such sockets use [`send`].
///
/// # Errors
/// Of the first datagram: as [`send`].
#[cfg(target_os = "linux")]
pub fn send_batch<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (&'a [u8], &'a Address)>,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<Raw>::uninit() }; MAXIMUM_SENT];
    let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; MAXIMUM_SENT];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAXIMUM_SENT];
    let mut count = 0;
    for (data, address) in datagrams.take(MAXIMUM_SENT) {
        let (name, length) = Raw::encode(address);
        let name = names[count].write(name);
        let piece = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        headers[count].write(header(pieces[count].write(piece), name, length));
        count += 1;
    }
    // SAFETY: `count` headers, each with one piece of memory, which the system only reads, and one name; all live on during the call.
    repeat(|| unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as libc::c_uint,
            (libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) as _,
        ) as isize
    })
}

/// Sends datagrams in order, at most [`MAXIMUM_SENT`], until one does not go. Returns how many went out; the error of the one after
/// them comes when it is tried again.
///
/// # Errors
/// Of the first datagram: as [`send`].
#[cfg(not(target_os = "linux"))]
pub fn send_batch<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (&'a [u8], &'a Address)>,
) -> io::Result<usize> {
    let mut count = 0;
    for (data, address) in datagrams.take(MAXIMUM_SENT) {
        match send(socket, data, Some(address)) {
            Ok(()) => count += 1,
            Err(error) if count == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `decode` makes of an address that the system has written: the bytes that count, into fresh memory.
    fn written(address: &Address) -> Option<Address> {
        let (raw, length) = Raw::encode(address);
        let mut memory = MaybeUninit::<Raw>::uninit();
        // SAFETY: both have room for this many bytes, which `encode` has initialised; `decode` is told how many there are.
        unsafe {
            let source = (&raw const raw).cast::<MaybeUninit<u8>>();
            ptr::copy_nonoverlapping(source, memory.as_mut_ptr().cast(), length as usize);
            Raw::decode(&memory, length)
        }
    }

    #[test]
    fn addresses_come_back_as_they_went() {
        let most: Vec<u8> = std::iter::repeat_n(b'x', PATH_ROOM - 1).collect();
        let addresses = [
            Address::Internet("127.0.0.1:80".parse().expect("an address")),
            Address::Internet(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 65535, 0xf_ffff, 3).into()),
            Address::Unix(b"/a/path"[..].into()),
            Address::Unix(b"\0name\0"[..].into()),
            Address::Unix(most.into()),
        ];
        for address in addresses {
            assert_eq!(written(&address), Some(address));
        }
    }

    #[test]
    fn no_name_is_no_address() {
        assert_eq!(written(&Address::Unnamed), Some(Address::Unix([].into())));
        // SAFETY: nothing is looked at.
        assert_eq!(unsafe { Raw::decode(&MaybeUninit::uninit(), 0) }, Some(Address::Unnamed));
    }
}
