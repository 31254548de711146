//! One connection of the load client: a message goes out, its echo comes back and is compared byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Messages start at different places of the pattern, so that an echo of another connection or request is noticed.
const STARTS: usize = 4093;
/// Lines start where lines begin.
const LINES: usize = 61;

/// The bytes that all messages are cut from.
pub struct Pattern {
    pub bytes: Vec<u8>,
    /// Messages start at multiples of this,
    unit: usize,
    /// of which there are so many.
    starts: usize,
}

impl Pattern {
    /// For messages of `size` bytes; as lines, each ends with the only newline in it.
    pub fn new(size: usize, lines: bool) -> Self {
        let mut state: u32 = 0x2545_f491;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        };
        if lines {
            let byte = |index: usize| if (index + 1).is_multiple_of(size) { b'\n' } else { next().max(b' ') };
            return Self { bytes: (0..size * LINES).map(byte).collect(), unit: size, starts: LINES };
        }
        Self { bytes: std::iter::repeat_with(next).take(size + STARTS).collect(), unit: 1, starts: STARTS }
    }

    fn start(&self, number: usize) -> usize {
        number % self.starts * self.unit
    }
}

pub struct Connection {
    pub stream: TcpStream,
    pub started: Instant,
    pub idle: bool,
    /// Counts the messages, from another number on each connection.
    number: usize,
    start: usize,
    sent: usize,
    received: usize,
}

pub enum Progress {
    /// The echo is complete.
    Answered,
    /// The rest of the echo is awaited; `unsent` says whether the socket must also be watched for writing.
    Waiting { unsent: bool },
}

impl Connection {
    pub fn open(port: u16, number: usize) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), CONNECT_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, started: Instant::now(), idle: true, number: number * 131, start: 0, sent: 0, received: 0 })
    }

    /// Begins the next request.
    pub fn begin(&mut self, pattern: &Pattern, size: usize, now: Instant) -> Result<Progress, String> {
        self.number += 17;
        self.start = pattern.start(self.number);
        self.sent = 0;
        self.received = 0;
        self.started = now;
        self.idle = false;
        self.send(pattern, size)?;
        Ok(Progress::Waiting { unsent: self.sent < size })
    }

    /// Reads what is there, writes what is left.
    pub fn turn(&mut self, pattern: &Pattern, size: usize, buffer: &mut [u8]) -> Result<Progress, String> {
        match self.stream.read(buffer) {
            Ok(0) => return Err(format!("the server closed a connection after {} bytes of an echo", self.received)),
            Ok(count) => self.check(pattern, size, &buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("reading an echo failed: {error}")),
        }
        if self.received == size {
            self.idle = true;
            return Ok(Progress::Answered);
        }
        if self.sent < size {
            self.send(pattern, size)?;
        }
        Ok(Progress::Waiting { unsent: self.sent < size })
    }

    fn check(&mut self, pattern: &Pattern, size: usize, echo: &[u8]) -> Result<(), String> {
        if self.idle || self.received + echo.len() > size {
            return Err(format!("more than {size} bytes came back for a message of {size} bytes"));
        }
        let begin = self.start + self.received;
        let expected = &pattern.bytes[begin..begin + echo.len()];
        if echo != expected {
            let wrong = echo.iter().zip(expected).take_while(|(left, right)| left == right).count();
            return Err(format!("byte {} of an echo differs from what was sent", self.received + wrong));
        }
        self.received += echo.len();
        Ok(())
    }

    fn send(&mut self, pattern: &Pattern, size: usize) -> Result<(), String> {
        match self.stream.write(&pattern.bytes[self.start + self.sent..self.start + size]) {
            Ok(count) => self.sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("sending failed: {error}")),
        }
        Ok(())
    }
}
