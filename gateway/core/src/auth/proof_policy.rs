//! What a request must prove, and the evidence that it did.
//!
//! Owns the combination of proofs (`all`, `any`), the choice of the refusal if none holds, and [`Proven`]. Must not judge a single
//! proof: `token`, `session_parameter` and `body_signature` do. Must not remember deliveries: `replay` does.

use std::sync::Arc;

use http::StatusCode;

use super::body_signature::BodySignature;
use super::replay::{ReplayGuard, ReplayRule, Reservation};
use super::request_view::RequestView;
use super::session_parameter::SessionParameter;
use super::strength::{KeyAspects, PolicyStrength};
use super::token::{TokenClaims, TokenRule};
use super::token_keys::{KeySets, KeySourceId};
use crate::reject::{Refusal, Reject};

/// Most proofs of one policy, nested ones included. A signature costs a hash over the body for each of its secrets.
const MAX_PROOFS: usize = 8;

/// One proof.
#[derive(Debug)]
pub enum Proof {
    /// A bearer token.
    Token(TokenRule),
    /// A session parameter in the JSON body.
    SessionParameter(SessionParameter),
    /// A signature over the body.
    Signature(BodySignature),
}

/// How well a proof tells who sent a request, if no certificate does. Ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// Not at all: nothing is demanded.
    Nothing,
    /// By a value that is the same in every request, or in every request of a session: whoever sees one request can send others.
    Static,
    /// By a signature over the body, or by a token of limited life for an audience.
    Bound,
}

/// A proof, or a group of proofs, within a policy.
#[derive(Debug)]
pub enum Clause {
    /// This proof must hold.
    One(Proof),
    /// Every one of these must hold.
    All(Vec<Proof>),
    /// At least one of these must hold.
    Any(Vec<Proof>),
}

/// What a request must prove, for one provider or route.
#[derive(Debug)]
pub struct ProofPolicy {
    combination: Combination,
    replay: Option<ReplayRule>,
}

#[derive(Debug)]
enum Combination {
    CertificateAlone,
    All(Box<[Clause]>),
    Any(Box<[Clause]>),
}

/// Why a list of proofs is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofPolicyError {
    /// An empty list. It could mean that every request passes, or that none does.
    #[error("a list of proofs is empty; write at least one proof, or proof = \"certificate\" to demand none")]
    Empty,
    /// Too many proofs.
    #[error("{count} proofs; write at most {MAX_PROOFS}, nested ones included")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The signed bytes identify a delivery, and a request can pass without a signature.
    #[error(
        "by_signature identifies deliveries by their signed bytes, so every request must be signed; write a signature as the only \
         proof, or in an all = […] list"
    )]
    NotAlwaysSigned,
    /// The window ends while the signed timestamp is still accepted, so that the delivery could be replayed.
    #[error(
        "window_s = {window} is less than twice the tolerance_s of the signature ({tolerance}); raise window_s or lower tolerance_s"
    )]
    WindowTooShort {
        /// The window, in seconds.
        window: u64,
        /// The tolerance, in seconds.
        tolerance: u64,
    },
}

/// Why the proofs of a request do not satisfy its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The refusal.
    pub refusal: Refusal,
    /// The source to fetch, if its published keys lack the key that a token names. After the fetch the request may be judged again,
    /// once.
    pub wants_keys: Option<KeySourceId>,
}

impl From<Refusal> for Unproven {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, wants_keys: None }
    }
}

impl From<Unproven> for Refusal {
    fn from(unproven: Unproven) -> Self {
        unproven.refusal
    }
}

impl ProofPolicy {
    /// A policy without proofs: the certificate suffices.
    #[must_use]
    pub fn certificate_alone() -> Self {
        Self { combination: Combination::CertificateAlone, replay: None }
    }

    /// Every clause must hold.
    ///
    /// # Errors
    ///
    /// If a list is empty, or there are more than 8 proofs.
    pub fn all(clauses: Vec<Clause>) -> Result<Self, ProofPolicyError> {
        count(&clauses)?;
        Ok(Self { combination: Combination::All(clauses.into()), replay: None })
    }

