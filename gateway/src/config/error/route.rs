//! The problems of `[[route]]`, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the problems.

use hookgate_core::route::StripPrefixError;

/// An error about a route. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteProblem {
    /// `client_cert_chain` without `client_cert`.
    #[error(
        "the handler gets no Client-Cert, and RFC 9440 allows no Client-Cert-Chain without it; remove this key, or client_cert = false"
    )]
    ChainWithoutCertificate,
    /// `max_in_flight` of two routes of one name.
    #[error(
        "another route is called \"{name}\" too, and max_in_flight counts by the name; write name = \"…\" for each"
    )]
    SharedName {
        /// The name.
        name: String,
    },
    /// A key of a route with a handler.
    #[error(
        "a route with respond answers everyone itself and passes nothing on, so it has no {key}; remove {key}, or respond"
    )]
    PublicWith {
        /// The key.
        key: &'static str,
    },
    /// Many paths that everyone gets an answer for.
    #[error("a route with respond is for one path; write path = \"{write}\"")]
    PublicPrefix {
        /// The path without what stands for those below it.
        write: String,
    },
    /// A prefix to strip that is none.
    #[error("\"{text}\" is no prefix to strip: {source}")]
    StripPrefix {
        /// The text.
        text: String,
        /// What is wrong, and what to write instead.
        source: StripPrefixError,
    },
    /// A prefix to strip that the paths of the route do not have.
    #[error(
        "the path {path} is neither {prefix} nor below it; write whole segments of the path, such as \"{write}\", or remove the key"
    )]
    StripPrefixElsewhere {
        /// The prefix.
        prefix: String,
        /// The path of the route.
        path: String,
        /// A prefix that it has.
        write: String,
    },
}

/// An error about the handlers of a route. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerProblem {
    /// One handler two times in a list.
    #[error("the handler {handler} is in this list twice; write it once")]
    Twice {
        /// The handler.
        handler: String,
    },
    /// No handler that a backup could stand in for.
    #[error("every handler here is a backup, so there is none to stand in for; remove backup = true from one of them")]
    OnlyBackups,
    /// Another `max_in_flight` of the same handler.
    #[error(
        "line {line} gives the handler {handler} another max_in_flight, and its requests are counted over all routes; write the same everywhere"
    )]
    OtherBound {
        /// The handler.
        handler: String,
        /// The line of the other one.
        line: usize,
    },
    /// The port of a handler is one of hookgate's own.
    #[error(
        "{handler} is where hookgate itself listens ({key}), so requests would come back to it; write the port of the handler, or give it a Unix socket"
    )]
    Loop {
        /// The handler.
        handler: String,
        /// The key that names the address.
        key: &'static str,
    },
}
