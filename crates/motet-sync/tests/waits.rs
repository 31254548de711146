//! What each primitive promises, step by step.
#![cfg(not(loom))]

mod polling;

use std::pin::Pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use motet_sync::barrier::Broken;
use motet_sync::channel::{PutError, TryGetError};
use motet_sync::inspect::Body;
use motet_sync::lock::ReleaseError;
use motet_sync::{
    Barrier, Capacity, Channel, Condition, Event, Inspect, Lock, Overflow, Party, Semaphore, block_on,
    block_on_until, select,
};
use polling::Polled;

fn task(number: u64) -> Party {
    Party { body: Body::Task, number }
}

#[test]
fn an_item_goes_to_who_came_first() {
    let channel = Channel::<u32>::new(Capacity::Unbounded);
    let mut gets: Vec<_> = (0..3).map(|_| Polled::new(channel.get())).collect();
    assert!(gets.iter_mut().all(|get| get.poll().is_none()));
    channel.try_put(1).unwrap();
    channel.try_put(2).unwrap();
    // Nobody who comes now is before them.
    assert!(matches!(channel.try_get(), Err(TryGetError::Empty)));
    let got: Vec<_> = gets.iter_mut().map(|get| get.poll().map(Result::unwrap)).collect();
    assert_eq!(got, [Some(1), Some(2), None]);
}

#[test]
fn an_item_that_a_get_was_given_and_did_not_return_is_the_next() {
    let channel = Channel::<u32>::new(Capacity::Bounded(1));
    let mut get = Polled::new(channel.get());
    assert!(get.poll().is_none());
    channel.try_put(1).unwrap();
    channel.try_put(2).unwrap();
    assert!(matches!(channel.try_put(3), Err(PutError::Full(3))));
    drop(get);
    // One more than there is room for.
    assert_eq!(channel.len(), 2);
    assert!(matches!(channel.try_put(3), Err(PutError::Full(3))));
    assert_eq!([channel.try_get().unwrap(), channel.try_get().unwrap()], [1, 2]);
}

#[test]
fn without_room_a_put_waits_for_a_get() {
    let channel = Channel::<u32>::new(Capacity::Bounded(0));
    let mut put = Polled::new(channel.put(1));
    assert!(put.poll().is_none());
    assert_eq!(channel.try_get().unwrap(), 1);
    assert!(put.was_woken());
    assert_eq!(put.poll().unwrap().unwrap(), None);
    assert!(matches!(channel.try_get(), Err(TryGetError::Empty)));
}