    /// At least one clause must hold.
    ///
    /// # Errors
    ///
    /// As [`ProofPolicy::all`].
    pub fn any(clauses: Vec<Clause>) -> Result<Self, ProofPolicyError> {
        count(&clauses)?;
        Ok(Self { combination: Combination::Any(clauses.into()), replay: None })
    }

    /// The same policy, which also refuses a delivery that was already taken.
    ///
    /// # Errors
    ///
    /// If the signed bytes identify a delivery and a request can pass unsigned, or if the window of `rule` is shorter than twice
    /// the tolerance of a signed timestamp.
    pub fn with_replay(mut self, rule: ReplayRule) -> Result<Self, ProofPolicyError> {
        if rule.needs_signature() && !self.always_signed() {
            return Err(ProofPolicyError::NotAlwaysSigned);
        }
        let tolerance = self.proofs().filter_map(|proof| match proof {
            Proof::Signature(signature) => signature.tolerance_seconds(),
            Proof::Token(_) | Proof::SessionParameter(_) => None,
        });
        // The timestamp can be `tolerance` ahead of the clock at the first copy, and `tolerance` behind it at the last.
        if let Some(tolerance) = tolerance.max()
            && rule.window_seconds() < tolerance.saturating_mul(2)
        {
            return Err(ProofPolicyError::WindowTooShort { window: rule.window_seconds(), tolerance });
        }
        self.replay = Some(rule);
        Ok(self)
    }

    /// The status of the answer to a `duplicate_delivery`, which replaces that of the reason.
    #[must_use]
    pub fn duplicate_answer(&self) -> Option<StatusCode> {
        self.replay.as_ref().map(ReplayRule::duplicate_answer)
    }

    /// Judges a request. The replay rule is last, so that a request without the proofs is not remembered.
    ///
    /// # Errors
    ///
    /// The refusal of the proof that fails. If several alternatives fail: first that of an alternative that newer keys could
    /// satisfy, then that of a proof that is wrong, then that of a proof that is missing.
    pub fn check(
        &self,
        request: &RequestView<'_>,
        keys: &KeySets,
        guard: &Arc<ReplayGuard>,
    ) -> Result<Proven, Unproven> {
        let mut evidence = Evidence::default();
        match &self.combination {
            Combination::CertificateAlone => {}
            Combination::All(clauses) => {
                for clause in clauses {
                    clause.check(request, keys, &mut evidence)?;
                }
            }
            Combination::Any(clauses) => {
                any(clauses, |clause| clause.check(request, keys, &mut evidence))?;
            }
        }
        let reservation = match &self.replay {
            Some(rule) if rule.needs_signature() => {
                self.judge_further_signatures(request, &mut evidence);
                Some(rule.reserve(request, &evidence.signatures, guard)?)
            }
            Some(rule) => Some(rule.reserve(request, &[], guard)?),
            None => None,
        };
        Ok(Proven { kinds: evidence.kinds, claims: evidence.claims, reservation })
    }

    /// What it demands, to be compared with another policy. `keys` says what a source of keys demands of their origin.
    #[must_use]
    pub fn strength(&self, keys: &KeyAspects<'_>) -> PolicyStrength {
        let replay = self.replay.as_ref().map(ReplayRule::aspects).unwrap_or_default();
        match &self.combination {
            Combination::CertificateAlone => PolicyStrength::certificate_alone(replay),
            Combination::All(clauses) => PolicyStrength::all(clauses, replay, keys),
            Combination::Any(clauses) => PolicyStrength::any(clauses, replay, keys),
        }
    }

    /// How well every request that satisfies the policy tells who sent it: the weakest of the ways to satisfy it.
    #[must_use]
    pub fn binding(&self) -> Binding {
        match &self.combination {
            Combination::CertificateAlone => Binding::Nothing,
            Combination::All(clauses) => strongest(clauses.iter().map(Clause::binding)),
            Combination::Any(clauses) => weakest(clauses.iter().map(Clause::binding)),
        }
    }

    /// The sources of the keys that verify the tokens of this policy.
    pub fn key_sources(&self) -> impl Iterator<Item = KeySourceId> {
        self.proofs().filter_map(|proof| match proof {
            Proof::Token(rule) => Some(rule.source()),
            Proof::SessionParameter(parameter) => parameter.key_source(),
            Proof::Signature(_) => None,
        })
    }

