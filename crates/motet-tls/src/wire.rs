//! Input and output of a session in memory, as OpenSSL sees it: a `BIO`.

use crate::sys::library::{
    ANY_RETRY, Bio, BioMethod, CONTROL_FLUSH, Functions, Library, METHOD_NAME, RETRY_READING, SOURCE_AND_SINK,
};
use std::ffi::{c_char, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ciphertext on its way in and out.
#[derive(Default)]
pub(crate) struct Wire {
    /// Received; `input[start..end]` is not read yet.
    pub(crate) input: Box<[u8]>,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// To be sent.
    pub(crate) output: Vec<u8>,
}

impl Wire {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// Puts more behind what is not read yet.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.input = [self.unread(), bytes].concat().into_boxed_slice();
        (self.start, self.end) = (0, self.input.len());
    }

    fn read(&mut self, into: &mut [MaybeUninit<u8>]) -> usize {
        let count = into.len().min(self.end - self.start);
        into[..count].write_copy_of_slice(&self.unread()[..count]);
        self.start += count;
        count
    }
}

/// What a session and its `BIO` share. The lock is never waited for in good use: one thread drives a session. It keeps memory safe
/// where the program drives the `SSL` object itself, from wherever.
#[derive(Default)]
pub(crate) struct Shared(Mutex<Wire>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new `BIO`, and what it works on.
pub(crate) fn open(library: &Library) -> Option<(NonNull<Bio>, Arc<Shared>)> {
    let shared = Arc::new(Shared::default());
    let functions = &library.functions;
    // SAFETY: a method table of this library's; the result is null or ours. Its data is a counted reference, which `destroy`
    // gives back.
    unsafe {
        let bio = NonNull::new((functions.new_bio)(library.method.as_ptr()))?;
        (functions.set_data)(bio.as_ptr(), Arc::into_raw(Arc::clone(&shared)).cast_mut().cast());
        (functions.set_initialised)(bio.as_ptr(), 1);
        Some((bio, shared))
    }
}

/// The method table of such a `BIO`; it lives for ever.
pub(crate) fn method(functions: &Functions) -> Option<NonNull<BioMethod>> {
    // SAFETY: documented calls with a C string that lives for ever and functions of the documented types.
    unsafe {
        let kind = (functions.new_bio_index)();
        if kind == -1 {
            return None;
        }
        let method = NonNull::new((functions.new_method)(kind | SOURCE_AND_SINK, METHOD_NAME.as_ptr()))?;
        let set = [
            (functions.method_set_read)(method.as_ptr(), read),
            (functions.method_set_write)(method.as_ptr(), write),
            (functions.method_set_control)(method.as_ptr(), control),
            (functions.method_set_destroy)(method.as_ptr(), destroy),
        ];
        set.iter().all(|result| *result == 1).then_some(method)
    }
}

/// What a `BIO` of ours works on.
///
/// # Safety
/// `bio` was made by [`open`] and is not destroyed before the reference is used for the last time.
unsafe fn shared<'a>(functions: &Functions, bio: *mut Bio) -> Option<&'a Shared> {
    // SAFETY: the data is null or the counted reference of `open`, by the caller's word.
    unsafe { (functions.data_of)(bio).cast::<Shared>().as_ref() }
}

unsafe extern "C" fn read(bio: *mut Bio, into: *mut c_char, length: c_int) -> c_int {
    let (Some(library), Ok(length)) = (Library::of_callbacks(), usize::try_from(length)) else { return -1 };
    if into.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: OpenSSL calls this with a live `BIO` of ours and room for `length` bytes.
    let (shared, room) =
        unsafe { (shared(&library.functions, bio), std::slice::from_raw_parts_mut(into.cast(), length)) };
    let count = shared.map_or(0, |shared| shared.lock().read(room));
    // SAFETY: a live `BIO`.
    unsafe { (library.functions.clear_flags)(bio, ANY_RETRY) };
    if count == 0 {
        // SAFETY: as above.
        unsafe { (library.functions.set_flags)(bio, RETRY_READING) };
        return -1;
    }
    count as c_int
}

unsafe extern "C" fn write(bio: *mut Bio, from: *const c_char, length: c_int) -> c_int {
    let (Some(library), Ok(count)) = (Library::of_callbacks(), usize::try_from(length)) else { return -1 };
    // SAFETY: OpenSSL calls this with a live `BIO` of ours.
    let (shared, ()) =
        unsafe { (shared(&library.functions, bio), (library.functions.clear_flags)(bio, ANY_RETRY)) };
    let Some(shared) = shared else { return -1 };
    if from.is_null() || count == 0 {
        return 0;
    }
    // SAFETY: OpenSSL passes `length` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count) };
    shared.lock().output.extend_from_slice(bytes);
    length
}

unsafe extern "C" fn control(_: *mut Bio, command: c_int, _: c_long, _: *mut c_void) -> c_long {
    // Output needs no flushing, and that has succeeded; nothing else is supported.
    c_long::from(command == CONTROL_FLUSH)
}

unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    let Some(library) = Library::of_callbacks() else { return 0 };
    // SAFETY: OpenSSL calls this once, for the last reference to a `BIO` of ours; the data is the counted reference of `open`, taken
    // back here.
    unsafe {
        let shared = (library.functions.data_of)(bio).cast::<Shared>();
        (library.functions.set_data)(bio, std::ptr::null_mut());
        if !shared.is_null() {
            drop(Arc::from_raw(shared));
        }
    }
    1
}
