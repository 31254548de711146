//! The client's end of TLS, over buffers of its own, so that it reads as much at a time as the plain client does.
//!
//! TLS 1.3 with one cipher and one group, so that no server gets by with a cheaper one; every handshake is a full
//! one. The server's certificate is not verified: the client's processor is not what is measured.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};

use crate::buffer::Buffer;
use crate::wire::Received;

/// More than a client without a certificate of its own ever says in one message of a handshake.
const HANDSHAKE_MESSAGE: usize = 4096;
const RECORD: usize = 16 * 1024;
/// More than what a record adds to what it carries.
const RECORD_OVERHEAD: usize = 64;
const ALERT: usize = 256;

pub struct Tls {
    pub stream: TcpStream,
    pub established: bool,
    /// The server said that nothing more will come.
    pub peer_closed: bool,
    read_size: usize,
    session: UnbufferedClientConnection,
    incoming: Buffer,
    outgoing: Buffer,
}

pub fn configuration() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    });
    let mut configuration = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
    configuration.resumption = Resumption::disabled();
    Ok(Arc::new(configuration))
}

impl Tls {
    /// Begins a handshake; `receive` carries it on, and reads up to `read_size` bytes each time.
    pub fn begin(stream: TcpStream, configuration: &Arc<ClientConfig>, read_size: usize) -> Result<Self, String> {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let session = UnbufferedClientConnection::new(configuration.clone(), name).map_err(broken)?;
        let (incoming, outgoing) = (Buffer::default(), Buffer::default());
        let mut tls = Self { stream, established: false, peer_closed: false, read_size, session, incoming, outgoing };
        tls.advance(|_| Ok(()))?;
        tls.flush()?;
        Ok(tls)
    }

    /// Reads once from the socket and gives what was inside to `sink`.
    pub fn receive(&mut self, sink: impl FnMut(&[u8]) -> Result<(), String>) -> Result<Received, String> {
        let received = match self.stream.read(self.incoming.room(self.read_size)) {
            Ok(0) => return Ok(Received::End),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Nothing),
            Err(error) => return Err(format!("reading failed: {error}")),
        };
        self.incoming.fill(received);
        self.advance(sink)?;
        self.flush()?;
        Ok(Received::Something)
    }

    /// Takes all of `message`, or nothing while an earlier one is still unsent.
    pub fn send(&mut self, message: &[u8]) -> Result<usize, String> {
        self.flush()?;
        if self.pending() {
            return Ok(0);
        }
        let records = message.len().div_ceil(RECORD);
        let room = self.outgoing.room(message.len() + records * RECORD_OVERHEAD);
        let UnbufferedStatus { discard, state } = self.session.process_tls_records(self.incoming.filled());
        let ConnectionState::WriteTraffic(mut writer) = state.map_err(broken)? else {
            return Err("the connection cannot send".to_owned());
        };
        let count = writer.encrypt(message, room).map_err(|error: EncryptError| format!("cannot encrypt: {error}"))?;
        self.outgoing.fill(count);
        self.incoming.consume(discard);
        self.flush()?;
        Ok(message.len())
    }

    /// Tells the server that nothing more will be sent.
    pub fn close(&mut self) -> Result<(), String> {
        let room = self.outgoing.room(ALERT);
        let UnbufferedStatus { discard, state } = self.session.process_tls_records(self.incoming.filled());
        if let ConnectionState::WriteTraffic(mut writer) = state.map_err(broken)? {
            let count = writer.queue_close_notify(room).map_err(|error| format!("cannot close: {error}"))?;
            self.outgoing.fill(count);
        }
        self.incoming.consume(discard);
        self.flush()
    }

    /// Whether something waits for room in the socket.
    pub fn pending(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub fn flush(&mut self) -> Result<(), String> {
        while self.pending() {
            match self.stream.write(self.outgoing.filled()) {
                Ok(count) => self.outgoing.consume(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("sending failed: {error}")),
            }
        }
        Ok(())
    }

    /// Works through what has arrived, until more must.
    fn advance(&mut self, mut sink: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
        loop {
            let UnbufferedStatus { mut discard, state } = self.session.process_tls_records(self.incoming.filled());
            let mut again = true;
            match state.map_err(broken)? {
                ConnectionState::ReadTraffic(mut reader) => {
                    while let Some(record) = reader.next_record() {
                        let record = record.map_err(broken)?;
                        discard += record.discard;
                        sink(record.payload)?;
                    }
                }
                ConnectionState::EncodeTlsData(mut encoder) => {
                    let room = self.outgoing.room(HANDSHAKE_MESSAGE);
                    let count =
                        encoder.encode(room).map_err(|error: EncodeError| format!("cannot shake hands: {error}"))?;
                    self.outgoing.fill(count);
                }
                ConnectionState::TransmitTlsData(encoded) => encoded.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                ConnectionState::WriteTraffic(_) => {
                    self.established = true;
                    again = false;
                }
                _ => again = false,
            }
            self.incoming.consume(discard);
            if !again {
                break;
            }
        }
        if self.established && self.session.handshake_kind() == Some(HandshakeKind::Resumed) {
            return Err("the server resumed an old session; only full handshakes count".to_owned());
        }
        Ok(())
    }
}

fn broken(error: Error) -> String {
    format!("TLS failed: {error}")
}

#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
