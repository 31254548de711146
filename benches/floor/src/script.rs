//! What the client sends and what must come back: messages that are echoed, or a page that is fetched.

use crate::page::Page;

/// Messages start at different places of a pattern, so that an echo of another connection or request is noticed.
/// Lines start only where a line does, so there are fewer, and they are not all kept in a small cache either.
const STARTS: usize = 4093;
const LINES: usize = 61;

pub enum Script {
    Echo(Messages),
    Page(Page),
}

/// The bytes that all messages are cut from.
pub struct Messages {
    pattern: Vec<u8>,
    size: usize,
    stride: usize,
    starts: usize,
}

/// What has come back of one answer.
#[derive(Default)]
pub struct Answer {
    received: usize,
    page: Vec<u8>,
    pub complete: bool,
}

impl Script {
    /// The place of a connection's first message.
    pub fn first(&self, connection: usize) -> usize {
        connection * 131
    }

    pub fn next(&self, place: usize) -> usize {
        place + 17
    }

    pub fn request(&self, place: usize) -> &[u8] {
        match self {
            Self::Echo(messages) => messages.at(place),
            Self::Page(page) => &page.request,
        }
    }

    /// Compares the next bytes of the answer to the request at `place` with what they must be.
    pub fn check(&self, place: usize, answer: &mut Answer, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Echo(messages) => messages.check(place, answer, bytes)?,
            Self::Page(page) => {
                answer.page.extend_from_slice(bytes);
                answer.complete = page.is_whole(&answer.page)?;
            }
        }
        Ok(())
    }
}

impl Answer {
    pub fn clear(&mut self) {
        self.received = 0;
        self.page.clear();
        self.complete = false;
    }
}

impl Messages {
    pub fn any(size: usize) -> Self {
        let pattern = noise().take(size + STARTS).collect();
        Self { pattern, size, stride: 1, starts: STARTS }
    }

    /// Messages with a newline at their end and nowhere else.
    pub fn lines(size: usize) -> Self {
        let ends = |position: usize| (position + 1).is_multiple_of(size);
        let line = |(position, byte)| match (ends(position), byte) {
            (true, _) => b'\n',
            (false, b'\n') => b' ',
            (false, other) => other,
        };
        Self { pattern: noise().take(size * LINES).enumerate().map(line).collect(), size, stride: size, starts: LINES }
    }

    fn at(&self, place: usize) -> &[u8] {
        let begin = place % self.starts * self.stride;
        &self.pattern[begin..begin + self.size]
    }

    fn check(&self, place: usize, answer: &mut Answer, echo: &[u8]) -> Result<(), String> {
        let rest = &self.at(place)[answer.received..];
        let Some(expected) = rest.get(..echo.len()) else {
            return Err(format!("more than {0} bytes came back for a message of {0} bytes", self.size));
        };
        if echo != expected {
            let same = echo.iter().zip(expected).take_while(|(left, right)| left == right).count();
            return Err(format!("byte {} of an echo differs from what was sent", answer.received + same));
        }
        answer.received += echo.len();
        answer.complete = answer.received == self.size;
        Ok(())
    }
}

fn noise() -> impl Iterator<Item = u8> {
    let mut state: u32 = 0x2545_f491;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_once() {
        let script = Script::Echo(Messages::lines(100));
        for place in 0..200 {
            let line = script.request(place);
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(99));
        }
    }

    #[test]
    fn a_wrong_byte_and_one_too_many_are_noticed() {
        let script = Script::Echo(Messages::any(10));
        let mut wrong = script.request(3).to_vec();
        let mut answer = Answer::default();
        script.check(3, &mut answer, &wrong).unwrap();
        assert!(answer.complete);
        assert!(script.check(3, &mut answer, b"?").unwrap_err().starts_with("more than 10 bytes"));
        answer.clear();
        wrong[7] ^= 1;
        script.check(3, &mut answer, &wrong[..4]).unwrap();
        assert!(!answer.complete);
        assert!(script.check(3, &mut answer, &wrong[4..]).unwrap_err().starts_with("byte 7 "));
    }
}
