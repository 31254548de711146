//! What reads make of received data, against a model that keeps one plain string of bytes and looks at all of it each time.

use motet_reactor::inflow::{Attempt, Inflow, NoSeparator, Search, Want};
use proptest::prelude::*;
use std::rc::Rc;

/// Reads, as they are asked for.
#[derive(Clone, Debug)]
enum Read {
    Some(usize),
    Exactly(usize),
    All,
    Until(Vec<Vec<u8>>),
    Line,
}

impl Read {
    fn want(&self) -> Want {
        match self {
            Self::Some(most) => Want::Some(*most),
            Self::Exactly(count) => Want::Exactly(*count),
            Self::All => Want::All,
            Self::Until(separators) => {
                Want::Until(Search::any_of(separators.iter().map(Vec::as_slice)).expect("separators"))
            }
            Self::Line => Want::Line(Search::byte(b'a')),
        }
    }
}

/// The model: asyncio's rules, written without regard to cost.
struct Model {
    bytes: Vec<u8>,
    limit: usize,
    ended: bool,
}

impl Model {
    fn take(&mut self, count: usize) -> Vec<u8> {
        self.bytes.drain(..count).collect()
    }

    fn attempt(&mut self, read: &Read) -> Attempt<Vec<u8>> {
        let length = self.bytes.len();
        match read {
            Read::Some(0) => Attempt::Done(Vec::new()),
            Read::Some(_) if length == 0 && !self.ended => Attempt::Wait,
            Read::Some(most) => Attempt::Done(self.take(length.min(*most))),
            Read::Exactly(count) if length >= *count => Attempt::Done(self.take(*count)),
            Read::Exactly(_) if self.ended => Attempt::Incomplete(self.take(length)),
            Read::All if self.ended => Attempt::Done(self.take(length)),
            Read::Exactly(_) | Read::All => Attempt::Wait,
            Read::Until(separators) => self.until(separators),
            Read::Line => match self.until(&[b"a".to_vec()]) {
                Attempt::Incomplete(partial) => Attempt::Done(partial),
                Attempt::Overrun { found, consumed } => {
                    self.take(if found { consumed + 1 } else { length });
                    Attempt::Overrun { found, consumed }
                }
                other => other,
            },
        }
    }

    fn until(&mut self, separators: &[Vec<u8>]) -> Attempt<Vec<u8>> {
        let found = separators.iter().filter_map(|separator| {
            let start = self.bytes.windows(separator.len()).position(|window| window == separator)?;
            Some((start + separator.len(), separator.len()))
        });
        if let Some((end, length)) = found.min() {
            let start = end - length;
            let found = Attempt::Overrun { found: true, consumed: start };
            return if start > self.limit { found } else { Attempt::Done(self.take(end)) };
        }
        let longest = separators.iter().map(Vec::len).max().expect("a separator");
        let clean = (self.bytes.len() + 1).saturating_sub(longest);
        if clean > self.limit {
            return Attempt::Overrun { found: false, consumed: clean };
        }
        if self.ended { Attempt::Incomplete(self.take(self.bytes.len())) } else { Attempt::Wait }
    }
}

fn read() -> impl Strategy<Value = Read> {
    let separator = prop::collection::vec(prop::sample::select(vec![b'a', b'b']), 1..4);
    prop_oneof![
        (0_usize..20).prop_map(Read::Some),
        (0_usize..20).prop_map(Read::Exactly),
        Just(Read::All),
        prop::collection::vec(separator, 1..4).prop_map(Read::Until),
        Just(Read::Line),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Feed(Vec<u8>),
    Read(Read),
    /// The read that waits is given up.
    Cancel,
}

fn event() -> impl Strategy<Value = Event> {
    let piece = prop::collection::vec(prop::sample::select(vec![b'a', b'b', b'c']), 0..9);
    prop_oneof![4 => piece.prop_map(Event::Feed), 3 => read().prop_map(Event::Read), 1 => Just(Event::Cancel)]
}

fn attempt(inflow: &mut Inflow<Vec<u8>>, want: &mut Want) -> Attempt<Vec<u8>> {
    inflow.attempt(want, <[u8]>::to_vec)
}

proptest! {
    #[test]
    fn reads_are_those_of_the_model(
        limit in 1_usize..12,
        events in prop::collection::vec(event(), 0..80),
        end in any::<bool>(),
    ) {
        let mut inflow = Inflow::new(limit);
        let mut model = Model { bytes: Vec::new(), limit, ended: false };
        let mut waiting: Option<(Read, Want)> = None;
        let last = Event::Feed(b"c".to_vec());
        for (number, event) in events.iter().chain([&last]).enumerate() {
            match event {
                Event::Feed(piece) => {
                    inflow.feed(piece.clone());
                    model.bytes.extend(piece);
                }
                Event::Read(read) if waiting.is_none() => waiting = Some((read.clone(), read.want())),
                Event::Read(_) => {}
                Event::Cancel => waiting = None,
            }
            if end && number == events.len() {
                inflow.end();
                model.ended = true;
            }
            if let Some((read, want)) = &mut waiting {
                let concerned = inflow.concerns(want);
                let expected = model.attempt(read);
                prop_assert!(concerned || expected == Attempt::Wait || matches!(read, Read::Some(0)));
                let outcome = attempt(&mut inflow, want);
                let waits = outcome == Attempt::Wait;
                prop_assert_eq!(outcome, expected);
                if !waits {
                    waiting = None;
                }
            }
            prop_assert_eq!(inflow.bytes(), &model.bytes);
        }
    }

    #[test]
    fn the_sender_is_paused_above_twice_the_limit_and_resumed_at_it(
        limit in 1_usize..10,
        steps in prop::collection::vec((any::<bool>(), 0_usize..12), 0..60),
    ) {
        let mut inflow = Inflow::new(limit);
        let mut paused = false;
        for (feed, count) in steps {
            if feed {
                inflow.feed(vec![0; count]);
                let must = inflow.must_pause();
                prop_assert_eq!(must, !paused && inflow.bytes().len() > 2 * limit);
                paused |= must;
            } else if !inflow.bytes().is_empty() {
                attempt(&mut inflow, &mut Want::Some(count));
                let may = inflow.may_resume();
                prop_assert_eq!(may, paused && inflow.bytes().len() <= limit);
                paused &= !may;
            }
            prop_assert_eq!(inflow.is_paused(), paused);
        }
    }
}

#[test]
fn a_piece_that_is_read_whole_is_not_copied() {
    let mut inflow = Inflow::new(10);
    inflow.feed(b"one line\n".to_vec());
    let mut want = Want::Line(Search::byte(b'\n'));
    let read = inflow.attempt(&mut want, |_| unreachable!("nothing is copied"));
    assert_eq!(read, Attempt::Done(b"one line\n".to_vec()));
}

#[test]
fn separators_are_required() {
    assert_eq!(Search::any_of([]).unwrap_err(), NoSeparator::None);
    assert_eq!(Search::any_of([b"x".as_slice(), b""]).unwrap_err(), NoSeparator::Empty);
}

#[test]
fn a_small_rest_does_not_keep_a_large_piece() {
    let large = Rc::<[u8]>::from(vec![7; 100_000]);
    let mut inflow = Inflow::new(1 << 20);
    inflow.feed(large.clone());
    let read = inflow.attempt(&mut Want::Exactly(99_990), |bytes| bytes.into());
    assert!(matches!(read, Attempt::Done(bytes) if bytes.len() == 99_990));
    assert_eq!(inflow.bytes(), [7; 10]);
    assert_eq!(Rc::strong_count(&large), 1);
}
