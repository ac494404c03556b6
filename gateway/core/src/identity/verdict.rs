//! Which providers a chain proves; if it proves none, which failure to report.
//!
//! Owns the order of the checks and the bound on their cost. Must not verify paths (`path`), compare names (`rule`) or word
//! refusals (`diagnosis`).
//!
//! **Cost of a failing chain.** A chain with too many DER elements is refused before it is parsed. Identity rules are compared first, since
//! they cost no signature check. Then paths are built for the profiles whose rules match. Only if no rule matches, paths are built for
//! the other profiles, to distinguish a wrong identity from an untrusted issuer. At most [`MAX_FAILED_BUILDS`] builds may fail in
//! total, and as many more may rely on key identifiers and be made again without them. The search ends at the first build that exhausts
//! the bounds of `checks` or webpki's own, and at the first that succeeds for a chain that is refused anyway.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};

use super::bounds::{Bounds, reading_cost};
use super::checks::{Checks, Work};
use super::links::Links;
use super::nearness::{MAX_COMPARED_RULES, nearness};
use super::path::{self, Attempt, Path, PathFailure, Subject};
use super::presented::{Presented, PresentedChain};
use super::provider::{OnFailure, Profile, Provider, ProviderId, RefusalAnswer, Scope};
use super::rule::IdentityRule;
use super::shared_chain::SharedChain;
use super::signature_memory::SignatureMemory;
use super::spelling::{AnchorNames, Spelling};
use super::status::StatusFailure;
use super::suspect::{self, PublicRoots, Suspect};
use super::{ChainRefusal, MissingLists, ProfileMatch, VerifiedChain, diagnosis, elements, keys};
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
    pub(super) anchor_names: &'a AnchorNames,
    pub(super) bounds: Bounds,
    pub(super) public_roots: &'a PublicRoots,
    /// What an earlier search of the same chain took: the bounds hold for both together.
    pub(super) spent: Work,
}

/// The search of one scope for the profiles that one chain proves.
struct Search<'a> {
    providers: &'a [Provider],
    scope: &'a Scope,
    public_roots: &'a PublicRoots,
    subject: Subject<'a>,
    failed_builds: usize,
    put_off_builds: usize,
}

/// A profile in scope.
#[derive(Clone, Copy)]
struct Tried<'a> {
    id: ProviderId,
    provider: &'a Provider,
    /// Of the profile, among those of the provider.
    index: u16,
    profile: &'a Profile,
}

/// A profile for which no path could be verified.
struct Failed<'a> {
    of: Tried<'a>,
    failure: PathFailure,
}

/// What came of all attempts: of each provider, one path at most.
#[derive(Default)]
struct Outcome<'a> {
    proven: Vec<(Tried<'a>, Path)>,
    failed: Vec<Failed<'a>>,
}

