//! URLs of what is published: key sets, lists of ranges, revocation lists.
//!
//! Owns the syntax of the URLs from which hookgate fetches, and that only what is signed comes without TLS. Must not fetch: `control` does.

use std::fmt;

use hyper::Uri;
use hyper::http::uri::Scheme;
use rustls_pki_types::ServerName;

/// The URL of something published: `https`, or `http` if the document is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedUrl {
    uri: Uri,
    port: u16,
}

/// Why a text is not such a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedUrlError {
    /// Not an absolute URL.
    #[error(
        "\"{text}\" is not a URL; write an absolute one without a fragment, such as \"https://issuer.example/keys\""
    )]
    Malformed {
        /// The text.
        text: String,
    },
    /// Another scheme.
    #[error(
        "\"{text}\" is not an https URL; write https://, because anyone on the path could replace what is sent without TLS"
    )]
    NotHttps {
        /// The text.
        text: String,
    },
    /// Another scheme, for a document that is signed.
    #[error("\"{text}\" is not an http or https URL; write http:// or https:// (no other scheme is fetched from)")]
    NotHttp {
        /// The text.
        text: String,
    },
    /// Credentials in the URL.
    #[error("the URL has a user name or password; remove it, because what is fetched is public")]
    Credentials,
}

impl FeedUrl {
    /// Parses the URL of a document that only TLS protects.
    ///
    /// # Errors
    ///
    /// If `text` is not an absolute `https` URL, or has credentials.
    pub fn parse(text: &str) -> Result<Self, FeedUrlError> {
        Self::parse_as(text, false)
    }

    /// Parses the URL of a document whose signature is verified, such as a revocation list: it may come without TLS.
    ///
    /// # Errors
    ///
    /// If `text` is not an absolute `http` or `https` URL, or has credentials.
    pub fn parse_signed(text: &str) -> Result<Self, FeedUrlError> {
        Self::parse_as(text, true)
    }

    fn parse_as(text: &str, is_signed: bool) -> Result<Self, FeedUrlError> {
        let malformed = || FeedUrlError::Malformed { text: text.to_owned() };
        if text.contains('#') {
            return Err(malformed());
        }
        let uri = text.parse::<Uri>().map_err(|_| malformed())?;
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(FeedUrlError::Credentials);
        }
        let scheme = uri.scheme().ok_or_else(malformed)?;
        let default_port = match (*scheme == Scheme::HTTPS, *scheme == Scheme::HTTP && is_signed) {
            (true, _) => 443,
            (false, true) => 80,
            (false, false) if is_signed => return Err(FeedUrlError::NotHttp { text: text.to_owned() }),
            (false, false) => return Err(FeedUrlError::NotHttps { text: text.to_owned() }),
        };
        // The certificate of a server must name the host.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(host).map_err(|_| malformed())?;
        // `port` is `None` both for an invalid port and for no port, so the text decides.
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()),
            None if authority.as_str().ends_with(':') => None,
            None if authority.host().len() == authority.as_str().len() => Some(default_port),
            None => None,
        };
        Ok(Self { port: port.ok_or_else(malformed)?, uri })
    }

    /// The whole URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether TLS protects what is fetched.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for FeedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(formatter)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{FeedUrl, FeedUrlError};

    #[test]
    fn accepts_only_https_urls() {
        for (text, shown, port) in [
            ("https://www.googleapis.com/oauth2/v3/certs", "https://www.googleapis.com/oauth2/v3/certs", 443),
            ("https://issuer.example", "https://issuer.example/", 443),
            ("https://issuer.example:8443/keys?a=b", "https://issuer.example:8443/keys?a=b", 8443),
            ("https://[::1]:8443/keys", "https://[::1]:8443/keys", 8443),
            ("https://[::1]/keys", "https://[::1]/keys", 443),
            ("HTTPS://127.0.0.1/", "https://127.0.0.1/", 443),
        ] {
            let url = FeedUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.port), (shown, port));
        }
        for text in [
            "",
            "/keys",
            "issuer.example",
            "https://",
            "https:///keys",
            "https://a b/",
            "https://a:99999/",
            "https://a:/",
            "https://a/#b",
            "https://exa_mple.-/",
        ] {
            assert!(
                matches!(FeedUrl::parse(text), Err(FeedUrlError::Malformed { .. })),
                "{text}: {:?}",
                FeedUrl::parse(text)
            );
        }
        for text in ["http://issuer.example/keys", "ftp://issuer.example/", "file://host/keys"] {
            assert!(matches!(FeedUrl::parse(text), Err(FeedUrlError::NotHttps { .. })), "{text}");
        }
        assert_eq!(FeedUrl::parse("https://user:secret@issuer.example/"), Err(FeedUrlError::Credentials));
    }

    #[test]
    fn what_is_signed_may_come_without_tls() {
        for (text, port, is_https) in [
            ("http://crl.example/root.crl", 80, false),
            ("HTTP://crl.example:8080/root.crl", 8080, false),
            ("https://crl.example/root.crl", 443, true),
        ] {
            let url = FeedUrl::parse_signed(text).unwrap();
            assert_eq!((url.port(), url.is_https()), (port, is_https), "{text}");
        }
        for text in ["ldap://crl.example/cn=root", "ftp://crl.example/root.crl", "file://host/root.crl"] {
            assert!(matches!(FeedUrl::parse_signed(text), Err(FeedUrlError::NotHttp { .. })), "{text}");
        }
        assert_eq!(FeedUrl::parse_signed("http://user@crl.example/"), Err(FeedUrlError::Credentials));
        assert!(matches!(FeedUrl::parse_signed("http://crl.example:/"), Err(FeedUrlError::Malformed { .. })));
    }
}
