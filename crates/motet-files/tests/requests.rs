//! What is asked of files, by a thread and by a ring: the same comes of it.

use motet_files::ring::End;
use motet_files::{Backend, File, Outcome, Request, Ring, Value, request};
use std::ffi::CString;
use std::io;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const READ_AND_WRITE: i32 = 2;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("motet-files-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn system(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

fn value(request: Request<Vec<u8>>) -> io::Result<Value> {
    request.carry_out().result
}

fn open(path: &Path) -> Arc<File> {
    match value(Request::Open(system(path), READ_AND_WRITE)) {
        Ok(Value::Opened(file)) => Arc::new(file),
        other => panic!("{other:?}"),
    }
}

fn number(error: io::Result<Value>) -> i32 {
    error.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn whole_files() {
    let folder = Folder::new("whole");
    let path = folder.file("file", b"old content");
    assert!(matches!(value(Request::WriteFile(system(&path), b"new".to_vec())), Ok(Value::Count(3))));
    match value(Request::ReadFile(system(&path))) {
        Ok(Value::Data(data)) => assert_eq!(data, b"new"),
        other => panic!("{other:?}"),
    }
    assert_eq!(number(value(Request::ReadFile(system(&folder.0)))), 21, "a folder");
    assert_eq!(number(value(Request::ReadFile(system(&folder.0.join("none"))))), 2, "no file");
}

#[test]
fn large_files_are_measured_first() {
    let folder = Folder::new("large");
    let content: Vec<u8> = (0..request::SMALL + 1).map(|index| index as u8).collect();
    let path = folder.file("file", &content);
    let Ok(Value::Large(file, size)) = value(Request::ReadFile(system(&path))) else { panic!() };
    assert_eq!(size, request::SMALL + 1);
    // It has grown meanwhile.
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, b"more"))
        .unwrap();
    let Outcome { memory, result } = Request::Fill(file, vec![0; size as usize]).carry_out();
    assert_eq!(memory.unwrap(), content);
    let Ok(Value::Filled(count, Some(file))) = result else { panic!() };
    assert_eq!(count as u64, size);
    let Ok(Value::Data(rest)) = value(Request::Rest(file)) else { panic!() };
    assert_eq!(rest, b"more");
}

#[test]
fn a_file_stays_open_while_a_request_has_it() {
    let folder = Folder::new("open");
    let path = folder.file("file", b"content");
    let file = open(&path);
    let kept = Arc::clone(&file);
    assert!(matches!(value(Request::Close(file)), Ok(Value::Count(0))));
    let Outcome { memory, result } = Request::Read(kept, vec![0; 7]).carry_out();
    assert!(matches!(result, Ok(Value::Count(7))));
    assert_eq!(memory.unwrap(), b"content");
}

#[test]
fn a_lent_descriptor_is_not_closed() {
    let folder = Folder::new("lent");
    let path = folder.file("file", b"content");
    let descriptor = std::fs::File::open(&path).unwrap().into_raw_fd();
    for closes in [false, true] {
        // SAFETY: open, and closed by the last round only.
        let file = unsafe { File::adopt(descriptor, closes) }.unwrap();
        assert_eq!((file.number(), file.is_regular()), (descriptor, true));
        assert!(value(Request::Close(Arc::new(file))).is_ok());
    }
    // SAFETY: refused, as it is not open any more.
    assert!(unsafe { File::adopt(descriptor, true) }.is_err());
}

#[test]
fn unknown_words_are_refused() {
    assert_eq!(Backend::choose(Some("threads")), Ok(Backend::Threads));
    assert!(Backend::choose(Some("magic")).unwrap_err().contains("'magic'"));
    assert!(Backend::choose(None).is_ok());
}

/// The ends of all that is under way.
fn finish(ring: &mut Ring<Vec<u8>, usize>) -> Vec<(usize, Outcome<Vec<u8>>)> {
    let mut ends = Vec::new();
    while !ring.is_idle() {
        if ring.has_more() {
            ring.submit();
        }
        while let Some(end) = ring.next_end() {
            ends.push(match end {
                End::Done(outcome, key) => (key, outcome),
                End::Refused(request, key) => (key, request.carry_out()),
            });
        }
    }
    ends.sort_by_key(|(key, _)| *key);
    ends
}

#[test]
fn a_ring_does_what_threads_do() {
    if Backend::choose(None) != Ok(Backend::Ring) {
        eprintln!("skipped: io_uring is not allowed here");
        return;
    }
    let folder = Folder::new("ring");
    let mut ring = Ring::new().unwrap();
    // More than are handed over at once, each of a file of its own.
    let files: Vec<_> =
        (0..200).map(|index| open(&folder.file(&index.to_string(), &[index as u8; 100]))).collect();
    for (key, file) in files.iter().enumerate() {
        let request = Request::Read(Arc::clone(file), vec![0; 150]);
        assert!(Ring::<_, usize>::suits(&request));
        ring.push(request, key);
    }
    for (key, (index, outcome)) in finish(&mut ring).into_iter().enumerate() {
        assert_eq!(key, index);
        assert!(matches!(outcome.result, Ok(Value::Count(100))));
        assert_eq!(outcome.memory.unwrap()[..100], [index as u8; 100]);
    }
    // The files' own positions have moved: this goes behind what is there.
    for (key, file) in files.iter().enumerate() {
        ring.push(Request::Write(Arc::clone(file), vec![7; 10]), key);
    }
    assert!(finish(&mut ring).iter().all(|(_, outcome)| matches!(outcome.result, Ok(Value::Count(10)))));
    for (key, file) in files.iter().enumerate() {
        ring.push(Request::Sync(Arc::clone(file)), key);
    }
    assert!(finish(&mut ring).iter().all(|(_, outcome)| outcome.result.is_ok()));
    assert_eq!(std::fs::metadata(folder.0.join("3")).unwrap().len(), 110);
    // Errors are the system's.
    let read_only = std::fs::File::open(folder.0.join("3")).unwrap().into_raw_fd();
    // SAFETY: just opened, and closed with the file.
    let read_only = Arc::new(unsafe { File::adopt(read_only, true) }.unwrap());
    ring.push(Request::Write(read_only, vec![1]), 0);
    let mut ends = finish(&mut ring);
    assert_eq!(number(ends.remove(0).1.result), 9);
}

#[test]
fn a_ring_is_finished_with_requests_under_way() {
    if Backend::choose(None) != Ok(Backend::Ring) {
        eprintln!("skipped: io_uring is not allowed here");
        return;
    }
    let folder = Folder::new("finish");
    let mut ring = Ring::new().unwrap();
    let file = open(&folder.file("file", b""));
    for key in 0..100 {
        ring.push(Request::Write(Arc::clone(&file), vec![b'x'; 1000]), key);
        ring.push(Request::Sync(Arc::clone(&file)), key);
    }
    ring.submit();
    ring.finish();
    assert_eq!(Arc::strong_count(&file), 1, "no request has the file any more");
}

#[test]
fn what_does_not_suit_a_ring() {
    let folder = Folder::new("suits");
    let file = open(&folder.file("file", b""));
    let device = open(Path::new("/dev/null"));
    for request in [
        Request::Read(Arc::clone(&file), vec![0; motet_files::ring::LITTLE + 1]),
        Request::Read(device, vec![0; 1]),
        Request::Truncate(Arc::clone(&file), 0),
        Request::Rest(file),
    ] {
        assert!(!Ring::<_, usize>::suits(&request));
    }
}
