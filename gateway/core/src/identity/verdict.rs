//! Which providers a chain proves; if it proves none, which failure to report.
//!
//! Owns the order of the checks and the bound on their cost. Must not verify paths (`path`), compare names (`rule`) or word
//! refusals (`diagnosis`).
//!
//! **Cost of a failing chain.** A chain with too many DER elements is refused before it is parsed. Identity rules are compared first, since
//! they cost no signature check. Then paths are built for the profiles whose rules match. Only if no rule matches, paths are built for
//! the other profiles, to distinguish a wrong identity from an untrusted issuer. At most [`MAX_FAILED_BUILDS`] builds may fail in
//! total. The search ends at the first build that exhausts the bounds of `checks` or webpki's own, and at the first that succeeds for a
//! chain that is refused anyway.

use rustls_pki_types::{CertificateDer, UnixTime};

use super::checks::{Bounds, Checks, Work};
use super::links::Links;
use super::path::{self, Path, PathFailure, Subject};
use super::presented::PresentedChain;
use super::provider::{OnFailure, Profile, Provider, ProviderId, Scope};
use super::signature_memory::SignatureMemory;
use super::{ChainRefusal, ProfileMatch, VerifiedChain, diagnosis, elements};
use crate::reject::{Refusal, Reject};

/// Path builds that may fail for one chain. A genuine chain fails for the other profiles of its provider that share the name of the
/// trust anchor, of which presets have two; the rest is for providers that share an authority.
const MAX_FAILED_BUILDS: usize = 8;

/// What a search needs of the policy.
#[derive(Clone, Copy)]
pub(super) struct Policy<'a> {
    pub(super) generation: u64,
    pub(super) providers: &'a [Provider],
    pub(super) issuer_signatures: &'a SignatureMemory,
    pub(super) bounds: Bounds,
}

/// The search of one scope for the profiles that one chain proves.
struct Search<'a> {
    providers: &'a [Provider],
    scope: &'a Scope,
    subject: Subject<'a>,
    failed_builds: usize,
}

/// A profile for which no path could be verified.
struct Failed<'a> {
    provider: ProviderId,
    on_failure: OnFailure,
    profile: &'a Profile,
    failure: PathFailure,
}

