//! The warnings about a configuration, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the reasons.

use std::fmt;
use std::path::PathBuf;

use hookgate_core::auth::secret::SecretOddity;
use hookgate_core::identity::AnchorFlaw;
use time::Date;

use super::error::{Location, one_line};

/// A warning and its location. hookgate starts in spite of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning {
    /// The location.
    pub location: Location,
    /// What the warning is about.
    pub kind: WarningKind,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(formatter, &self.location, &self.kind)
    }
}

/// What a warning is about.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// No certificate, no provider and no route.
    NoPeerAdmitted,
    /// A provider that no route names.
    UnusedProvider {
        /// The provider.
        provider: String,
    },
    /// A trust anchor that verifies no other certificate.
    AnchorUnusable {
        /// The profile that names it.
        profile: String,
        /// The subject of the anchor.
        subject: String,
        /// Why it does not.
        flaw: AnchorFlaw,
    },
    /// A trust anchor after its notAfter. hookgate trusts it, because it is configured.
    AnchorExpired {
        /// The profile that names it.
        profile: String,
        /// The subject of the anchor.
        subject: String,
        /// Its last day.
        not_after: Date,
    },
    /// A profile after its `until`.
    ProfileOutdated {
        /// The profile.
        profile: String,
        /// Its last day.
        until: Date,
    },
    /// A revocation list after its nextUpdate.
    RevocationListExpired {
        /// The issuer of the list.
        issuer: String,
    },
    /// A verify depth that refuses the chains of a profile.
    ShallowDepth {
        /// The configured depth.
        depth: u8,
        /// The depth of the profile.
        needed: u8,
        /// The profile.
        profile: String,
    },
    /// A key of a profile table that the provider has too.
    ReplacedKey {
        /// The key.
        key: &'static str,
    },
    /// A chain of the server in which a certificate is not followed by its issuer.
    ChainOutOfOrder {
        /// The number, from 1, of the certificate that did not issue the one before it.
        position: usize,
    },
    /// A chain of the server with many bytes.
    LargeChain {
        /// Its length.
        bytes: usize,
    },
    /// A certificate of the server's chain that some senders cannot read.
    UnusualCertificate {
        /// Its number in the chain, from 1.
        position: usize,
        /// What is unusual, as a clause whose subject is the certificate.
        cause: String,
    },
    /// A self-signed certificate of the server.
    SelfSigned,
    /// A certificate of the server before its notBefore.
    NotYetValid {
        /// Its first day.
        not_before: Date,
    },
    /// A certificate of the server's chain after its notAfter.
    Expired {
        /// Its number in the chain, from 1.
        position: usize,
        /// Its last day.
        not_after: Date,
    },
    /// A certificate of the server's chain shortly before its notAfter.
    ExpiresSoon {
        /// Its number in the chain, from 1.
        position: usize,
        /// Its last day.
        not_after: Date,
        /// The whole days until then.
        days: u64,
    },
    /// A certificate of the server without a DNS name.
    NoNames,
    /// A certificate of the server for the host of no route.
    NamesWithoutRoute {
        /// The names of the certificate.
        names: String,
    },
    /// A host of a route without a certificate.
    HostWithoutCertificate {
        /// The host.
        host: String,
    },
    /// More names of authorities than a CertificateRequest can list.
    ManyAuthorityNames {
        /// The host; `None` for clients that send no server name.
        host: Option<String>,
    },
    /// A private key or secret that every user of this host can read.
    ReadableByOthers {
        /// The file.
        path: PathBuf,
    },
    /// A secret in the configuration file.
    SecretInConfiguration,
    /// A secret that is probably not the sender's, or can be guessed.
    OddSecret(SecretOddity),
    /// A key source that no token or signature uses.
    UnusedKeySource {
        /// The key source.
        name: String,
    },
    /// A key of a key set that cannot verify signatures.
    KeySkipped {
        /// The file.
        path: PathBuf,
        /// The key, and why it cannot.
        reason: String,
    },
    /// A token with neither emails nor subjects to check.
    AnySubject,
    /// A file of a preset with an error. No provider uses this preset.
    UnusablePreset {
        /// The first error.
        error: String,
    },
    /// A preset that replaces a newer one.
    OlderPreset {
        /// The version in use.
        version: Date,
        /// Where it is from.
        origin: String,
        /// The version that it replaces.
        newer: Date,
        /// Where that one is from.
        newer_origin: String,
    },
    /// A trust anchor that is not the one that the preset knows.
    UnknownAnchor {
        /// The subject of the anchor.
        subject: String,
        /// The SHA-256 of its DER, in hex.
        fingerprint: String,
        /// The page to compare it with.
        page: String,
    },
}

