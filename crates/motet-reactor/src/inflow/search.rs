//! The search for a separator, which goes on where it stopped when more data has arrived.

use super::Store;
use memchr::{memchr, memmem};
use std::ops::Range;

/// There is no separator to look for, or an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeparator {
    /// None was given.
    None,
    /// One of them is empty.
    Empty,
}

#[derive(Debug)]
enum Separators {
    /// One byte, as most have it.
    Byte(u8),
    /// From the shortest to the longest.
    Sorted(Box<[Box<[u8]>]>),
}

/// A search for the first end of any of the separators.
#[derive(Debug)]
pub struct Search {
    separators: Separators,
    /// No separator begins before this position of the whole stream.
    clean: u64,
    /// The separator that was found there: its length. What has arrived does not change.
    found: Option<usize>,
}

impl Search {
    /// For one byte.
    pub fn byte(separator: u8) -> Self {
        Self { separators: Separators::Byte(separator), clean: 0, found: None }
    }

    /// For whichever of the separators ends first; of those that end together, for the shortest.
    ///
    /// # Errors
    /// Without separators, and with an empty one.
    pub fn any_of<'a>(separators: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NoSeparator> {
        let mut sorted: Vec<Box<[u8]>> = separators.into_iter().map(Box::from).collect();
        sorted.sort_by_key(|separator| separator.len());
        let separators = match sorted.as_slice() {
            [] => return Err(NoSeparator::None),
            [shortest, ..] if shortest.is_empty() => return Err(NoSeparator::Empty),
            [only] if only.len() == 1 => Separators::Byte(only[0]),
            _ => Separators::Sorted(sorted.into_boxed_slice()),
        };
        Ok(Self { separators, clean: 0, found: None })
    }

    /// The first separator, counted from what waits to be read.
    pub fn find<P: AsRef<[u8]>>(&mut self, store: &Store<P>) -> Option<Range<usize>> {
        let bytes = store.bytes();
        let begin = self.clean_bytes(store);
        if let Some(length) = self.found
            && store.position() <= self.clean
        {
            return Some(begin..begin + length);
        }
        let unseen = &bytes[begin..];
        let (found, longest) = match &self.separators {
            Separators::Byte(byte) => (memchr(*byte, unseen).map(|start| start..start + 1), 1),
            Separators::Sorted(separators) => {
                (first_end(separators, unseen), separators.last().map_or(1, |separator| separator.len()))
            }
        };
        // The last bytes may be the beginning of a separator.
        let clean =
            found.as_ref().map_or((bytes.len() + 1).saturating_sub(longest), |found| begin + found.start);
        self.clean = self.clean.max(store.position() + clean as u64);
        self.found = found.as_ref().map(|found| found.len());
        found.map(|found| begin + found.start..begin + found.end)
    }

    /// Whether there is a separator.
    pub fn is_found<P: AsRef<[u8]>>(&mut self, store: &Store<P>) -> bool {
        self.find(store).is_some()
    }

    /// So many of the bytes that wait to be read lie before any separator.
    pub fn clean_bytes<P: AsRef<[u8]>>(&self, store: &Store<P>) -> usize {
        let clean = self.clean.saturating_sub(store.position()) as usize;
        clean.min(store.bytes().len())
    }
}

fn first_end(separators: &[Box<[u8]>], bytes: &[u8]) -> Option<Range<usize>> {
    let mut first: Option<Range<usize>> = None;
    for separator in separators {
        // A later one that ends no earlier does not count: nothing beyond the end found so far is of interest.
        let within = first.as_ref().map_or(bytes, |first| &bytes[..first.end - 1]);
        if let Some(start) = memmem::find(within, separator) {
            first = Some(start..start + separator.len());
        }
    }
    first
}
