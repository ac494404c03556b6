//! `[sender]`: what the provider documents about its side of a connection, for `hookgate probe` and `hookgate send`.
//!
//! Owns these keys, and how a preset becomes a [`Sender`]. Has no effect on what the gateway demands.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use rustls::CipherSuite;
use serde::Deserialize;
use toml::Spanned;

use super::Preset;
use crate::config::bound::Bound;
use crate::config::error::{PresetProblem, Problem};
use crate::config::profile::{DEFAULT_VERIFY_DEPTH, DraftProfile};
use crate::config::report::Report;
use crate::crypto::TlsPolicy;
use hookgate_client::sender::{After, AnchorName, CertificateShape, Facts, RequestShape, Sender, ServerRoots};
use hookgate_client::suite::{self, TlsVersion};
use hookgate_core::identity::{Condition, IdentityRule};

/// From a hundredth of a second to ten minutes. The longest documented time-out is 30 s.
const TIMEOUT: Bound = Bound::new(10, 600_000, " ms");
/// The most entries of a list. IANA has registered some 350 suites, and PagerDuty documents 37.
const MAXIMUM_ENTRIES: usize = 400;
/// DER contents of the object identifier of commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// `[sender]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSender {
    tls_versions: Option<Spanned<Vec<Spanned<String>>>>,
    cipher_suites: Option<Spanned<Vec<Spanned<String>>>>,
    server_roots: Option<RawServerRoots>,
    ordered_chain: Option<bool>,
    chooses_by_ca_names: Option<bool>,
    timeout_ms: Option<Spanned<i64>>,
    #[serde(default)]
    after: RawAfter,
    fields: Option<Spanned<BTreeMap<String, String>>>,
    body: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawServerRoots {
    Mozilla,
    Own,
}

/// `after` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAfter {
    handshake: Option<String>,
    expired: Option<String>,
    refused: Option<String>,
    failed: Option<String>,
}

/// `[sender]`, parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct SenderFacts {
    facts: Facts,
    request: RequestShape,
}

impl SenderFacts {
    /// How long the sender waits for an answer.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.facts.timeout
    }

    /// The versions of TLS that the sender has; empty if that is not documented.
    pub(super) fn tls_versions(&self) -> &[TlsVersion] {
        &self.facts.tls_versions
    }

    /// The cipher suites that the sender offers; empty if that is not documented.
    pub(super) fn cipher_suites(&self) -> &[CipherSuite] {
        &self.facts.cipher_suites
    }

    /// With which of the documented versions a receiver with `policy` speaks, and with which of the documented suites in these. `None` if
    /// there is no handshake: nothing in common of what is documented.
    pub(super) fn in_common(&self, policy: TlsPolicy) -> Option<InCommon> {
        let mut served: Vec<TlsVersion> =
            policy.versions().iter().filter_map(|version| TlsVersion::from_code(version.version.into())).collect();
        served.retain(|version| self.tls_versions().is_empty() || self.tls_versions().contains(version));
        let is_served = |suite: &CipherSuite| {
            let is_new = suite::is_of_tls13(*suite);
            let has_version = served.iter().any(|version| (*version == TlsVersion::Tls13) == is_new);
            has_version && policy.suites().any(|other| other == *suite)
        };
        let suites: Vec<CipherSuite> = self.cipher_suites().iter().copied().filter(is_served).collect();
        let is_possible = !served.is_empty() && (self.cipher_suites().is_empty() || !suites.is_empty());
        is_possible.then_some(InCommon { versions: served, suites })
    }
}

/// What a sender and a policy have in common. What the sender does not document is every version of the policy, and no suite.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InCommon {
    /// The versions.
    pub(super) versions: Vec<TlsVersion>,
    /// The suites, in the order of the sender.
    pub(super) suites: Vec<CipherSuite>,
}

