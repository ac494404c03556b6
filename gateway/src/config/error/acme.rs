//! The problems of `acme`, and of what an authority issued, as closed lists with their messages.
//!
//! Owns these messages. Must not decide: the section and `issued` find the problems.

use std::path::PathBuf;

use time::Date;

use crate::config::feed_url::FeedUrlError;

/// An error about `acme` of a certificate. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeProblem {
    /// A certificate of files and of an authority.
    #[error("the certificate comes from files or from an authority; remove chain and key, or acme")]
    WithFiles,
    /// A wildcard.
    #[error(
        "\"{text}\" is a wildcard, and hookgate proves names over TLS on its own port (TLS-ALPN-01), which proves no wildcard; write each \
         name, or get the certificate with a client that proves names over DNS, and write chain and key"
    )]
    Wildcard {
        /// The text.
        text: String,
    },
    /// An address.
    #[error("\"{text}\" is an address; write a name")]
    Address {
        /// The text.
        text: String,
    },
    /// Not a DNS name.
    #[error(
        "\"{text}\" is no DNS name; write it without a final dot, such as \"hooks.example.com\" (a name with letters beyond ASCII as xn--…)"
    )]
    Domain {
        /// The text.
        text: String,
    },
    /// Neither a name nor a URL.
    #[error(
        "\"{text}\" is no directory that has a name here; write \"letsencrypt\", \"letsencrypt-staging\" (untrusted certificates, to try), or \
         the https URL of a directory"
    )]
    Directory {
        /// The text.
        text: String,
    },
    /// A wrong URL.
    #[error("the directory: {0}")]
    DirectoryUrl(FeedUrlError),
    /// Not an address of a person.
    #[error("\"{text}\" is no contact; write one address, as \"mailto:you@example.com\"")]
    Contact {
        /// The text.
        text: String,
    },
    /// `false`.
    #[error("without it no authority gives an account; read its terms, then write true, or remove acme")]
    NotAgreed,
    /// Not a profile.
    #[error("\"{text}\" is no name of a profile; write letters, digits, - _ and ., at most {maximum}")]
    Profile {
        /// The text.
        text: String,
        /// Most characters.
        maximum: usize,
    },
    /// The id of a key.
    #[error("empty or too long; write the id as the authority gave it to you, at most {maximum} bytes")]
    KeyId {
        /// Most bytes.
        maximum: usize,
    },
    /// A key that is not base64.
    #[error("{} has no key; write the path of a file with the HMAC key alone, in base64url as the authority gave it to you", .path.display())]
    HmacKey {
        /// The file.
        path: PathBuf,
    },
    /// No place for keys.
    #[error(
        "the key of the account and the certificates are kept in the state directory, which the file must name, so that every command \
         finds it; write [state] with directory = \"/var/lib/hookgate\""
    )]
    NoDirectory,
}

/// Why a certificate that an authority issued is not taken. The subject of each message is the certificate or the chain.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuedProblem {
    /// Not a chain.
    #[error("the chain cannot be read: {why}")]
    Unreadable {
        /// Why.
        why: String,
    },
    /// The key of another.
    #[error("the certificate is for another key than the one that was sent")]
    OtherKey,
    /// A key that cannot sign.
    #[error("the key cannot be used: {why}")]
    UnusableKey {
        /// Why.
        why: String,
    },
    /// Names that are missing.
    #[error("the certificate lacks the names {}", .names.join(", "))]
    LacksNames {
        /// Them.
        names: Vec<String>,
    },
    /// It is for none of the names.
    #[error("the certificate is for none of the configured names")]
    OtherNames,
    /// Expired.
    #[error("the certificate ended on {not_after}; check the clock of this host")]
    Expired {
        /// Its last day.
        not_after: Date,
    },
    /// From the future.
    #[error("the certificate begins on {not_before}; check the clock of this host")]
    NotYetValid {
        /// Its first day.
        not_before: Date,
    },
    /// More than senders read.
    #[error(
        "the chain has {certificates} certificates and {bytes} bytes; at most {maximum_certificates} and {maximum_bytes} are taken, \
         because some senders read no more"
    )]
    TooLong {
        /// Its certificates.
        certificates: usize,
        /// The most that there may be.
        maximum_certificates: usize,
        /// Its length in DER.
        bytes: usize,
        /// The most bytes.
        maximum_bytes: usize,
    },
    /// One of them comes twice.
    #[error("certificate {position} of the chain is there before; an authority sends each once")]
    Repeated {
        /// The number of the second one, from 1.
        position: usize,
    },
    /// The chain is not in order.
    #[error(
        "certificate {position} of the chain did not issue the one before it, so that a sender which demands the order refuses it"
    )]
    OutOfOrder {
        /// The number of the certificate, from 1.
        position: usize,
    },
    /// An intermediate is missing.
    #[error("the chain lacks the certificate of its issuer {issuer}")]
    LacksIssuer {
        /// The issuer.
        issuer: String,
    },
    /// No sender knows its root.
    #[error("no root of Mozilla's list vouches for the chain: {why}")]
    NotPublic {
        /// Why.
        why: String,
    },
}
