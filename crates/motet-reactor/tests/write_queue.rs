//! The queue of what waits to be sent against a plain string of bytes.

use motet_reactor::stream::{MAXIMUM_QUEUED_PIECES, WriteQueue};
use proptest::prelude::*;

/// What the queue offers to send next, put together.
fn offered(queue: &WriteQueue<Vec<u8>>) -> Vec<u8> {
    queue.with_pieces(|pieces| {
        assert!(pieces.len() <= MAXIMUM_QUEUED_PIECES);
        assert!(pieces.iter().all(|piece| !piece.is_empty()), "no empty piece is offered");
        pieces.iter().flat_map(|piece| piece.iter().copied()).collect()
    })
}

fn queue_of(pieces: &[Vec<u8>]) -> WriteQueue<Vec<u8>> {
    let mut queue = WriteQueue::default();
    pieces.iter().for_each(|piece| queue.push(piece.clone(), 0));
    queue
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..6)
}

#[derive(Clone, Debug)]
enum Operation {
    Push { piece: Vec<u8>, start: prop::sample::Index },
    Advance { count: prop::sample::Index },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (piece(), any::<prop::sample::Index>()).prop_map(|(piece, start)| Operation::Push { piece, start }),
        any::<prop::sample::Index>().prop_map(|count| Operation::Advance { count }),
    ]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out_in_order(operations in prop::collection::vec(operation(), 0..200)) {
        let mut queue = WriteQueue::default();
        let mut model: Vec<u8> = Vec::new();
        for operation in operations {
            match operation {
                Operation::Push { piece, start } => {
                    // Only the first piece can have been sent in part.
                    let start = if model.is_empty() { start.index(piece.len() + 1) } else { 0 };
                    model.extend(&piece[start..]);
                    queue.push(piece, start);
                }
                Operation::Advance { count } => {
                    let count = count.index(offered(&queue).len() + 1);
                    queue.advance(count);
                    model.drain(..count);
                }
            }
            prop_assert_eq!(queue.bytes(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            let offered = offered(&queue);
            prop_assert!(model.starts_with(&offered));
            prop_assert_eq!(offered.is_empty(), model.is_empty(), "something is offered while something is left");
        }
    }
}

#[test]
fn every_way_to_send_a_few_pieces_in_parts() {
    let pieces = [vec![1, 2, 3], vec![4], vec![5, 6], vec![7, 8, 9]];
    let whole = pieces.concat();
    // Each bit of `cuts` ends a send behind that byte.
    for cuts in 0..1_u32 << (whole.len() - 1) {
        let mut queue = queue_of(&pieces);
        let mut sent = Vec::new();
        for position in 1..=whole.len() {
            if position == whole.len() || cuts & 1 << (position - 1) != 0 {
                let part = position - sent.len();
                sent.extend_from_slice(&offered(&queue)[..part]);
                queue.advance(part);
            }
        }
        assert_eq!(sent, whole, "cuts {cuts:b}");
        assert!(queue.is_empty());
    }
}

#[test]
fn more_pieces_than_fit_into_one_send_follow_later() {
    let pieces: Vec<Vec<u8>> =
        (0..3 * MAXIMUM_QUEUED_PIECES + 1).map(|number| vec![number as u8; 2]).collect();
    let mut queue = queue_of(&pieces);
    let mut sends = 0;
    let mut sent = Vec::new();
    while !queue.is_empty() {
        let part = offered(&queue);
        queue.advance(part.len());
        sent.extend(part);
        sends += 1;
    }
    assert_eq!(sent, pieces.concat());
    assert_eq!(sends, 4);
}

#[test]
#[should_panic(expected = "no more is sent than was queued")]
fn sending_more_than_was_queued_is_a_defect() {
    queue_of(&[vec![1, 2, 3]]).advance(4);
}
