//! The form of a body signature, in the terms of a configuration file.
//!
//! Owns the words for where a signature stands and how it is written, and what is wrong with them. Must not judge requests.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use ring::hmac;

use super::{MAX_SECRETS, MAX_TOLERANCE_SECONDS};
use crate::auth::message::TemplateError;
use crate::auth::secret::SecretError;

/// The general form of an HMAC over a request, in the terms of a configuration file.
///
/// | sender | header | separator | prefix | encoding | message | timestamp |
/// | --- | --- | --- | --- | --- | --- | --- |
/// | GitHub, Meta | `X-Hub-Signature-256` | | `sha256=` | hex | `{body}` | |
/// | Slack | `X-Slack-Signature` | | `v0=` | hex | `v0:{timestamp}:{body}` | header `X-Slack-Request-Timestamp` |
/// | Stripe | `Stripe-Signature` | `,` | `v1=` | hex | `{timestamp}.{body}` | value `t=` |
/// | PagerDuty | `X-PagerDuty-Signature` | `,` | `v1=` | hex | `{body}` | |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacForm {
    /// The header field with the signatures.
    pub header: String,
    /// What separates several values in it; `None` where the whole field is one value. ASCII.
    pub separator: Option<char>,
    /// What a value begins with; values that begin otherwise are ignored. May be empty.
    pub prefix: String,
    /// How the bytes of a signature are written.
    pub encoding: Encoding,
    /// The hash.
    pub hash: HmacHash,
    /// What is signed: text in which `{body}`, `{timestamp}`, `{id}`, `{method}` and `{path}` stand for their bytes.
    pub message: String,
    /// Where `{timestamp}` stands. Must be given if and only if the message has it.
    pub timestamp: Option<TimestampPlace>,
    /// How far the timestamp may be from now, in seconds, before or after; 1 to 86,400.
    pub tolerance_seconds: u64,
    /// The header field with `{id}`. Must be given if and only if the message has it.
    pub id_header: Option<String>,
}

/// Where a timestamp stands; whole seconds since 1970, in digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampPlace {
    /// In a header field of its own.
    Header(String),
    /// Among the signatures, as the value with this prefix.
    Value(String),
}

/// How signature bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal, of either case.
    #[default]
    Hex,
    /// Base64 with padding (RFC 4648, section 4).
    Base64,
    /// Base64url without padding (RFC 4648, section 5).
    Base64Url,
}

/// The hash of an HMAC. SHA-1 is not offered: every sender that had it has SHA-256 too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HmacHash {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Why a configuration makes no signature rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRuleError {
    /// Not a header field name.
    #[error("\"{name}\" is not the name of a header field")]
    HeaderName {
        /// The text.
        name: String,
    },
    /// A separator that is no ASCII character.
    #[error("the separator {separator:?} is not an ASCII character")]
    Separator {
        /// The character.
        separator: char,
    },
    /// The message template is wrong.
    #[error("message: {0}")]
    Template(#[from] TemplateError),
    /// A piece of the message without a place, or a place without a piece.
    #[error("the message has {{{piece}}} and its place is not given, or the other way round")]
    Unplaced {
        /// `id` or `timestamp`.
        piece: &'static str,
    },
    /// Out of bounds.
    #[error(
        "a tolerance of {seconds} s; 1 to {MAX_TOLERANCE_SECONDS} are allowed, and 300 is what most senders document"
    )]
    Tolerance {
        /// What was given.
        seconds: u64,
    },
    /// None, or too many.
    #[error("{count} secrets; there must be 1 to {MAX_SECRETS}")]
    Secrets {
        /// How many.
        count: usize,
    },
    /// One of them is wrong.
    #[error("secret {index}: {error}")]
    Secret {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        error: SecretError,
    },
}

impl Encoding {
    /// Decodes into `buffer`; `None` where `text` is not in this encoding or does not fit.
    pub(in crate::auth) fn decode<'buffer>(self, text: &[u8], buffer: &'buffer mut [u8]) -> Option<&'buffer [u8]> {
        let encoding = match self {
            Self::Hex => &HEXLOWER_PERMISSIVE,
            Self::Base64 => &BASE64,
            Self::Base64Url => &BASE64URL_NOPAD,
        };
        let decoded = buffer.get_mut(..encoding.decode_len(text.len()).ok()?)?;
        // With padding, `decode_len` is an upper bound.
        let length = encoding.decode_mut(text, decoded).ok()?;
        buffer.get(..length)
    }
}

impl HmacHash {
    pub(in crate::auth) fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}
