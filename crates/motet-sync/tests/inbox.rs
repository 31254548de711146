//! The inbox from one thread: every arrow of its state diagram, and who drops what.
#![cfg(not(loom))]

use motet_sync::{Closed, Drain, Receiver, Sender, Wake, inbox};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

#[test]
fn values_arrive_in_order_and_once() {
    let (sender, receiver) = inbox();
    for value in 0..5 {
        assert_eq!(sender.push(value), Ok(Wake::No));
    }
    let drained = receiver.drain();
    assert_eq!(drained.len(), 5);
    assert_eq!(drained.collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(receiver.drain().next(), None);
}

#[test]
fn drain_into_appends() {
    let (sender, receiver) = inbox();
    let mut queue = VecDeque::from([1]);
    let _ = sender.push(2);
    let _ = sender.push(3);
    receiver.drain_into(&mut queue);
    receiver.drain_into(&mut queue);
    assert_eq!(queue, [1, 2, 3]);
}

#[test]
fn the_first_push_of_a_sleep_owes_the_wake_up() {
    let (sender, receiver) = inbox();
    assert!(receiver.prepare_to_sleep());
    assert!(!receiver.prepare_to_sleep(), "it is parked already");
    assert_eq!(receiver.drain().len(), 0, "looking does not unpark");
    assert_eq!(sender.push(1), Ok(Wake::Needed));
    assert_eq!(sender.push(2), Ok(Wake::No));
    receiver.woke();
    assert!(!receiver.prepare_to_sleep(), "values wait");
    assert_eq!(receiver.drain().collect::<Vec<_>>(), [1, 2]);
    assert!(receiver.prepare_to_sleep());
    assert_eq!(sender.push(3), Ok(Wake::Needed));
}

#[test]
fn a_sleep_given_up_owes_nothing() {
    let (sender, receiver) = inbox();
    assert!(receiver.prepare_to_sleep());
    receiver.woke();
    assert_eq!(sender.push(1), Ok(Wake::No));
}

#[test]
fn is_empty_tells_values_from_states() {
    let (sender, receiver) = inbox();
    assert!(receiver.is_empty());
    assert!(receiver.prepare_to_sleep());
    assert!(receiver.is_empty());
    let _ = sender.push(1);
    assert!(!receiver.is_empty());
    assert_eq!(receiver.close().collect::<Vec<_>>(), [1]);
    assert!(receiver.is_empty());
}

#[test]
fn a_closed_inbox_stays_closed_and_gives_values_back() {
    let (sender, receiver) = inbox();
    let _ = sender.push(1);
    assert_eq!(receiver.close().collect::<Vec<_>>(), [1]);
    assert_eq!(receiver.close().len(), 0);
    assert_eq!(receiver.drain().len(), 0);
    receiver.woke();
    assert!(!receiver.prepare_to_sleep());
    assert_eq!(sender.push(2), Err(Closed(2)));
    drop(receiver);
    assert_eq!(sender.clone().push(3), Err(Closed(3)));
}

#[test]
fn dropping_either_holder_drops_the_values() {
    let value = Rc::new(());
    let (sender, receiver) = inbox();
    let _ = sender.push(Rc::clone(&value));
    let _ = sender.push(Rc::clone(&value));
    let mut drained = receiver.drain();
    drop(drained.next());
    assert_eq!(Rc::strong_count(&value), 2);
    drop(drained);
    assert_eq!(Rc::strong_count(&value), 1);
    let _ = sender.push(Rc::clone(&value));
    drop(receiver);
    assert_eq!(Rc::strong_count(&value), 1);
}

#[test]
fn what_a_drained_value_pushes_waits_for_the_next_drain() {
    let (sender, receiver) = inbox();
    let _ = sender.push(1);
    let _ = sender.push(2);
    let mut seen = Vec::new();
    for value in receiver.drain() {
        seen.push(value);
        let _ = sender.push(value + 10);
    }
    assert_eq!(seen, [1, 2]);
    assert_eq!(receiver.drain().collect::<Vec<_>>(), [11, 12]);
}

#[test]
fn the_ends_may_move_to_other_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Sender<Cell<u8>>>();
    sync::<Sender<Cell<u8>>>();
    send::<Receiver<Cell<u8>>>();
    send::<Drain<Cell<u8>>>();
}
