//! Which backend this host allows, decided once at start-up by asking the kernel for what the gateway will use.

use std::io;

use io_uring::{IoUring, Probe, opcode};
use thiserror::Error;

use crate::config::IoBackend;

/// A backend that was found to work, or was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring(7), by tokio-uring.
    IoUring,
    /// epoll(7), by tokio.
    Epoll,
}

impl Backend {
    /// The value of the `backend` metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Why io_uring is not to be had.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel refused to make a ring.
    #[error("io_uring_setup(2) failed: {source}{}", hint(source))]
    Setup {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel is too old for an operation.
    #[error("the kernel has no io_uring operation {operation}; Linux 6.0 or newer has all that is needed")]
    Operation {
        /// Name of the operation.
        operation: &'static str,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (kernel.io_uring_disabled is set, or a seccomp filter forbids it)",
        io::ErrorKind::Unsupported => " (the kernel is built without it, or a seccomp filter hides it)",
        io::ErrorKind::InvalidInput => " (Linux 6.0 or newer is needed)",
        _ => "",
    }
}

/// The backend for `wanted`, and, where `auto` fell back to epoll, why.
///
/// # Errors
///
/// [`ProbeError`] where `io_uring` was demanded and is not to be had.
pub fn choose(wanted: IoBackend) -> Result<(Backend, Option<ProbeError>), ProbeError> {
    match wanted {
        IoBackend::Epoll => Ok((Backend::Epoll, None)),
        IoBackend::IoUring => probe().map(|()| (Backend::IoUring, None)),
        IoBackend::Auto => Ok(match probe() {
            Ok(()) => (Backend::IoUring, None),
            Err(error) => (Backend::Epoll, Some(error)),
        }),
    }
}

fn probe() -> Result<(), ProbeError> {
    let setup = |source| ProbeError::Setup { source };
    let ring: IoUring = IoUring::builder().setup_coop_taskrun().setup_single_issuer().build(8).map_err(setup)?;
    let mut supported = Probe::new();
    ring.submitter().register_probe(&mut supported).map_err(setup)?;
    let needed = [
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
    ];
    match needed.into_iter().find(|(_, code)| !supported.is_supported(*code)) {
        Some((operation, _)) => Err(ProbeError::Operation { operation }),
        None => Ok(()),
    }
}