/// Verifies `certificates`, which are not empty and within the limits. Does not ask the cache. Says what it cost.
pub(super) fn verify(
    policy: Policy<'_>,
    scope: &Scope,
    certificates: &[CertificateDer<'_>],
    now: UnixTime,
) -> (Result<VerifiedChain, ChainRefusal>, Work) {
    let Policy { providers, issuer_signatures, anchor_names, bounds, public_roots, spent, .. } = policy;
    let most = bounds.elements();
    let elements: Vec<usize> = certificates.iter().map(|certificate| elements::count(certificate, most)).collect();
    let all = total(&elements);
    if all > most {
        let refusal = diagnosis::too_many_elements(certificates.len(), most);
        return (Err(refuse_unidentified(providers, scope, refusal)), Work::default());
    }
    let presented = PresentedChain::new(certificates);
    let respelled = anchor_names.respell(&presented);
    let (chain, spelling) = match &respelled {
        Some(respelled) => (presented.with_respelled(respelled), Spelling::Canonical(anchor_names)),
        None => (presented, Spelling::AsWritten),
    };
    let reading = reading_cost(all, bytes(certificates));
    let checks =
        Checks::new(certificates, respelled.as_deref().unwrap_or_default(), issuer_signatures, bounds, reading)
            .after(spent);
    let end_entity = match chain.end_entity() {
        Ok(end_entity) => end_entity,
        Err(error) => {
            let refusal = diagnosis::malformed(&error, 0, &chain);
            return (Err(refuse_unidentified(providers, scope, refusal)), checks.work());
        }
    };
    if let Some(kind) = keys::unaccepted(&certificates[0]) {
        let refusal = diagnosis::unaccepted_key(&kind, &chain);
        return (Err(refuse_unidentified(providers, scope, refusal)), checks.work());
    }
    let weights = weights(&elements, &chain);
    let links = Links::new(&chain, &weights, spelling);
    let subject = Subject { chain: &chain, end_entity: &end_entity, links: &links, checks: &checks, now };
    let failed_builds = spent.failed_builds;
    let mut search = Search { providers, scope, public_roots, subject, failed_builds, put_off_builds: 0 };
    let found = search.matches();
    let result = found.map(|(matches, valid_until)| {
        VerifiedChain::new(policy.generation, matches, valid_until, certificates, &end_entity)
    });
    let failed_builds = if result.is_err() { search.failed_builds } else { 0 };
    (result, Work { failed_builds, ..checks.work() })
}

fn total(elements: &[usize]) -> usize {
    elements.iter().fold(0, |sum, found| sum.saturating_add(*found))
}

fn bytes(certificates: &[CertificateDer<'_>]) -> usize {
    certificates.iter().map(|certificate| certificate.len()).sum()
}

/// What a step costs that parses a certificate again, and compares its names: by its elements, and by the KiB.
fn weights(elements: &[usize], chain: &PresentedChain<'_>) -> Vec<usize> {
    let weight =
        |(elements, certificate): (&usize, &Presented<'_>)| elements + (certificate.path_der().len() >> 10 << 4);
    elements.iter().zip(chain.certificates()).map(weight).collect()
}

/// What the reading of this chain costs.
pub(super) fn reading_cost_of(certificates: &[CertificateDer<'_>], bounds: Bounds) -> u32 {
    let most = bounds.elements();
    let elements: Vec<usize> = certificates.iter().map(|certificate| elements::count(certificate, most)).collect();
    reading_cost(total(&elements), bytes(certificates))
}

/// The refusal of a peer whose certificate matches no provider's identity rules. It aborts the handshake only if every provider in
/// scope has `on_failure = "abort"`.
pub(super) fn refuse_unidentified(providers: &[Provider], scope: &Scope, refusal: Refusal) -> ChainRefusal {
    let mut modes = in_scope(providers, scope).map(|(_, provider)| provider.on_failure).peekable();
    let abort = modes.peek().is_some() && modes.all(|mode| mode == OnFailure::Abort);
    let on_failure = if abort { OnFailure::Abort } else { OnFailure::Respond };
    let mut answers = in_scope(providers, scope).map(|(_, provider)| provider.refusal).peekable();
    let terse = answers.peek().is_some() && answers.all(|answer| answer == RefusalAnswer::Terse);
    let answer = if terse { RefusalAnswer::Terse } else { RefusalAnswer::Deny };
    ChainRefusal { answer, ..ChainRefusal::unidentified(refusal, on_failure) }
}

fn in_scope<'a>(providers: &'a [Provider], scope: &'a Scope) -> impl Iterator<Item = (ProviderId, &'a Provider)> {
    scope.providers.iter().filter_map(|id| Some((*id, providers.get(usize::from(id.0))?)))
}

impl<'a> Search<'a> {
    /// The profiles that the chain proves, and until when; otherwise the refusal.
    fn matches(&mut self) -> Result<(Vec<ProfileMatch>, UnixTime), ChainRefusal> {
        let end_entity = self.subject.end_entity;
        let identified = |tried: &Tried<'a>| tried.profile.identity.iter().any(|rule| rule.matches(end_entity));
        let Outcome { proven, failed } = self.attempt(self.profiles().filter(identified), false);
        match proven.iter().map(|(_, path)| path.valid_until).min() {
            Some(valid_until) => {
                let matches = proven.into_iter().map(|(of, path)| ProfileMatch::new(of.id, of.index, path)).collect();
                Ok((matches, valid_until))
            }
            None => Err(self.refuse(failed)),
        }
    }

    /// All profiles in scope.
    fn profiles(&self) -> impl Iterator<Item = Tried<'a>> + use<'a> {
        in_scope(self.providers, self.scope).flat_map(|(id, provider)| {
            let tried = move |(index, profile)| Tried { id, provider, index, profile };
            (0..).zip(&provider.profiles).map(tried)
        })
    }

    /// Builds the paths of `profiles`: first those that no key identifier speaks against, so that no check fails for one provider before
    /// the right one is made for another. Of each provider, the first profile that is found counts. Ends at the first if `one` is enough.
    fn attempt(&mut self, profiles: impl Iterator<Item = Tried<'a>>, one: bool) -> Outcome<'a> {
        let mut outcome = Outcome::default();
        let mut put_off = Vec::new();
        for tried in profiles {
            self.try_one(Attempt::Hinted, tried, &mut outcome, &mut put_off);
            if one && !outcome.proven.is_empty() {
                return outcome;
            }
        }
        for tried in std::mem::take(&mut put_off) {
            self.try_one(Attempt::Whole, tried, &mut outcome, &mut put_off);
        }
        outcome.proven.sort_by_key(|(of, _)| of.id);
        outcome
    }

    fn try_one(&mut self, attempt: Attempt, tried: Tried<'a>, outcome: &mut Outcome<'a>, put_off: &mut Vec<Tried<'a>>) {
        if outcome.proven.iter().any(|(of, _)| of.id == tried.id) {
            return;
        }
        match self.build(tried.profile, attempt) {
            Some(Ok(path)) => outcome.proven.push((tried, path)),
            Some(Err(PathFailure::PutOff)) => put_off.push(tried),
            Some(Err(failure)) => outcome.failed.push(Failed { of: tried, failure }),
            None => {}
        }
    }

    /// Builds one path. `None` if [`MAX_FAILED_BUILDS`] have failed.
    fn build(&mut self, profile: &Profile, attempt: Attempt) -> Option<Result<Path, PathFailure>> {
        if self.failed_builds >= MAX_FAILED_BUILDS {
            return None;
        }
        let attempt = if self.put_off_builds < MAX_FAILED_BUILDS { attempt } else { Attempt::Whole };
        let result = path::verify(profile, &self.subject, attempt);
        match &result {
            // If no issuer name leads to a trust anchor, no path was built.
            Ok(_) | Err(PathFailure::NoTrustAnchor) => {}
            Err(PathFailure::PutOff) => self.put_off_builds += 1,
            // No genuine chain has so many possible paths: do not try another profile.
            Err(failure) if failure.exhausted() => self.failed_builds = MAX_FAILED_BUILDS,
            Err(_) => self.failed_builds += 1,
        }
        Some(result)
    }

    /// The refusal of a chain that proves no profile. If identity rules matched, the path of their provider is at fault
    /// (`identified`); otherwise either the identity or the path.
    fn refuse(&mut self, identified: Vec<Failed<'a>>) -> ChainRefusal {
        let Subject { chain, now, .. } = self.subject;
        if let Some(Failed { of, failure }) = failure_to_report(&identified) {
            let refusal = diagnosis::path(failure, of.profile, chain, now);
            let of = *of;
            let suspect = self.suspect(of, refusal.reject).map(Arc::new);
            let answer = of.provider.refusal;
            // An alert asks no sender to try again, so the handshake goes on.
            let is_temporary = suspect.is_some() || refusal.reject == Reject::RevocationListUnavailable;
            let responds = is_temporary && answer == RefusalAnswer::Retry;
            let on_failure = if responds { OnFailure::Respond } else { of.provider.on_failure };
            let missing = missing_lists(of, failure).map(Arc::new);
            let provider = Some(of.id);
            let refused = ChainRefusal::unidentified(refusal, on_failure);
            return ChainRefusal { provider, answer, suspect, missing, ..refused };
        }
        let Outcome { proven, failed } = self.attempt(self.profiles(), true);
        let refusal = match (proven.first(), failure_to_report(&failed)) {
            (Some((of, path)), _) => {
                let nearest = self.nearest(*of, path);
                let refusal = diagnosis::mismatch(chain, nearest.provider, nearest.profile);
                let provider = Some(nearest.id);
                return ChainRefusal { provider, ..refuse_unidentified(self.providers, self.scope, refusal) };
            }
            (None, Some(Failed { of, failure })) => diagnosis::path(failure, of.profile, chain, now),
            (None, None) => Refusal::new(Reject::UnknownIssuer, "No provider at this server name has a trust anchor."),
        };
        refuse_unidentified(self.providers, self.scope, refusal)
    }
}

impl<'a> Search<'a> {
    /// Of the profiles in scope with the trust anchor of `path`, which was verified for `of`, the one with the rule that the end entity nearly
    /// matches. Builds no path.
    fn nearest(&self, of: Tried<'a>, path: &Path) -> Tried<'a> {
        let anchor = of.profile.trust_anchors.get(usize::from(path.trust_anchor));
        let shares_anchor = |tried: &Tried<'a>| tried.profile.trust_anchors.iter().any(|other| Some(other) == anchor);
        let rules = self.profiles().filter(shares_anchor);
        let rules = rules.flat_map(|tried| tried.profile.identity.iter().map(move |rule| (tried, rule)));
        let mut best = (of, 0);
        for (tried, rule) in rules.take(MAX_COMPARED_RULES) {
            let nearness = nearness(rule, self.subject.end_entity);
            if nearness > best.1 {
                best = (tried, nearness);
            }
        }
        best.0
    }

    /// The chain, which claims the provider of `of` and is refused, if that may be ignorance of this receiver.
    fn suspect(&mut self, of: Tried<'a>, reject: Reject) -> Option<Suspect> {
        if !suspect::may_be_ignorance(reject, &self.subject, of.profile) {
            return None;
        }
        let chain = self.subject.chain;
        let certificates: Vec<_> = chain.certificates().iter().map(|certificate| certificate.der().clone()).collect();
        let (provider, profile, certificates) = (of.id, of.index, SharedChain::new(&certificates));
        Some(Suspect { provider, profile, reject, certificates, public_root: self.public_root(of) })
    }

    /// The public root to which the chain verifies, at a time at which its certificates were valid, if the claim rests on a DNS name. The
    /// build counts as every other one does.
    fn public_root(&mut self, of: Tried<'a>) -> Option<CertificateDer<'static>> {
        let Subject { chain, end_entity, now, .. } = self.subject;
        let vouched = |rule: &&IdentityRule| rule.matches(end_entity) && rule.rests_on_dns_name(end_entity);
        let roots = self.public_roots;
        let profile = roots.profile().filter(|_| of.profile.identity.iter().any(|rule| vouched(&rule)))?;
        self.subject.now = suspect::ended(chain, now).unwrap_or(now);
        let path = self.build(profile, Attempt::Whole);
        self.subject.now = now;
        roots.certificate(path?.ok()?.trust_anchor).cloned()
    }
}

/// The lists without which the path of this profile is refused, if nothing else is wrong with it.
fn missing_lists(of: Tried<'_>, failure: &PathFailure) -> Option<MissingLists> {
    let PathFailure::Status(StatusFailure { missing, .. }) = failure else { return None };
    let (provider, profile, lists) = (of.id, of.index, missing.clone());
    (!lists.is_empty()).then_some(MissingLists { provider, profile, lists })
}

/// The first failure of a path that reached a trust anchor by name; otherwise the first failure.
fn failure_to_report<'f, 'a>(failed: &'f [Failed<'a>]) -> Option<&'f Failed<'a>> {
    failed.iter().find(|failed| !matches!(failed.failure, PathFailure::NoTrustAnchor)).or(failed.first())
}
