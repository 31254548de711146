//! What a connection has received and nobody has read yet, and what reads make of it: no socket, no task, no Python.
//!
//! A read is a [`Want`], tried against an [`Inflow`] until it can be met. Each piece that arrives is looked at once, however
//! often a read is tried: a search goes on where it stopped. A piece that is asked for as it came is handed out as it came,
//! uncopied.

mod search;
mod store;

pub use search::{NoSeparator, Search};
pub use store::Store;

/// What one read waits for.
#[derive(Debug)]
pub enum Want {
    /// At most so many bytes, as soon as there is one.
    Some(usize),
    /// So many bytes, no fewer.
    Exactly(usize),
    /// Everything up to the end of the stream.
    All,
    /// Everything up to and with a separator.
    Until(Search),
    /// As `Until`, with the rules of lines: the last one may lack its separator, and one that is too long is dropped.
    Line(Search),
}

/// How an attempt to read ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt<P> {
    /// With these bytes.
    Done(P),
    /// There is not enough yet.
    Wait,
    /// The stream has ended before; this is what there was.
    Incomplete(P),
    /// More than the limit lies before the separator, which was `found` or not; so many bytes would have to be read to pass it.
    Overrun {
        /// Whether the separator was found.
        found: bool,
        /// Bytes before the separator, or before where it may begin.
        consumed: usize,
    },
}

/// Received data with its limit, and whether the sender has been paused for it. `P` is a piece of data as it arrives.
#[derive(Debug)]
pub struct Inflow<P> {
    store: Store<P>,
    limit: usize,
    ended: bool,
    paused: bool,
}

impl<P: AsRef<[u8]>> Inflow<P> {
    /// Nothing yet. A separator must come within `limit` bytes, and twice as many may wait to be read.
    pub fn new(limit: usize) -> Self {
        Self { store: Store::default(), limit, ended: false, paused: false }
    }

    /// The limit given to [`Inflow::new`].
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What waits to be read.
    pub fn bytes(&self) -> &[u8] {
        self.store.bytes()
    }

    /// Drops what waits to be read: it was meant for another layer.
    pub fn discard(&mut self) {
        self.store.skip(self.store.bytes().len());
    }

    /// Whether the stream has ended; what has arrived before can still be read.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the sender is paused.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// A piece has arrived. It is kept whole, or copied to the rest of what waits.
    pub fn feed(&mut self, piece: P) {
        self.store.push(piece);
    }

    /// The stream has ended.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the sender must be paused now, told once: more than twice the limit waits.
    pub fn must_pause(&mut self) -> bool {
        let pause = !self.paused && self.bytes().len() > self.limit.saturating_mul(2);
        self.paused |= pause;
        pause
    }

    /// Whether the sender may send again after a read, told once: no more than the limit waits.
    pub fn may_resume(&mut self) -> bool {
        self.paused && self.bytes().len() <= self.limit && self.resume()
    }

    /// Lets the sender send again, because a read waits for more than the limits allow or the sender is another one now;
    /// whether it was paused.
    pub fn resume(&mut self) -> bool {
        std::mem::take(&mut self.paused)
    }

    /// Whether a read that waits has to be tried again now.
    pub fn concerns(&self, want: &mut Want) -> bool {
        self.ended
            || match want {
                Want::Some(_) => !self.bytes().is_empty(),
                Want::Exactly(count) => self.bytes().len() >= *count,
                Want::All => false,
                Want::Until(search) | Want::Line(search) => {
                    search.is_found(&self.store) || search.clean_bytes(&self.store) > self.limit
                }
            }
    }

    /// Tries to read. `copy` makes a piece of bytes that did not arrive as one.
    pub fn attempt(&mut self, want: &mut Want, copy: impl FnOnce(&[u8]) -> P) -> Attempt<P> {
        let waiting = self.bytes().len();
        match want {
            Want::Some(most) => {
                if waiting == 0 && !self.ended && *most > 0 {
                    return Attempt::Wait;
                }
                Attempt::Done(self.store.take((*most).min(waiting), copy))
            }
            Want::Exactly(count) if waiting >= *count => Attempt::Done(self.store.take(*count, copy)),
            Want::Exactly(_) => self.incomplete(copy),
            Want::All if self.ended => Attempt::Done(self.store.take(waiting, copy)),
            Want::All => Attempt::Wait,
            Want::Until(search) => match search.find(&self.store) {
                Some(found) if found.start > self.limit => {
                    Attempt::Overrun { found: true, consumed: found.start }
                }
                Some(found) => Attempt::Done(self.store.take(found.end, copy)),
                None => match search.clean_bytes(&self.store) {
                    clean if clean > self.limit => Attempt::Overrun { found: false, consumed: clean },
                    _ => self.incomplete(copy),
                },
            },
            Want::Line(search) => match search.find(&self.store) {
                Some(found) if found.start > self.limit => {
                    self.store.skip(found.end);
                    Attempt::Overrun { found: true, consumed: found.start }
                }
                Some(found) => Attempt::Done(self.store.take(found.end, copy)),
                None => match search.clean_bytes(&self.store) {
                    clean if clean > self.limit => {
                        self.store.skip(waiting);
                        Attempt::Overrun { found: false, consumed: clean }
                    }
                    _ if self.ended => Attempt::Done(self.store.take(waiting, copy)),
                    _ => Attempt::Wait,
                },
            },
        }
    }

    /// There is not enough: waits for more, or takes what there is when no more will come.
    fn incomplete(&mut self, copy: impl FnOnce(&[u8]) -> P) -> Attempt<P> {
        if !self.ended {
            return Attempt::Wait;
        }
        Attempt::Incomplete(self.store.take(self.bytes().len(), copy))
    }
}
