//! `handler`: who answers the requests of a route.
//!
//! Owns what a handler and a list of them are, and how an address is written. Pure. Must not choose one of a list: `upstream` does, which knows how
//! they are doing.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most handlers of a route. Each becomes a metric label, and a choice looks at all of them.
pub const MAXIMUM_HANDLERS: usize = 16;

/// Where a handler listens for HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HandlerAddress {
    /// `unix:/absolute/path`: a Unix stream socket, whose path has at most 107 bytes (`sun_path`, unix(7)).
    Unix(PathBuf),
    /// `http://127.0.0.1:8080`: a TCP port at a loopback address.
    Tcp(SocketAddr),
}

/// A handler. Routes that name the same address have the same handler.
#[derive(Clone, Debug)]
pub struct Handler {
    address: HandlerAddress,
    /// What [`fmt::Display`] writes, made once: the label of its metrics.
    label: Arc<str>,
}

impl Handler {
    /// The one with this address.
    pub fn new(address: HandlerAddress) -> Self {
        let label = match &address {
            HandlerAddress::Unix(path) => path.display().to_string(),
            HandlerAddress::Tcp(address) => format!("http://{address}"),
        };
        Self { address, label: label.into() }
    }

    /// The one behind the Unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(HandlerAddress::Unix(path.into()))
    }

    /// Where it listens.
    pub fn address(&self) -> &HandlerAddress {
        &self.address
    }

    /// The path of its Unix socket; `None` if it has a port.
    pub fn socket(&self) -> Option<&Path> {
        match &self.address {
            HandlerAddress::Unix(path) => Some(path),
            HandlerAddress::Tcp(_) => None,
        }
    }

    /// Its address and port; `None` if it has a Unix socket.
    pub fn port(&self) -> Option<SocketAddr> {
        match self.address {
            HandlerAddress::Unix(_) => None,
            HandlerAddress::Tcp(address) => Some(address),
        }
    }

    /// Its address as the label of metrics: the path of the socket, or the URL.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }
}

impl PartialEq for Handler {
    fn eq(&self, other: &Self) -> bool {
        // The same configuration shares the label.
        Arc::ptr_eq(&self.label, &other.label) || self.address == other.address
    }
}

impl Eq for Handler {}

impl std::hash::Hash for Handler {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.label)
    }
}

/// A handler of a route, and its part there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerEntry {
    /// The handler.
    pub handler: Handler,
    /// Whether it is asked only when no handler that is none can be.
    pub backup: bool,
    /// Requests that may be with it, over all routes; `None` for `handler_max_in_flight`. The same in each route that names it.
    pub max_in_flight: Option<usize>,
}

impl From<Handler> for HandlerEntry {
    fn from(handler: Handler) -> Self {
        Self { handler, backup: false, max_in_flight: None }
    }
}

/// The handlers of a route, of which each request gets one. Never empty, and none is in it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handlers(Arc<[HandlerEntry]>);

impl Handlers {
    /// `first` and `others`.
    pub fn new(first: impl Into<HandlerEntry>, others: impl IntoIterator<Item = HandlerEntry>) -> Self {
        Self(std::iter::once(first.into()).chain(others).collect())
    }

    /// All of them, in the order of the file.
    pub fn entries(&self) -> &[HandlerEntry] {
        &self.0
    }

    /// The first, which always exists.
    pub fn first(&self) -> &HandlerEntry {
        &self.0[0]
    }

    /// The one, if there are no others.
    pub fn only(&self) -> Option<&HandlerEntry> {
        match &*self.0 {
            [only] => Some(only),
            _ => None,
        }
    }

    /// All of them, without what the route says of each.
    pub fn iter(&self) -> impl Iterator<Item = &Handler> {
        self.0.iter().map(|entry| &entry.handler)
    }

    /// Whether one of them is a handler of `other`.
    pub fn meets(&self, other: &Self) -> bool {
        self.iter().any(|handler| other.iter().any(|known| known == handler))
    }

    /// Whether both are the same list of one configuration, not only an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Display for Handlers {
    /// For sentences: `A`, or `A, B or C`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.0.iter().enumerate() {
            let before = match index {
                0 => "",
                _ if index + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(formatter, "{before}{}", entry.handler)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_the_one_of_its_address() {
        let (one, same, other) = (Handler::unix("/a"), Handler::unix("/a"), Handler::unix("/b"));
        assert_eq!(one, same);
        assert_ne!(one, other);
        let port = |port: u16| Handler::new(HandlerAddress::Tcp(([127, 0, 0, 1], port).into()));
        assert_eq!(port(1), port(1));
        assert_ne!(port(1), port(2));
        assert_eq!((port(80).to_string().as_str(), &**one.label()), ("http://127.0.0.1:80", "/a"));
    }

    #[test]
    fn a_list_is_a_clause_of_a_sentence() {
        let list = |names: &[&str]| {
            let mut entries = names.iter().map(|name| HandlerEntry::from(Handler::unix(*name)));
            entries.next().map(|first| Handlers::new(first, entries).to_string())
        };
        assert_eq!(list(&["/a"]).as_deref(), Some("/a"));
        assert_eq!(list(&["/a", "/b"]).as_deref(), Some("/a or /b"));
        assert_eq!(list(&["/a", "/b", "/c"]).as_deref(), Some("/a, /b or /c"));
    }
}
