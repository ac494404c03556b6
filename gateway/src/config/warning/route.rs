//! The warnings about the hosts of routes, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the reasons.

/// A warning about the hosts of a route. The message says what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteWarning {
    /// Certificates for some hosts of a wildcard, and none for it.
    #[error(
        "of the names of {host} only some have a certificate ({names}): for each other one, senders refuse the default certificate; add a \
         [[certificate]] with the name {host}, or write a route for each name"
    )]
    WildcardInPart {
        /// The wildcard.
        host: String,
        /// The names of the certificates.
        names: String,
    },
    /// A handler that gets requests of a route, without a prefix, under paths of another one.
    #[error(
        "without this prefix, requests of this route can have paths of the route \"{name}\" at the handler of both, and \"{name}\" admits other \
         providers or demands another proof; give this route a handler of its own, or a prefix that leaves the paths apart"
    )]
    SharedHandler {
        /// The name of the other route.
        name: String,
    },
    /// A route that answers everyone, behind a route of a more specific host.
    #[error(
        "a request for {path} at {host} belongs to the route \"{name}\", whose host is more specific, and needs its proofs; write this route once \
         more with host = \"{host}\", or another path"
    )]
    PublicRouteBehind {
        /// The path.
        path: String,
        /// The host of the other route.
        host: String,
        /// The name of the other route.
        name: String,
    },
    /// A route that answers everyone at hosts where handshakes without a certificate would be aborted.
    #[error(
        "the hosts of this route ask for a certificate and go on without one, so a peer without one reads 403 no_certificate for every other path, \
         also where on_failure = \"abort\" would end its handshake; give the route a host of its own if that is too much"
    )]
    PublicRouteAsks,
}