/// Verifies `certificates`, which are not empty and within the limits. Does not ask the cache. Says what it cost.
pub(super) fn verify(
    policy: Policy<'_>,
    scope: &Scope,
    certificates: &[CertificateDer<'_>],
    now: UnixTime,
) -> (Result<VerifiedChain, ChainRefusal>, Work) {
    let checks = Checks::new(certificates, policy.issuer_signatures, policy.bounds);
    let result = search(policy, scope, certificates, &checks, now);
    (result, checks.work())
}

fn search(
    policy: Policy<'_>,
    scope: &Scope,
    certificates: &[CertificateDer<'_>],
    checks: &Checks<'_>,
    now: UnixTime,
) -> Result<VerifiedChain, ChainRefusal> {
    let Policy { generation, providers, bounds, .. } = policy;
    let most = bounds.elements();
    let elements: Vec<usize> = certificates.iter().map(|certificate| elements::count(certificate, most)).collect();
    if elements.iter().fold(0, |sum: usize, found| sum.saturating_add(*found)) > most {
        return Err(refuse_unidentified(providers, scope, diagnosis::too_many_elements(certificates.len(), most)));
    }
    let chain = PresentedChain::new(certificates);
    let end_entity = match chain.end_entity() {
        Ok(end_entity) => end_entity,
        Err(error) => return Err(refuse_unidentified(providers, scope, diagnosis::malformed(&error, 0, &chain))),
    };
    let (end_entity, links) = (&end_entity, &Links::new(&chain, &elements));
    let subject = Subject { chain: &chain, end_entity, links, checks, now };
    let (matches, valid_until) = Search { providers, scope, subject, failed_builds: 0 }.matches()?;
    Ok(VerifiedChain::new(generation, matches, valid_until, certificates, end_entity))
}

/// The refusal of a peer whose certificate matches no provider's identity rules. It aborts the handshake only if every provider in
/// scope has `on_failure = "abort"`.
pub(super) fn refuse_unidentified(providers: &[Provider], scope: &Scope, refusal: Refusal) -> ChainRefusal {
    let mut modes = in_scope(providers, scope).map(|(_, provider)| provider.on_failure).peekable();
    let abort = modes.peek().is_some() && modes.all(|mode| mode == OnFailure::Abort);
    let on_failure = if abort { OnFailure::Abort } else { OnFailure::Respond };
    ChainRefusal { refusal, on_failure, provider: None }
}

fn in_scope<'a>(providers: &'a [Provider], scope: &'a Scope) -> impl Iterator<Item = (ProviderId, &'a Provider)> {
    scope.providers.iter().filter_map(|id| Some((*id, providers.get(usize::from(id.0))?)))
}

impl<'a> Search<'a> {
    /// The profiles that the chain proves, and until when; otherwise the refusal.
    fn matches(&mut self) -> Result<(Vec<ProfileMatch>, UnixTime), ChainRefusal> {
        let (providers, scope) = (self.providers, self.scope);
        let mut matches: Vec<ProfileMatch> = Vec::new();
        let mut valid_until: Option<UnixTime> = None;
        let mut failed = Vec::new();
        for (id, provider) in in_scope(providers, scope) {
            for (index, profile) in (0..).zip(&provider.profiles) {
                if !profile.identity.iter().any(|rule| rule.matches(self.subject.end_entity)) {
                    continue;
                }
                match self.build(profile) {
                    Some(Ok(path)) => {
                        valid_until = Some(valid_until.map_or(path.valid_until, |until| until.min(path.valid_until)));
                        matches.push(ProfileMatch::new(id, index, path));
                        break;
                    }
                    Some(Err(failure)) => {
                        failed.push(Failed { provider: id, on_failure: provider.on_failure, profile, failure });
                    }
                    None => {}
                }
            }
        }
        match valid_until {
            Some(valid_until) => Ok((matches, valid_until)),
            None => Err(self.refuse(failed)),
        }
    }

    /// Builds one path. `None` if [`MAX_FAILED_BUILDS`] have failed.
    fn build(&mut self, profile: &Profile) -> Option<Result<Path, PathFailure>> {
        if self.failed_builds >= MAX_FAILED_BUILDS {
            return None;
        }
        let result = path::verify(profile, &self.subject);
        match &result {
            // If no issuer name leads to a trust anchor, no path was built.
            Ok(_) | Err(PathFailure::NoTrustAnchor) => {}
            // No genuine chain has so many possible paths: do not try another profile.
            Err(failure) if failure.exhausted() => self.failed_builds = MAX_FAILED_BUILDS,
            Err(_) => self.failed_builds += 1,
        }
        Some(result)
    }

    /// The refusal of a chain that proves no profile. If identity rules matched, the path of their provider is at fault
    /// (`identified`); otherwise either the identity or the path.
    fn refuse(&mut self, identified: Vec<Failed<'a>>) -> ChainRefusal {
        if let Some(failed) = failure_to_report(&identified) {
            let refusal = diagnosis::path(&failed.failure, failed.profile, self.subject.chain, self.subject.now);
            return ChainRefusal { refusal, on_failure: failed.on_failure, provider: Some(failed.provider) };
        }
        let (providers, scope) = (self.providers, self.scope);
        let mut failed = Vec::new();
        for (id, provider) in in_scope(providers, scope) {
            for profile in &provider.profiles {
                match self.build(profile) {
                    Some(Ok(_)) => {
                        let refusal = diagnosis::mismatch(self.subject.chain, provider, profile);
                        return refuse_unidentified(providers, scope, refusal);
                    }
                    Some(Err(failure)) => {
                        failed.push(Failed { provider: id, on_failure: provider.on_failure, profile, failure });
                    }
                    None => {}
                }
            }
        }
        let refusal = match failure_to_report(&failed) {
            Some(failed) => diagnosis::path(&failed.failure, failed.profile, self.subject.chain, self.subject.now),
            None => Refusal::new(Reject::UnknownIssuer, "No provider at this server name has a trust anchor."),
        };
        refuse_unidentified(providers, scope, refusal)
    }
}

/// The first failure of a path that reached a trust anchor by name; otherwise the first failure.
fn failure_to_report<'f, 'a>(failed: &'f [Failed<'a>]) -> Option<&'f Failed<'a>> {
    failed.iter().find(|failed| !matches!(failed.failure, PathFailure::NoTrustAnchor)).or(failed.first())
}
