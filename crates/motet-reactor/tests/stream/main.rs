//! The transports' state machine under arbitrary calls and events, against plain books (`connection.rs`).

#[path = "../cases/mod.rs"]
mod cases;
mod connection;

use connection::Connection;
use motet_reactor::Stream;
use motet_reactor::stream::{Actions, Admission, Sent};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<usize>),
    WriteEof,
    EndRound,
    Poll,
    Room(usize),
    Limits { low: usize, over: usize },
    PauseReading,
    ResumeReading,
    PeerWrites(usize),
    PeerEnds,
    PauseAfter(usize),
    Close,
    Abort,
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (1..30_usize).prop_map(|length| Step::Write(vec![length])),
        20 => prop::collection::vec(0..15_usize, 0..5).prop_map(Step::Write),
        40 => Just(Step::EndRound),
        40 => Just(Step::Poll),
        40 => (1..40_usize).prop_map(Step::Room),
        10 => (0..20_usize, 0..20_usize).prop_map(|(low, over)| Step::Limits { low, over }),
        15 => Just(Step::PauseReading),
        20 => Just(Step::ResumeReading),
        40 => (1..20_usize).prop_map(Step::PeerWrites),
        10 => (1..20_usize).prop_map(Step::PauseAfter),
        4 => Just(Step::PeerEnds),
        3 => Just(Step::WriteEof),
        2 => Just(Step::Close),
        1 => Just(Step::Abort),
        1 => Just(Step::Break),
    ]
}

fn apply(connection: &mut Connection, step: &Step) {
    match step {
        Step::Write(lengths) => connection.write(lengths),
        Step::WriteEof => connection.write_eof(),
        Step::EndRound => connection.end_round(),
        Step::Poll => connection.poll(),
        Step::Room(room) => connection.socket.make_room(*room),
        Step::Limits { low, over } => connection.set_limits(*low, low + over),
        Step::PauseReading => connection.pause_reading(),
        Step::ResumeReading => connection.resume_reading(),
        Step::PeerWrites(length) => connection.peer_writes(*length),
        Step::PeerEnds => connection.peer_ends(),
        Step::PauseAfter(count) => connection.pause_at = Some(connection.books.received.len() + count),
        Step::Close => connection.close(),
        Step::Abort => connection.abort(),
        Step::Break => connection.socket.break_connection(),
    }
}

/// What holds between any two steps.
fn check(connection: &Connection) {
    let (stream, books) = (&connection.stream, &connection.books);
    let queued = stream.queued_bytes();
    let (_, high) = stream.limits();
    assert!(books.accepted.starts_with(&books.sent), "bytes go out in order");
    assert!(books.peer_wrote.starts_with(&books.received), "bytes come in in order");
    assert_eq!(stream.is_closing(), books.closing);
    assert_eq!(stream.is_lost(), books.lost);
    assert_eq!(stream.is_reading(), !books.reading_paused && !books.closing);
    if books.aborted {
        assert!(books.lost && queued == 0);
        return;
    }
    assert_eq!(books.sent.len() + queued, books.accepted.len(), "no byte is dropped");
    assert!(queued <= high || books.writing_paused, "over the mark the protocol is paused");
    assert!(queued > 0 || !books.writing_paused, "with nothing queued it is not");
    assert!(queued > 0 || books.lost == books.closing, "a closing connection is lost when all is sent");
    assert!(
        queued > 0 || books.closing || books.shut_down == books.output_ended,
        "the end follows the last byte"
    );
    assert!(
        queued == 0 || stream.is_blocked() || connection.is_busy(),
        "what is queued has somebody to send it"
    );
}

/// Lets everything happen that was begun.
fn settle(connection: &mut Connection) {
    while connection.is_busy() {
        connection.poll();
        check(connection);
        connection.end_round();
        check(connection);
    }
}

proptest! {
    #![proptest_config(cases::config(800))]

    #[test]
    fn whatever_happens_every_byte_and_every_call_is_accounted_for(
        steps in prop::collection::vec(step(), 0..120),
        read_capacity in 1..12_usize,
        keeps_open in any::<bool>(),
    ) {
        let mut connection = Connection::new(read_capacity, keeps_open);
        connection.set_limits(4, 16);
        connection.start_reading();
        for step in &steps {
            apply(&mut connection, step);
            check(&connection);
        }
        connection.pause_at = None;
        connection.resume_reading();
        check(&connection);
        settle(&mut connection);
        if !connection.books.closing {
            prop_assert_eq!(&connection.books.received, &connection.books.peer_wrote, "a readable stream is read");
            prop_assert_eq!(connection.books.end_received, connection.socket.peer_ended, "and its end");
        }
        connection.socket.make_room(usize::MAX);
        settle(&mut connection);
        let books = &connection.books;
        prop_assert_eq!(books.lost, books.closing);
        if !books.aborted {
            prop_assert_eq!(&books.sent, &books.accepted, "with room, all goes out");
            prop_assert!(!books.writing_paused);
        }
    }
}

