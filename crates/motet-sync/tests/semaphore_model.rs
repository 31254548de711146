//! A semaphore beside a model of it, as in `channel_model.rs`.
#![cfg(not(loom))]

mod polling;

use std::collections::VecDeque;

use motet_sync::Semaphore;
use motet_sync::semaphore::{AcquirePermits, Permits, ReleasedTooOften};
use polling::Polled;
use proptest::prelude::*;

const MOST: usize = 4;

#[derive(Clone, Debug)]
enum Action {
    Acquire(usize),
    TryAcquire(usize),
    /// Polls one that waits.
    Poll(usize),
    /// Drops one that waits.
    Cancel(usize),
    /// Drops what is held.
    Drop(usize),
    /// Keeps what is held.
    Keep(usize),
    Release(usize),
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..=MOST).prop_map(Action::Acquire),
        2 => (0..=MOST).prop_map(Action::TryAcquire),
        4 => (0..6usize).prop_map(Action::Poll),
        3 => (0..6usize).prop_map(Action::Cancel),
        3 => (0..6usize).prop_map(Action::Drop),
        1 => (0..6usize).prop_map(Action::Keep),
        1 => (0..3usize).prop_map(Action::Release),
    ]
}

struct Model {
    left: usize,
    most: usize,
    waiting: VecDeque<(usize, usize)>,
    granted: Vec<usize>,
}

impl Model {
    fn serve(&mut self) {
        while let Some(&(number, permits)) = self.waiting.front()
            && permits <= self.left
        {
            self.left -= permits;
            self.granted.push(number);
            self.waiting.pop_front();
        }
    }

    fn release(&mut self, permits: usize) -> Result<(), ReleasedTooOften> {
        if self.left + permits > self.most {
            return Err(ReleasedTooOften);
        }
        self.left += permits;
        self.serve();
        Ok(())
    }

    fn acquire(&mut self, permits: usize) -> bool {
        let can = self.waiting.is_empty() && permits <= self.left;
        self.left -= if can { permits } else { 0 };
        can
    }
}

fn run(bounded: bool, actions: Vec<Action>) {
    let semaphore = if bounded { Semaphore::bounded(MOST) } else { Semaphore::new(MOST) };
    let most = if bounded { MOST } else { usize::MAX };
    let mut model = Model { left: MOST, most, waiting: VecDeque::new(), granted: Vec::new() };
    let mut waits: Vec<(usize, usize, Polled<AcquirePermits>)> = Vec::new();
    let mut held: Vec<(usize, Permits)> = Vec::new();
    for (number, action) in actions.into_iter().enumerate() {
        match action {
            Action::Acquire(permits) => {
                let mut wait = Polled::new(semaphore.acquire(permits));
                let got = wait.poll();
                assert_eq!(got.is_some(), model.acquire(permits));
                match got {
                    Some(got) => held.push((permits, got)),
                    None => {
                        model.waiting.push_back((number, permits));
                        waits.push((number, permits, wait));
                    }
                }
            }
            Action::TryAcquire(permits) => {
                let got = semaphore.try_acquire(permits);
                assert_eq!(got.is_some(), model.acquire(permits));
                held.extend(got.map(|got| (permits, got)));
            }
            Action::Poll(place) if place < waits.len() => {
                let (number, permits, wait) = &mut waits[place];
                let (number, permits, got) = (*number, *permits, wait.poll());
                assert_eq!(got.is_some(), model.granted.contains(&number));
                if let Some(got) = got {
                    waits.swap_remove(place);
                    model.granted.retain(|&other| other != number);
                    held.push((permits, got));
                }
            }
            Action::Cancel(place) if place < waits.len() => {
                let (number, permits, wait) = waits.swap_remove(place);
                drop(wait);
                if model.granted.contains(&number) {
                    model.granted.retain(|&other| other != number);
                    model.left = model.left.saturating_add(permits).min(model.most);
                } else {
                    model.waiting.retain(|&(other, _)| other != number);
                }
                model.serve();
            }
            Action::Drop(place) if place < held.len() => {
                let (permits, got) = held.swap_remove(place);
                drop(got);
                // However many others have released meanwhile.
                model.left = (model.left + permits).min(model.most);
                model.serve();
            }
            Action::Keep(place) if place < held.len() => held.swap_remove(place).1.keep(),
            Action::Release(permits) => assert_eq!(semaphore.release(permits), model.release(permits)),
            _ => {}
        }
        assert_eq!(semaphore.left(), model.left);
        for (number, _, wait) in &waits {
            assert_eq!(wait.was_woken(), model.granted.contains(number), "wait {number}");
        }
    }
}

proptest! {
    #[test]
    fn a_semaphore_does_what_its_model_does(bounded: bool, actions in prop::collection::vec(actions(), 1..60)) {
        run(bounded, actions);
    }
}
