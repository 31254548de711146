//! Whether this process is a forked child.

use std::io;

use rustix::process::Pid;

use super::memory::{Pages, page_size};

/// Tells the process that made it from its forked children.
pub(super) enum Owner {
    /// By a page whose first byte is 1, and which the kernel clears in a forked child: asked several times for each
    /// message, it spares the system calls.
    Mark(Pages),
    /// By its number, before Linux 4.14.
    Number(Pid),
}

impl Owner {
    /// This process.
    pub(super) fn new() -> Self {
        match Self::mark() {
            Ok(page) => Self::Mark(page),
            Err(_) => Self::Number(rustix::process::getpid()),
        }
    }

    fn mark() -> io::Result<Pages> {
        let page = Pages::anonymous(page_size())?;
        // SAFETY: the page is this function's own.
        unsafe {
            rustix::mm::madvise(
                page.pointer().as_ptr().cast(),
                page.length(),
                rustix::mm::Advice::LinuxWipeOnFork,
            )?;
            page.pointer().write(1);
        }
        Ok(page)
    }

    /// Whether this is still the process that called [`Self::new`].
    pub(super) fn is_this_process(&self) -> bool {
        match self {
            // SAFETY: the page is mapped as long as `self`, and nobody writes it after `mark`.
            Self::Mark(page) => unsafe { page.pointer().read_volatile() == 1 },
            Self::Number(number) => rustix::process::getpid() == *number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_forked_child_is_another_process() {
        let owners = [Owner::new(), Owner::Number(rustix::process::getpid())];
        assert!(owners.iter().all(Owner::is_this_process));
        // SAFETY: the child only reads memory, asks for its number and ends, all of which a child of threads may do.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mistaken = owners.iter().any(Owner::is_this_process);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(mistaken)) };
        }
        let status = rustix::process::waitpid(Pid::from_raw(child), rustix::process::WaitOptions::empty());
        assert_eq!(status.unwrap().unwrap().1.exit_status(), Some(0));
        assert!(owners.iter().all(Owner::is_this_process));
    }
}
