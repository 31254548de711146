//! Bytes that come in at one end and go out at the other, in memory that is kept.

#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Buffer {
    pub fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    pub fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[self.begin..self.end]
    }

    /// Room for at least `count` more bytes; `fill` says how many of them were used.
    pub fn room(&mut self, count: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < count {
            self.bytes.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
            if self.bytes.len() - self.end < count {
                self.bytes.resize(self.end + count, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    pub fn fill(&mut self, count: usize) {
        self.end += count;
    }

    pub fn consume(&mut self, count: usize) {
        self.begin += count;
        if self.is_empty() {
            self.begin = 0;
            self.end = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order() {
        let mut buffer = Buffer::default();
        let (mut sent, mut received) = (0u8, 0u8);
        for step in 1..60 {
            for place in &mut buffer.room(step)[..step] {
                *place = sent;
                sent = sent.wrapping_add(1);
            }
            buffer.fill(step);
            let out = buffer.filled().len() * 2 / 3;
            for byte in &buffer.filled()[..out] {
                assert_eq!(*byte, received);
                received = received.wrapping_add(1);
            }
            buffer.consume(out);
        }
        assert_eq!(sent.wrapping_sub(received) as usize, buffer.filled().len() % 256);
    }
}
