//! HTTP over an established TLS connection: hyper, its limits, and the answers that hookgate gives itself.
//!
//! Owns the life of a connection after the handshake ([`connection`]), what one request goes through (`request`), and
//! problem documents ([`problem`]). Must not touch a socket but through `tls::stream`, and trusts no request: whether one may
//! go on is for `identity` and `auth` to say.

mod answer;
mod body;
pub mod connection;
mod exchange;
pub mod problem;
mod request;
mod stage;

use std::cell::Cell;
use std::rc::Rc;

use crate::context::WorkerContext;
use crate::upstream::Upstream;

/// What the HTTP connections of one worker share.
pub struct Server {
    context: Rc<WorkerContext>,
    upstream: Upstream,
    /// Bytes of request bodies held now.
    buffered_bytes: Cell<usize>,
}

impl Server {
    /// Without connections yet, neither of peers nor to handlers.
    pub fn new(context: Rc<WorkerContext>) -> Rc<Self> {
        let upstream = Upstream::new(context.backend(), Rc::clone(&context.sweep));
        Rc::new(Self { context, upstream, buffered_bytes: Cell::new(0) })
    }

    /// What the rooms of this worker share.
    pub fn context(&self) -> &Rc<WorkerContext> {
        &self.context
    }

    /// The handlers.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}
