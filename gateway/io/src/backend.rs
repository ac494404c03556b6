//! The choice of a backend, made once at start-up by asking the kernel for every operation that hookgate uses.
//!
//! Owns [`Backend`] and the probe. Must not do I/O on sockets.

use crate::ring::{ProbeError, reactor, tokio_uring};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_needs_no_probe() {
        assert!(matches!(choose(Some(Backend::Epoll)), Ok((Backend::Epoll, None))));
    }
}
