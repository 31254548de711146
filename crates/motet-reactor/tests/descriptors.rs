//! The table of registrations against a model that never forgets a token: whatever is entered and removed, a token
//! finds its own registration or nothing.

use motet_reactor::{Descriptors, Token};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

#[derive(Clone, Debug)]
enum Operation {
    Insert {
        descriptor: i32,
    },
    /// Removes by the token that was given so many tokens ago, stale or not.
    Remove {
        which: prop::sample::Index,
    },
    Change {
        which: prop::sample::Index,
    },
    Drain,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        // Few numbers, which are reused all the time, as the system's are.
        10 => (0..6_i32).prop_map(|descriptor| Operation::Insert { descriptor }),
        8 => any::<prop::sample::Index>().prop_map(|which| Operation::Remove { which }),
        3 => any::<prop::sample::Index>().prop_map(|which| Operation::Change { which }),
        1 => prop_oneof![10 => Just(Operation::Insert { descriptor: 0 }), 1 => Just(Operation::Drain)],
    ]
}

/// The table and what it should hold; an owner is a number that is never given twice.
#[derive(Default)]
struct Pair {
    table: Descriptors<u64>,
    model: HashMap<Token, (i32, u64)>,
    tokens: Vec<Token>,
    next_owner: u64,
}

impl Pair {
    fn new_owner(&mut self) -> u64 {
        self.next_owner += 1;
        self.next_owner
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Insert { descriptor } => {
                let owner = self.new_owner();
                let token = self.table.insert(*descriptor, owner);
                assert!(!self.tokens.contains(&token), "a token is never given twice");
                self.model.insert(token, (*descriptor, owner));
                self.tokens.push(token);
            }
            Operation::Remove { which } if !self.tokens.is_empty() => {
                let token = *which.get(&self.tokens);
                assert_eq!(self.table.remove(token), self.model.remove(&token));
            }
            Operation::Change { which } if !self.tokens.is_empty() => {
                let token = *which.get(&self.tokens);
                let changed = self.new_owner();
                let expected = self.model.get_mut(&token).map(|(descriptor, owner)| {
                    *owner = changed;
                    *descriptor
                });
                let found = self.table.get_mut(token).map(|(descriptor, owner)| {
                    *owner = changed;
                    descriptor
                });
                assert_eq!(found, expected);
            }
            Operation::Remove { .. } | Operation::Change { .. } => {}
            Operation::Drain => {
                let drained: HashSet<_> = self.table.drain().into_iter().collect();
                assert_eq!(drained, self.model.drain().map(|(_, entry)| entry).collect());
            }
        }
    }

    fn check(&self) {
        for token in &self.tokens {
            let found = self.table.get(*token).map(|(descriptor, owner)| (descriptor, *owner));
            assert_eq!(found, self.model.get(token).copied(), "{token:?}");
            assert_eq!(Token::from_bits(token.to_bits()), Some(*token));
        }
        assert_eq!(self.table.len(), self.model.len());
        assert_eq!(self.table.is_empty(), self.model.is_empty());
        let owners: HashSet<_> = self.table.owners().copied().collect();
        assert_eq!(owners, self.model.values().map(|(_, owner)| *owner).collect());
    }
}

proptest! {
    #[test]
    fn a_token_finds_its_registration_or_nothing(operations in prop::collection::vec(operation(), 0..200)) {
        let mut pair = Pair::default();
        for operation in &operations {
            pair.apply(operation);
            pair.check();
        }
    }

    #[test]
    fn bits_that_nobody_was_given_find_nothing(inserted in 0..20_usize, bits in prop::collection::vec(any::<u64>(), 50)) {
        let mut table = Descriptors::default();
        let given: Vec<Token> = (0..inserted).map(|owner| table.insert(owner as i32, owner)).collect();
        for bits in bits {
            // Small slots as well, where somebody lives.
            for bits in [bits, bits % 32, bits << 32, (bits << 32) | (bits % 32)] {
                let Some(token) = Token::from_bits(bits) else { continue };
                prop_assert_eq!(table.get(token).is_some(), given.contains(&token));
                if !given.contains(&token) {
                    prop_assert_eq!(table.remove(token), None);
                }
            }
        }
        prop_assert_eq!(table.len(), inserted);
    }
}

#[test]
fn a_slot_is_used_again_under_another_token() {
    let mut table = Descriptors::default();
    let first = table.insert(7, "first");
    assert_eq!(table.remove(first), Some((7, "first")));
    let second = table.insert(7, "second");
    assert_ne!(first, second);
    assert_eq!(table.remove(first), None, "the stale token removes nobody");
    assert_eq!(table.get(second), Some((7, &"second")));
    assert_eq!(table.len(), 1);
}
