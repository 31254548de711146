//! TLS over memory, by a libssl that the process has loaded already: no socket, no Python, no OpenSSL to build against.
//!
//! - [`Library`]: the functions of libssl and libcrypto, found in what a loaded shared library is linked with.
//! - [`Session`]: one connection's `SSL` object, made and configured by somebody else, with its input and output in memory.
//!
//! Errors stay where OpenSSL has put them, in the thread's queue: whoever made the object knows how to tell them.

mod session;
mod sys;
mod wire;

pub use session::{Failed, Read, Session, Written};
pub use sys::library::{Library, Ssl, SslContext, Unavailable};
