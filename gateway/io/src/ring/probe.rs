//! Whether this host allows a ring with everything that hookgate uses.
//!
//! Owns the reasons why not. Must not choose a backend: that is [`crate::backend`].

use std::io;

use io_uring::{IoUring, Probe};
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
        _ => String::new(),
    }
}

/// Checks that the kernel made `ring`, and that it supports every operation in [`OPERATIONS`]. `minimum` is the Linux version that
/// an error names.
pub(crate) fn check(ring: io::Result<IoUring>, minimum: &'static str) -> Result<(), ProbeError> {
    let setup = |source| ProbeError::Setup { source, minimum };
    let mut supported = Probe::new();
    ring.and_then(|ring| ring.submitter().register_probe(&mut supported)).map_err(setup)?;
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
            (rustix::io::Errno::PERM, "a seccomp filter forbids it"),
            (rustix::io::Errno::NOSYS, "a seccomp filter hides it"),
            (rustix::io::Errno::INVAL, "Linux 6.1 or newer is required"),
            (rustix::io::Errno::NOMEM, "io_uring_setup(2) failed"),
        ];
        for (errno, expected) in cases {
            let text = check(Err(errno.into()), "6.1").err().map(|error| error.to_string());
            assert!(text.as_ref().is_some_and(|text| text.contains(expected)), "{errno}: {text:?}");
        }
    }
}
