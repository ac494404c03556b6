//! `https` URLs of what is published: key sets and lists of ranges.
//!
//! Owns the syntax of the URLs from which hookgate fetches. Must not fetch: `control` does.

use std::fmt;

use hyper::Uri;
use hyper::http::uri::Scheme;
use rustls_pki_types::ServerName;

/// The `https` URL of a key set or of a list of ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUrl {
    uri: Uri,
    port: u16,
}

/// Why a text is not such a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyUrlError {
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
    /// Credentials in the URL.
    #[error("the URL has a user name or password; remove it, because what is fetched is public")]
    Credentials,
}

impl KeyUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// If `text` is not an absolute `https` URL, or has credentials.
    pub fn parse(text: &str) -> Result<Self, KeyUrlError> {
        let malformed = || KeyUrlError::Malformed { text: text.to_owned() };
        if text.contains('#') {
            return Err(malformed());
        }
        let uri = text.parse::<Uri>().map_err(|_| malformed())?;
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(KeyUrlError::Credentials);
        }
        if *uri.scheme().ok_or_else(malformed)? != Scheme::HTTPS {
            return Err(KeyUrlError::NotHttps { text: text.to_owned() });
        }
        // The server's certificate must name the host.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(host).map_err(|_| malformed())?;
        // `port` is `None` both for an invalid port and for no port, so the text decides.
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()),
            None if authority.as_str().ends_with(':') => None,
            None if authority.host().len() == authority.as_str().len() => Some(443),
            None => None,
        };
        Ok(Self { port: port.ok_or_else(malformed)?, uri })
    }

    /// The whole URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for KeyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(formatter)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{KeyUrl, KeyUrlError};

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
            let url = KeyUrl::parse(text).unwrap();
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
                matches!(KeyUrl::parse(text), Err(KeyUrlError::Malformed { .. })),
                "{text}: {:?}",
                KeyUrl::parse(text)
            );
        }
        for text in ["http://issuer.example/keys", "ftp://issuer.example/", "file://host/keys"] {
            assert!(matches!(KeyUrl::parse(text), Err(KeyUrlError::NotHttps { .. })), "{text}");
        }
        assert_eq!(KeyUrl::parse("https://user:secret@issuer.example/"), Err(KeyUrlError::Credentials));
    }
}
