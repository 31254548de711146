//! What a wait was given and does not take: it goes to the next, in its place, and nobody else's is given back with it.

#![cfg(not(loom))]

mod polling;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use motet_sync::inspect::Body;
use motet_sync::*;
use polling::Polled;

type Dyn<'a> = &'a mut (dyn Selectable + Send);

fn task(number: u64) -> Party {
    Party { body: Body::Task, number }
}

/// A waker that panics.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a waker's panic");
    }
}

/// Whether it is ready, though it would wake by panicking.
fn poll_bomb<F: Future + Unpin>(future: &mut F) -> bool {
    let waker = Waker::from(Arc::new(Bomb));
    Pin::new(future).poll(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn notification_of_a_wait_cancelled_while_it_reacquires() {
    let (lock, condition) = (Lock::new(), Condition::new());
    let mut a = Polled::new(Box::pin(condition.wait(lock.try_acquire().unwrap())));
    assert!(a.poll().is_none());
    let mut b = Polled::new(Box::pin(condition.wait(lock.try_acquire().unwrap())));
    assert!(b.poll().is_none());
    let held = lock.try_acquire().unwrap();
    assert_eq!(condition.notify(1), 1);
    assert!(a.was_woken() && a.poll().is_none()); // now waits for the lock
    drop(a); // cancelled
    drop(held);
    assert!(b.was_woken(), "the notification was swallowed");
}

#[test]
fn granted_lock_then_cancelled() {
    let (lock, condition) = (Lock::new(), Condition::new());
    let mut a = Polled::new(Box::pin(condition.wait(lock.try_acquire().unwrap())));
    assert!(a.poll().is_none());
    let mut b = Polled::new(Box::pin(condition.wait(lock.try_acquire().unwrap())));
    assert!(b.poll().is_none());
    let held = lock.try_acquire().unwrap();
    condition.notify(1);
    assert!(a.poll().is_none());
    drop(held); // lock handed to a, which is dropped before it runs
    drop(a);
    assert_eq!(lock.owner(), None);
    assert!(b.was_woken(), "the notification was swallowed");
}

#[test]
fn grant_dropped_after_a_foreign_release() {
    let lock = Lock::new();
    lock.try_acquire().unwrap().keep();
    let mut b = Polled::new(lock.acquire().by(task(2)));
    assert!(b.poll().is_none());
    lock.release(task(1)).unwrap(); // handed to b
    lock.release(task(1)).unwrap(); // allowed: anybody may; nobody holds it now
    let result = catch_unwind(AssertUnwindSafe(|| drop(b)));
    assert!(result.is_ok(), "depth underflow in a drop");
    drop(block_on(lock.acquire()));
    assert!(lock.try_acquire().is_some(), "nobody holds it, owner {:?}", lock.owner());
}

#[test]
fn grant_dropped_releases_somebody_elses_hold() {
    let lock = Lock::new();
    lock.try_acquire().unwrap().keep();
    let mut b = Polled::new(lock.acquire().by(task(2)));
    assert!(b.poll().is_none());
    lock.release(task(1)).unwrap();
    lock.release(task(1)).unwrap();
    let _c = block_on(lock.acquire().by(task(3)));
    drop(b);
    assert_eq!(lock.owner(), Some(task(3)));
}

#[test]
fn stale_held_releases_somebody_elses_hold() {
    let lock = Lock::new();
    let a = block_on(lock.acquire().by(task(1)));
    lock.release(task(9)).unwrap();
    let _c = block_on(lock.acquire().by(task(3)));
    drop(a); // "somebody else has released it"
    assert!(lock.try_acquire().is_none(), "two hold it");
}

#[test]
fn select_blocks_itself_in_a_semaphore() {
    let semaphore = Semaphore::new(0);
    let (mut five, mut one) = (semaphore.acquire(5), semaphore.acquire(1));
    let mut all: [Dyn; 2] = [&mut five, &mut one];
    let mut choice = Polled::new(select(&mut all));
    assert!(choice.poll().is_none());
    semaphore.release(1).unwrap();
    assert_eq!(choice.poll(), Some(1));
}

#[test]
fn permits_lost_after_too_many_releases() {
    let semaphore = Semaphore::bounded(4);
    let three = semaphore.try_acquire(3).unwrap();
    semaphore.release(1).unwrap();
    drop(three);
    assert_eq!(semaphore.left(), 4, "nobody holds any");
}

#[test]
fn two_items_come_back_in_order() {
    let channel = Channel::<u32>::new(Capacity::Unbounded);
    let (mut a, mut b) = (Polled::new(channel.get()), Polled::new(channel.get()));
    assert!(a.poll().is_none() && b.poll().is_none());
    channel.try_put(1).unwrap();
    channel.try_put(2).unwrap();
    drop(a);
    drop(b);
    assert_eq!([channel.try_get().unwrap(), channel.try_get().unwrap()], [1, 2]);
}

#[test]
fn drop_oldest_stays_above_its_capacity() {
    let channel = Channel::<u32>::with_overflow(Capacity::Bounded(1), Overflow::DropOldest);
    let mut get = Polled::new(channel.get());
    assert!(get.poll().is_none());
    channel.try_put(1).unwrap();
    channel.try_put(2).unwrap();
    drop(get);
    (3..9).for_each(|item| drop(channel.try_put(item)));
    assert_eq!(channel.len(), 1);
}

#[test]
fn drop_oldest_rendezvous_queues() {
    let channel = Channel::<u32>::with_overflow(Capacity::Bounded(0), Overflow::DropOldest);
    let mut get = Polled::new(channel.get());
    assert!(get.poll().is_none());
    channel.try_put(1).unwrap();
    drop(get);
    assert_eq!(channel.try_put(2).unwrap(), Some(2), "with a capacity of 0, its own");
}

#[test]
fn a_begun_wait_in_a_select() {
    let channel = Channel::<u32>::new(Capacity::Unbounded);
    let event = Event::new();
    {
        let (mut get, mut set) = (channel.get(), event.wait());
        assert!(Pin::new(&mut get).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let mut all: [Dyn; 2] = [&mut get, &mut set];
            Polled::new(select(&mut all)).poll()
        }));
    } // all dropped
    assert_eq!(channel.statistics().waiting_to_get, 0, "an entry without an owner");
    channel.try_put(1).unwrap();
    assert_eq!(channel.len(), 1, "the item went to nobody");
}