#[test]
fn a_send_that_ends_at_any_byte_goes_on_there() {
    let pieces = [vec![1, 2, 3], vec![4], vec![5, 6]];
    for first in 0..=6 {
        for second in 0..=6 - first {
            let mut stream: Stream<Vec<u8>> = Stream::default();
            let mut sent: Vec<u8> = Vec::new();
            pieces.iter().for_each(|piece| assert!(stream.enqueue(piece.clone(), 0).is_empty()));
            for room in [first, second, 6] {
                stream.unblocked();
                let mut room = room;
                let result = stream.send_queued(|pieces| {
                    let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
                    let count = whole.len().min(room);
                    room -= count;
                    sent.extend(&whole[..count]);
                    Ok::<_, ()>(if count == 0 { Sent::Blocked } else { Sent::Bytes(count) })
                });
                assert_eq!(result, Ok(Actions::NONE));
                assert_eq!(stream.is_blocked(), sent.len() < 6);
                assert_eq!(stream.queued_bytes(), 6 - sent.len());
            }
            assert_eq!(sent, pieces.concat(), "{first} and {second}");
        }
    }
}

#[test]
fn a_failed_send_leaves_the_stream_as_it_was() {
    let mut stream: Stream<Vec<u8>> = Stream::default();
    assert!(stream.enqueue(vec![1, 2, 3], 1).is_empty());
    assert_eq!(stream.send_queued(|_| Err("reset")), Err("reset"));
    assert_eq!(stream.queued_bytes(), 2);
    assert!(!stream.is_closing() && !stream.is_blocked());
}

#[test]
fn only_what_a_direct_send_leaves_counts_against_the_marks() {
    for (room, expected) in [(100, Actions::NONE), (95, Actions::NONE), (60, Actions::PAUSE_WRITING)] {
        let mut stream: Stream<Vec<u8>> = Stream::default();
        assert!(stream.set_limits(8, 32).is_empty());
        assert_eq!(stream.admit(100, 1), Ok(Admission::Send));
        stream.enqueue_all([vec![0; 50], vec![0; 50]]);
        let mut left = room;
        let actions = stream.send_queued(|pieces| {
            let count = pieces.iter().map(|piece| piece.len()).sum::<usize>().min(left);
            left -= count;
            Ok::<_, ()>(Sent::Bytes(count))
        });
        assert_eq!(actions, Ok(expected), "room for {room}");
    }
}

#[test]
fn a_send_that_finds_room_before_the_poller_tells_of_it_ends_the_waiting() {
    let mut stream: Stream<Vec<u8>> = Stream::default();
    stream.blocked();
    let _ = stream.enqueue(vec![0; 10], 0);
    assert!(!stream.wants_flush());
    assert_eq!(stream.send_queued(|_| Ok::<_, ()>(Sent::Bytes(10))), Ok(Actions::NONE));
    assert!(!stream.is_blocked());
    let _ = stream.enqueue(vec![0; 10], 0);
    assert!(stream.wants_flush());
}

#[test]
fn what_the_protocol_writes_when_it_may_go_on_is_sent_before_the_end() {
    let mut stream: Stream<Vec<u8>> = Stream::default();
    let _ = stream.set_limits(0, 5);
    assert_eq!(stream.enqueue(vec![0; 10], 0), Actions::PAUSE_WRITING);
    assert_eq!(stream.close(), Actions::NONE);
    assert_eq!(stream.send_queued(|_| Ok::<_, ()>(Sent::Bytes(10))), Ok(Actions::RESUME_WRITING));
    let _ = stream.enqueue(vec![0; 3], 0);
    assert_eq!(stream.resumed(), Actions::NONE);
    assert_eq!(stream.send_queued(|_| Ok::<_, ()>(Sent::Bytes(3))), Ok(Actions::LOSE_CONNECTION));
}

#[test]
fn the_end_of_the_output_is_sent_once_however_often_the_poller_calls() {
    let mut stream: Stream<Vec<u8>> = Stream::default();
    assert_eq!(stream.write_eof(), Actions::SHUTDOWN);
    assert_eq!(stream.send_queued(|_| -> Result<Sent, ()> { panic!("nothing to send") }), Ok(Actions::NONE));
    assert_eq!(stream.write_eof(), Actions::NONE);
}

#[test]
fn readiness_told_while_paused_is_kept() {
    let mut stream: Stream<Vec<u8>> = Stream::default();
    stream.start_reading();
    assert!(stream.pause_reading());
    stream.set_readable(false);
    assert!(!stream.wants_read());
    assert_eq!(stream.resume_reading(), Some(Actions::READ_LATER));
    assert!(stream.wants_read());
    stream.drained();
    assert!(stream.pause_reading());
    assert_eq!(stream.resume_reading(), Some(Actions::NONE), "what was drained is not read again");
}
