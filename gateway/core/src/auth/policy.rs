//! What a request must prove, and that it did.
//!
//! Owns the combination of proofs (`all`, `any`), what is told when none holds, and [`Proven`]. What each proof demands is in
//! `token`, `session` and `signature`; whether a delivery is new, in `replay`.

use std::sync::Arc;

use http::StatusCode;

use super::keys::{KeySets, KeySourceId};
use super::replay::{ReplayGuard, ReplayRule, Reservation};
use super::request::RequestView;
use super::session::SessionParameter;
use super::signature::BodySignature;
use super::token::{TokenClaims, TokenRule};
use crate::reject::{Refusal, Reject};

/// Most proofs of one policy, nested ones included: each may cost a hash over the body.
const MAX_PROOFS: usize = 8;

/// One proof.
#[derive(Debug)]
pub enum Proof {
    /// A bearer token.
    Token(TokenRule),
    /// A session parameter in the body.
    SessionParameter(SessionParameter),
    /// A signature over the body.
    Signature(BodySignature),
}

/// A proof, or a group of them within a policy.
#[derive(Debug)]
pub enum Clause {
    /// This proof.
    One(Proof),
    /// Every one of these.
    All(Vec<Proof>),
    /// Any of these.
    Any(Vec<Proof>),
}

/// What a request must prove, for one provider or route.
#[derive(Debug)]
pub struct ProofPolicy {
    demand: Demand,
    replay: Option<ReplayRule>,
}

#[derive(Debug)]
enum Demand {
    Nothing,
    All(Box<[Clause]>),
    Any(Box<[Clause]>),
}

/// Why proofs make no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// An empty list would admit everybody or nobody, and which is not obvious.
    #[error("a list of proofs is empty; name a proof, or leave the list out if the certificate alone suffices")]
    Empty,
    /// Too many.
    #[error("{count} proofs; at most {MAX_PROOFS} are checked")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Deliveries identified by what is signed, and requests that need not be signed.
    #[error("deliveries are identified by their signed bytes, so a body signature must be among `all` proofs")]
    NotAlwaysSigned,
    /// A delivery could be replayed when it is forgotten, while its timestamp is still good.
    #[error("a window of {window} s is shorter than twice the tolerance of the signed timestamp ({tolerance} s)")]
    WindowTooShort {
        /// The window, in seconds.
        window: u64,
        /// The tolerance, in seconds.
        tolerance: u64,
    },
}

/// Why a request was not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The refusal.
    pub refusal: Refusal,
    /// A token named a key that this source did not have when its keys were published. Keys fetched anew may have it; the
    /// request may then be checked again, once.
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
    /// The certificate alone suffices.
    #[must_use]
    pub fn certificate_alone() -> Self {
        Self { demand: Demand::Nothing, replay: None }
    }

    /// Every clause must hold.
    ///
    /// # Errors
    ///
    /// Where a list is empty or there are more than 8 proofs.
    pub fn all(clauses: Vec<Clause>) -> Result<Self, PolicyError> {
        count(&clauses)?;
        Ok(Self { demand: Demand::All(clauses.into()), replay: None })
    }

    /// Any clause must hold.
    ///
    /// # Errors
    ///
    /// As [`ProofPolicy::all`].
    pub fn any(clauses: Vec<Clause>) -> Result<Self, PolicyError> {
        count(&clauses)?;
        Ok(Self { demand: Demand::Any(clauses.into()), replay: None })
    }

    /// The same, and no delivery twice.
    ///
    /// # Errors
    ///
    /// Where deliveries are identified by what is signed and a request may pass unsigned, or are forgotten while their signed
    /// timestamp is still good.
    pub fn with_replay(mut self, rule: ReplayRule) -> Result<Self, PolicyError> {
        if rule.needs_signature() && !self.always_signed() {
            return Err(PolicyError::NotAlwaysSigned);
        }
        let tolerance = self.proofs().filter_map(|proof| match proof {
            Proof::Signature(signature) => signature.tolerance_seconds(),
            Proof::Token(_) | Proof::SessionParameter(_) => None,
        });
        // A timestamp may be `tolerance` ahead at the first copy and behind by as much at the last.
        if let Some(tolerance) = tolerance.max()
            && rule.window_seconds() < tolerance.saturating_mul(2)
        {
            return Err(PolicyError::WindowTooShort { window: rule.window_seconds(), tolerance });
        }
        self.replay = Some(rule);
        Ok(self)
    }

    /// What to answer to a `duplicate_delivery`, in place of that reason's own status.
    #[must_use]
    pub fn duplicate_answer(&self) -> Option<StatusCode> {
        self.replay.as_ref().map(ReplayRule::duplicate_answer)
    }

    /// Judges a request. Replay comes last: a request that proves nothing is not remembered.
    ///
    /// # Errors
    ///
    /// The reason for which no alternative holds. Of several, one that keys may cure comes first, then one for a proof that was
    /// attempted, then one for a proof that is missing.
    pub fn check(
        &self,
        request: &RequestView<'_>,
        keys: &KeySets,
        guard: &Arc<ReplayGuard>,
    ) -> Result<Proven, Unproven> {
        let mut evidence = Evidence::default();
        match &self.demand {
            Demand::Nothing => {}
            Demand::All(clauses) => {
                for clause in clauses {
                    clause.check(request, keys, &mut evidence)?;
                }
            }
            Demand::Any(clauses) => {
                any(clauses, |clause| clause.check(request, keys, &mut evidence))?;
            }
        }
        let reservation = match &self.replay {
            Some(rule) => Some(rule.reserve(request, evidence.signature, guard)?),
            None => None,
        };
        Ok(Proven { kinds: evidence.kinds, claims: evidence.claims, reservation })
    }

    /// The sources whose keys this policy needs.
    pub fn key_sources(&self) -> impl Iterator<Item = KeySourceId> {
        self.proofs().filter_map(|proof| match proof {
            Proof::Token(rule) => Some(rule.source()),
            Proof::SessionParameter(parameter) => parameter.key_source(),
            Proof::Signature(_) => None,
        })
    }

    fn proofs(&self) -> impl Iterator<Item = &Proof> {
        let clauses = match &self.demand {
            Demand::Nothing => &[][..],
            Demand::All(clauses) | Demand::Any(clauses) => clauses,
        };
        clauses.iter().flat_map(Clause::proofs)
    }

    /// Whether nothing passes without a body signature.
    fn always_signed(&self) -> bool {
        let signature = |proof: &Proof| matches!(proof, Proof::Signature(_));
        let Demand::All(clauses) = &self.demand else { return false };
        clauses.iter().any(|clause| match clause {
            Clause::One(proof) => signature(proof),
            Clause::All(proofs) => proofs.iter().any(signature),
            Clause::Any(proofs) => proofs.iter().all(signature),
        })
    }
}

