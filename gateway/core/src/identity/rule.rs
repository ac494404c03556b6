//! Identity rules: which names or keys an end-entity certificate must have to prove its provider.
//!
//! Owns the conditions, their configuration syntax and their comparison. Must not look at issuers, validity or paths: a match
//! proves nothing until `path` has verified the signatures.
//!
//! Values are compared whole. A pattern never matches a part of a name: a common name that only contains the expected one does
//! not match. The substring matches of many published server configurations accept such a name.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls_pki_types::CertificateDer;

use super::alternative_names::{AlternativeNames, is_label};
use super::name::{DistinguishedName, NameError};
use super::presented::{EndEntity, PresentedChain};
use super::trust_digest::{Digested, Transcript};

/// Conditions, all of which one end-entity certificate must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRule {
    conditions: Vec<Condition>,
}

impl IdentityRule {
    /// A rule of these conditions.
    ///
    /// # Errors
    ///
    /// [`RuleError::NoCondition`] if there is none, since such a rule would match every certificate; [`RuleError::Empty`] if a
    /// condition has an empty text.
    pub fn new(conditions: Vec<Condition>) -> Result<Self, RuleError> {
        if conditions.is_empty() {
            return Err(RuleError::NoCondition);
        }
        for condition in &conditions {
            match condition {
                Condition::SubjectCn(text) if text.is_empty() => return Err(RuleError::Empty { key: "subject_cn" }),
                Condition::SanUri(text) if text.is_empty() => return Err(RuleError::Empty { key: "san_uri" }),
                _ => {}
            }
        }
        Ok(Self { conditions })
    }

    /// The conditions, at least one.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Whether the end entity satisfies every condition.
    pub(super) fn matches(&self, end_entity: &EndEntity<'_>) -> bool {
        // `new` refuses an empty rule; `all` of an empty list would match every certificate.
        !self.conditions.is_empty() && self.conditions.iter().all(|condition| condition.matches(end_entity))
    }

    /// Whether one of the conditions rests on a DNS name of the end entity. Public authorities vouch for these alone: a certificate for
    /// e-mail may have any common name.
    pub(super) fn rests_on_dns_name(&self, end_entity: &EndEntity<'_>) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::SanDns(pattern) => pattern.matches(end_entity.alternative_names()),
            Condition::SubjectCn(name) => {
                DnsPattern::parse(name).is_ok_and(|exact| end_entity.alternative_names().has_dns(&exact.text))
            }
            _ => false,
        })
    }
}

impl Digested for IdentityRule {
    fn add_to(&self, transcript: &mut Transcript) {
        let Self { conditions } = self;
        transcript.add(conditions.as_slice());
    }
}

impl fmt::Display for IdentityRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.conditions.iter().enumerate() {
            write!(formatter, "{}{condition}", if index == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

/// Parses `certificate` and gives `ask` the comparison of a rule with it; `None` if it is not a well-formed end entity.
///
/// For measurements. A match proves nothing, since no signature is verified.
pub fn with_end_entity<R>(
    certificate: &CertificateDer<'_>,
    ask: impl FnOnce(&dyn Fn(&IdentityRule) -> bool) -> R,
) -> Option<R> {
    let chain = PresentedChain::new(std::slice::from_ref(certificate));
    let end_entity = chain.end_entity().ok()?;
    Some(ask(&|rule| rule.matches(&end_entity)))
}

/// One property that a certificate must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The whole subject, attribute by attribute; see [`DistinguishedName`].
    Subject(DistinguishedName),
    /// The exact text of the only common name in the subject. A subject with two common names does not match.
    SubjectCn(String),
    /// A DNS name in the subject alternative name extension.
    SanDns(DnsPattern),
    /// A URI in the subject alternative name extension, compared byte by byte.
    SanUri(String),
    /// SHA-256 of the DER of the SubjectPublicKeyInfo: pins the key, also across renewals.
    SpkiSha256([u8; 32]),
    /// SHA-256 of the DER of the certificate: pins this certificate only.
    CertificateSha256([u8; 32]),
}

impl Condition {
    /// `subject`: OpenSSL's `/C=US/…` form or RFC 4514.
    ///
    /// # Errors
    ///
    /// If the text is not a distinguished name.
    pub fn subject(text: &str) -> Result<Self, RuleError> {
        Ok(Self::Subject(DistinguishedName::parse(text)?))
    }

    /// `subject_cn`: the exact text.
    ///
    /// # Errors
    ///
    /// If it is empty or contains a NUL character, which no decoded common name does.
    pub fn subject_cn(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SubjectCn(exact_text("subject_cn", text)?))
    }

    /// `san_dns`: a DNS name, or `*.` and a domain.
    ///
    /// # Errors
    ///
    /// If it is neither; see [`DnsPattern::parse`].
    pub fn san_dns(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SanDns(DnsPattern::parse(text)?))
    }

    /// `san_uri`: the exact text.
    ///
    /// # Errors
    ///
    /// If it is empty or contains a NUL character.
    pub fn san_uri(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SanUri(exact_text("san_uri", text)?))
    }

    /// `spki_sha256`: 64 hexadecimal digits in either case, with or without a colon after every two.
    ///
    /// # Errors
    ///
    /// If it is anything else.
    pub fn spki_sha256(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SpkiSha256(digest("spki_sha256", text)?))
    }

    /// `certificate_sha256`: as [`Condition::spki_sha256`].
    ///
    /// # Errors
    ///
    /// If it is anything else.
    pub fn certificate_sha256(text: &str) -> Result<Self, RuleError> {
        Ok(Self::CertificateSha256(digest("certificate_sha256", text)?))
    }

    fn matches(&self, end_entity: &EndEntity<'_>) -> bool {
        match self {
            Self::Subject(wanted) => wanted.matches(end_entity.subject()),
            Self::SubjectCn(wanted) => end_entity.common_name() == Some(wanted),
            Self::SanDns(pattern) => pattern.matches(end_entity.alternative_names()),
            Self::SanUri(wanted) => end_entity.alternative_names().has_uri(wanted),
            Self::SpkiSha256(wanted) => end_entity.spki_sha256() == wanted,
            Self::CertificateSha256(wanted) => end_entity.certificate_sha256() == wanted,
        }
    }
}