    /// Adds the signatures of the request that no clause needed, as the first of two alternatives held. A copy of the request could show
    /// only those.
    fn judge_further_signatures<'policy>(&'policy self, request: &RequestView<'_>, evidence: &mut Evidence<'policy>) {
        for proof in self.proofs() {
            if let Proof::Signature(signature) = proof
                && !evidence.signatures.iter().flatten().any(|known| std::ptr::eq(*known, signature))
                && signature.check(request).is_ok()
            {
                evidence.add(signature);
            }
        }
    }

    fn proofs(&self) -> impl Iterator<Item = &Proof> {
        let clauses = match &self.combination {
            Combination::CertificateAlone => &[][..],
            Combination::All(clauses) | Combination::Any(clauses) => clauses,
        };
        clauses.iter().flat_map(Clause::proofs)
    }

    /// Whether every request needs a body signature to pass.
    fn always_signed(&self) -> bool {
        let signature = |proof: &Proof| matches!(proof, Proof::Signature(_));
        let Combination::All(clauses) = &self.combination else { return false };
        clauses.iter().any(|clause| match clause {
            Clause::One(proof) => signature(proof),
            Clause::All(proofs) => proofs.iter().any(signature),
            Clause::Any(proofs) => proofs.iter().all(signature),
        })
    }
}

fn count(clauses: &[Clause]) -> Result<(), ProofPolicyError> {
    if clauses.is_empty() || clauses.iter().any(|clause| clause.proofs().is_empty()) {
        return Err(ProofPolicyError::Empty);
    }
    match clauses.iter().map(|clause| clause.proofs().len()).sum() {
        0..=MAX_PROOFS => Ok(()),
        count => Err(ProofPolicyError::TooMany { count }),
    }
}

fn strongest(bindings: impl Iterator<Item = Binding>) -> Binding {
    bindings.max().unwrap_or(Binding::Nothing)
}

fn weakest(bindings: impl Iterator<Item = Binding>) -> Binding {
    bindings.min().unwrap_or(Binding::Nothing)
}

impl Clause {
    fn binding(&self) -> Binding {
        match self {
            Self::One(proof) => proof.binding(),
            Self::All(proofs) => strongest(proofs.iter().map(Proof::binding)),
            Self::Any(proofs) => weakest(proofs.iter().map(Proof::binding)),
        }
    }

    fn proofs(&self) -> &[Proof] {
        match self {
            Self::One(proof) => std::slice::from_ref(proof),
            Self::All(proofs) | Self::Any(proofs) => proofs,
        }
    }

    fn check<'policy>(
        &'policy self,
        request: &RequestView<'_>,
        keys: &KeySets,
        evidence: &mut Evidence<'policy>,
    ) -> Result<(), Unproven> {
        match self {
            Self::One(proof) => proof.check(request, keys, evidence),
            Self::All(proofs) => proofs.iter().try_for_each(|proof| proof.check(request, keys, evidence)),
            Self::Any(proofs) => any(proofs, |proof| proof.check(request, keys, evidence)),
        }
    }
}

impl Proof {
    /// A new kind of proof decides here whether it can stand without a certificate.
    fn binding(&self) -> Binding {
        match self {
            // A template without {body} is refused when it is parsed.
            Self::Token(_) | Self::Signature(_) => Binding::Bound,
            Self::SessionParameter(parameter) if parameter.is_token() => Binding::Bound,
            Self::SessionParameter(_) => Binding::Static,
        }
    }

    fn check<'policy>(
        &'policy self,
        request: &RequestView<'_>,
        keys: &KeySets,
        evidence: &mut Evidence<'policy>,
    ) -> Result<(), Unproven> {
        match self {
            Self::Token(rule) => {
                evidence.claims = Some(rule.check_bearer(request.headers, keys, request.received_at)?);
                evidence.kinds.0 |= Kinds::TOKEN;
            }
            Self::SessionParameter(parameter) => {
                parameter.check(request, keys)?;
                evidence.kinds.0 |= Kinds::SESSION_PARAMETER;
            }
            Self::Signature(signature) => {
                signature.check(request)?;
                evidence.add(signature);
                evidence.kinds.0 |= Kinds::SIGNATURE;
            }
        }
        Ok(())
    }
}

