//! HTTP over an established TLS connection: hyper or h2, their limits, and hookgate's own answers.
//!
//! Owns the life of a connection after the handshake ([`connection`], of HTTP/2 [`multiplex`]; where it stands: `stage`; how it ends: `ending`), the steps of
//! a request (`request`), what its head says of host and framing (`head`), what is counted and logged of it (`account`), the store of a durable route (`durable`), what speaks for a refused
//! peer (`suspicion`), what one without a certificate learns (`uncertified`), and problem documents ([`problem`]). Must not touch a socket except through `tls::stream`. Trusts no
//! request: `identity` and `auth` decide whether it is admitted.

mod account;
mod answer;
mod body;
pub mod connection;
mod date;
mod durable;
mod ending;
mod exchange;
mod fleet;
mod head;
pub mod multiplex;
pub mod problem;
mod request;
mod request_body;
mod stage;
mod suspicion;
mod uncertified;
mod verdicts;

use std::rc::Rc;
use std::sync::Arc;

use self::body::Buffers;
use self::date::DateField;
use crate::context::WorkerContext;
pub use crate::upstream::Places;
use crate::upstream::Upstream;

pub use head::{check_direction, requested_host};
pub use uncertified::Uncertified;
pub use verdicts::{check_source, missed};

/// What the HTTP connections of one worker share.
pub struct Server {
    context: Rc<WorkerContext>,
    upstream: Upstream,
    /// The request bodies in memory, without those of strangers.
    buffers: Buffers,
    /// The field Date of answers, which HTTP/2 does not add by itself.
    date: DateField,
}

impl Server {
    /// Without connections. All workers share `places`.
    pub fn new(context: Rc<WorkerContext>, places: Arc<Places>) -> Rc<Self> {
        let upstream = Upstream::new(context.backend(), Rc::clone(&context.sweep), places);
        Rc::new(Self { context, upstream, buffers: Buffers::default(), date: DateField::default() })
    }

    /// The worker's context.
    pub fn context(&self) -> &Rc<WorkerContext> {
        &self.context
    }

    /// The handlers.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}