fn count(clauses: &[Clause]) -> Result<(), PolicyError> {
    if clauses.is_empty() || clauses.iter().any(|clause| clause.proofs().is_empty()) {
        return Err(PolicyError::Empty);
    }
    match clauses.iter().map(|clause| clause.proofs().len()).sum() {
        0..=MAX_PROOFS => Ok(()),
        count => Err(PolicyError::TooMany { count }),
    }
}

impl Clause {
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
                evidence.signature = Some(signature);
                evidence.kinds.0 |= Kinds::SIGNATURE;
            }
        }
        Ok(())
    }
}

/// The first of `alternatives` that holds, or the most telling of the failures.
fn any<'policy, T>(
    alternatives: &'policy [T],
    mut check: impl FnMut(&'policy T) -> Result<(), Unproven>,
) -> Result<(), Unproven> {
    let mut telling: Option<Unproven> = None;
    for alternative in alternatives {
        let Err(unproven) = check(alternative) else { return Ok(()) };
        if telling.as_ref().is_none_or(|best| rank(&unproven) > rank(best)) {
            telling = Some(unproven);
        }
    }
    // The constructors refuse an empty list; were there one, nobody would pass.
    Err(telling.unwrap_or_else(|| Refusal::new(Reject::Internal, "a list of proofs is empty").into()))
}

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
    signature: Option<&'policy BodySignature>,
}

/// Which kinds of proof were shown, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    const TOKEN: u8 = 1;
    const SESSION_PARAMETER: u8 = 2;
    const SIGNATURE: u8 = 4;

    /// By the bits, so that a header value is at hand without allocating.
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

/// The proof that a request showed what the policy demands; only [`ProofPolicy::check`] makes one.
#[derive(Debug)]
pub struct Proven {
    kinds: Kinds,
    claims: Option<TokenClaims>,
    reservation: Option<Reservation>,
}

impl Proven {
    /// What was proven: `certificate`, and of `token`, `session-parameter` and `signature` those that were checked, separated by a
    /// comma and a space. The value of `X-Hookgate-Proof`.
    #[must_use]
    pub fn labels(&self) -> &'static str {
        Kinds::LABELS[usize::from(self.kinds.0) % Kinds::LABELS.len()]
    }

    /// What the bearer token proved, if there was one to prove.
    #[must_use]
    pub fn claims(&self) -> Option<&TokenClaims> {
        self.claims.as_ref()
    }

    /// The delivery's reservation, where the policy guards from replay: [`Reservation::commit`] it once the handler has answered
    /// with less than 500, and drop it where the handler failed.
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }
}

/// The value of `WWW-Authenticate` that an answer of this reason must carry (RFC 6750, section 3); `None` for reasons that are
/// not about a bearer token.
#[must_use]
pub fn challenge(reject: Reject) -> Option<String> {
    let row = reject.row();
    match reject {
        // RFC 6750, section 3.1: no error code where the request shows no authentication at all.
        Reject::TokenMissing => Some("Bearer realm=\"hookgate\"".to_owned()),
        _ if row.status == 401 => {
            Some(format!("Bearer realm=\"hookgate\", error=\"invalid_token\", error_description=\"{}\"", row.title))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
