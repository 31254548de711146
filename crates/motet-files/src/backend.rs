//! Which means a process uses: what the kernel allows, unless the user says which.

use crate::sys;

/// Who carries out what moves little between an open file and memory. All else is the threads' in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel, by io_uring.
    Ring,
    /// Threads.
    Threads,
}

impl Backend {
    /// Its name, which is also the word that the user forces it with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "io_uring",
            Self::Threads => "threads",
        }
    }

    /// Chooses; `wish` is the user's word, if there is one.
    ///
    /// # Errors
    /// What the user has to know: the word is not one, or what it names cannot be had.
    pub fn choose(wish: Option<&str>) -> Result<Self, String> {
        match wish {
            None | Some("") => Ok(if sys::probe().is_ok() { Self::Ring } else { Self::Threads }),
            Some("threads") => Ok(Self::Threads),
            Some("io_uring") => match sys::probe() {
                Ok(()) => Ok(Self::Ring),
                Err(error) => Err(format!("io_uring cannot be had here ({error}); use 'threads'")),
            },
            Some(other) => Err(format!("it must be 'io_uring' or 'threads', not '{other}'")),
        }
    }
}