/// Parses the table. Reports what is wrong, and leaves it out.
pub(super) fn facts(raw: Option<&Spanned<RawSender>>, report: &mut Report<'_>) -> SenderFacts {
    let Some(raw) = raw.map(Spanned::get_ref) else { return SenderFacts::default() };
    let tls_versions = list(raw.tls_versions.as_ref(), TlsVersion::parse, &|| PresetProblem::TlsVersion, report);
    let cipher_suites = list(raw.cipher_suites.as_ref(), suite::parse, &|| PresetProblem::CipherSuite, report);
    let after = After {
        handshake: raw.after.handshake.clone(),
        expired: raw.after.expired.clone(),
        refused: raw.after.refused.clone(),
        failed: raw.after.failed.clone(),
    };
    let facts = Facts {
        tls_versions,
        cipher_suites,
        server_roots: match raw.server_roots {
            None => ServerRoots::Undocumented,
            Some(RawServerRoots::Mozilla) => ServerRoots::Mozilla,
            Some(RawServerRoots::Own) => ServerRoots::Own,
        },
        needs_ordered_chain: raw.ordered_chain == Some(true),
        needs_ca_names: raw.chooses_by_ca_names == Some(true),
        timeout: TIMEOUT.check(raw.timeout_ms.as_ref(), report).map(Duration::from_millis),
        after,
    };
    SenderFacts { facts, request: RequestShape { fields: fields(raw, report), body: raw.body.clone() } }
}

/// The entries that `parse` knows. Reports the others.
fn list<T>(
    raw: Option<&Spanned<Vec<Spanned<String>>>>,
    parse: impl Fn(&str) -> Option<T>,
    problem: &dyn Fn() -> PresetProblem,
    report: &mut Report<'_>,
) -> Vec<T> {
    let Some(raw) = raw else { return Vec::new() };
    if raw.get_ref().len() > MAXIMUM_ENTRIES {
        report.error(raw, Problem::TooMany { count: raw.get_ref().len(), maximum: MAXIMUM_ENTRIES });
        return Vec::new();
    }
    let mut parsed = Vec::new();
    for text in raw.get_ref() {
        match parse(text.get_ref()) {
            Some(entry) => parsed.push(entry),
            None => report.error(text, problem().into()),
        }
    }
    parsed
}

fn fields(raw: &RawSender, report: &mut Report<'_>) -> Vec<(String, String)> {
    let Some(raw) = &raw.fields else { return Vec::new() };
    for (name, value) in raw.get_ref() {
        if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
            report.error(raw, PresetProblem::HeaderField { name: name.clone() }.into());
        }
    }
    raw.get_ref().clone().into_iter().collect()
}

/// `text` without the tables of the sender: from their headers to the next of `headers`.
pub(super) fn without(text: &str, headers: [&str; 4]) -> String {
    let mut is_sender = false;
    let is_kept = |line: &&str| {
        let line = line.trim_end();
        if headers.contains(&line) {
            is_sender = false;
        } else if line == "[sender]" || line.starts_with("[sender.") {
            is_sender = true;
        }
        !is_sender
    };
    text.split_inclusive('\n').filter(is_kept).collect()
}

impl Preset {
    /// The sender, with the certificate of the profile called `profile`; without a name, of the last profile that is not to end. `None` if
    /// there is no such profile.
    pub fn sender(&self, profile: Option<&str>) -> Option<Sender> {
        let chosen = match profile {
            Some(name) => self.profiles.iter().find(|draft| draft.name.as_ref() == name)?,
            None => self.profiles.iter().rfind(|draft| draft.until.is_none()).or(self.profiles.last())?,
        };
        Some(Sender {
            name: self.name.clone(),
            title: self.title.clone(),
            documentation: self.documentation.clone(),
            certificate: self.has_certificate().then(|| shape(chosen, &self.profiles)),
            proofs: self.proofs.sender_proofs(),
            delivery_id: self.proofs.delivery_id(),
            facts: self.sender.facts.clone(),
            request: self.sender.request.clone(),
        })
    }
}

