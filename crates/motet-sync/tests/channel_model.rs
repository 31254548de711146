//! Channels and selects beside a model of them that is as simple as can be: any order of puts, gets, selects, polls, drops and
//! closes has the same results, wakes who must be woken and loses nothing.
#![cfg(not(loom))]

mod polling;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;

use motet_sync::channel::{PutError, TryGetError};
use motet_sync::{Capacity, Channel, Operation, Selective, select};
use polling::Polled;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Put,
    Refused,
    Got(u32),
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Put(usize),
    Get(usize),
}

#[derive(Clone, Debug)]
enum Action {
    Begin(Vec<Wish>),
    Poll(usize),
    Drop(usize),
    Try(Wish),
    Close(usize),
}

fn wishes() -> impl Strategy<Value = Wish> {
    (0..2usize, any::<bool>())
        .prop_map(|(channel, put)| if put { Wish::Put(channel) } else { Wish::Get(channel) })
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => prop::collection::vec(wishes(), 1..4).prop_map(Action::Begin),
        6 => (0..8usize).prop_map(Action::Poll),
        3 => (0..8usize).prop_map(Action::Drop),
        2 => wishes().prop_map(Action::Try),
        1 => (0..12usize).prop_map(Action::Close),
    ]
}

// ---- the model ----

type Number = usize;

#[derive(Default)]
struct ModelChannel {
    items: VecDeque<u32>,
    /// All items that were ever put, in the order in which they were.
    put: Vec<u32>,
    room: usize,
    /// Who waits, at which place of its wishes.
    getters: Vec<(Number, usize)>,
    putters: Vec<(Number, usize, u32)>,
    closed: bool,
}

struct Model {
    channels: [ModelChannel; 2],
    /// What those that wait were given, if anything, and where.
    waits: BTreeMap<Number, Option<(usize, Outcome)>>,
}

impl Model {
    fn new(rooms: [usize; 2]) -> Self {
        let channels = rooms.map(|room| ModelChannel { room, ..ModelChannel::default() });
        Self { channels, waits: BTreeMap::new() }
    }

    fn grant(&mut self, wait: Number, place: usize, outcome: Outcome) {
        for channel in &mut self.channels {
            channel.getters.retain(|&(other, ..)| other != wait);
            channel.putters.retain(|&(other, ..)| other != wait);
        }
        self.waits.insert(wait, Some((place, outcome)));
    }

    /// Gives an item to who waits; whether anybody did.
    fn hand_over(&mut self, channel: usize, item: u32) -> bool {
        let Some(&(wait, place)) = self.channels[channel].getters.first() else { return false };
        self.grant(wait, place, Outcome::Got(item));
        true
    }

    fn take_from_putter(&mut self, channel: usize) -> Option<u32> {
        let &(wait, place, item) = self.channels[channel].putters.first()?;
        self.channels[channel].put.push(item);
        self.grant(wait, place, Outcome::Put);
        Some(item)
    }

    fn attempt(&mut self, wish: Wish, item: u32) -> Option<Outcome> {
        match wish {
            Wish::Put(channel) => {
                if self.channels[channel].closed {
                    return Some(Outcome::Refused);
                }
                if self.hand_over(channel, item) {
                    self.channels[channel].put.push(item);
                    return Some(Outcome::Put);
                }
                let channel = &mut self.channels[channel];
                if channel.items.len() < channel.room {
                    channel.put.push(item);
                    channel.items.push_back(item);
                    return Some(Outcome::Put);
                }
                None
            }
            Wish::Get(channel) => {
                let item = self.channels[channel].items.pop_front();
                if item.is_none() {
                    let direct = self.take_from_putter(channel).map(Outcome::Got);
                    return direct.or(self.channels[channel].closed.then_some(Outcome::Ended));
                }
                if self.channels[channel].items.len() < self.channels[channel].room {
                    let next = self.take_from_putter(channel);
                    self.channels[channel].items.extend(next);
                }
                item.map(Outcome::Got)
            }
        }
    }

    fn begin(&mut self, wait: Number, wishes: &[Wish], items: &[u32]) {
        for (place, &wish) in wishes.iter().enumerate() {
            if let Some(outcome) = self.attempt(wish, items[place]) {
                self.waits.insert(wait, Some((place, outcome)));
                return;
            }
        }
        self.waits.insert(wait, None);
        for (place, &wish) in wishes.iter().enumerate() {
            match wish {
                Wish::Put(channel) => self.channels[channel].putters.push((wait, place, items[place])),
                Wish::Get(channel) => self.channels[channel].getters.push((wait, place)),
            }
        }
    }

    fn drop(&mut self, wait: Number, wishes: &[Wish]) {
        let given = self.waits[&wait];
        self.grant(wait, 0, Outcome::Ended);
        self.waits.remove(&wait);
        if let Some((place, Outcome::Got(item))) = given {
            let Wish::Get(channel) = wishes[place] else { unreachable!() };
            if !self.hand_over(channel, item) {
                let ModelChannel { items, put, .. } = &mut self.channels[channel];
                items.push_back(item);
                items.make_contiguous().sort_by_key(|&item| put.iter().position(|&other| other == item));
            }
        }
    }

    fn close(&mut self, channel: usize) {
        self.channels[channel].closed = true;
        while let Some(&(wait, place)) = self.channels[channel].getters.first() {
            self.grant(wait, place, Outcome::Ended);
        }
        while let Some(&(wait, place, _)) = self.channels[channel].putters.first() {
            self.grant(wait, place, Outcome::Refused);
        }
    }
}