#[test]
fn selection_dropped_without_end_then_another() {
    let (channel, event) = (Channel::<u32>::new(Capacity::Unbounded), Event::new());
    let (mut get, mut set) = (channel.get(), event.wait());
    {
        let mut all: [Dyn; 2] = [&mut get, &mut set];
        assert!(Selection::default().poll(&mut all, Waker::noop()).is_pending());
    }
    let again = catch_unwind(AssertUnwindSafe(|| {
        let mut all: [Dyn; 2] = [&mut get, &mut set];
        let _ = Selection::default().poll(&mut all, Waker::noop());
    }));
    drop((get, set));
    let leaked = channel.statistics().waiting_to_get;
    channel.try_put(1).unwrap();
    assert_eq!((again.is_ok(), leaked, channel.len()), (true, 0, 1));
}

#[test]
fn panic_of_one_waker_loses_the_wakeups_of_others() {
    let event = Event::new();
    let mut bad = event.wait();
    assert!(!poll_bomb(&mut bad));
    let mut good = Polled::new(event.wait());
    assert!(good.poll().is_none());
    let _ = catch_unwind(AssertUnwindSafe(|| event.set()));
    assert!(good.was_woken());
}

#[test]
fn panic_of_a_putters_waker_loses_its_item() {
    let channel = Channel::<u32>::new(Capacity::Bounded(0));
    let mut put = channel.put(7);
    assert!(!poll_bomb(&mut put));
    let got = catch_unwind(AssertUnwindSafe(|| channel.try_get().unwrap()));
    let was_put = Polled::new(put).poll();
    assert!(
        got.is_ok() || channel.len() == 1,
        "put says {was_put:?}, got {got:?}, {:?}",
        channel.statistics()
    );
}

#[test]
fn panic_in_a_withdrawal_leaves_a_stale_key() {
    let (semaphore, event) = (Semaphore::new(1), Event::new());
    let (mut five, mut set) = (semaphore.acquire(5), event.wait());
    let mut selection = Selection::default();
    {
        let mut all: [Dyn; 2] = [&mut five, &mut set];
        assert!(selection.poll(&mut all, Waker::noop()).is_pending());
    }
    let mut one = semaphore.acquire(1);
    assert!(!poll_bomb(&mut one));
    {
        let mut all: [Dyn; 2] = [&mut five, &mut set];
        let _ = catch_unwind(AssertUnwindSafe(|| selection.end(&mut all)));
    }
    let mut innocent = Polled::new(semaphore.acquire(2)); // gets the freed key
    assert!(innocent.poll().is_none());
    let _ = catch_unwind(AssertUnwindSafe(|| drop(five)));
    semaphore.release(9).unwrap();
    let again = catch_unwind(AssertUnwindSafe(|| innocent.poll().is_some()));
    std::mem::forget(innocent);
    assert!(matches!(again, Ok(true)), "another's wait was withdrawn");
}
