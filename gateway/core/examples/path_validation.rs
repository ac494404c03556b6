//! Judges the chains of x509-limbo, a public suite of path validation, as those of clients.
//!
//! Owns the comparison alone: the suite is read from standard input, docs/development.md says how to make it, and docs/rfc5280.md what
//! came of it. A case is judged with the default limits, by the path and not by a name: the identity rule is the end entity itself.
#![expect(clippy::unwrap_used, reason = "a suite that cannot be read ends the run")]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use hookgate_core::identity::{
    AnchorUse, ChainCache, ChainLimits, Condition, ExtendedKeyUsage, Identity, IdentityRule, OnFailure, Profile,
    Provider, ProviderId, RefusalAnswer, RevocationList, RevocationLists, RevocationScope, Scope,
};
use hookgate_core::limits::Limits;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde::Deserialize;
use time::{Date, Month};

/// The largest value of the configuration key.
const VERIFY_DEPTH: u8 = 10;

#[derive(Deserialize)]
struct Suite {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: String,
    max_chain_depth: Option<u8>,
    #[serde(default)]
    crls: Vec<String>,
}

fn main() {
    let suite: Suite = serde_json::from_reader(io::stdin().lock()).unwrap();
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in &suite.testcases {
        let namespace = case.id.rsplit_once("::").map_or("", |(namespace, _)| namespace);
        let (same, all) = counts.entry(namespace).or_default();
        *all += 1;
        let verdict = case.verdict();
        if verdict.is_ok() == (case.expected_result == "SUCCESS") {
            *same += 1;
        } else {
            let found = verdict.err().map_or_else(|| "admitted".to_owned(), |reason| format!("refused: {reason}"));
            println!("{}: expected {}, {found}", case.id, case.expected_result);
        }
    }
    for (namespace, (same, all)) in counts {
        println!("{namespace}: {same} of {all}");
    }
}

impl Case {
    /// Whether the chain is admitted, or why not.
    fn verdict(&self) -> Result<(), String> {
        let chain: Vec<CertificateDer<'static>> = std::iter::once(&self.peer_certificate)
            .chain(&self.untrusted_intermediates)
            .map(|pem| der(pem).into())
            .collect();
        let (identity, scope) = self.policy(&chain[0])?;
        match identity.refusal_of_presented(&scope, &chain, self.now()) {
            None => Ok(()),
            Some(refused) => Err(refused.refusal.refusal.to_string()),
        }
    }

    /// The policy that trusts the anchors of the case, and expects this end entity.
    fn policy(&self, end_entity: &CertificateDer<'_>) -> Result<(Identity, Scope), String> {
        let certificates: Vec<CertificateDer<'static>> = self.trusted_certs.iter().map(|pem| der(pem).into()).collect();
        let anchors: Result<Vec<TrustAnchor<'static>>, _> = certificates
            .iter()
            .map(|certificate| webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned()))
            .collect();
        let trust_anchors = anchors.map_err(|error| format!("trust anchor: {error}"))?;
        let lists: Result<Vec<RevocationList>, _> =
            self.crls.iter().map(|pem| RevocationList::from_der(&der(pem))).collect();
        let lists = lists.map_err(|error| format!("revocation list: {error}"))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, end_entity);
        let rule = Condition::certificate_sha256(&HEXLOWER.encode(digest.as_ref())).unwrap();
        let profile = Profile {
            name: "default".into(),
            trust_anchors_not_after: vec![u64::MAX; trust_anchors.len()],
            trust_anchor_uses: certificates.iter().map(AnchorUse::of).collect(),
            trust_anchors,
            overlap_ends: None,
            // The suite counts the intermediates alone.
            verify_depth: self.max_chain_depth.map_or(VERIFY_DEPTH, |depth| depth.saturating_add(1).min(VERIFY_DEPTH)),
            identity: vec![IdentityRule::new(vec![rule]).unwrap()],
            extended_key_usage: ExtendedKeyUsage::ClientAuth,
            revocation: (!lists.is_empty()).then(|| RevocationLists::new(lists, RevocationScope::EndEntity)),
        };
        let provider = Provider {
            name: "sender".into(),
            profiles: vec![profile],
            on_failure: OnFailure::Respond,
            refusal: RefusalAnswer::Deny,
            client_certificate: Default::default(),
        };
        let limits = Limits::default();
        let limits =
            ChainLimits { max_certificates: limits.max_presented_certificates, max_bytes: limits.max_presented_bytes };
        let cache = Arc::new(ChainCache::new(0, Duration::ZERO));
        let identity = Identity::new(1, Arc::from([provider]), cache, limits);
        Ok((identity, Scope { id: 0, providers: vec![ProviderId(0)] }))
    }

    /// The time of the case, which the suite writes in UTC (RFC 3339), or a fixed one within the lives of its certificates.
    fn now(&self) -> UnixTime {
        let text = self.validation_time.as_deref().unwrap_or("2026-01-01T00:00:00+00:00");
        let number = |from: usize, to: usize| text[from..to].parse::<u16>().unwrap();
        let small = |from: usize| u8::try_from(number(from, from + 2)).unwrap();
        let date =
            Date::from_calendar_date(i32::from(number(0, 4)), Month::try_from(small(5)).unwrap(), small(8)).unwrap();
        let seconds = date.with_hms(small(11), small(14), small(17)).unwrap().assume_utc().unix_timestamp();
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

/// The contents of the one section of a PEM text.
fn der(pem: &str) -> Vec<u8> {
    let digits: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(digits.trim().as_bytes()).unwrap()
}
