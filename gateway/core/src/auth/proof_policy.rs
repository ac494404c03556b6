//! What a request must prove, and the evidence that it did.
//!
//! Owns the combination of proofs (`all`, `any`), the choice of the refusal if none holds, and [`Proven`]. Must not judge a single
//! proof: `token`, `session_parameter`, `body_signature` and `static_credential` do. Must not remember deliveries: `replay` does.

use std::sync::{Arc, LazyLock};

use http::StatusCode;

use super::body_signature::BodySignature;
use super::replay::{ReplayGuard, ReplayRule, Reservation};
use super::request_view::RequestView;
use super::session_parameter::SessionParameter;
use super::static_credential::{BasicCredentials, FieldSecret};
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
    /// A secret in a header field.
    Secret(FieldSecret),
    /// A user name and a password.
    Basic(BasicCredentials),
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

/// What a proof ties to the request that shows it, in ascending order of strength. It says what a proof is worth without a client
/// certificate: whoever has seen a request can repeat what is not tied to its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// No proof.
    None,
    /// A value that is the same in many requests and does not run out: a secret, a password, a session parameter.
    Static,
    /// A signed token, which runs out and is for one audience. It says nothing about the body.
    Token,
    /// A signature over the body.
    Body,
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
            Proof::Token(_) | Proof::SessionParameter(_) | Proof::Secret(_) | Proof::Basic(_) => None,
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

    /// How long deliveries are remembered, in seconds, if they are.
    #[must_use]
    pub fn replay_window_seconds(&self) -> Option<u64> {
        self.replay.as_ref().map(ReplayRule::window_seconds)
    }

    /// Whether it demands anything beside the certificate.
    #[must_use]
    pub fn demands_proof(&self) -> bool {
        !matches!(self.combination, Combination::CertificateAlone)
    }

    /// Whether a request can be refused for `reject` under this policy: false of a reason of the stage `auth` that only a proof has which is not
    /// in it, or the replay rule that it lacks.
    #[must_use]
    pub fn can_refuse_for(&self, reject: Reject) -> bool {
        let has = |wanted: fn(&Proof) -> bool| self.proofs().any(wanted);
        match reject {
            Reject::TokenMissing
            | Reject::TokenMalformed
            | Reject::TokenIsAccessToken
            | Reject::TokenUnknownKey
            | Reject::TokenBadSignature
            | Reject::TokenWrongIssuer
            | Reject::TokenWrongAudience
            | Reject::TokenExpired
            | Reject::TokenNotYetValid
            | Reject::TokenWrongEmail
            | Reject::TokenWrongSubject => has(|proof| matches!(proof, Proof::Token(_))),
            Reject::SessionParameterMissing | Reject::SessionParameterMismatch => {
                has(|proof| matches!(proof, Proof::SessionParameter(_)))
            }
            Reject::SignatureMissing
            | Reject::SignatureMalformed
            | Reject::SignatureMismatch
            | Reject::SignatureUnknownKey
            | Reject::TimestampOutsideWindow => has(|proof| matches!(proof, Proof::Signature(_))),
            Reject::SecretMissing | Reject::SecretMismatch => has(|proof| matches!(proof, Proof::Secret(_))),
            Reject::CredentialsMissing | Reject::CredentialsMismatch => has(|proof| matches!(proof, Proof::Basic(_))),
            Reject::DeliveryIdMissing
            | Reject::DuplicateDelivery
            | Reject::DeliveryInFlight
            | Reject::ReplayGuardFull => self.replay.is_some(),
            // Keys and JSON belong to several of them.
            Reject::KeysUnavailable => self.demands_proof(),
            Reject::BodyNotJson => self.demands_proof() || self.replay.is_some(),
            _ => true,
        }
    }

    /// Whether it demands a proof, and the request shows it. Reserves no delivery, so a copy counts as the first one does: this admits no
    /// request, it only speaks for its sender (see [`crate::suspicion`]).
    #[must_use]
    pub fn holds(&self, request: &RequestView<'_>, keys: &KeySets) -> bool {
        let mut evidence = Evidence::default();
        match &self.combination {
            Combination::CertificateAlone => false,
            Combination::All(clauses) => {
                clauses.iter().all(|clause| clause.check(request, keys, &mut evidence).is_ok())
            }
            Combination::Any(clauses) => any(clauses, |clause| clause.check(request, keys, &mut evidence)).is_ok(),
        }
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
                self.judge_further_signatures(request, keys, &mut evidence);
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

    /// What the weakest way to satisfy this policy ties to a request. Of proofs that must all hold the strongest counts, of alternatives
    /// the weakest.
    #[must_use]
    pub fn binding(&self) -> Binding {
        let binding = match &self.combination {
            Combination::CertificateAlone => None,
            Combination::All(clauses) => clauses.iter().map(Clause::binding).max(),
            Combination::Any(clauses) => clauses.iter().map(Clause::binding).min(),
        };
        binding.unwrap_or(Binding::None)
    }

    /// The sources of the keys that verify the tokens and signatures of this policy.
    pub fn key_sources(&self) -> impl Iterator<Item = KeySourceId> {
        self.proofs().filter_map(|proof| match proof {
            Proof::Token(rule) => Some(rule.source()),
            Proof::SessionParameter(parameter) => parameter.key_source(),
            Proof::Signature(signature) => signature.key_source(),
            Proof::Secret(_) | Proof::Basic(_) => None,
        })
    }

    /// Adds the signatures of the request that no clause needed, as the first of two alternatives held. A copy of the request could show
    /// only those.
    fn judge_further_signatures<'policy>(
        &'policy self,
        request: &RequestView<'_>,
        keys: &KeySets,
        evidence: &mut Evidence<'policy>,
    ) {
        for proof in self.proofs() {
            if let Proof::Signature(signature) = proof
                && !evidence.signatures.iter().flatten().any(|known| std::ptr::eq(*known, signature))
                && signature.check(request, keys).is_ok()
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

impl Clause {
    fn proofs(&self) -> &[Proof] {
        match self {
            Self::One(proof) => std::slice::from_ref(proof),
            Self::All(proofs) | Self::Any(proofs) => proofs,
        }
    }

    fn binding(&self) -> Binding {
        let binding = match self {
            Self::One(proof) => Some(proof.binding()),
            Self::All(proofs) => proofs.iter().map(Proof::binding).max(),
            Self::Any(proofs) => proofs.iter().map(Proof::binding).min(),
        };
        binding.unwrap_or(Binding::None)
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
    fn binding(&self) -> Binding {
        match self {
            Self::Token(_) => Binding::Token,
            Self::SessionParameter(parameter) if parameter.is_token() => Binding::Token,
            Self::SessionParameter(_) | Self::Secret(_) | Self::Basic(_) => Binding::Static,
            Self::Signature(_) => Binding::Body,
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
                signature.check(request, keys)?;
                evidence.add(signature);
                evidence.kinds.0 |= Kinds::SIGNATURE;
            }
            Self::Secret(secret) => {
                secret.check(request)?;
                evidence.kinds.0 |= Kinds::SECRET;
            }
            Self::Basic(credentials) => {
                credentials.check(request)?;
                evidence.kinds.0 |= Kinds::BASIC;
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
        Reject::TokenMissing
        | Reject::SignatureMissing
        | Reject::SessionParameterMissing
        | Reject::SecretMissing
        | Reject::CredentialsMissing => 0,
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
    const SECRET: u8 = 8;
    const BASIC: u8 = 16;

    /// In the order of the bits.
    const NAMES: [&'static str; 5] = ["token", "session-parameter", "signature", "secret", "basic"];
}

/// The labels of all sets of kinds, indexed by their bits, so that a header value needs no allocation.
static LABELS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let label = |bits: usize| {
        let shown = Kinds::NAMES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| *name);
        std::iter::once("certificate").chain(shown).collect::<Vec<_>>().join(", ")
    };
    (0..1 << Kinds::NAMES.len()).map(label).collect()
});

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

    /// What was proven, the value of `X-Hookgate-Proof`: `certificate`, then those of `token`, `session-parameter`, `signature`,
    /// `secret` and `basic` that were checked, separated by a comma and a space.
    #[must_use]
    pub fn labels(&self) -> &'static str {
        LABELS.get(usize::from(self.kinds.0)).map_or("certificate", String::as_str)
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

/// The value of `WWW-Authenticate` in the answer to this refusal (RFC 6750, section 3; RFC 7617, section 2.1); `None` if the status is
/// not 401.
#[must_use]
pub fn challenge(refusal: &Refusal) -> Option<String> {
    let row = refusal.reject.row();
    match refusal.reject {
        Reject::CredentialsMissing | Reject::CredentialsMismatch => {
            Some("Basic realm=\"hookgate\", charset=\"UTF-8\"".to_owned())
        }
        // RFC 6750, section 3.1: no error code if the request has no authentication information.
        Reject::TokenMissing => Some("Bearer realm=\"hookgate\"".to_owned()),
        _ if row.status == 401 => {
            Some(format!("Bearer realm=\"hookgate\", error=\"invalid_token\", error_description=\"{}\"", row.title))
        }
        // No scheme is registered for signatures; the answer must name one (RFC 9110, section 11.6.1).
        _ if refusal.status() == 401 => Some("Signature realm=\"hookgate\"".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
