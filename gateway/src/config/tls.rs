//! `[tls]`: versions, cipher suites and key exchange of handshakes with senders.
//!
//! Owns what may be written. Must not know a cryptographic library: `crypto` has the policies and groups.

use std::ops::Range;

use hookgate_client::suite::{self, TlsVersion};
use rustls::CipherSuite;
use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use super::length;
use super::report::Report;
use crate::crypto::{KeyExchange, TlsPolicy};

/// More than there are.
const MAXIMUM_GROUPS: usize = 8;

const WRITE_GROUPS: &str = "key_exchange = [\"X25519\", \"P-256\"], or leave the key out";

/// `[tls]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    policy: Option<Spanned<TlsPolicy>>,
    key_exchange: Option<Spanned<Vec<Spanned<KeyExchange>>>>,
}

impl RawTls {
    /// Where `policy` is written.
    pub(super) fn policy_at(&self) -> Option<Range<usize>> {
        self.policy.as_ref().map(Spanned::span)
    }

    /// Where `key_exchange` is written.
    pub(super) fn key_exchange_at(&self) -> Option<Range<usize>> {
        self.key_exchange.as_ref().map(Spanned::span)
    }
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSection {
    /// The versions and suites.
    pub policy: TlsPolicy,
    /// The groups, at least one, the first preferred. This build has all of them.
    pub key_exchange: Vec<KeyExchange>,
}

impl TlsSection {
    /// The versions of TLS in which a handshake can succeed: those of the policy for which `key_exchange` has a group.
    pub fn versions(&self) -> Vec<TlsVersion> {
        let has_group = |version: &TlsVersion| *version == TlsVersion::Tls13 || self.has_classical_group();
        self.policy_versions().filter(has_group).collect()
    }

    /// The cipher suites with which a handshake can succeed: those of the policy, in [`TlsSection::versions`].
    pub(super) fn suites(&self) -> impl Iterator<Item = CipherSuite> {
        let versions = self.versions();
        let of_version = move |suite: &CipherSuite| {
            let is_of_tls13 = suite::is_of_tls13(*suite);
            versions.iter().any(|version| (*version == TlsVersion::Tls13) == is_of_tls13)
        };
        self.policy.suites().filter(of_version)
    }

    /// Whether a handshake can have a group of [`KeyExchange::is_classical`].
    pub(super) fn has_classical_group(&self) -> bool {
        self.key_exchange.iter().any(|group| group.is_classical())
    }

    /// The versions of the policy alone.
    pub(crate) fn policy_versions(&self) -> impl Iterator<Item = TlsVersion> {
        self.policy.versions().iter().filter_map(|version| TlsVersion::from_code(version.version.into()))
    }
}

/// The numbers of some or all versions that hookgate has, for messages.
pub(crate) fn numbers(versions: impl IntoIterator<Item = TlsVersion>) -> &'static str {
    let mut versions = versions.into_iter();
    match (versions.next(), versions.next()) {
        (Some(TlsVersion::Tls12), None) => "1.2 only",
        (Some(TlsVersion::Tls13), None) => "1.3 only",
        _ => "1.2 and 1.3",
    }
}

impl Default for TlsSection {
    fn default() -> Self {
        Self { policy: TlsPolicy::default(), key_exchange: KeyExchange::AVAILABLE.to_vec() }
    }
}

/// `[tls]`, with the defaults.
pub(super) fn tls(raw: Option<&Spanned<RawTls>>, report: &mut Report<'_>) -> TlsSection {
    let default = TlsSection::default();
    let Some(RawTls { policy, key_exchange }) = raw.map(Spanned::get_ref) else { return default };
    let policy = policy.as_ref().map(|policy| *policy.get_ref()).unwrap_or_default();
    let Some(written) = key_exchange else { return TlsSection { policy, ..default } };
    if !length::is_within(written, MAXIMUM_GROUPS, WRITE_GROUPS, report) {
        return TlsSection { policy, ..default };
    }
    let mut groups = Vec::new();
    for group in written.get_ref() {
        let name = group.get_ref().name();
        if !KeyExchange::AVAILABLE.contains(group.get_ref()) {
            report.error(group, Problem::KeyExchangeNotBuilt { group: name });
        } else if groups.contains(group.get_ref()) {
            report.error(group, Problem::KeyExchangeTwice { group: name });
        } else {
            groups.push(*group.get_ref());
        }
    }
    let section = TlsSection { policy, key_exchange: groups };
    if !section.key_exchange.is_empty() && section.versions().is_empty() {
        report.error(written, Problem::KeyExchangeOfTls13);
    }
    section
}
