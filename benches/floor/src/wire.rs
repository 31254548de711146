//! A connection's bytes, plain or through TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ClientConfig;

use crate::tls::Tls;

pub const READ_SIZE: usize = 256 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

pub enum Wire {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

pub enum Received {
    Something,
    /// Nothing is there now.
    Nothing,
    /// The server has closed the connection.
    End,
}

/// Connects, and leaves the socket in blocking mode.
pub fn connect(port: u16) -> Result<TcpStream, String> {
    let opened = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), CONNECT_LIMIT);
    opened.and_then(|stream| stream.set_nodelay(true).map(|()| stream)).map_err(|error| error.to_string())
}

pub fn set_nonblocking(stream: &TcpStream) -> Result<(), String> {
    stream.set_nonblocking(true).map_err(|error| format!("cannot set up a connection: {error}"))
}

impl Wire {
    /// Connects, and through TLS also shakes hands.
    pub fn open(port: u16, tls: Option<&Arc<ClientConfig>>) -> Result<Self, String> {
        let stream = connect(port)?;
        let wire = match tls {
            None => Self::Plain(stream),
            Some(configuration) => Self::Tls(Box::new(handshake(stream, configuration)?)),
        };
        set_nonblocking(wire.stream())?;
        Ok(wire)
    }

    pub fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.stream,
        }
    }

    /// Reads once from the socket and gives all that came to `sink`.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Received, String> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => return tls.receive(sink),
        };
        match stream.read(buffer) {
            Ok(0) => Ok(Received::End),
            Ok(count) => sink(&buffer[..count]).map(|()| Received::Something),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(format!("reading failed: {error}")),
        }
    }

    /// Takes as much of `bytes` as there is room for and returns how much that was.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, String> {
        match self {
            Self::Plain(stream) => match stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                other => other.map_err(|error| format!("sending failed: {error}")),
            },
            Self::Tls(tls) => tls.send(bytes),
        }
    }

    /// Whether something that was taken waits for room in the socket.
    pub fn pending(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.pending(),
        }
    }

    pub fn flush(&mut self) -> Result<(), String> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

fn handshake(stream: TcpStream, configuration: &Arc<ClientConfig>) -> Result<Tls, String> {
    stream.set_read_timeout(Some(CONNECT_LIMIT)).map_err(|error| error.to_string())?;
    let mut tls = Tls::begin(stream, configuration, READ_SIZE)?;
    while !tls.established {
        match tls.receive(|_| Err("the server spoke first".to_owned()))? {
            Received::Something => {}
            Received::Nothing => return Err(format!("no handshake within {CONNECT_LIMIT:?}")),
            Received::End => return Err("the server closed the connection in the handshake".to_owned()),
        }
    }
    Ok(tls)
}
