//! What a worker knows of a refusal, each text within its bound.

use std::net::SocketAddr;
use std::sync::Arc;

use hookgate_core::identity::SharedChain;
use hookgate_core::reject::{Refusal, Reject};
use rustls_pki_types::UnixTime;

/// Most bytes of the explanation: that of a chain has at most 960.
const EXPLANATION_BYTES: usize = 1024;

/// Most bytes of a path, as in the log.
const PATH_BYTES: usize = 512;

/// Most bytes of a method: the longest registered one has 18.
const METHOD_BYTES: usize = 32;

/// The longest host name (RFC 1035, section 2.3.4).
const SERVER_NAME_BYTES: usize = 255;

/// Most providers that are named: more than share an authority.
const PROVIDERS: usize = 8;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A request, which got an answer.
    Request,
    /// A handshake; or one was completed although the certificate was refused, and no request followed.
    Handshake,
    /// A connection, before a byte of it was read.
    Connection,
}

impl What {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Handshake => "handshake",
            Self::Connection => "connection",
        }
    }
}

/// A refusal, as a worker notes it.
#[derive(Clone, Debug)]
pub struct Note {
    /// What was refused.
    pub what: What,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The reason.
    pub reject: Reject,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The sentence for the operator.
    pub explanation: Box<str>,
    /// The generation of the configuration that refused it.
    pub generation: u64,
    /// Where it came from.
    pub peer: SocketAddr,
    /// The proxy that it came through.
    pub proxy: Option<SocketAddr>,
    /// The id of the request, or of the answer to bytes that were none.
    pub request_id: Option<Box<str>>,
    /// The server name that the peer asked for.
    pub server_name: Option<Box<str>>,
    /// The method of the request.
    pub method: Option<Box<str>>,
    /// The path of the request without its query, unless `[log] path` says otherwise.
    pub path: Option<Box<str>>,
    /// The name of the route that was found.
    pub route: Option<Arc<str>>,
    /// The names of the providers that the certificate proves or claims, or that the route admits without one.
    pub providers: Vec<Arc<str>>,
    /// As presented, end entity first.
    pub chain: Option<SharedChain>,
}

impl Note {
    /// What is known of every refusal.
    pub fn new(what: What, refusal: &Refusal, at: UnixTime, peer: SocketAddr) -> Self {
        Self {
            what,
            at: at.as_secs(),
            reject: refusal.reject,
            status: None,
            explanation: beginning(refusal.detail(), EXPLANATION_BYTES),
            generation: 0,
            peer,
            proxy: None,
            request_id: None,
            server_name: None,
            method: None,
            path: None,
            route: None,
            providers: Vec::new(),
            chain: None,
        }
    }

    /// The same with the server name that the peer asked for.
    #[must_use]
    pub fn at_server_name(self, name: Option<&str>) -> Self {
        Self { server_name: name.map(|name| beginning(name, SERVER_NAME_BYTES)), ..self }
    }

    /// The same with what the head of the request says.
    #[must_use]
    pub fn of_request(self, id: Option<&str>, method: &str, path: Option<&str>) -> Self {
        let method = Some(beginning(method, METHOD_BYTES));
        Self { request_id: id.map(Box::from), method, path: path.map(|path| beginning(path, PATH_BYTES)), ..self }
    }

    /// The same with the names of these providers.
    #[must_use]
    pub fn of_providers(self, providers: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { providers: providers.into_iter().take(PROVIDERS).collect(), ..self }
    }

    /// The bytes of its chain.
    pub(super) fn chain_bytes(&self) -> usize {
        self.chain.as_ref().map_or(0, SharedChain::bytes)
    }
}

/// The first `maximum` bytes of `text`, or fewer, so that no character is split.
pub(super) fn beginning(text: &str, maximum: usize) -> Box<str> {
    let end = (0..=text.len().min(maximum)).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or_default()].into()
}
