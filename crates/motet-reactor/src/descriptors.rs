//! Who owns which registered descriptor, under tokens that a reused number cannot forge.
//!
//! The kernel reuses a descriptor's number at once after `close`. An event that was fetched before the close, or a late
//! write by somebody who kept the number, would then reach a stranger's connection. Here nobody keeps numbers: each
//! registration gets a [`Token`] of a slot and the slot's **generation**, which grows at every removal. A token of an
//! earlier generation finds nothing.
//!
//! A generation has 32 bits: it comes round after 2³² registrations in one and the same slot, while a stale event lives
//! no longer than one poll.

use crate::sys::Descriptor;

/// One registration: the slot (low half) and its generation (high half).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    fn new(slot: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(slot))
    }

    fn slot(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The token as a poller carries it.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The token that a poller carried.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[derive(Debug)]
struct Slot<O> {
    generation: u32,
    entry: Option<(Descriptor, O)>,
}

/// The table of registrations; `O` is what the binding keeps for each.
#[derive(Debug)]
pub struct Descriptors<O> {
    slots: Vec<Slot<O>>,
    free: Vec<u32>,
}

impl<O> Default for Descriptors<O> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<O> Descriptors<O> {
    /// Enters a descriptor and its owner.
    pub fn insert(&mut self, descriptor: Descriptor, owner: O) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.entry = Some((descriptor, owner));
        Token::new(slot, entry.generation)
    }

    /// Removes a registration; every token of it is stale from now on.
    pub fn remove(&mut self, token: Token) -> Option<(Descriptor, O)> {
        let slot = self.slots.get_mut(token.slot()).filter(|slot| slot.generation == token.generation())?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.slot() as u32);
        Some(entry)
    }

    /// The descriptor and the owner behind a token; nothing for a stale one.
    pub fn get(&self, token: Token) -> Option<(Descriptor, &O)> {
        let slot = self.slots.get(token.slot()).filter(|slot| slot.generation == token.generation())?;
        slot.entry.as_ref().map(|(descriptor, owner)| (*descriptor, owner))
    }

    /// As [`Descriptors::get`], to change the owner.
    pub fn get_mut(&mut self, token: Token) -> Option<(Descriptor, &mut O)> {
        let slot = self.slots.get_mut(token.slot()).filter(|slot| slot.generation == token.generation())?;
        slot.entry.as_mut().map(|(descriptor, owner)| (*descriptor, owner))
    }

    /// How many registrations there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The owners, in no order.
    pub fn owners(&self) -> impl Iterator<Item = &O> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref().map(|(_, owner)| owner))
    }

    /// Removes everything, and every token with it.
    pub fn drain(&mut self) -> Vec<(Descriptor, O)> {
        (0..self.slots.len() as u32)
            .filter_map(|slot| self.remove(Token::new(slot, self.slots[slot as usize].generation)))
            .collect()
    }
}
