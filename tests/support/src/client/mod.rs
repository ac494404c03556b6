//! Real clients: curl, OpenSSL's `s_client`, and bare TCP. Each child has a hard time limit, after which it is killed.

mod curl;
mod openssl;
mod openssl_connection;
pub mod raw;
#[cfg(test)]
mod tests;

pub use curl::{Curl, CurlOutcome, Transfer};
pub use openssl::{OpenSsl, OpenSslOutcome};
pub use openssl_connection::OpenSslConnection;

/// The TLS versions that the daemon speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), the only one that PagerDuty sends.
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];
}

/// The suites in PagerDuty's document that rustls supports, in OpenSSL's names.
pub const PAGERDUTY_CIPHERS: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
                                     ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
