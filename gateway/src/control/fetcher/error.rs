//! Why nothing was fetched, as a closed list with messages.
//!
//! Owns these messages, and their labels in metrics. Must not decide: the fetcher does, and `published` about what came.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper::StatusCode;
use hyper_util::client::legacy;
use rustls::CertificateError;

use super::address::is_not_public;
use crate::config::FeedUrl;

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It took too long.
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No connection.
    #[error("cannot connect to {host}: {}", cause(error))]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        error: legacy::Error,
    },
    /// The server's certificate is not trusted, or TLS failed otherwise.
    #[error("TLS with {host}: {}{}", cause(error), authority_hint(error))]
    Tls {
        /// Host and port.
        host: String,
        /// Why.
        error: legacy::Error,
    },
    /// Not HTTP, or broken off.
    #[error("HTTP: {}", cause(.0))]
    Http(legacy::Error),
    /// The body broke off.
    #[error("the answer cannot be read: {0}")]
    Body(String),
    /// A redirect, which could lead anywhere.
    #[error(
        "the answer is a redirect ({status}) to {location}; redirects are not followed, so configure the final URL"
    )]
    Redirect {
        /// Which.
        status: StatusCode,
        /// Where to, printable ASCII and at most 200 bytes of it.
        location: String,
    },
    /// A redirect that is not followed although redirects are.
    #[error("the answer is a redirect ({status}) to {location}, which is not followed: {reason}")]
    RedirectRefused {
        /// Which.
        status: StatusCode,
        /// Where to, printable ASCII and at most 200 bytes of it.
        location: String,
        /// Why not.
        reason: String,
    },
    /// The name has no public address, and the source may have no other.
    #[error(
        "{host} has no public address (but loopback, private or link-local ones); if that is intended, write allow_private = true"
    )]
    NotPublic {
        /// The host.
        host: String,
    },
    /// Another status than 200.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    /// Compressed, though that was not asked for.
    #[error("the answer has a Content-Encoding, which was not asked for")]
    ContentEncoding,
    /// Too large.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// Not the document that is expected there.
    #[error("the document cannot be used: {0}")]
    Document(String),
    /// A list that is older than the one in use.
    #[error("the document is not taken: {0}")]
    Older(String),
    /// A list that its issuer did not sign.
    #[error("the document is not taken: {0}")]
    Signer(String),
    /// A list that would take too much away, or that the filter refuses. The one in use stays.
    #[error("the document is not taken: {0}")]
    Refused(String),
}

impl FetchError {
    /// A label for metrics, of a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "timed_out",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Http(_) | Self::Body(_) => "http",
            Self::Redirect { .. } | Self::RedirectRefused { .. } => "redirect",
            Self::NotPublic { .. } => "not_public",
            Self::Status(_) => "status",
            Self::ContentEncoding => "content_encoding",
            Self::TooLarge { .. } => "too_large",
            Self::Document(_) => "document",
            Self::Older(_) => "older",
            Self::Signer(_) => "wrong_signer",
            Self::Refused(_) => "refused",
        }
    }
}

/// Which of them a failed exchange with the server of `url` is.
pub(in crate::control) fn failure(url: &FeedUrl, error: legacy::Error) -> FetchError {
    if !error.is_connect() {
        return FetchError::Http(error);
    }
    let host = format!("{}:{}", url.uri().host().unwrap_or_default(), url.port());
    if is_not_public(&error) {
        return FetchError::NotPublic { host };
    }
    // Of hyper-rustls' two steps, TCP fails with the error of hyper-util's connector and TLS with one of I/O.
    if error.source().is_some_and(|step| step.is::<io::Error>()) {
        FetchError::Tls { host, error }
    } else {
        FetchError::Connect { host, error }
    }
}

/// What to do if no trusted root vouches for the server.
fn authority_hint(error: &legacy::Error) -> &'static str {
    let mut cause = bottom(error);
    // An error of TLS lies within one of I/O, or two.
    while let Some(deeper) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        cause = deeper;
    }
    match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; no trusted root vouches for the server: if its authority is the right one, name the file of that authority's \
             certificate in the ca_file of this URL"
        }
        _ => "",
    }
}

/// What lies at the bottom of an error. The layers above it only say which step failed.
fn cause(error: &legacy::Error) -> String {
    let cause = bottom(error);
    match cause.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => cause.to_string(),
    }
}

fn bottom(error: &legacy::Error) -> &(dyn Error + 'static) {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}
