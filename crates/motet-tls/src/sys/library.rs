//! The functions of OpenSSL, found at run time.

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// OpenSSL's `SSL`.
#[repr(C)]
pub struct Ssl {
    opaque: [u8; 0],
}

/// OpenSSL's `SSL_CTX`.
#[repr(C)]
pub struct SslContext {
    opaque: [u8; 0],
}

/// OpenSSL's `BIO`.
#[repr(C)]
pub(crate) struct Bio {
    opaque: [u8; 0],
}

/// OpenSSL's `BIO_METHOD`.
#[repr(C)]
pub(crate) struct BioMethod {
    opaque: [u8; 0],
}

pub(crate) type ReadCallback = unsafe extern "C" fn(*mut Bio, *mut c_char, c_int) -> c_int;
pub(crate) type WriteCallback = unsafe extern "C" fn(*mut Bio, *const c_char, c_int) -> c_int;
pub(crate) type ControlCallback = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
pub(crate) type DestroyCallback = unsafe extern "C" fn(*mut Bio) -> c_int;

/// Why a library cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The file is not loaded into this process.
    NotLoaded,
    /// Nothing that it is linked with has a function of this name.
    Missing(&'static CStr),
    /// Its own calls of this function, or of others, may reach another OpenSSL than the one that it is linked with.
    Ambiguous(&'static CStr),
    /// It is linked with another version of OpenSSL than expected: this one.
    Version(c_ulong),
    /// OpenSSL has refused to set up what is needed.
    Refused,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => write!(formatter, "the library is not loaded"),
            Self::Missing(name) => write!(formatter, "{} cannot be reached", name.to_string_lossy()),
            Self::Ambiguous(name) => write!(formatter, "{} is there more than once", name.to_string_lossy()),
            Self::Version(found) => write!(formatter, "OpenSSL has the version {found:#x}"),
            Self::Refused => write!(formatter, "OpenSSL has no room for one more kind of input and output"),
        }
    }
}

impl std::error::Error for Unavailable {}

