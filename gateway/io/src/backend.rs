//! Which backend this host allows, decided once at start-up by asking the kernel for what the gateway will use.

use std::io;

use io_uring::{IoUring, Probe};
use thiserror::Error;

use crate::ring::{OPERATIONS, reactor, tokio_uring};

/// A backend: whose system calls move the bytes of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring(7), driven by hookgate's own event loop.
    Reactor,
    /// io_uring(7), driven by tokio-uring.
    TokioUring,
    /// epoll(7), by tokio.
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

/// Why io_uring is not to be had.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel refused to make a ring.
    #[error("io_uring_setup(2) failed: {source}{}", hint(source, needed))]
    Setup {
        /// What the kernel said.
        source: io::Error,
        /// The first Linux that takes what was asked for.
        needed: &'static str,
    },
    /// The kernel is too old for an operation.
    #[error("the kernel has no io_uring operation {operation}; Linux {needed} or newer has all that is needed")]
    Operation {
        /// Name of the operation.
        operation: &'static str,
        /// The first Linux that has them all.
        needed: &'static str,
    },
}

fn hint(error: &io::Error, needed: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (kernel.io_uring_disabled is set, or a seccomp filter forbids it)".into(),
        io::ErrorKind::Unsupported => " (the kernel is built without it, or a seccomp filter hides it)".into(),
        io::ErrorKind::InvalidInput => format!(" (Linux {needed} or newer is needed)"),
        _ => String::new(),
    }
}

/// The backend that serves: `wanted`, or, for `None`, the first that this host allows, of the reactor (Linux 6.1), tokio-uring
/// (Linux 6.0) and epoll. If `None` falls back to epoll, the reason comes with it.
///
/// # Errors
///
/// [`ProbeError`] if a named io_uring backend is unavailable.
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

/// Whether `ring`, as the kernel made it or refused to, has every operation that is needed.
pub(crate) fn check(ring: io::Result<IoUring>, needed: &'static str) -> Result<(), ProbeError> {
    let setup = |source| ProbeError::Setup { source, needed };
    let mut supported = Probe::new();
    ring.and_then(|ring| ring.submitter().register_probe(&mut supported)).map_err(setup)?;
    match OPERATIONS.iter().find(|(_, code)| !supported.is_supported(*code)) {
        Some((operation, _)) => Err(ProbeError::Operation { operation, needed }),
        None => Ok(()),
    }
}
