//! The receiver: its URL, and the address to connect to.
//!
//! Owns the parsing of both, and the connection. Must not speak TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// The port of https (RFC 9110, section 4.2.2).
const HTTPS_PORT: u16 = 443;

/// The most addresses of a host that are tried, each for the whole time-out.
const MAXIMUM_ADDRESSES: usize = 8;

/// A receiver.
#[derive(Clone, Debug)]
pub struct Target {
    /// As given.
    pub url: String,
    /// Host name or address, without brackets.
    pub host: String,
    /// What the server's certificate must be for.
    pub server_name: ServerName<'static>,
    /// Host and port for `Host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// The host and port to connect to.
    connect: (String, u16),
}

/// Why a URL or an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL.
    #[error("{url:?} is not a URL; write one like https://hooks.example.com/path")]
    Url {
        /// What was given.
        url: String,
    },
    /// Another scheme than https.
    #[error("{url:?} is not an https URL: a sender with a client certificate, or with a secret, needs TLS")]
    Scheme {
        /// What was given.
        url: String,
    },
    /// Credentials in the URL.
    #[error("the URL has a user name or a password; leave them out, and write them into the file of --secret-file")]
    Credentials,
    /// Not an address.
    #[error("--connect {text:?} is not an address; write ADDRESS, ADDRESS:PORT or [IPv6]:PORT, such as 127.0.0.1:8443")]
    Connect {
        /// What was given.
        text: String,
    },
}

impl Target {
    /// The receiver at `url`. `connect` replaces the address that its host resolves to, and if it has one, the port.
    ///
    /// # Errors
    ///
    /// If `url` is no https URL, or `connect` no address.
    pub fn parse(url: &str, connect: Option<&str>) -> Result<Self, TargetError> {
        let bad = || TargetError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        match uri.scheme_str() {
            Some("https") => {}
            Some(_) => return Err(TargetError::Scheme { url: url.to_owned() }),
            None => return Err(bad()),
        }
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
        let port = authority.port_u16().unwrap_or(HTTPS_PORT);
        let connect = match connect {
            None => (host.clone(), port),
            Some(text) => address(text, port).ok_or_else(|| TargetError::Connect { text: text.to_owned() })?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { url: url.to_owned(), host, server_name, authority: authority.as_str().to_owned(), path, connect })
    }

    /// The name for SNI; `None` for an address.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        self.host.parse::<IpAddr>().is_err().then_some(self.host.as_str())
    }

    /// Connects to the first address that accepts.
    ///
    /// # Errors
    ///
    /// The name does not resolve within `limit`, or none of its first 8 addresses accepts within `limit` each.
    pub async fn connect(&self, limit: Duration) -> io::Result<TcpStream> {
        let (host, port) = &self.connect;
        let mut last = None;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{host} does not resolve in time"));
        let resolved = timeout(limit, lookup_host((host.as_str(), *port))).await.map_err(late)??;
        for address in resolved.take(MAXIMUM_ADDRESSES) {
            match connect(address, limit).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(io::Error::new(error.kind(), format!("{address}: {error}"))),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))))
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = timeout(limit, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))??;
    // Latencies are measured; Nagle's algorithm would add 40 ms to some.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// `ADDRESS`, `ADDRESS:PORT` or `[IPv6]:PORT`.
fn address(text: &str, port: u16) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), address.port()));
    }
    let address: IpAddr = text.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some((address.to_string(), port))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let check = |url: &str, host: &str, authority: &str, path: &str, connect: (&str, u16)| {
            let target = Target::parse(url, None).unwrap();
            assert_eq!(
                (target.host.as_str(), target.authority.as_str(), target.path.as_str()),
                (host, authority, path)
            );
            assert_eq!((target.connect.0.as_str(), target.connect.1), connect, "{url}");
        };
        check("https://a.example", "a.example", "a.example", "/", ("a.example", 443));
        check("https://a.example:8443/x?y=1", "a.example", "a.example:8443", "/x?y=1", ("a.example", 8443));
        check("https://[::1]:8443/x", "::1", "[::1]:8443", "/x", ("::1", 8443));
        assert_eq!(Target::parse("https://[::1]/", None).unwrap().sni(), None);
        assert_eq!(Target::parse("https://a.example/", None).unwrap().sni(), Some("a.example"));
    }

    #[test]
    fn another_address_keeps_name_and_path() {
        for (connect, expected) in [("127.0.0.1", ("127.0.0.1", 444)), ("127.0.0.1:8443", ("127.0.0.1", 8443))] {
            let target = Target::parse("https://a.example:444/x", Some(connect)).unwrap();
            assert_eq!((target.connect.0.as_str(), target.connect.1), expected);
            assert_eq!(target.host, "a.example");
        }
        for (connect, expected) in [("::1", ("::1", 443)), ("[::1]", ("::1", 443)), ("[::1]:99", ("::1", 99))] {
            let target = Target::parse("https://a.example/x", Some(connect)).unwrap();
            assert_eq!((target.connect.0.as_str(), target.connect.1), expected);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |url: &str, connect: Option<&str>| Target::parse(url, connect).unwrap_err().to_string();
        assert!(error("hooks.example.com/x", None).contains("write one like https://"));
        assert!(error("http://a.example/", None).contains("is not an https URL"));
        assert!(error("https://user:word@a.example/", None).contains("--secret-file"));
        assert!(error("https://a.example/", Some("localhost:1")).contains("--connect \"localhost:1\""));
    }
}