// ---- the real thing ----

type Wait = Polled<Pin<Box<dyn Future<Output = (usize, Outcome)>>>>;

/// One operation, and what its output means.
trait Choice {
    fn selectable(&mut self) -> &mut (dyn motet_sync::Selectable + Send);
    fn outcome(&mut self) -> Outcome;
}

struct One<K: Selective, F>(Operation<K>, F);

impl<K: Selective, F: Fn(K::Output) -> Outcome> Choice for One<K, F>
where
    Operation<K>: Send,
{
    fn selectable(&mut self) -> &mut (dyn motet_sync::Selectable + Send) {
        &mut self.0
    }

    fn outcome(&mut self) -> Outcome {
        (self.1)(self.0.take())
    }
}

fn choice(channels: &[Channel<u32>; 2], wish: Wish, item: u32) -> Box<dyn Choice> {
    match wish {
        Wish::Put(channel) => {
            let put = |result: Result<_, _>| if result.is_ok() { Outcome::Put } else { Outcome::Refused };
            Box::new(One(channels[channel].put(item), put))
        }
        Wish::Get(channel) => {
            let got = |result: Result<u32, _>| result.map_or(Outcome::Ended, Outcome::Got);
            Box::new(One(channels[channel].get(), got))
        }
    }
}

fn wait(mut choices: Vec<Box<dyn Choice>>) -> Wait {
    Polled::new(Box::pin(async move {
        let place = {
            let mut all: Vec<_> = choices.iter_mut().map(|choice| choice.selectable()).collect();
            select(&mut all).await
        };
        (place, choices[place].outcome())
    }))
}

fn single(channels: &[Channel<u32>; 2], wish: Wish, item: u32) -> Wait {
    match wish {
        Wish::Put(channel) => {
            let put = channels[channel].put(item);
            Polled::new(Box::pin(async {
                (0, if put.await.is_ok() { Outcome::Put } else { Outcome::Refused })
            }))
        }
        Wish::Get(channel) => {
            let get = channels[channel].get();
            Polled::new(Box::pin(async { (0, get.await.map_or(Outcome::Ended, Outcome::Got)) }))
        }
    }
}

fn try_now(channels: &[Channel<u32>; 2], wish: Wish, item: u32) -> Option<Outcome> {
    match wish {
        Wish::Put(channel) => match channels[channel].try_put(item) {
            Ok(dropped) => {
                assert_eq!(dropped, None);
                Some(Outcome::Put)
            }
            Err(PutError::Full(back)) => {
                assert_eq!(back, item);
                None
            }
            Err(PutError::Closed(..)) => Some(Outcome::Refused),
        },
        Wish::Get(channel) => match channels[channel].try_get() {
            Ok(item) => Some(Outcome::Got(item)),
            Err(TryGetError::Empty) => None,
            Err(TryGetError::Closed(_)) => Some(Outcome::Ended),
        },
    }
}

fn run(rooms: [usize; 2], actions: Vec<Action>) {
    let mut model = Model::new(rooms);
    let channels = rooms.map(|room| Channel::<u32>::new(Capacity::Bounded(room)));
    let mut waits: Vec<(Number, Vec<Wish>, Wait)> = Vec::new();
    let mut items = 0..;
    for (number, action) in actions.into_iter().enumerate() {
        match action {
            Action::Begin(wishes) => {
                let brought: Vec<u32> = items.by_ref().take(wishes.len()).collect();
                let mut real = match wishes[..] {
                    [wish] => single(&channels, wish, brought[0]),
                    _ => wait(
                        wishes
                            .iter()
                            .zip(&brought)
                            .map(|(&wish, &item)| choice(&channels, wish, item))
                            .collect(),
                    ),
                };
                model.begin(number, &wishes, &brought);
                let given = model.waits[&number];
                assert_eq!(real.poll(), given);
                match given {
                    Some(_) => drop(model.waits.remove(&number)),
                    None => waits.push((number, wishes, real)),
                }
            }
            Action::Poll(place) if place < waits.len() => {
                let given = model.waits[&waits[place].0];
                assert_eq!(waits[place].2.poll(), given);
                if given.is_some() {
                    model.waits.remove(&waits.swap_remove(place).0);
                }
            }
            Action::Drop(place) if place < waits.len() => {
                let (number, wishes, real) = waits.swap_remove(place);
                drop(real);
                model.drop(number, &wishes);
            }
            Action::Try(wish) => {
                let item = items.next().unwrap();
                assert_eq!(try_now(&channels, wish, item), model.attempt(wish, item));
            }
            Action::Close(channel) if channel < 2 => {
                assert_eq!(channels[channel].close(None), !model.channels[channel].closed);
                model.close(channel);
            }
            Action::Poll(_) | Action::Drop(_) | Action::Close(_) => {}
        }
        for (number, _, real) in &waits {
            assert_eq!(real.was_woken(), model.waits[number].is_some(), "wait {number}");
        }
        for (real, model) in channels.iter().zip(&model.channels) {
            let statistics = real.statistics();
            assert_eq!(statistics.length, model.items.len());
            assert_eq!(statistics.waiting_to_get, model.getters.len());
            assert_eq!(statistics.waiting_to_put, model.putters.len());
            // What was handed to who waits counts as got.
            assert_eq!(statistics.put - statistics.got, real.len() as u64);
        }
    }
}

proptest! {
    #[test]
    fn a_channel_does_what_its_model_does(
        rooms in [0..3usize, 0..3usize],
        actions in prop::collection::vec(actions(), 1..60),
    ) {
        run(rooms, actions);
    }
}
