//! The choice of a backend, made once at start-up by asking the kernel for every operation that hookgate uses.
//!
//! Owns [`Backend`] and the probe. Must not do I/O on sockets.

use std::io;

use io_uring::{IoUring, Probe};
use thiserror::Error;

use crate::ring::{OPERATIONS, reactor, tokio_uring};

/// How a worker does socket I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring(7), driven by hookgate's own event loop.
    Reactor,
    /// io_uring(7), driven by tokio-uring.
    TokioUring,
    /// epoll(7), driven by tokio.
    Epoll,
}

impl Backend {
    /// The value of the `backend` metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::TokioUring => "io_uring",
            Self::Reactor => "io_uring_direct",
            Self::Epoll => "epoll",
        }
    }
}

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

/// Returns the backend to use. A `wanted` backend is mandatory. For `None` it is the first that this host allows: the reactor
/// (Linux 6.1), tokio-uring (Linux 6.0), epoll. If that is epoll, the second value says why tokio-uring is unavailable.
///
/// # Errors
///
/// [`ProbeError`] if `wanted` names an io_uring backend that is unavailable.
pub fn choose(wanted: Option<Backend>) -> Result<(Backend, Option<ProbeError>), ProbeError> {
    match wanted {
        Some(Backend::Epoll) => Ok((Backend::Epoll, None)),
        Some(Backend::TokioUring) => tokio_uring::probe().map(|()| (Backend::TokioUring, None)),
        Some(Backend::Reactor) => reactor::probe().map(|()| (Backend::Reactor, None)),
        None => Ok(match (reactor::probe(), tokio_uring::probe()) {
            (Ok(()), _) => (Backend::Reactor, None),
            (Err(_), Ok(())) => (Backend::TokioUring, None),
            (Err(_), Err(error)) => (Backend::Epoll, Some(error)),
        }),
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
    fn epoll_needs_no_probe() {
        assert!(matches!(choose(Some(Backend::Epoll)), Ok((Backend::Epoll, None))));
    }

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
