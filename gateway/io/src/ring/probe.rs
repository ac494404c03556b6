//! Whether this host allows a ring with everything that hookgate uses.
//!
//! Owns the reasons why not, and the patience with a kernel that has not freed the last process's rings yet. Must not choose a backend: that is
//! [`crate::backend`].

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe};
use rustix::io::Errno;
use thiserror::Error;

use super::OPERATIONS;

/// Why io_uring is unavailable.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel refuses to make a ring.
    #[error("io_uring_setup(2) failed: {source}{}", hint(source, minimum))]
    Setup {
        /// The kernel's error.
        source: io::Error,
        /// The first Linux version that supports the ring's flags and every operation.
        minimum: &'static str,
    },
    /// The kernel lacks an operation.
    #[error("the kernel lacks the io_uring operation {operation}; Linux {minimum} or newer is required")]
    Operation {
        /// Name of the operation, without `IORING_OP_`.
        operation: &'static str,
        /// The first Linux version that supports the ring's flags and every operation.
        minimum: &'static str,
    },
}

fn hint(error: &io::Error, minimum: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (kernel.io_uring_disabled is set, or a seccomp filter forbids it)".into(),
        io::ErrorKind::Unsupported => " (the kernel is built without it, or a seccomp filter hides it)".into(),
        io::ErrorKind::InvalidInput => format!(" (Linux {minimum} or newer is required)"),
        io::ErrorKind::OutOfMemory => {
            " (the rings of a user count against its RLIMIT_MEMLOCK; raise it, in a unit with LimitMEMLOCK=)".into()
        }
        _ => String::new(),
    }
}

/// How long a ring is asked for again if there is no memory for it. A kernel that had nothing else to do freed the rings of a process within
/// 0.1 s after its end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes a ring. The memory of rings counts against RLIMIT_MEMLOCK of their user (since Linux 6.14, without CAP_IPC_LOCK), and the kernel frees
/// that of a process some time after its end. So one that follows another may have to wait.
///
/// # Errors
///
/// The kernel makes none, or has no memory for it after some seconds. `minimum` is the Linux version that the error names.
pub(super) fn patiently<R>(minimum: &'static str, make: impl FnMut() -> io::Result<R>) -> Result<R, ProbeError> {
    within(PATIENCE, make).map_err(|source| ProbeError::Setup { source, minimum })
}

fn within<R>(limit: Duration, mut make: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    let began = Instant::now();
    loop {
        match make() {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOMEM) && began.elapsed() < limit => sleep(PAUSE),
            made => return made,
        }
    }
}

/// Checks that the kernel makes a ring, and that it supports every operation in [`OPERATIONS`]. `minimum` is the Linux version that
/// an error names.
pub(crate) fn check(make: impl FnMut() -> io::Result<IoUring>, minimum: &'static str) -> Result<(), ProbeError> {
    let ring = patiently(minimum, make)?;
    let mut supported = Probe::new();
    let registered = ring.submitter().register_probe(&mut supported);
    registered.map_err(|source| ProbeError::Setup { source, minimum })?;
    match OPERATIONS.iter().find(|(_, code)| !supported.is_supported(*code)) {
        Some((operation, _)) => Err(ProbeError::Operation { operation, minimum }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_ring_says_what_to_look_at() {
        let cases = [
            (Errno::PERM, "a seccomp filter forbids it"),
            (Errno::NOSYS, "a seccomp filter hides it"),
            (Errno::INVAL, "Linux 6.1 or newer is required"),
            (Errno::NOMEM, "LimitMEMLOCK="),
            (Errno::MFILE, "io_uring_setup(2) failed"),
        ];
        for (errno, expected) in cases {
            let text = ProbeError::Setup { source: errno.into(), minimum: "6.1" }.to_string();
            assert!(text.contains(expected), "{errno}: {text}");
        }
        assert!(check(|| Err(Errno::PERM.into()), "6.1").is_err());
    }

    #[test]
    fn a_ring_that_finds_no_memory_is_asked_for_again_and_no_other() {
        let mut asked = 0;
        let mut fail_twice_with = |errno: Errno| {
            asked = 0;
            let outcome = within(PATIENCE, || {
                asked += 1;
                if asked < 3 { Err(errno.into()) } else { Ok(()) }
            });
            (outcome.is_ok(), asked)
        };
        assert_eq!(fail_twice_with(Errno::NOMEM), (true, 3));
        assert_eq!(fail_twice_with(Errno::PERM), (false, 1));
        assert!(within(Duration::ZERO, || Err::<(), _>(Errno::NOMEM.into())).is_err());
    }
}
