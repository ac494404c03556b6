//! Identity rules: what an end-entity certificate must say for its provider to be believed.
//!
//! Owns the conditions, their configuration syntax and their comparison. Must not look at issuers, validity or paths: a rule
//! that matches proves nothing until `path` has verified who signed it.
//!
//! Everything is compared whole. A pattern never matches a part of a name: a common name that merely contains the right
//! one, which the substring matches of many published server configurations accept, matches nothing here.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::name::{DistinguishedName, NameError};
use super::presented::{EndEntity, PresentedChain};

/// Conditions that must all hold of one end-entity certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRule {
    conditions: Vec<Condition>,
}

impl IdentityRule {
    /// A rule of these conditions.
    ///
    /// # Errors
    ///
    /// [`RuleError::NoCondition`] where there is none, since such a rule would match everybody, and [`RuleError::Empty`]
    /// where one has an empty text.
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

    /// Whether every condition holds.
    pub(super) fn matches(&self, end_entity: &EndEntity<'_>) -> bool {
        // `new` refuses an empty rule; `all` over nothing would admit everybody.
        !self.conditions.is_empty() && self.conditions.iter().all(|condition| condition.matches(end_entity))
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

/// Reads `certificate` and hands `ask` the comparison of a rule with it; `None` where it is no well-formed end entity.
///
/// For measurements. That a rule matches proves nothing: nobody was asked who signed the certificate.
pub fn with_end_entity<R>(
    certificate: &CertificateDer<'_>,
    ask: impl FnOnce(&dyn Fn(&IdentityRule) -> bool) -> R,
) -> Option<R> {
    let chain = PresentedChain::new(std::slice::from_ref(certificate));
    let end_entity = chain.end_entity().ok()?;
    Some(ask(&|rule| rule.matches(&end_entity)))
}

/// One thing that a certificate must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The whole subject, attribute by attribute; see [`DistinguishedName`].
    Subject(DistinguishedName),
    /// The text of the only common name in the subject, exactly. A subject with two common names matches none.
    SubjectCn(String),
    /// A DNS name in the subjectAltName extension.
    SanDns(DnsPattern),
    /// A URI in the subjectAltName extension, byte by byte.
    SanUri(String),
    /// SHA-256 over the DER of the SubjectPublicKeyInfo: pins the key across renewals.
    SpkiSha256([u8; 32]),
    /// SHA-256 over the DER of the certificate: pins this one certificate.
    CertificateSha256([u8; 32]),
}

impl Condition {
    /// `subject`: OpenSSL's `/C=US/…` form or RFC 4514.
    ///
    /// # Errors
    ///
    /// Where the text is no distinguished name.
    pub fn subject(text: &str) -> Result<Self, RuleError> {
        Ok(Self::Subject(DistinguishedName::parse(text)?))
    }

    /// `subject_cn`: the exact text.
    ///
    /// # Errors
    ///
    /// Where it is empty or holds a NUL, which no decoded common name does.
    pub fn subject_cn(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SubjectCn(exact_text("subject_cn", text)?))
    }

    /// `san_dns`: a DNS name, or `*.` and a domain.
    ///
    /// # Errors
    ///
    /// Where it is neither; see [`DnsPattern::parse`].
    pub fn san_dns(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SanDns(DnsPattern::parse(text)?))
    }

    /// `san_uri`: the exact text.
    ///
    /// # Errors
    ///
    /// Where it is empty or holds a NUL.
    pub fn san_uri(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SanUri(exact_text("san_uri", text)?))
    }

    /// `spki_sha256`: 64 hexadecimal digits in either case, as they are or with a colon after every two.
    ///
    /// # Errors
    ///
    /// Where it is anything else.
    pub fn spki_sha256(text: &str) -> Result<Self, RuleError> {
        Ok(Self::SpkiSha256(digest("spki_sha256", text)?))
    }

    /// `certificate_sha256`: as [`Condition::spki_sha256`].
    ///
    /// # Errors
    ///
    /// Where it is anything else.
    pub fn certificate_sha256(text: &str) -> Result<Self, RuleError> {
        Ok(Self::CertificateSha256(digest("certificate_sha256", text)?))
    }

    fn matches(&self, end_entity: &EndEntity<'_>) -> bool {
        match self {
            Self::Subject(wanted) => wanted.matches(end_entity.subject()),
            Self::SubjectCn(wanted) => end_entity.subject().only_common_name().is_some_and(|found| found == *wanted),
            Self::SanDns(pattern) => end_entity
                .alternative_names()
                .iter()
                .any(|name| matches!(name, GeneralName::DNSName(found) if pattern.matches(found))),
            Self::SanUri(wanted) => end_entity
                .alternative_names()
                .iter()
                .any(|name| matches!(name, GeneralName::URI(found) if found == wanted)),
            Self::SpkiSha256(wanted) => end_entity.spki_sha256() == wanted,
            Self::CertificateSha256(wanted) => end_entity.certificate_sha256() == wanted,
        }
    }
}

impl fmt::Display for Condition {
    /// As it is told to a peer: `subject CN "webhooks.example.com"`.
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

/// A DNS name to look for: exact, or `*.` and a domain.
///
/// `*.example.com` matches a name with exactly one label before `.example.com`, and the literal `*.example.com` that a
/// certificate may itself carry. A wildcard in the certificate is never expanded: it does not match an exact pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPattern {
    /// Lower case, with its `*.` where it has one.
    text: String,
}

impl DnsPattern {
    /// Parses a DNS name in ASCII (an internationalized one in its `xn--` form), in any case, optionally behind `*.`.
    ///
    /// # Errors
    ///
    /// [`RuleError::DnsName`] for an empty or overlong label or name, another character than letters, digits, `-` and `_`, a
    /// trailing dot, a `*` elsewhere, or a wildcard directly above a top-level domain.
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

    fn matches(&self, found: &str) -> bool {
        if found.eq_ignore_ascii_case(&self.text) {
            return true;
        }
        let Some(domain) = self.text.strip_prefix("*.") else { return false };
        found.split_once('.').is_some_and(|(label, rest)| is_label(label) && rest.eq_ignore_ascii_case(domain))
    }
}

impl fmt::Display for DnsPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// One label: RFC 1035, section 2.3.1, plus a leading digit (RFC 1123) and the underscore that service names use.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
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

/// Why an identity rule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A rule without a condition.
    #[error(
        "an identity rule needs at least one of subject, subject_cn, san_dns, san_uri, spki_sha256, certificate_sha256; \
         without one it would match every certificate"
    )]
    NoCondition,
    /// A condition without a text.
    #[error("{key} is empty; write the text that the certificate carries")]
    Empty {
        /// The configuration key.
        key: &'static str,
    },
    /// A NUL character.
    #[error("{key} holds a NUL character, which matches no certificate; write the text without it")]
    Nul {
        /// The configuration key.
        key: &'static str,
    },
    /// Not a distinguished name.
    #[error("subject is not a distinguished name: {0}")]
    Subject(#[from] NameError),
    /// Not a DNS name or wildcard pattern.
    #[error(
        "san_dns \"{text}\" is neither a DNS name nor \"*.\" and a domain of two labels or more; write it in ASCII (\"xn--\" \
         form), without a trailing dot, such as \"client.example.com\" or \"*.example.com\""
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
