//! Which providers a chain proves, and where it proves none, which of the failures to tell.
//!
//! Owns the order of the checks and the bound on their cost. Must not verify paths (`path`), compare names (`rule`) or word
//! refusals (`diagnosis`).
//!
//! **Cost of a failing chain.** Identity rules are compared first, since they cost no signature check; then paths are built
//! for the profiles that they match. Only if none matches are paths built for the others, to tell a stranger from a peer with
//! the wrong name. All in all at most [`MAX_FAILED_BUILDS`] builds may fail, the first that exhausts webpki's budget ends the
//! search, and a build that succeeds for a chain that is refused anyway is the last.

use rustls_pki_types::{CertificateDer, UnixTime};

use super::diagnosis;
use super::path::{self, Path, PathFailure};
use super::policy::{OnFailure, Profile, Provider, ProviderId, Scope};
use super::presented::{EndEntity, PresentedChain};
use super::signature_memory::SignatureMemory;
use super::{ChainRefusal, ProfileMatch, VerifiedChain};
use crate::reject::{Refusal, Reject};

/// Path builds that may fail for one chain. A provider's chain fails for the other profiles of its own provider that share
/// an anchor name, of which presets have two; the rest is room for providers that share an authority.
const MAX_FAILED_BUILDS: usize = 8;

/// One chain before the policy of one scope.
struct Trial<'a> {
    providers: &'a [Provider],
    issuer_signatures: &'a SignatureMemory,
    scope: &'a Scope,
    chain: &'a PresentedChain<'a>,
    end_entity: &'a EndEntity<'a>,
    now: UnixTime,
    failed_builds: usize,
}

/// A profile whose path could not be verified.
struct Failed<'a> {
    provider: ProviderId,
    on_failure: OnFailure,
    profile: &'a Profile,
    failure: PathFailure,
}

/// Verifies `chain` (not empty, within the limits) anew.
pub(super) fn verify(
    providers: &[Provider],
    issuer_signatures: &SignatureMemory,
    generation: u64,
    scope: &Scope,
    certificates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<VerifiedChain, ChainRefusal> {
    let chain = PresentedChain::new(certificates);
    let end_entity = match chain.end_entity() {
        Ok(end_entity) => end_entity,
        Err(error) => return Err(unclaimed(providers, scope, diagnosis::malformed(&error, 0, &chain))),
    };
    let end_entity = &end_entity;
    let mut trial = Trial { providers, issuer_signatures, scope, chain: &chain, end_entity, now, failed_builds: 0 };
    let (matches, valid_until) = trial.matches()?;
    Ok(VerifiedChain::new(generation, matches, valid_until, certificates, end_entity))
}

/// A refusal of a peer that claims to be nobody in particular: abrupt only where every provider of the scope wants that.
pub(super) fn unclaimed(providers: &[Provider], scope: &Scope, refusal: Refusal) -> ChainRefusal {
    let mut wishes = in_scope(providers, scope).map(|(_, provider)| provider.on_failure).peekable();
    let abort = wishes.peek().is_some() && wishes.all(|wish| wish == OnFailure::Abort);
    let on_failure = if abort { OnFailure::Abort } else { OnFailure::Respond };
    ChainRefusal { refusal, on_failure, provider: None }
}

fn in_scope<'a>(providers: &'a [Provider], scope: &'a Scope) -> impl Iterator<Item = (ProviderId, &'a Provider)> {
    scope.providers.iter().filter_map(|id| Some((*id, providers.get(usize::from(id.0))?)))
}

impl<'a> Trial<'a> {
    /// The profiles that the chain proves, and until when; or the refusal.
    fn matches(&mut self) -> Result<(Vec<ProfileMatch>, UnixTime), ChainRefusal> {
        let (providers, scope) = (self.providers, self.scope);
        let mut matches: Vec<ProfileMatch> = Vec::new();
        let mut valid_until: Option<UnixTime> = None;
        let mut failed = Vec::new();
        for (id, provider) in in_scope(providers, scope) {
            for (index, profile) in (0..).zip(&provider.profiles) {
                if !profile.identity.iter().any(|rule| rule.matches(self.end_entity)) {
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

    /// Builds one path; `None` where as many as allowed have failed.
    fn build(&mut self, profile: &Profile) -> Option<Result<Path, PathFailure>> {
        if self.failed_builds >= MAX_FAILED_BUILDS {
            return None;
        }
        let result = path::verify(profile, self.issuer_signatures, self.chain, self.end_entity, self.now);
        match &result {
            // Without an anchor in sight nothing was built.
            Ok(_) | Err(PathFailure::NoAnchor) => {}
            // No honest chain is that tangled, so no other profile is asked about it.
            Err(failure) if failure.exhausted() => self.failed_builds = MAX_FAILED_BUILDS,
            Err(_) => self.failed_builds += 1,
        }
        Some(result)
    }

    /// Nobody matched. Where identity rules did, the path of their provider is what is wrong (`claimed`); else either the
    /// identity or the path of a stranger.
    fn refuse(&mut self, claimed: Vec<Failed<'a>>) -> ChainRefusal {
        if let Some(told) = most_telling(&claimed) {
            let refusal = diagnosis::path(&told.failure, told.profile, self.chain, self.now);
            return ChainRefusal { refusal, on_failure: told.on_failure, provider: Some(told.provider) };
        }
        let (providers, scope) = (self.providers, self.scope);
        let mut failed = Vec::new();
        for (id, provider) in in_scope(providers, scope) {
            for profile in &provider.profiles {
                match self.build(profile) {
                    Some(Ok(_)) => {
                        let refusal = diagnosis::mismatch(self.chain, provider, profile);
                        return unclaimed(providers, scope, refusal);
                    }
                    Some(Err(failure)) => {
                        failed.push(Failed { provider: id, on_failure: provider.on_failure, profile, failure });
                    }
                    None => {}
                }
            }
        }
        let refusal = match most_telling(&failed) {
            Some(told) => diagnosis::path(&told.failure, told.profile, self.chain, self.now),
            None => Refusal::new(Reject::UnknownIssuer, "No provider of this server name trusts any issuer."),
        };
        unclaimed(providers, scope, refusal)
    }
}

/// The first failure that got as far as an anchor, else the first.
fn most_telling<'f, 'a>(failed: &'f [Failed<'a>]) -> Option<&'f Failed<'a>> {
    failed.iter().find(|failed| !matches!(failed.failure, PathFailure::NoAnchor)).or(failed.first())
}
