//! The timers against a model: a `BTreeMap` that does the same, slowly and obviously.

use motet_reactor::timers::{TimerKey, Timers};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Clone, Debug)]
enum Operation {
    Schedule {
        delay: u64,
    },
    /// Cancels the timer that was scheduled so many timers ago, whether or not it still runs.
    Cancel {
        age: prop::sample::Index,
    },
    CancelNewest,
    Advance {
        by: u64,
    },
    Clear,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0..50_u64).prop_map(|delay| Operation::Schedule { delay }),
        2 => (1_000..1_010_u64).prop_map(|delay| Operation::Schedule { delay }),
        8 => any::<prop::sample::Index>().prop_map(|age| Operation::Cancel { age }),
        2 => Just(Operation::CancelNewest),
        2 => (0..10_u64).prop_map(|by| Operation::Advance { by }),
        1 => prop_oneof![20 => Just(Operation::Advance { by: 100 }), 1 => Just(Operation::Clear)],
    ]
}

/// The timers and their model; a value is the number of its timer.
#[derive(Default)]
struct Pair {
    timers: Timers<usize>,
    model: BTreeMap<(u64, usize), TimerKey>,
    /// Every key ever given, with its deadline.
    keys: Vec<(TimerKey, u64)>,
    now: u64,
}

impl Pair {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Schedule { delay } => {
                let (deadline, number) = (self.now + delay, self.keys.len());
                let key = self.timers.schedule(deadline, number);
                assert!(self.keys.iter().all(|(earlier, _)| *earlier != key), "a key is never given twice");
                self.model.insert((deadline, number), key);
                self.keys.push((key, deadline));
            }
            Operation::Cancel { age } if !self.keys.is_empty() => self.cancel(age.index(self.keys.len())),
            Operation::CancelNewest if !self.keys.is_empty() => self.cancel(self.keys.len() - 1),
            Operation::Cancel { .. } | Operation::CancelNewest => {}
            Operation::Advance { by } => self.advance(*by),
            Operation::Clear => {
                let mut cleared: Vec<_> = self.timers.clear().collect();
                cleared.sort_unstable();
                let mut expected: Vec<_> = self.model.keys().map(|(_, number)| *number).collect();
                expected.sort_unstable();
                assert_eq!(cleared, expected);
                self.model.clear();
            }
        }
    }

    fn cancel(&mut self, number: usize) {
        let (key, deadline) = self.keys[number];
        let expected = self.model.remove(&(deadline, number)).map(|_| number);
        assert_eq!(self.timers.cancel(key), expected);
    }

    fn advance(&mut self, by: u64) {
        self.now += by;
        while let Some((key, number)) = self.timers.pop_due(self.now) {
            let (first, model_key) = self.model.pop_first().expect("the model has a timer as well");
            assert_eq!((first.1, model_key), (number, key));
            assert!(first.0 <= self.now);
            self.check();
        }
        assert!(
            self.model.keys().next().is_none_or(|(deadline, _)| *deadline > self.now),
            "all that is due came"
        );
    }

    fn check(&self) {
        assert_eq!(self.timers.len(), self.model.len());
        assert_eq!(self.timers.is_empty(), self.model.is_empty());
        assert!(self.timers.garbage() <= self.timers.len(), "{} dead", self.timers.garbage());
        let mut live: Vec<_> = self.timers.iter().copied().collect();
        live.sort_unstable();
        let mut expected: Vec<_> = self.model.keys().map(|(_, number)| *number).collect();
        expected.sort_unstable();
        assert_eq!(live, expected);
    }
}

proptest! {
    #[test]
    fn timers_do_what_the_model_does(
        operations in prop::collection::vec(operation(), 0..250),
        ask_for_the_deadline in any::<bool>(),
    ) {
        let mut pair = Pair::default();
        for operation in &operations {
            pair.apply(operation);
            pair.check();
            // Asking tidies the queue, which must not be what makes the rest right.
            if ask_for_the_deadline {
                let expected = pair.model.keys().next().map(|(deadline, _)| *deadline);
                prop_assert_eq!(pair.timers.next_deadline(), expected);
                pair.check();
            }
        }
        pair.advance(10_000);
        pair.check();
        for number in 0..pair.keys.len() {
            pair.cancel(number);
        }
    }
}

#[test]
fn equal_deadlines_come_in_the_order_of_scheduling() {
    let mut timers = Timers::new();
    for value in 0..100 {
        timers.schedule(5, value);
    }
    let order: Vec<_> = std::iter::from_fn(|| timers.pop_due(5)).map(|(_, value)| value).collect();
    assert!(order.into_iter().eq(0..100));
}

#[test]
fn what_is_not_due_stays() {
    let mut timers = Timers::new();
    timers.schedule(u64::MAX, "never");
    timers.schedule(10, "ten");
    assert_eq!(timers.pop_due(9), None);
    assert_eq!(timers.pop_due(10).map(|(_, value)| value), Some("ten"));
    assert_eq!(timers.pop_due(u64::MAX - 1), None);
    assert_eq!(timers.next_deadline(), Some(u64::MAX));
}

#[test]
fn scheduling_and_cancelling_leaves_nothing_behind() {
    let mut timers = Timers::new();
    timers.schedule(1_000, 0);
    for deadline in 1_000..2_000 {
        let key = timers.schedule(deadline, 1);
        assert_eq!(timers.cancel(key), Some(1));
        assert_eq!(timers.garbage(), 0);
    }
    assert_eq!(timers.len(), 1);
}

#[test]
fn a_cancelled_value_is_returned_at_once() {
    let value = Rc::new(());
    let mut timers = Timers::new();
    let keys: Vec<_> = (0..10).map(|deadline| timers.schedule(deadline, Rc::clone(&value))).collect();
    drop(timers.cancel(keys[4]));
    assert_eq!(Rc::strong_count(&value), 10);
    assert!(timers.cancel(keys[4]).is_none());
    drop(timers.clear());
    assert_eq!(Rc::strong_count(&value), 1);
    timers.schedule(0, value);
    assert!(keys.iter().all(|key| timers.cancel(*key).is_none()), "keys from before `clear` are inert");
}
