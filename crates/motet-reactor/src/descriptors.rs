//! Who owns which registered descriptor, under tokens that a reused number cannot forge.
//!
//! The kernel reuses a descriptor's number at once after `close`. An event that was fetched before the close, or a late
//! write by somebody who kept the number, would then reach a stranger's connection. Here nobody keeps numbers: each
//! registration gets a [`Token`] of a slot and the slot's **generation**, which grows at every removal. A token of an
//! earlier generation finds nothing.
//!
//! A generation has 32 bits: it comes round after 2³² − 1 registrations in one and the same slot, while a stale event lives
//! no longer than one poll.

use crate::sys::Descriptor;
use std::num::NonZeroU32;

/// One registration: the slot and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    slot: u32,
    generation: NonZeroU32,
}

impl Token {
    /// The token as a poller carries it: the generation in the high half.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.slot)
    }

    /// The token that a poller carried.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let generation = NonZeroU32::new((bits >> 32) as u32)?;
        Some(Self { slot: bits as u32, generation })
    }
}

#[derive(Debug)]
struct Slot<O> {
    generation: NonZeroU32,
    descriptor: Descriptor,
    owner: Option<O>,
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
            self.slots.push(Slot { generation: NonZeroU32::MIN, descriptor, owner: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        (entry.descriptor, entry.owner) = (descriptor, Some(owner));
        Token { slot, generation: entry.generation }
    }

    /// Removes a registration; every token of it is stale from now on.
    pub fn remove(&mut self, token: Token) -> Option<(Descriptor, O)> {
        let slot = self.slot_mut(token)?;
        let owner = slot.owner.take()?;
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let descriptor = slot.descriptor;
        self.free.push(token.slot);
        Some((descriptor, owner))
    }

    /// The descriptor and the owner behind a token; nothing for a stale one.
    pub fn get(&self, token: Token) -> Option<(Descriptor, &O)> {
        let slot = self.slots.get(token.slot as usize).filter(|slot| slot.generation == token.generation)?;
        slot.owner.as_ref().map(|owner| (slot.descriptor, owner))
    }

    /// As [`Descriptors::get`], to change the owner.
    pub fn get_mut(&mut self, token: Token) -> Option<(Descriptor, &mut O)> {
        let slot = self.slot_mut(token)?;
        slot.owner.as_mut().map(|owner| (slot.descriptor, owner))
    }

    fn slot_mut(&mut self, token: Token) -> Option<&mut Slot<O>> {
        self.slots.get_mut(token.slot as usize).filter(|slot| slot.generation == token.generation)
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
        self.slots.iter().filter_map(|slot| slot.owner.as_ref())
    }

    /// Removes everything, and every token with it.
    pub fn drain(&mut self) -> Vec<(Descriptor, O)> {
        (0..self.slots.len() as u32)
            .filter_map(|slot| self.remove(Token { slot, generation: self.slots[slot as usize].generation }))
            .collect()
    }
}