macro_rules! functions {
    ($($name:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// One pointer for each function, of the type that OpenSSL's documentation gives it.
        pub(crate) struct Functions {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// # Safety
            /// What `find` returns for a name is OpenSSL's function of that name.
            unsafe fn find(
                mut find: impl FnMut(&'static CStr) -> Result<NonNull<c_void>, Unavailable>,
            ) -> Result<Self, Unavailable> {
                Ok(Self {
                    $($name: {
                        let found = find($symbol)?;
                        // SAFETY: the caller's word; the type is the documented one, the same since OpenSSL 1.1.1.
                        unsafe {
                            std::mem::transmute::<
                                NonNull<c_void>,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(found)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    version_number = c"OpenSSL_version_num": fn() -> c_ulong;
    peek_error = c"ERR_peek_error": fn() -> c_ulong;
    clear_errors = c"ERR_clear_error": fn();
    context_of = c"SSL_get_SSL_CTX": fn(*const Ssl) -> *mut SslContext;
    read = c"SSL_read_ex": fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    write = c"SSL_write_ex": fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    error_of = c"SSL_get_error": fn(*const Ssl, c_int) -> c_int;
    has_pending = c"SSL_has_pending": fn(*const Ssl) -> c_int;
    control = c"SSL_ctrl": fn(*mut Ssl, c_int, c_long, *mut c_void) -> c_long;
    set_bio = c"SSL_set_bio": fn(*mut Ssl, *mut Bio, *mut Bio);
    new_bio_index = c"BIO_get_new_index": fn() -> c_int;
    new_method = c"BIO_meth_new": fn(c_int, *const c_char) -> *mut BioMethod;
    method_set_read = c"BIO_meth_set_read": fn(*mut BioMethod, ReadCallback) -> c_int;
    method_set_write = c"BIO_meth_set_write": fn(*mut BioMethod, WriteCallback) -> c_int;
    method_set_control = c"BIO_meth_set_ctrl": fn(*mut BioMethod, ControlCallback) -> c_int;
    method_set_destroy = c"BIO_meth_set_destroy": fn(*mut BioMethod, DestroyCallback) -> c_int;
    new_bio = c"BIO_new": fn(*const BioMethod) -> *mut Bio;
    set_data = c"BIO_set_data": fn(*mut Bio, *mut c_void);
    data_of = c"BIO_get_data": fn(*mut Bio) -> *mut c_void;
    set_initialised = c"BIO_set_init": fn(*mut Bio, c_int);
    set_flags = c"BIO_set_flags": fn(*mut Bio, c_int);
    clear_flags = c"BIO_clear_flags": fn(*mut Bio, c_int);
}

/// OpenSSL as a loaded library is linked with it. Stays loaded for ever.
pub struct Library {
    pub(crate) functions: Functions,
    /// Input and output in memory, as OpenSSL's method table.
    pub(crate) method: NonNull<BioMethod>,
}

// SAFETY: pointers to functions, which are the same for all threads, and to a table that nobody writes once it is made.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl fmt::Debug for Library {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Library").finish_non_exhaustive()
    }
}

/// What the first call of [`Library::of_loaded`] has found; OpenSSL's callbacks have no other way to it.
static LIBRARY: OnceLock<Result<Library, Unavailable>> = OnceLock::new();

/// The first version with all functions, and the range that LibreSSL counts in.
const FIRST_VERSION: c_ulong = 0x1010_1000;
const OTHERS: std::ops::Range<c_ulong> = 0x2000_0000..0x3000_0000;

impl Library {
    /// Finds the functions in what the loaded library `file` is linked with. `version` is the `OpenSSL_version_num` that it
    /// must have. Looks once: later calls return what the first has found.
    ///
    /// # Errors
    /// Says what is missing.
    ///
    /// # Safety
    /// Functions of OpenSSL's names in `file` and in what it is linked with are OpenSSL's.
    pub unsafe fn of_loaded(file: &CStr, version: c_ulong) -> Result<&'static Self, Unavailable> {
        // SAFETY: the caller's word.
        LIBRARY.get_or_init(|| unsafe { Self::find(file, version) }).as_ref().map_err(Clone::clone)
    }

    /// # Safety
    /// As [`Library::of_loaded`].
    unsafe fn find(file: &CStr, version: c_ulong) -> Result<Self, Unavailable> {
        // SAFETY: a C string; nothing is loaded anew, so that no initialiser runs. The handle is kept, and with it the library.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        let handle = NonNull::new(handle).ok_or(Unavailable::NotLoaded)?;
        let mut files = [None; 2];
        // SAFETY: an open handle, by the line above. What is found is OpenSSL's by the caller's word.
        let functions = unsafe { Functions::find(|name| resolve(handle, name, &mut files))? };
        // SAFETY: takes nothing and returns a constant.
        let found = unsafe { (functions.version_number)() };
        if found != version || found < FIRST_VERSION || OTHERS.contains(&found) {
            return Err(Unavailable::Version(found));
        }
        let method = crate::wire::method(&functions).ok_or(Unavailable::Refused)?;
        Ok(Self { functions, method })
    }

    /// The library of OpenSSL's callbacks, which run only where one was found.
    pub(crate) fn of_callbacks() -> Option<&'static Self> {
        LIBRARY.get()?.as_ref().ok()
    }

    /// The context of an `SSL` object.
    ///
    /// # Safety
    /// A live object of this library.
    pub unsafe fn context_of(&self, ssl: NonNull<Ssl>) -> *mut SslContext {
        // SAFETY: the caller's word.
        unsafe { (self.functions.context_of)(ssl.as_ptr()) }
    }
}

/// The function of this name that the calls of the library `handle` reach. `files` are those that libssl's functions and
/// libcrypto's have come from so far.
///
/// # Safety
/// `handle` is open.
unsafe fn resolve(
    handle: NonNull<c_void>,
    name: &'static CStr,
    files: &mut [Option<NonNull<c_void>>; 2],
) -> Result<NonNull<c_void>, Unavailable> {
    // SAFETY: an open handle and a C string; the search goes through the library and what it is linked with, and no further.
    let found = NonNull::new(unsafe { libc::dlsym(handle.as_ptr(), name.as_ptr()) });
    let found = found.ok_or(Unavailable::Missing(name))?;
    // What the whole process offers comes first when a library's calls are bound: the program's own functions, and preloaded ones.
    // Not on macOS, where calls are bound to a function of one file.
    if cfg!(not(target_vendor = "apple")) {
        // SAFETY: a C string.
        let first = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if !first.is_null() && first != found.as_ptr() {
            return Err(Unavailable::Ambiguous(name));
        }
    }
    let mut place = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: room for what is told of an address.
    let known = unsafe { libc::dladdr(found.as_ptr(), place.as_mut_ptr()) } != 0;
    // SAFETY: it has been filled in.
    let file = if known { NonNull::new(unsafe { place.assume_init() }.dli_fbase) } else { None };
    let file = file.ok_or(Unavailable::Ambiguous(name))?;
    let part = &mut files[usize::from(name.to_bytes().starts_with(b"SSL_"))];
    if *part.get_or_insert(file) == file { Ok(found) } else { Err(Unavailable::Ambiguous(name)) }
}

/// A name for the method table, as OpenSSL keeps it.
pub(crate) const METHOD_NAME: &CStr = c"motet: memory";
/// `BIO_TYPE_SOURCE_SINK`.
pub(crate) const SOURCE_AND_SINK: c_int = 0x0400;
/// `BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY`.
pub(crate) const RETRY_READING: c_int = 0x01 | 0x08;
/// `BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY`.
pub(crate) const ANY_RETRY: c_int = 0x07 | 0x08;
/// `BIO_CTRL_FLUSH`.
pub(crate) const CONTROL_FLUSH: c_int = 11;
/// `SSL_CTRL_MODE`.
pub(crate) const CONTROL_MODE: c_int = 33;
/// `SSL_CTRL_SET_READ_AHEAD`.
pub(crate) const CONTROL_READ_AHEAD: c_int = 41;
/// `SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS`.
pub(crate) const MODES: c_long = 0x02 | 0x10;
/// `SSL_ERROR_WANT_READ`, `SSL_ERROR_WANT_WRITE`, `SSL_ERROR_ZERO_RETURN`.
pub(crate) const WANT_READ: c_int = 2;
pub(crate) const WANT_WRITE: c_int = 3;
pub(crate) const ZERO_RETURN: c_int = 6;