/// The certificate of a profile. The anchors are those of all: a receiver may name any of them.
fn shape(draft: &DraftProfile, all: &[DraftProfile]) -> CertificateShape {
    let mut shape = CertificateShape {
        profile: draft.name.as_ref().to_owned(),
        subject: Vec::new(),
        dns_names: Vec::new(),
        uris: Vec::new(),
        anchors: Vec::new(),
        depth: draft.fields.verify_depth.unwrap_or(DEFAULT_VERIFY_DEPTH),
    };
    if let Some(rule) = draft.fields.identity.as_ref().and_then(|rules| rules.first()) {
        satisfy(rule, &mut shape);
    }
    for anchor in all.iter().filter_map(|draft| draft.fields.trust_anchors.as_ref()).flatten() {
        let (comparable, text) = (anchor.comparable_name().to_owned(), anchor.subject.clone());
        shape.anchors.push(AnchorName { comparable, text });
    }
    shape
}

/// Gives `shape` the names that `rule` demands. It cannot have a pinned key or digest.
fn satisfy(rule: &IdentityRule, shape: &mut CertificateShape) {
    for condition in rule.conditions() {
        match condition {
            Condition::Subject(name) => {
                let attributes = name.attributes().unwrap_or_default().into_iter();
                shape.subject = attributes.map(|(kind, value)| (kind.to_owned(), value.to_owned())).collect();
            }
            Condition::SubjectCn(name) => shape.subject = vec![(COMMON_NAME.to_owned(), name.clone())],
            Condition::SanDns(pattern) => shape.dns_names.push(pattern.to_string()),
            Condition::SanUri(uri) => shape.uris.push(uri.clone()),
            Condition::SpkiSha256(_) | Condition::CertificateSha256(_) => {}
        }
    }
    // Certificates with a DNS name have it as their common name too.
    if let (true, Some(name)) = (shape.subject.is_empty(), shape.dns_names.first()) {
        shape.subject = vec![(COMMON_NAME.to_owned(), name.clone())];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_sender_are_left_out_of_the_provider() {
        let text = "[proof]\na = 1\n[sender]\nb = 2\n[sender.after]\nc = 3\n\n[[profile]]\nd = 4\n";
        let headers = ["[proof]", "[replay]", "[[profile]]", "[[download]]"];
        assert_eq!(without(text, headers), "[proof]\na = 1\n[[profile]]\nd = 4\n");
    }

    #[test]
    fn a_suite_is_in_common_only_with_a_version_that_has_it() {
        let (new, old) = ("TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        let check = |versions: &[TlsVersion], suites: &[&str], policy: TlsPolicy, expected: Option<(&[_], &[&str])>| {
            let parsed = |names: &[&str]| names.iter().filter_map(|name| suite::parse(name)).collect::<Vec<_>>();
            let (tls_versions, cipher_suites) = (versions.to_vec(), parsed(suites));
            let facts = Facts { tls_versions, cipher_suites, ..Facts::default() };
            let expected = expected.map(|(versions, suites): (&[TlsVersion], _)| InCommon {
                versions: versions.to_vec(),
                suites: parsed(suites),
            });
            let found = SenderFacts { facts, request: RequestShape::default() }.in_common(policy);
            assert_eq!(found, expected, "{versions:?} {suites:?} {policy:?}");
        };
        let (tls12, tls13) = (TlsVersion::Tls12, TlsVersion::Tls13);
        check(&[], &[], TlsPolicy::Intermediate, Some((&[tls13, tls12], &[])));
        check(&[tls12], &[], TlsPolicy::Modern, None);
        check(&[TlsVersion::Tls11, tls12], &[new, old], TlsPolicy::Intermediate, Some((&[tls12], &[old])));
        check(&[tls12], &[new], TlsPolicy::Intermediate, None);
        check(&[], &[old], TlsPolicy::Modern, None);
        check(&[tls12, tls13], &[old, new], TlsPolicy::Modern, Some((&[tls13], &[new])));
    }
}
