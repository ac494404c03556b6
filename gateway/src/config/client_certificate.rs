//! `client_certificate`: whether the senders of a provider have one, and what must prove their requests otherwise.
//!
//! Owns these two keys, and the errors about a provider or route whose requests nothing would prove. Must not judge a proof: the policy
//! says how well it binds a request.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::error::{CertificateProblem, Problem};
use super::report::Report;
use hookgate_core::auth::{Binding, ProofPolicy};
use hookgate_core::identity::ClientCertificate;

/// `client_certificate` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawClientCertificate {
    Required,
    None,
}

/// Parses both keys.
pub(super) fn parse(
    certificate: Option<&Spanned<RawClientCertificate>>,
    static_secret: Option<&Spanned<bool>>,
    report: &mut Report<'_>,
) -> ClientCertificate {
    match (certificate.map(Spanned::get_ref), static_secret) {
        (Some(RawClientCertificate::None), value) => {
            ClientCertificate::None { static_secret_suffices: value.is_some_and(|value| *value.get_ref()) }
        }
        (Some(RawClientCertificate::Required) | None, Some(at)) => {
            report.error(at, CertificateProblem::StaticSecretBesideCertificate.into());
            ClientCertificate::Required
        }
        (Some(RawClientCertificate::Required) | None, None) => ClientCertificate::Required,
    }
}

/// Reports the keys about certificates of a provider that demands none.
pub(super) fn refuse_keys(spans: impl Iterator<Item = Option<Range<usize>>>, report: &mut Report<'_>) {
    for span in spans.flatten() {
        report.error_at(&span, CertificateProblem::Unused.into());
    }
}

/// Reports at `at` that `policy` does not tell who sent a request, if no certificate does.
pub(super) fn check_policy(
    certificate: ClientCertificate,
    policy: &ProofPolicy,
    provider: &str,
    at: &Range<usize>,
    report: &mut Report<'_>,
) {
    if certificate.is_completed_by(policy) {
        return;
    }
    let provider = provider.to_owned();
    let problem: Problem = match policy.binding() {
        Binding::None => CertificateProblem::NothingProves { provider }.into(),
        Binding::Static | Binding::Token | Binding::Body => CertificateProblem::StaticSecret { provider }.into(),
    };
    report.error_at(at, problem);
}
