//! Which backend this host allows, decided once at start-up by asking the kernel for what the gateway will use.

use std::io;

use io_uring::{IoUring, Probe};
use thiserror::Error;

use super::ring::OPERATIONS;
use super::{direct, uring};
use crate::config::IoBackend;

/// A backend that was found to work, or was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring(7), by tokio-uring.
    IoUring,
    /// io_uring(7), by a reactor of our own.
    IoUringDirect,
    /// epoll(7), by tokio.
    Epoll,
}

impl Backend {
    /// The value of the `backend` metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::IoUringDirect => "io_uring_direct",
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

/// The backend for `wanted`, and, where `auto` fell back to epoll, why. `auto` takes the best that is to be had: our own reactor, then
/// tokio-uring (on Linux 6.0), then epoll.
///
/// # Errors
///
/// [`ProbeError`] where io_uring was demanded, in one way or the other, and is not to be had.
pub fn choose(wanted: IoBackend) -> Result<(Backend, Option<ProbeError>), ProbeError> {
    match wanted {
        IoBackend::Epoll => Ok((Backend::Epoll, None)),
        IoBackend::IoUring => uring::probe().map(|()| (Backend::IoUring, None)),
        IoBackend::IoUringDirect => direct::probe().map(|()| (Backend::IoUringDirect, None)),
        IoBackend::Auto => Ok(match (direct::probe(), uring::probe()) {
            (Ok(()), _) => (Backend::IoUringDirect, None),
            (Err(_), Ok(())) => (Backend::IoUring, None),
            (Err(_), Err(error)) => (Backend::Epoll, Some(error)),
        }),
    }
}

/// Whether `ring`, as the kernel made it or refused to, has every operation that is needed.
pub(super) fn check(ring: io::Result<IoUring>, needed: &'static str) -> Result<(), ProbeError> {
    let setup = |source| ProbeError::Setup { source, needed };
    let mut supported = Probe::new();
    ring.and_then(|ring| ring.submitter().register_probe(&mut supported)).map_err(setup)?;
    match OPERATIONS.iter().find(|(_, code)| !supported.is_supported(*code)) {
        Some((operation, _)) => Err(ProbeError::Operation { operation, needed }),
        None => Ok(()),
    }
}
