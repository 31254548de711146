//! Two sessions in memory, on the machine's own libssl: handshake, data in all fragments, ends, broken records.
//!
//! The handshake needs no certificate: it is an anonymous one. Where there is no libssl to load the tests say so and end.

use motet_tls::{Failed, Library, Read, Session, Ssl, Unavailable, Written};
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

const NAMES: [&CStr; 2] = [c"libssl.so.3", c"libssl.so.1.1"];
const SET_MAXIMUM_VERSION: c_int = 124;
const TLS_1_2: c_long = 0x0303;

/// What the tests call that the crate does not.
struct OpenSsl {
    library: &'static Library,
    handle: *mut c_void,
}

macro_rules! call {
    ($openssl:expr, $name:literal, ($($argument:expr => $kind:ty),*) -> $result:ty) => {{
        // SAFETY: documented functions of OpenSSL, with their types and live objects.
        unsafe {
            let function = libc::dlsym($openssl.handle, $name.as_ptr());
            assert!(!function.is_null());
            let function: unsafe extern "C" fn($($kind),*) -> $result = std::mem::transmute(function);
            function($($argument),*)
        }
    }};
}

fn open() -> Option<OpenSsl> {
    for name in NAMES {
        // SAFETY: loads the system's libssl, once for the process.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            continue;
        }
        // SAFETY: an open handle; the function takes nothing.
        let version = unsafe {
            let function = libc::dlsym(handle, c"OpenSSL_version_num".as_ptr());
            let function: unsafe extern "C" fn() -> c_ulong = std::mem::transmute(function);
            function()
        };
        // SAFETY: the system's libssl.
        let library = unsafe { Library::of_loaded(name, version) }.expect("libssl has all functions");
        return Some(OpenSsl { library, handle });
    }
    eprintln!("no libssl on this machine: nothing is tested");
    None
}

/// One end of a connection. Its `SSL` object lives until the process ends.
struct End {
    ssl: NonNull<Ssl>,
    session: Session,
}

impl OpenSsl {
    fn end(&self, server: bool) -> End {
        let method = call!(self, c"TLS_method", () -> *const c_void);
        let context = call!(self, c"SSL_CTX_new", (method => *const c_void) -> *mut c_void);
        let anonymous = c"aNULL:@SECLEVEL=0".as_ptr();
        let set = call!(self, c"SSL_CTX_set_cipher_list",
            (context => *mut c_void, anonymous => *const c_char) -> c_int);
        assert_eq!(set, 1);
        let none = std::ptr::null_mut();
        call!(self, c"SSL_CTX_ctrl",
            (context => *mut c_void, SET_MAXIMUM_VERSION => c_int, TLS_1_2 => c_long, none => *mut c_void) -> c_long);
        let ssl = call!(self, c"SSL_new", (context => *mut c_void) -> *mut Ssl);
        let ssl = NonNull::new(ssl).expect("there is memory");
        // SAFETY: a live object of this library.
        let found = unsafe { self.library.context_of(ssl) };
        assert_eq!(found.cast::<c_void>(), context);
        if server {
            call!(self, c"SSL_set_accept_state", (ssl.as_ptr() => *mut Ssl) -> ());
        } else {
            call!(self, c"SSL_set_connect_state", (ssl.as_ptr() => *mut Ssl) -> ());
        }
        // SAFETY: an object that lives for ever and that this thread alone uses.
        let session = unsafe { Session::new(self.library, ssl) }.expect("there is memory");
        End { ssl, session }
    }

    fn handshake(&self, end: &End) -> bool {
        call!(self, c"SSL_do_handshake", (end.ssl.as_ptr() => *mut Ssl) -> c_int) == 1
    }

    fn shut_down(&self, end: &End) -> c_int {
        call!(self, c"SSL_shutdown", (end.ssl.as_ptr() => *mut Ssl) -> c_int)
    }

    /// Two ends that have shaken hands.
    fn pair(&self) -> (End, End) {
        let (client, server) = (self.end(false), self.end(true));
        for _ in 0..4 {
            self.handshake(&client);
            server.session.append_input(&taken(&client));
            self.handshake(&server);
            client.session.append_input(&taken(&server));
        }
        assert!(self.handshake(&client) && self.handshake(&server));
        (client, server)
    }
}

fn taken(end: &End) -> Vec<u8> {
    let mut output = Vec::new();
    end.session.swap_output(&mut output);
    output
}

fn write(end: &mut End, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match end.session.write(bytes) {
            Ok(Written::Bytes(count)) => bytes = &bytes[count..],
            other => panic!("{other:?}"),
        }
    }
}