#[test]
fn a_closed_channel_gives_what_is_left_and_tells_all() {
    let channel = Channel::<u32, String>::new(Capacity::Bounded(1));
    channel.try_put(1).unwrap();
    let mut put = Polled::new(channel.put(2));
    assert!(put.poll().is_none());
    assert!(channel.close(Some("enough".to_owned())));
    assert!(!channel.close(None));
    assert!(channel.is_closed());
    match put.poll() {
        Some(Err(PutError::Closed(2, closed))) => assert_eq!(*closed.error.unwrap(), "enough"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(channel.try_put(3), Err(PutError::Closed(3, _))));
    assert_eq!(block_on(channel.get()).unwrap(), 1);
    assert_eq!(*block_on(channel.get()).unwrap_err().error.unwrap(), "enough");
}

#[test]
fn what_a_full_channel_does() {
    for (overflow, given_back, left) in [
        (Overflow::DropNewest, Some(Some(3)), [1, 2]),
        (Overflow::DropOldest, Some(Some(1)), [2, 3]),
        (Overflow::Fail, None, [1, 2]),
    ] {
        let channel = Channel::<u32>::with_overflow(Capacity::Bounded(2), overflow);
        assert_eq!([block_on(channel.put(1)).unwrap(), block_on(channel.put(2)).unwrap()], [None, None]);
        assert_eq!(block_on(channel.put(3)).ok(), given_back);
        assert_eq!([channel.try_get().unwrap(), channel.try_get().unwrap()], left);
        assert_eq!(channel.statistics().dropped, u64::from(overflow != Overflow::Fail));
    }
    let none = Channel::<u32>::with_overflow(Capacity::Bounded(0), Overflow::DropOldest);
    assert_eq!(none.try_put(1).unwrap(), Some(1));
}

/// Something whose drop uses the channel that it was in.
struct Reentrant(Channel<Reentrant>);

impl Drop for Reentrant {
    fn drop(&mut self) {
        let _ = self.0.len();
    }
}

#[test]
fn nothing_of_the_users_is_dropped_under_a_lock() {
    let channel = Channel::<Reentrant>::new(Capacity::Bounded(1));
    channel.try_put(Reentrant(channel.clone())).unwrap_or_else(|_| panic!("there is room"));
    let mut put = Polled::new(channel.put(Reentrant(channel.clone())));
    assert!(put.poll().is_none());
    channel.close(None);
    // The grant, with the item in it.
    drop(put);
    let mut put = Polled::new(channel.put(Reentrant(channel.clone())));
    drop(put.poll());
    drop(channel.try_get());
}

#[test]
fn a_select_does_one_thing() {
    let (left, right) =
        (Channel::<u32>::new(Capacity::Bounded(1)), Channel::<u32>::new(Capacity::Bounded(0)));
    let (mut get, mut put, mut other) = (left.get(), right.put(7), left.get());
    {
        let mut all: [&mut (dyn motet_sync::Selectable + Send); 3] = [&mut get, &mut put, &mut other];
        let mut choice = Polled::new(select(&mut all));
        assert_eq!(choice.poll(), None);
        left.try_put(1).unwrap();
        // It has happened: the put is not on offer any more.
        assert!(matches!(right.try_get(), Err(TryGetError::Empty)));
        assert!(choice.was_woken());
        assert_eq!(choice.poll(), Some(0));
    }
    assert_eq!(get.take().unwrap(), 1);
    // What has not happened can be waited for again.
    let mut again = Polled::new(put);
    assert!(again.poll().is_none());
    assert_eq!(right.try_get().unwrap(), 7);
}

#[test]
fn a_select_that_puts_and_gets_in_one_channel_does_not_meet_itself() {
    let channel = Channel::<u32>::new(Capacity::Bounded(0));
    let (mut get, mut put) = (channel.get(), channel.put(1));
    let mut all: [&mut (dyn motet_sync::Selectable + Send); 2] = [&mut get, &mut put];
    let mut choice = Polled::new(select(&mut all));
    assert_eq!(choice.poll(), None);
    let (mut second_get, mut second_put) = (channel.get(), channel.put(2));
    let mut others: [&mut (dyn motet_sync::Selectable + Send); 2] = [&mut second_get, &mut second_put];
    assert_eq!(block_on(select(&mut others)), 0);
    assert_eq!(choice.poll(), Some(1));
    assert_eq!(second_get.take().unwrap(), 1);
}

#[test]
fn a_select_over_all_sorts_of_things() {
    let (lock, semaphore, event, condition) =
        (Lock::new(), Semaphore::new(0), Event::new(), Condition::new());
    let held = lock.try_acquire().unwrap();
    for number in 0..4 {
        let (mut first, mut second) = (lock.acquire(), semaphore.acquire(1));
        let (mut third, mut fourth) = (event.wait(), condition.notified());
        {
            let mut all: [&mut (dyn motet_sync::Selectable + Send); 4] =
                [&mut first, &mut second, &mut third, &mut fourth];
            let mut choice = Polled::new(select(&mut all));
            assert_eq!(choice.poll(), None);
            match number {
                0 => drop(lock.release(Party::this_thread())),
                1 => semaphore.release(1).unwrap(),
                2 => assert!(event.set() && event.clear()),
                _ => assert_eq!(condition.notify_all(), 1),
            }
            assert_eq!(choice.poll(), Some(number));
        }
        match number {
            0 => first.take().keep(),
            1 => drop(second.take()),
            2 => third.take(),
            _ => fourth.take(),
        }
        let _ = semaphore.try_acquire(1).map(motet_sync::semaphore::Permits::keep);
    }
    assert_eq!(lock.owner(), Some(Party::this_thread()));
    held.keep();
}

#[test]
fn a_lock_is_handed_over() {
    let lock = Lock::new();
    let held = block_on(lock.acquire().by(task(1)));
    let mut second = Polled::new(lock.acquire().by(task(2)));
    let mut third = Polled::new(lock.acquire().by(task(3)));
    assert!(second.poll().is_none() && third.poll().is_none());
    let snapshot = lock.inspect();
    assert_eq!(snapshot.owners, [task(1)]);
    let waiting: Vec<_> = snapshot.waiters.iter().map(|waiting| (waiting.party, waiting.wants)).collect();
    assert_eq!(waiting, [(task(2), "acquire"), (task(3), "acquire")]);
    drop(held);
    assert!(second.was_woken() && !third.was_woken());
    assert_eq!(lock.owner(), Some(task(2)));
    // It was its turn, and it did not take it.
    drop(second);
    assert_eq!(lock.owner(), Some(task(3)));
    third.poll().unwrap().keep();
    assert_eq!(lock.release(task(9)), Ok(()));
    assert_eq!(lock.release(task(3)), Err(ReleaseError::NotHeld));
}

#[test]
fn a_reentrant_lock_is_its_owners_again() {
    let lock = Lock::reentrant();
    let outer = block_on(lock.acquire().by(task(1)));
    let inner = block_on(lock.acquire().by(task(1)));
    let mut other = Polled::new(lock.acquire().by(task(2)));
    assert!(other.poll().is_none());
    assert_eq!(lock.release(task(2)), Err(ReleaseError::HeldBy(task(1))));
    drop(inner);
    assert!(other.poll().is_none());
    drop(outer);
    drop(other.poll().unwrap());
    assert_eq!(lock.owner(), None);
}

#[test]
fn a_notification_that_nobody_saw_goes_to_the_next() {
    let condition = Condition::new();
    assert_eq!(condition.notify(1), 0);
    let mut first = Polled::new(condition.notified());
    let mut second = Polled::new(condition.notified());
    assert!(first.poll().is_none() && second.poll().is_none());
    assert_eq!(condition.notify(1), 1);
    assert!(!second.was_woken());
    drop(first);
    assert!(second.poll().is_some());
}

#[test]
fn a_barrier_lets_all_through_or_none() {
    let barrier = Barrier::new(3);
    let mut waits: Vec<_> = (0..2).map(|_| Polled::new(barrier.wait())).collect();
    assert!(waits.iter_mut().all(|wait| wait.poll().is_none()));
    // One goes, another comes in its place.
    waits.remove(0);
    assert_eq!(barrier.waiting(), 1);
    waits.push(Polled::new(barrier.wait()));
    assert!(waits[1].poll().is_none());
    assert_eq!(block_on(barrier.wait()), Ok(2));
    assert_eq!([waits[0].poll(), waits[1].poll()], [Some(Ok(0)), Some(Ok(1))]);
    let mut wait = Polled::new(barrier.wait());
    assert!(wait.poll().is_none());
    barrier.break_up();
    assert!(barrier.is_broken());
    assert_eq!([wait.poll(), Some(block_on(barrier.wait()))], [Some(Err(Broken)), Some(Err(Broken))]);
    barrier.mend();
    assert!(Polled::new(barrier.wait()).poll().is_none());
}

#[test]
fn a_wait_may_be_polled_with_another_waker() {
    let channel = Channel::<u32>::new(Capacity::Unbounded);
    let mut get = channel.get();
    assert!(Pin::new(&mut get).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut get = Polled::new(get);
    assert!(get.poll().is_none());
    channel.try_put(1).unwrap();
    assert!(get.was_woken());
}

#[test]
fn a_deadline_ends_a_wait_and_loses_nothing() {
    let channel = Channel::<u32>::new(Capacity::Unbounded);
    let deadline = Instant::now() + Duration::from_millis(5);
    assert!(block_on_until(channel.get(), Some(deadline)).is_none());
    assert!(Instant::now() >= deadline);
    channel.try_put(1).unwrap();
    // Done at once, deadline or not.
    assert_eq!(block_on_until(channel.get(), Some(deadline)).unwrap().unwrap(), 1);
}

#[test]
fn threads_pass_items_without_room_for_any() {
    let channel = Channel::<u32>::new(Capacity::Bounded(0));
    let got: Vec<u32> = thread::scope(|scope| {
        scope.spawn(|| {
            (0..100).for_each(|item| drop(block_on(channel.put(item))));
            channel.close(None);
        });
        std::iter::from_fn(|| block_on(channel.get()).ok()).collect()
    });
    assert!(got.into_iter().eq(0..100));
}

#[test]
#[should_panic(expected = "5 permits of a semaphore that has 4 at most")]
fn permits_that_there_never_are() {
    drop(Semaphore::bounded(4).acquire(5));
}

#[test]
#[should_panic(expected = "before the wait begins")]
fn who_waits_is_said_beforehand() {
    let channel = Channel::<u32>::new(Capacity::Unbounded);
    let mut get = channel.get();
    assert!(Pin::new(&mut get).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(get.by(task(1)));
}
