//! Processes: a signal to one, and the end of one.

use rustix::process::{self, Signal};
use std::io;
use std::os::fd::BorrowedFd;

/// Sends a signal to the process that this descriptor stands for: never to another that has its number now.
///
/// # Errors
/// `NotFound` when it has ended.
pub fn send_signal(process: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: any number is as good as another to the kernel, which checks it; rustix only asks that it is none that
    // the C library keeps for itself, and a signal to another process disturbs no library here.
    let signal = unsafe { Signal::from_raw_unchecked(number) };
    match process::pidfd_send_signal(process, signal) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::SRCH) => Err(io::ErrorKind::NotFound.into()),
        Err(error) => Err(error.into()),
    }
}

/// Has the kernel kill this process when its parent's thread ends, however it ends.
///
/// # Errors
/// The system's.
pub fn die_with_parent() -> io::Result<()> {
    Ok(process::set_parent_process_death_signal(Some(Signal::KILL))?)
}
