//! What arenas cost, beside a plain copy: `cargo run --release -p motet-lanes --example arena_figures`.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    figures::large();
    figures::messages();
    figures::leases();
}

#[cfg(target_os = "linux")]
mod figures {
    use std::hint::black_box;
    use std::slice;
    use std::time::{Duration, Instant};

    use motet_lanes::arena::{Arena, Attached, Kind, Leased, Mapping};

    const LARGE: usize = 100_000_000;
    const MANY: u32 = 1_000_000;

    /// The median of some runs of `body`, which times itself.
    fn median(runs: usize, mut body: impl FnMut() -> Duration) -> Duration {
        let mut times: Vec<_> = (0..runs).map(|_| body()).collect();
        times.sort();
        times[runs / 2]
    }

    fn timed(body: impl FnOnce()) -> Duration {
        let start = Instant::now();
        body();
        start.elapsed()
    }

    fn print(what: &str, time: Duration, floor: Duration) {
        println!(
            "{what:<52} {:9.2} ms {:7.2}",
            time.as_secs_f64() * 1e3,
            time.as_secs_f64() / floor.as_secs_f64()
        );
    }

    fn sum(mapping: &Mapping) -> u64 {
        // SAFETY: a private mapping of this length, written by nobody.
        let bytes = unsafe { slice::from_raw_parts(mapping.pointer().as_ptr(), mapping.len()) };
        bytes.chunks_exact(8).map(|word| u64::from(word[0])).sum()
    }

    pub(super) fn large() {
        let source = vec![1u8; LARGE];
        let mut copy = vec![2u8; LARGE];
        let floor = median(9, || timed(|| black_box(&mut copy[..]).copy_from_slice(black_box(&source))));
        println!("100 MB{:>60}{:>8}", "", "x copy");
        print("copy from heap to heap", floor, floor);
        let new = median(5, || timed(|| drop(black_box(source.clone()))));
        print("copy into new heap memory, and free it", new, floor);
        let fill = |arena: &Arena| {
            let mut piece = arena.allocate(LARGE, Kind::Buffer).expect("room");
            piece.as_mut_slice().expect("the only share").copy_from_slice(&source);
            piece
        };
        let cold = median(5, || {
            let arena = Arena::new(4 * LARGE, "figures");
            timed(|| drop(fill(&arena)))
        });
        print("allocate and copy, cold", cold, floor);
        let arena = Arena::new(4 * LARGE, "figures");
        drop(fill(&arena));
        let warm = median(9, || timed(|| drop(fill(&arena))));
        print("allocate and copy, warm", warm, floor);

        let piece = fill(&arena);
        let mut table = Leased::new(&arena);
        let location = table.lend(&piece);
        // SAFETY: the piece is not written any more.
        let mut attached = unsafe { Attached::new() };
        let (segment, descriptor) = table.unintroduced(&piece).expect("a descriptor");
        attached.add(segment, descriptor.try_clone_to_owned().expect("a descriptor")).expect("a segment");
        let map = || attached.map_private(location).expect("a mapping");
        print("map and unmap", median(9, || timed(|| drop(map()))), floor);
        let read = || {
            timed(|| {
                black_box(sum(&map()));
            })
        };
        print("map, read all, unmap", median(9, read), floor);
        let mapping = map();
        sum(&mapping);
        let again = || {
            timed(|| {
                black_box(sum(&mapping));
            })
        };
        print("read all again", median(9, again), floor);
    }

    pub(super) fn messages() {
        let arena = Arena::new(64 << 20, "figures");
        let bytes = [7u8; 4096];
        for length in [256, 1024, 4096] {
            let mut kept = Vec::new();
            let time = timed(|| {
                for number in 0..MANY {
                    let mut piece = arena.allocate(length, Kind::Message).expect("room");
                    piece.as_mut_slice().expect("the only share").copy_from_slice(&bytes[..length]);
                    // Some live on for a while, as messages under way do.
                    if number % 64 == 0 {
                        kept.clear();
                    }
                    kept.push(piece);
                }
            });
            println!("{length} bytes: allocate, fill, drop {:>26} ns", (time / MANY).as_nanos());
        }
    }

    pub(super) fn leases() {
        let arena = Arena::new(64 << 20, "figures");
        let piece = arena.allocate(1000, Kind::Message).expect("room");
        let mut table = Leased::new(&arena);
        let time = timed(|| {
            for _ in 0..MANY {
                let location = table.lend(black_box(&piece));
                table.returned(location).expect("lent");
            }
        });
        println!("lend, returned {:>41} ns", (time / MANY).as_nanos());
        let exposed: Vec<_> = (0..1000).map(|_| arena.allocate(1000, Kind::Buffer).expect("room")).collect();
        let pointers: Vec<_> = exposed.iter().map(|piece| piece.expose()).collect();
        let time = timed(|| {
            for number in 0..MANY as usize {
                black_box(arena.find(pointers[number * 7 % 1000].as_ptr(), 100));
            }
        });
        println!("find among 1000 {:>40} ns", (time / MANY).as_nanos());
    }
}
