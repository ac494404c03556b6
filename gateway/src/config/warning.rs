//! What is merely worth saying about a configuration: the closed list, with its words.
//!
//! Owns every sentence that the operator reads in a warning. Decides nothing: the sections find the reasons.

use std::fmt;
use std::path::PathBuf;

use time::Date;

use super::error::{Location, one_line};

/// Something that does not keep hookgate from starting, but that the operator will want to know.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub location: Location,
    /// What.
    pub caution: Caution,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(formatter, &self.location, &self.caution)
    }
}

/// What is worth saying.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caution {
    /// Neither certificate nor provider nor route.
    NobodyAdmitted,
    /// A provider that no route names.
    UnusedProvider {
        /// The provider.
        provider: String,
    },
    /// A trust anchor past its notAfter: anchors are trusted by configuration, but their owners have let go of it.
    AnchorExpired {
        /// The profile that names it.
        profile: String,
        /// The subject of the anchor.
        subject: String,
        /// When.
        not_after: Date,
    },
    /// A profile past its `until`.
    ProfileOutdated {
        /// The profile.
        profile: String,
        /// Its last day.
        until: Date,
    },
    /// A revocation list past its nextUpdate.
    RevocationListExpired {
        /// Who issued it.
        issuer: String,
    },
    /// A verify depth that shuts out what the preset documents.
    ShallowDepth {
        /// The configured depth.
        depth: u8,
        /// The depth of the preset's profile.
        needed: u8,
        /// The profile.
        profile: String,
    },
    /// Our chain does not go from each certificate to its issuer.
    ChainOutOfOrder {
        /// The place, from 1, of the certificate that did not issue the one before it.
        position: usize,
    },
    /// Our certificate is its own issuer.
    SelfSigned,
    /// Our certificate is not valid yet.
    NotYetValid {
        /// From when.
        not_before: Date,
    },
    /// A certificate of our chain has expired.
    Expired {
        /// The place in the chain, from 1.
        position: usize,
        /// When.
        not_after: Date,
    },
    /// A certificate of our chain expires soon.
    ExpiresSoon {
        /// The place in the chain, from 1.
        position: usize,
        /// When.
        not_after: Date,
        /// Whole days left.
        days: u64,
    },
    /// Our certificate has no DNS name.
    NoNames,
    /// None of the names of our certificate is the host of a route.
    NamesWithoutRoute {
        /// The names.
        names: String,
    },
    /// None of our certificates is good for the host of a route.
    HostWithoutCertificate {
        /// The host.
        host: String,
    },
    /// A key or secret of ours is readable by everybody on this host.
    ReadableByOthers {
        /// The file.
        path: PathBuf,
    },
    /// A secret that stands in the configuration itself.
    SecretInConfiguration,
    /// A source of keys that no token needs.
    UnusedKeySource {
        /// The source.
        name: String,
    },
    /// A key that cannot verify tokens, in a file of keys.
    KeySkipped {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        reason: String,
    },
    /// A token of which neither email nor subject is checked.
    AnySubject,
}

impl Caution {
    /// Whether it is about a date that a running hookgate goes on to warn of, beginning with its start (`control/rotation.rs`).
    pub fn is_told_by_rotation(&self) -> bool {
        matches!(
            self,
            Self::AnchorExpired { .. }
                | Self::RevocationListExpired { .. }
                | Self::Expired { .. }
                | Self::ExpiresSoon { .. }
        )
    }
}

impl fmt::Display for Caution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyAdmitted => write!(
                formatter,
                "nobody is admitted and every handshake fails until there is a [[certificate]], a [[provider]] and a [[route]]"
            ),
            Self::UnusedProvider { provider } => {
                write!(formatter, "no route names the provider \"{provider}\", so its requests are refused")
            }
            Self::AnchorExpired { profile, subject, not_after } => {
                write!(formatter, "profile {profile}: the trust anchor {subject} expired on {not_after}")
            }
            Self::ProfileOutdated { profile, until } => {
                write!(formatter, "profile {profile} was documented until {until}; remove it once nothing uses it")
            }
            Self::RevocationListExpired { issuer } => {
                write!(
                    formatter,
                    "the revocation list of {issuer} has expired: its certificates are refused until it is renewed"
                )
            }
            Self::ShallowDepth { depth, needed, profile } => write!(
                formatter,
                "depth {depth} is less than the {needed} that profile {profile} of the preset needs; its chains will be refused"
            ),
            Self::ChainOutOfOrder { position } => write!(
                formatter,
                "out of order: certificate {position} did not issue the one before it; some senders refuse such a chain"
            ),
            Self::SelfSigned => write!(formatter, "the certificate is self-signed; senders will refuse it"),
            Self::NotYetValid { not_before } => {
                write!(formatter, "the certificate is not valid before {not_before}; senders will refuse it")
            }
            Self::Expired { position, not_after } => {
                write!(formatter, "certificate {position} of the chain expired on {not_after}; senders will refuse it")
            }
            Self::ExpiresSoon { position, not_after, days } => {
                write!(formatter, "certificate {position} of the chain expires on {not_after}, in {days} days")
            }
            Self::NoNames => {
                write!(formatter, "the certificate has no DNS name (subjectAltName); senders will refuse it")
            }
            Self::NamesWithoutRoute { names } => {
                write!(formatter, "no route has a host that this certificate is for ({names})")
            }
            Self::HostWithoutCertificate { host } => {
                write!(formatter, "no certificate is for {host}; senders will refuse the default one")
            }
            Self::ReadableByOthers { path } => {
                write!(formatter, "{} is readable by every user of this host; chmod 0600 or 0640", path.display())
            }
            Self::SecretInConfiguration => write!(
                formatter,
                "everyone who can read this file can read the secret; write it to a file of mode 0600, and file = \"…\" here"
            ),
            Self::UnusedKeySource { name } => {
                write!(
                    formatter,
                    "no token uses the key source \"{name}\"; remove it, or name it in key_source of a token"
                )
            }
            Self::KeySkipped { path, reason } => {
                write!(formatter, "{}: skipped {reason}", path.display())
            }
            Self::AnySubject => write!(
                formatter,
                "every token of the issuer for this audience passes; write emails or subjects, unless the issuer is your own"
            ),
        }
    }
}
