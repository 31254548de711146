//! Waits under loom: what happens when a wait ends in one thread at the moment at which it is given something in another.
//!
//! loom reports a wake-up that is lost as a deadlock. Mutants that these tests were seen to kill, each on its own: a ticket taken by
//! a load and a store; a select that waits without another look, or attempts again though its ticket was taken; a grant
//! that is not given back; a wish that leaves and does not let the next one pass; a waiter served whose ticket was taken elsewhere;
//! a condition that releases the lock before it waits; a waker that is not called, or forgotten before the sleep; a lock
//! that is released and keeps its owner. That two selects do not make way for one another for ever is argued in `select.rs`
//! only: no finite run shows it.
#![cfg(loom)]

use std::task::{Context, Waker};

use loom::sync::Arc;
use loom::thread;
use motet_sync::{
    Barrier, Capacity, Channel, Condition, Event, Lock, Operation, Party, Selectable, Selective, Semaphore,
    block_on, select,
};

/// Every order with at most this many involuntary switches of threads.
fn bounded(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(test);
}

fn rendezvous() -> Channel<u32> {
    Channel::new(Capacity::Bounded(0))
}

/// Waits, and waits no more.
fn begin_and_drop<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::Pin::new(&mut future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

/// The first of two.
fn first_of<A: Selective, B: Selective>(
    mut one: Operation<A>,
    mut other: Operation<B>,
) -> Result<A::Output, B::Output>
where
    Operation<A>: Send,
    Operation<B>: Send,
{
    let place = {
        let mut both: [&mut (dyn Selectable + Send); 2] = [&mut one, &mut other];
        block_on(select(&mut both))
    };
    if place == 0 { Ok(one.take()) } else { Err(other.take()) }
}

#[test]
fn a_put_meets_a_get() {
    bounded(6, || {
        let channel = rendezvous();
        let putter = thread::spawn({
            let channel = channel.clone();
            move || {
                block_on(channel.put(1)).unwrap();
                block_on(channel.put(2)).unwrap();
            }
        });
        assert_eq!([block_on(channel.get()).unwrap(), block_on(channel.get()).unwrap()], [1, 2]);
        putter.join().unwrap();
    });
}

#[test]
fn a_get_that_ends_as_it_is_given_something_loses_nothing() {
    bounded(6, || {
        let channel = Channel::<u32>::new(Capacity::Bounded(1));
        let getter = thread::spawn({
            let channel = channel.clone();
            move || begin_and_drop(channel.get()).map(Result::unwrap)
        });
        let other = thread::spawn({
            let channel = channel.clone();
            move || block_on(channel.get()).unwrap()
        });
        block_on(channel.put(1)).unwrap();
        if getter.join().unwrap().is_some() {
            block_on(channel.put(1)).unwrap();
        }
        assert_eq!(other.join().unwrap(), 1);
        assert!(channel.is_empty());
    });
}

#[test]
fn a_put_that_ends_as_its_item_is_taken_puts_it_once_or_not_at_all() {
    bounded(6, || {
        let channel = rendezvous();
        let putter = thread::spawn({
            let channel = channel.clone();
            move || begin_and_drop(channel.put(1)).is_some()
        });
        let got = channel.try_get().is_ok();
        let was_put = putter.join().unwrap();
        assert!(got || !was_put);
        assert!(channel.try_get().is_err());
    });
}

#[test]
fn closing_ends_a_wait_that_begins() {
    bounded(6, || {
        let channel = rendezvous();
        let getter = thread::spawn({
            let channel = channel.clone();
            move || block_on(channel.get()).is_err()
        });
        channel.close(None);
        assert!(getter.join().unwrap());
    });
}

#[test]
fn a_select_takes_one_item_of_two() {
    bounded(5, || {
        let (left, right) = (rendezvous(), rendezvous());
        let chooser = thread::spawn({
            let (left, right) = (left.clone(), right.clone());
            move || first_of(left.get(), right.get()).map(Result::unwrap).map_err(Result::unwrap)
        });
        let putter = thread::spawn({
            let right = right.clone();
            move || right.try_put(2).is_ok()
        });
        let put_left = left.try_put(1).is_ok();
        let put_right = putter.join().unwrap();
        assert!(!(put_left && put_right), "one alone can be taken");
        if !put_left && !put_right {
            block_on(left.put(1)).unwrap();
        }
        assert_eq!(chooser.join().unwrap(), if put_right { Err(2) } else { Ok(1) });
        // Without room nothing stays behind.
        assert!(left.is_empty() && right.is_empty());
    });
}

/// Which was made first decides where a select waits first: both are tried.
#[test]
fn a_select_that_is_taken_while_it_looks_again_does_nothing_else() {
    for swapped in [false, true] {
        bounded(4, move || {
            let mut channels = [rendezvous(), rendezvous()];
            channels[usize::from(swapped)] = Channel::new(Capacity::Unbounded);
            let [full, right] = if swapped { [1, 0] } else { [0, 1] }.map(|place| channels[place].clone());
            let getter = thread::spawn({
                let right = right.clone();
                move || right.try_get().is_ok()
            });
            let putter = thread::spawn({
                let full = full.clone();
                move || drop(full.try_put(1))
            });
            let put = first_of(full.get(), right.put(2)).is_err();
            putter.join().unwrap();
            assert_eq!(getter.join().unwrap(), put);
            assert_eq!(full.len(), usize::from(put));
        });
    }
}

#[test]
fn two_selects_meet_once() {
    bounded(5, || {
        let (left, right) = (rendezvous(), rendezvous());
        let putter = thread::spawn({
            let (left, right) = (left.clone(), right.clone());
            // In the other order.
            move || first_of(right.put(2), left.put(1)).is_ok()
        });
        let got = first_of(left.get(), right.get()).map(Result::unwrap).map_err(Result::unwrap);
        let put_right = putter.join().unwrap();
        assert_eq!(got, if put_right { Err(2) } else { Ok(1) });
        assert!(left.try_get().is_err() && right.try_get().is_err());
    });
}

#[test]
fn a_select_that_ends_as_it_is_given_something_loses_nothing() {
    bounded(5, || {
        let (left, right) = (Channel::<u32>::new(Capacity::Unbounded), rendezvous());
        let chooser = thread::spawn({
            let (left, right) = (left.clone(), right.clone());
            move || {
                let (mut one, mut other) = (left.get(), right.get());
                let mut both: [&mut (dyn Selectable + Send); 2] = [&mut one, &mut other];
                match begin_and_drop(select(&mut both)) {
                    Some(0) => Some(one.take().unwrap()),
                    _ => None,
                }
            }
        });
        left.try_put(1).unwrap();
        let got = chooser.join().unwrap().or_else(|| left.try_get().ok());
        assert_eq!(got, Some(1));
    });
}

#[test]
fn a_lock_is_held_once_and_handed_over_by_who_leaves() {
    bounded(5, || {
        let lock = Lock::new();
        let inside = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|number| {
                let (lock, inside) = (lock.clone(), Arc::clone(&inside));
                thread::spawn(move || {
                    if number == 0 {
                        drop(begin_and_drop(lock.acquire()));
                    }
                    let held = block_on(lock.acquire());
                    assert_eq!(inside.fetch_add(1, loom::sync::atomic::Ordering::Relaxed), 0);
                    inside.fetch_sub(1, loom::sync::atomic::Ordering::Relaxed);
                    drop(held);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(lock.owner(), None::<Party>);
    });
}

#[test]
fn no_permit_is_lost() {
    bounded(5, || {
        let semaphore = Semaphore::new(0);
        let waiter = thread::spawn({
            let semaphore = semaphore.clone();
            move || drop(begin_and_drop(semaphore.acquire(2)))
        });
        let other = thread::spawn({
            let semaphore = semaphore.clone();
            move || block_on(semaphore.acquire(1)).keep()
        });
        semaphore.release(1).unwrap();
        // It may wait behind the first, until that has gone.
        waiter.join().unwrap();
        other.join().unwrap();
        assert_eq!(semaphore.left(), 0);
    });
}

#[test]
fn an_event_that_is_set_and_cleared_is_seen_by_who_waited() {
    bounded(6, || {
        let (event, begun) = (Event::new(), rendezvous());
        let waiter = thread::spawn({
            let (event, begun) = (event.clone(), begun.clone());
            move || {
                let mut wait = event.wait();
                let mut context = Context::from_waker(Waker::noop());
                assert!(std::pin::Pin::new(&mut wait).poll(&mut context).is_pending());
                block_on(begun.put(1)).unwrap();
                block_on(wait);
            }
        });
        block_on(begun.get()).unwrap();
        event.set();
        event.clear();
        waiter.join().unwrap();
    });
}

#[test]
fn a_notification_is_not_lost_between_the_release_and_the_wait() {
    bounded(5, || {
        let (lock, condition) = (Lock::new(), Condition::new());
        let ready = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let waiter = thread::spawn({
            let (lock, condition, ready) = (lock.clone(), condition.clone(), Arc::clone(&ready));
            move || {
                let mut held = block_on(lock.acquire());
                while !ready.load(loom::sync::atomic::Ordering::Relaxed) {
                    held = block_on(condition.wait(held));
                }
            }
        });
        let held = block_on(lock.acquire());
        ready.store(true, loom::sync::atomic::Ordering::Relaxed);
        condition.notify(1);
        drop(held);
        waiter.join().unwrap();
    });
}

#[test]
fn all_pass_a_barrier_together() {
    bounded(6, || {
        let barrier = Barrier::new(2);
        let other = thread::spawn({
            let barrier = barrier.clone();
            move || block_on(barrier.wait()).unwrap()
        });
        let place = block_on(barrier.wait()).unwrap();
        assert_eq!(place + other.join().unwrap(), 1);
    });
}