impl WarningKind {
    /// Whether it is about a date. `control/rotation.rs` warns of these from the start on, again and again.
    pub fn is_repeated_by_rotation(&self) -> bool {
        matches!(
            self,
            Self::AnchorExpired { .. }
                | Self::RevocationListExpired { .. }
                | Self::Expired { .. }
                | Self::ExpiresSoon { .. }
        )
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPeerAdmitted => write!(
                formatter,
                "no peer is admitted, and every handshake fails; write a [[certificate]], a [[provider]] and a [[route]]"
            ),
            Self::UnusedProvider { provider } => {
                write!(formatter, "no route names the provider \"{provider}\": its requests are refused")
            }
            Self::AnchorUnusable { profile, subject, flaw } => write!(
                formatter,
                "profile {profile}: the certificate of the trust anchor {subject} {flaw}, so it admits no client but one with its own \
                 key; configure a root certificate that may issue others, unless this is a self-signed client"
            ),
            Self::AnchorExpired { profile, subject, not_after } => {
                write!(formatter, "profile {profile}: the trust anchor {subject} expired on {not_after}")
            }
            Self::ProfileOutdated { profile, until } => {
                write!(formatter, "profile {profile} was documented until {until}; remove it when no sender uses it")
            }
            Self::RevocationListExpired { issuer } => {
                write!(
                    formatter,
                    "the revocation list of {issuer} has expired: certificates of this issuer are refused; get a new list"
                )
            }
            Self::ShallowDepth { depth, needed, profile } => write!(
                formatter,
                "depth {depth} is less than the {needed} that profile {profile} needs: chains of this profile are refused"
            ),
            Self::ReplacedKey { key } => write!(
                formatter,
                "{key} of this profile has no effect, because {key} of the [[provider]] replaces it in every profile; remove one of them"
            ),
            Self::ChainOutOfOrder { position } => write!(
                formatter,
                "out of order: certificate {position} did not issue the one before it; some senders refuse such a chain"
            ),
            Self::LargeChain { bytes } => write!(
                formatter,
                "the chain is large: {bytes} bytes; some senders read at most 65535; use certificates with fewer names"
            ),
            Self::UnusualCertificate { position, cause } => write!(
                formatter,
                "certificate {position} of the chain {cause}; some senders cannot read it and refuse the handshake; request another"
            ),
            Self::SelfSigned => write!(formatter, "the certificate is self-signed; senders refuse it"),
            Self::NotYetValid { not_before } => {
                write!(formatter, "the certificate is not valid before {not_before}; senders refuse it")
            }
            Self::Expired { position, not_after } => {
                write!(formatter, "certificate {position} of the chain expired on {not_after}; senders refuse it")
            }
            Self::ExpiresSoon { position, not_after, days } => {
                write!(formatter, "certificate {position} of the chain expires on {not_after}, in {days} days")
            }
            Self::NoNames => {
                write!(formatter, "the certificate has no DNS name (subjectAltName); senders refuse it")
            }
            Self::NamesWithoutRoute { names } => {
                write!(formatter, "no route has a name of this certificate as its host ({names})")
            }
            Self::HostWithoutCertificate { host } => {
                write!(formatter, "no certificate has the name {host}: senders refuse the default certificate")
            }
            Self::ManyAuthorityNames { host } => write!(
                formatter,
                "the trust anchors for {} have more names than a TLS message can list, so no names are sent, and a sender with several \
                 certificates may choose the wrong one; use fewer anchors, or give providers hosts of their own",
                host.as_deref().unwrap_or("clients without a server name")
            ),
            Self::ReadableByOthers { path } => {
                write!(formatter, "{} is readable by every user of this host; chmod 0600 or 0640", path.display())
            }
            Self::SecretInConfiguration => write!(
                formatter,
                "everyone who can read this file can read the secret; write it to a file of mode 0600, and file = \"…\" here"
            ),
            Self::OddSecret(oddity) => write!(formatter, "{oddity}"),
            Self::UnusedKeySource { name } => {
                write!(
                    formatter,
                    "no token or signature uses the key source \"{name}\"; remove it, or name it in key_source of one"
                )
            }
            Self::KeySkipped { path, reason } => {
                write!(formatter, "{}: skipped {reason}", path.display())
            }
            Self::AnySubject => write!(
                formatter,
                "every token of the issuer for this audience passes; write emails or subjects, unless the issuer is your own"
            ),
            Self::UnusablePreset { error } => {
                write!(formatter, "{error} (no provider uses this preset, so hookgate runs without it)")
            }
            Self::OlderPreset { version, origin, newer, newer_origin } => write!(
                formatter,
                "version {version} of this preset ({origin}) replaces the newer version {newer} ({newer_origin}); remove or renew the \
                 older one"
            ),
            Self::UnknownAnchor { subject, fingerprint, page } => write!(
                formatter,
                "the trust anchor {subject} (SHA-256 {fingerprint}), beside those that the preset knows, is one that it does not know; \
                 compare it with {page}, because hookgate trusts it"
            ),
        }
    }
}