/// All that can be read now, and why there is no more.
fn read_all(end: &mut End) -> (Vec<u8>, Result<Read, Failed>) {
    let mut all = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 1000];
    loop {
        match end.session.read(&mut buffer) {
            // SAFETY: the read has written these bytes.
            Ok(Read::Bytes(count)) => all.extend_from_slice(unsafe { buffer[..count].assume_init_ref() }),
            other => return (all, other),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

#[test]
fn bytes_are_whole_in_fragments_of_any_size() {
    let Some(openssl) = open() else { return };
    let (mut client, mut server) = openssl.pair();
    for fragment in [1, 2, 5, 6, 100, 16_384, 16_500, 1_000_000] {
        let message = pattern(50_000);
        write(&mut client, &message);
        let records = taken(&client);
        assert!(records.len() > message.len());
        let mut received = Vec::new();
        for part in records.chunks(fragment) {
            server.session.append_input(part);
            let (bytes, end) = read_all(&mut server);
            assert_eq!(end, Ok(Read::Blocked));
            received.extend_from_slice(&bytes);
            assert_eq!(server.session.unread(), 0);
        }
        assert_eq!(received, message);
        assert!(!server.session.has_pending());
    }
}

#[test]
fn a_lent_buffer_comes_back_and_what_is_left_of_it_is_kept() {
    let Some(openssl) = open() else { return };
    let (mut client, mut server) = openssl.pair();
    let message = pattern(60_000);
    write(&mut client, &message);
    let records = taken(&client);
    let mut buffer: Box<[u8]> = vec![0; records.len() + 100].into();
    buffer[..records.len()].copy_from_slice(&records);
    let mut first = [MaybeUninit::uninit(); 10];
    server.session.lend_input(&mut buffer, records.len());
    assert_eq!(server.session.read(&mut first), Ok(Read::Bytes(10)));
    server.session.return_input(&mut buffer);
    assert_eq!(buffer.len(), records.len() + 100);
    assert!(server.session.has_pending());
    let unread = server.session.unread();
    assert!(0 < unread && unread < records.len());

    // With something left, what is lent next is copied behind it.
    write(&mut client, b"more");
    let more = taken(&client);
    buffer[..more.len()].copy_from_slice(&more);
    server.session.lend_input(&mut buffer, more.len());
    assert_eq!(server.session.unread(), unread + more.len());
    server.session.return_input(&mut buffer);
    let (bytes, end) = read_all(&mut server);
    assert_eq!(end, Ok(Read::Blocked));
    assert_eq!(bytes, [&message[10..], b"more"].concat());
    server.session.forget_input();
    assert!(!server.session.has_pending());
}

#[test]
fn output_of_several_writes_is_collected_in_the_buffer_that_was_lent() {
    let Some(openssl) = open() else { return };
    let (mut client, mut server) = openssl.pair();
    let mut lent = Vec::with_capacity(100_000);
    client.session.swap_output(&mut lent);
    assert_eq!(lent.capacity(), 0);
    for number in 0..10 {
        write(&mut client, &[number; 100]);
    }
    client.session.swap_output(&mut lent);
    assert!(lent.capacity() >= 100_000);
    assert_eq!(client.session.output_length(), 0);
    server.session.append_input(&lent);
    let (bytes, _) = read_all(&mut server);
    assert_eq!(bytes, (0..10).flat_map(|number| [number; 100]).collect::<Vec<_>>());
}

#[test]
fn the_end_is_told_apart_from_a_broken_record() {
    let Some(openssl) = open() else { return };
    let (mut client, mut server) = openssl.pair();
    write(&mut client, b"last");
    assert_eq!(openssl.shut_down(&client), 0);
    server.session.append_input(&taken(&client));
    assert_eq!(read_all(&mut server), (b"last".to_vec(), Ok(Read::Closed)));
    assert_eq!(server.session.read(&mut [MaybeUninit::uninit()]), Ok(Read::Closed));

    let (mut client, mut server) = openssl.pair();
    write(&mut client, b"broken");
    let mut records = taken(&client);
    *records.last_mut().expect("there is a record") ^= 1;
    server.session.append_input(&records);
    assert_eq!(read_all(&mut server), (Vec::new(), Err(Failed)));
    // The alert for the peer.
    assert!(server.session.output_length() > 0);
    assert_eq!(server.session.write(b"no more"), Err(Failed));
}

#[test]
fn an_error_that_others_have_left_is_not_taken_for_ones_own() {
    let Some(openssl) = open() else { return };
    let (mut client, mut server) = openssl.pair();
    let (mut broken, _) = openssl.pair();
    broken.session.append_input(&[b'x'; 100]);
    assert_eq!(read_all(&mut broken).1, Err(Failed));
    assert_eq!(read_all(&mut server), (Vec::new(), Ok(Read::Blocked)));
    write(&mut client, b"fine");
    server.session.append_input(&taken(&client));
    assert_eq!(read_all(&mut server), (b"fine".to_vec(), Ok(Read::Blocked)));
}

#[test]
fn what_was_found_first_stays() {
    let Some(_) = open() else { return };
    // SAFETY: nothing is called of it.
    let again = unsafe { Library::of_loaded(c"no such library", 0) };
    assert!(again.is_ok());
    assert_eq!(Unavailable::Missing(c"SSL_read_ex").to_string(), "SSL_read_ex cannot be reached");
}
