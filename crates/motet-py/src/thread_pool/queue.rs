//! Calls that wait, oldest first.

use super::call::Call;
use std::collections::VecDeque;

/// Calls in the order of their numbers.
#[derive(Default)]
pub struct Queue {
    /// A call that was withdrawn leaves its place, so that taking back one of very many costs no more than finding it.
    places: VecDeque<(u64, Option<Call>)>,
    waiting: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.waiting
    }

    pub fn insert(&mut self, call: Call) {
        self.waiting += 1;
        let number = call.number;
        // Nearly always the last: numbers are given a moment before, and only a call that is tried again is old.
        let place = match self.places.back() {
            Some((last, _)) if *last > number => self.places.partition_point(|(other, _)| *other < number),
            _ => self.places.len(),
        };
        self.places.insert(place, (number, Some(call)));
    }

    pub fn take(&mut self) -> Option<Call> {
        while let Some((_, place)) = self.places.pop_front() {
            if let Some(call) = place {
                self.waiting -= 1;
                return Some(call);
            }
        }
        None
    }

    pub fn withdraw(&mut self, number: u64) -> Option<Call> {
        let place = self.places.partition_point(|(other, _)| *other < number);
        // A call that was withdrawn is not queued again: a number has one place.
        let (found, place) = self.places.get_mut(place)?;
        let call = if *found == number { place.take() } else { None };
        self.waiting -= usize::from(call.is_some());
        call
    }

    /// Takes back all that `choose` says.
    pub fn withdraw_all(&mut self, choose: impl Fn(&Call) -> bool) -> Vec<Call> {
        let chosen = |place: &mut Option<Call>| place.take_if(|call| choose(call));
        let calls: Vec<_> = self.places.iter_mut().filter_map(|(_, place)| chosen(place)).collect();
        self.places.retain(|(_, place)| place.is_some());
        self.waiting = self.places.len();
        calls
    }
}