impl Digested for Condition {
    fn add_to(&self, transcript: &mut Transcript) {
        match self {
            Self::Subject(name) => {
                transcript.number(0);
                transcript.add(name);
            }
            Self::SubjectCn(text) => {
                transcript.number(1);
                transcript.add(text.as_str());
            }
            Self::SanDns(DnsPattern { text }) => {
                transcript.number(2);
                transcript.add(text.as_str());
            }
            Self::SanUri(text) => {
                transcript.number(3);
                transcript.add(text.as_str());
            }
            Self::SpkiSha256(digest) => {
                transcript.number(4);
                transcript.bytes(digest);
            }
            Self::CertificateSha256(digest) => {
                transcript.number(5);
                transcript.bytes(digest);
            }
        }
    }
}

impl fmt::Display for Condition {
    /// As a refusal words it: `subject CN "webhooks.example.com"`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(name) => write!(formatter, "subject \"{name}\""),
            Self::SubjectCn(text) => write!(formatter, "subject CN \"{text}\""),
            Self::SanDns(pattern) => write!(formatter, "DNS name \"{pattern}\""),
            Self::SanUri(text) => write!(formatter, "URI \"{text}\""),
            Self::SpkiSha256(digest) => write!(formatter, "public key SHA-256 {}", HEXLOWER.encode(digest)),
            Self::CertificateSha256(digest) => write!(formatter, "certificate SHA-256 {}", HEXLOWER.encode(digest)),
        }
    }
}

/// An expected DNS name: exact, or `*.` and a domain.
///
/// `*.example.com` matches a name with exactly one label before `.example.com`, and also the literal name `*.example.com` of a
/// wildcard certificate. A wildcard in the certificate is not expanded: it does not match an exact pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPattern {
    /// Lower case, including `*.` if it is a wildcard pattern.
    text: String,
}

impl DnsPattern {
    /// Parses a DNS name in ASCII (an internationalized name in its `xn--` form), in any case, optionally after `*.`.
    ///
    /// # Errors
    ///
    /// [`RuleError::DnsName`] for a label or name that is empty or too long, a character other than letters, digits, `-` and `_`,
    /// a trailing dot, a `*` elsewhere, or a wildcard directly before a top-level domain.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let lower = text.to_ascii_lowercase();
        let (wildcard, name) = match lower.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, lower.as_str()),
        };
        // RFC 1035, section 2.3.4: 253 characters in text form.
        let well_formed = lower.len() <= 253 && name.split('.').all(is_label);
        if !well_formed || (wildcard && !name.contains('.')) {
            return Err(RuleError::DnsName { text: text.to_owned() });
        }
        Ok(Self { text: lower })
    }

    fn matches(&self, names: &AlternativeNames<'_>) -> bool {
        names.has_dns(&self.text)
            || self.text.strip_prefix("*.").is_some_and(|domain| names.has_dns_directly_below(domain))
    }
}

impl fmt::Display for DnsPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn exact_text(key: &'static str, text: &str) -> Result<String, RuleError> {
    if text.is_empty() {
        return Err(RuleError::Empty { key });
    }
    if text.contains('\0') {
        return Err(RuleError::Nul { key });
    }
    Ok(text.to_owned())
}

fn digest(key: &'static str, text: &str) -> Result<[u8; 32], RuleError> {
    let bad = || RuleError::Digest { key, text: text.to_owned() };
    let digits = match text.contains(':') {
        true if text.split(':').all(|byte| byte.len() == 2) => text.replace(':', ""),
        true => return Err(bad()),
        false => text.to_owned(),
    };
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| bad())?;
    bytes.try_into().map_err(|_| bad())
}

/// Why an identity rule is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A rule without a condition.
    #[error(
        "an identity rule needs at least one of subject, subject_cn, san_dns, san_uri, spki_sha256, certificate_sha256; \
         without one it would match every certificate"
    )]
    NoCondition,
    /// A condition without a text.
    #[error("{key} is empty; write the exact text of the certificate")]
    Empty {
        /// The configuration key.
        key: &'static str,
    },
    /// A NUL character.
    #[error("{key} contains a NUL character, which no certificate matches; remove it")]
    Nul {
        /// The configuration key.
        key: &'static str,
    },
    /// Not a distinguished name.
    #[error("subject is not a distinguished name: {0}")]
    Subject(#[from] NameError),
    /// Not a DNS name or wildcard pattern.
    #[error(
        "san_dns \"{text}\" is neither a DNS name nor \"*.\" and a domain of two or more labels; write it in ASCII (\"xn--\" \
         form) and without a trailing dot, such as \"client.example.com\" or \"*.example.com\""
    )]
    DnsName {
        /// What was written.
        text: String,
    },
    /// Not a SHA-256 digest.
    #[error(
        "{key} \"{text}\" is not a SHA-256 digest; write 64 hexadecimal digits, with or without a colon after every two"
    )]
    Digest {
        /// The configuration key.
        key: &'static str,
        /// What was written.
        text: String,
    },
}
