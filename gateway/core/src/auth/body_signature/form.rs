//! The form of a body signature, in the terms of the configuration file.
//!
//! Owns the place, the encoding and the hash of a signature, and the errors of a form. Must not judge requests.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use ring::hmac;

use super::{MAX_SECRETS, MAX_TOLERANCE_SECONDS, MAX_URL_BYTES};
use crate::auth::message_template::TemplateError;
use crate::auth::secret::SecretError;

/// The general form of a signature over a request.
///
/// | sender | header | separator | prefix | encoding | message | timestamp |
/// | --- | --- | --- | --- | --- | --- | --- |
/// | GitHub, Meta | `X-Hub-Signature-256` | | `sha256=` | hex | `{body}` | |
/// | Slack | `X-Slack-Signature` | | `v0=` | hex | `v0:{timestamp}:{body}` | header `X-Slack-Request-Timestamp` |
/// | Stripe | `Stripe-Signature` | `,` | `v1=` | hex | `{timestamp}.{body}` | value `t=` |
/// | Square | `x-square-hmacsha256-signature` | | | base64 | `{url}{body}` | |
/// | SendGrid | `X-Twilio-Email-Event-Webhook-Signature` | | | base64 | `{timestamp:10}{body}` | a header |
/// | PagerDuty | `X-PagerDuty-Signature` | `,` | `v1=` | hex | `{body}` | |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureForm {
    /// The header field with the signatures.
    pub header: String,
    /// The separator of several values in it, an ASCII character; `None` if the whole field is one value.
    pub separator: Option<char>,
    /// The prefix of a signature. Values without it are ignored. May be empty.
    pub prefix: String,
    /// The encoding of the signature.
    pub encoding: Encoding,
    /// The signed message: text in which `{body}`, `{timestamp}`, `{id}`, `{method}`, `{path}` and `{url}` stand for
    /// their bytes.
    pub message: String,
    /// The place of `{timestamp}`. Given if and only if the message has `{timestamp}`.
    pub timestamp: Option<TimestampPlace>,
    /// The largest difference between the timestamp and now, before or after, in seconds, 1 to 86,400.
    pub tolerance_seconds: u64,
    /// The header field with `{id}`. Given if and only if the message has `{id}`.
    pub id_header: Option<String>,
    /// `{url}`: the URL of the webhook as the sender has it, 1 to 512 bytes. The request is not asked for it, since whoever sends the request
    /// writes its `Host`. Given if and only if the message has `{url}`.
    pub url: Option<String>,
}

impl SignatureForm {
    /// The form of PagerDuty: `X-PagerDuty-Signature: v1=<hex>,v1=<hex>` over the body, without a timestamp (PagerDuty developer
    /// documentation, "Verifying Signatures").
    #[must_use]
    pub fn pagerduty() -> Self {
        Self {
            header: "x-pagerduty-signature".to_owned(),
            separator: Some(','),
            prefix: "v1=".to_owned(),
            encoding: Encoding::Hex,
            message: "{body}".to_owned(),
            timestamp: None,
            tolerance_seconds: 0,
            id_header: None,
            url: None,
        }
    }
}

/// The place of a timestamp, which is written as whole seconds since 1970, in digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampPlace {
    /// The whole of this header field.
    Header(String),
    /// The value with this prefix, among the values of the signature field.
    Value(String),
}

/// The names of the header fields of Standard Webhooks. The default is what the specification names (section "Webhook headers"). Senders
/// that are older than it have the same scheme under their own names, such as `svix-signature`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardFields {
    /// The signatures: `webhook-signature`.
    pub signature: String,
    /// The id of the delivery: `webhook-id`.
    pub id: String,
    /// The time of the attempt, in seconds since 1970: `webhook-timestamp`.
    pub timestamp: String,
}

impl Default for StandardFields {
    fn default() -> Self {
        let name = |name: &str| format!("webhook-{name}");
        Self { signature: name("signature"), id: name("id"), timestamp: name("timestamp") }
    }
}

/// The encoding of a signature's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal, in upper or lower case.
    #[default]
    Hex,
    /// Base64 (RFC 4648, section 4), with or without padding.
    Base64,
    /// Base64url (RFC 4648, section 5), with or without padding.
    Base64Url,
}

/// The hash of an HMAC. Not SHA-1: every sender that used it offers SHA-256 too.
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

/// Why a form is not a signature rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRuleError {
    /// Not a header field name.
    #[error("\"{name}\" is not a header field name; write one without spaces or a colon, such as \"x-signature\"")]
    HeaderName {
        /// The text.
        name: String,
    },
    /// A separator that is not an ASCII character.
    #[error("the separator {separator:?} is not an ASCII character; write one, such as \",\"")]
    Separator {
        /// The character.
        separator: char,
    },
    /// An error of the message template.
    #[error("message: {0}")]
    Template(#[from] TemplateError),
    /// A piece of the message without its header field, or a header field without its piece.
    #[error("{{{piece}}} in message and the place of the {piece} go together; write both, or neither")]
    Unplaced {
        /// `id`, `timestamp` or `url`.
        piece: &'static str,
    },
    /// A tolerance out of bounds.
    #[error("tolerance_s = {seconds} is out of bounds; write 1 to {MAX_TOLERANCE_SECONDS} (most senders document 300)")]
    Tolerance {
        /// The tolerance, in seconds.
        seconds: u64,
    },
    /// A URL that is empty or too long.
    #[error("the url has {bytes} bytes; write 1 to {MAX_URL_BYTES}")]
    Url {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// No keys, or too many.
    #[error("{count} keys; write 1 to 8 that the sender can sign with, or a key_source if it names its key")]
    Keys {
        /// The number of keys.
        count: usize,
    },
    /// Keys of another type than the algorithm needs.
    #[error("no key is for the algorithm {algorithm}; write the algorithm that the sender documents, and its key")]
    KeyType {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// ECDSA signatures in DER, in a JSON Web Signature.
    #[error(
        "a JSON Web Signature never has ECDSA signatures in DER; write algorithm = \"ecdsa-p256-sha256-fixed\", or remove the key"
    )]
    DerInJws,
    /// No secrets, or too many.
    #[error("{count} secrets; write 1 to {MAX_SECRETS}")]
    Secrets {
        /// The number of secrets.
        count: usize,
    },
    /// An error of one secret.
    #[error("secret {index}: {error}")]
    Secret {
        /// The index of the secret, from 0.
        index: usize,
        /// The error.
        error: SecretError,
    },
}

impl Encoding {
    /// Decodes `text` into `buffer`; `None` if `text` does not have this encoding, or the result does not fit.
    pub(in crate::auth) fn decode<'buffer>(self, text: &[u8], buffer: &'buffer mut [u8]) -> Option<&'buffer [u8]> {
        let (encoding, text) = match self {
            Self::Hex => (&HEXLOWER_PERMISSIVE, text),
            Self::Base64 => (&BASE64_NOPAD, without_padding(text)?),
            Self::Base64Url => (&BASE64URL_NOPAD, without_padding(text)?),
        };
        let decoded = buffer.get_mut(..encoding.decode_len(text.len()).ok()?)?;
        encoding.decode_mut(text, decoded).ok()?;
        Some(decoded)
    }
}

/// `text` without its padding; `None` if it is padded to another length than a multiple of four (RFC 4648, section 4).
pub(in crate::auth) fn without_padding(text: &[u8]) -> Option<&[u8]> {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let whole = padding == 0 || padding <= 2 && text.len().is_multiple_of(4);
    whole.then(|| &text[..text.len() - padding])
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