/// Succeeds if one of `alternatives` holds; otherwise returns the failure with the highest [`rank`].
fn any<'policy, T>(
    alternatives: &'policy [T],
    mut check: impl FnMut(&'policy T) -> Result<(), Unproven>,
) -> Result<(), Unproven> {
    let mut highest: Option<Unproven> = None;
    for alternative in alternatives {
        let Err(unproven) = check(alternative) else { return Ok(()) };
        if highest.as_ref().is_none_or(|best| rank(&unproven) > rank(best)) {
            highest = Some(unproven);
        }
    }
    // The constructors refuse an empty list. If there were one, every request would be refused.
    Err(highest.unwrap_or_else(|| Refusal::new(Reject::Internal, "A list of alternative proofs is empty.").into()))
}

/// The precedence of a failure: newer keys could cure it (2), the proof is wrong (1), the proof is missing (0).
fn rank(unproven: &Unproven) -> u8 {
    match unproven.refusal.reject {
        _ if unproven.wants_keys.is_some() => 2,
        Reject::KeysUnavailable => 2,
        Reject::TokenMissing | Reject::SignatureMissing | Reject::SessionParameterMissing => 0,
        _ => 1,
    }
}

#[derive(Default)]
struct Evidence<'policy> {
    kinds: Kinds,
    claims: Option<TokenClaims>,
    /// The signatures that hold, from the first place on. A policy has at most as many proofs.
    signatures: [Option<&'policy BodySignature>; MAX_PROOFS],
}

impl<'policy> Evidence<'policy> {
    fn add(&mut self, signature: &'policy BodySignature) {
        if let Some(place) = self.signatures.iter_mut().find(|place| place.is_none()) {
            *place = Some(signature);
        }
    }
}

/// The kinds of proof that a request showed, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    const TOKEN: u8 = 1;
    const SESSION_PARAMETER: u8 = 2;
    const SIGNATURE: u8 = 4;

    /// Indexed by the bits, so that a header value needs no allocation.
    const LABELS: [&'static str; 8] = [
        "certificate",
        "certificate, token",
        "certificate, session-parameter",
        "certificate, token, session-parameter",
        "certificate, signature",
        "certificate, token, signature",
        "certificate, session-parameter, signature",
        "certificate, token, session-parameter, signature",
    ];
}

/// The evidence that a request satisfies its policy. Only [`ProofPolicy::check`] makes one.
#[derive(Debug)]
pub struct Proven {
    kinds: Kinds,
    claims: Option<TokenClaims>,
    reservation: Option<Reservation>,
}

impl Proven {
    /// What the labels begin with if a proof was checked.
    pub(super) const BESIDE_CERTIFICATE: &'static str = "certificate, ";

    /// What was proven, the value of `X-Hookgate-Proof`: `certificate`, then those of `token`, `session-parameter` and
    /// `signature` that were checked, separated by a comma and a space.
    #[must_use]
    pub fn labels(&self) -> &'static str {
        Kinds::LABELS[usize::from(self.kinds.0) % Kinds::LABELS.len()]
    }

    /// The claims of the bearer token, if one was checked.
    #[must_use]
    pub fn claims(&self) -> Option<&TokenClaims> {
        self.claims.as_ref()
    }

    /// The reservation of the delivery, if the policy has a replay rule. [`Reservation::commit`] it when the handler has answered
    /// with a status below 500, and drop it if the handler failed.
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }
}

/// The value of `WWW-Authenticate` in an answer with this reason (RFC 6750, section 3); `None` if the status is not 401.
#[must_use]
pub fn challenge(reject: Reject) -> Option<String> {
    let row = reject.row();
    match reject {
        // RFC 6750, section 3.1: no error code if the request has no authentication information.
        Reject::TokenMissing => Some("Bearer realm=\"hookgate\"".to_owned()),
        _ if row.status == 401 => {
            Some(format!("Bearer realm=\"hookgate\", error=\"invalid_token\", error_description=\"{}\"", row.title))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
