//! The signature checks of one search: each is made once, and the search ends when too many fail.
//!
//! A search verifies one chain for every profile of a scope. webpki builds the paths. It tries every order of certificates whose names
//! fit, and verifies the same signatures again for each order and each profile. Here each answer is kept until the search ends.
//!
//! Owns the account of a search, its answers, and the algorithms that webpki gets; the bounds themselves are in `bounds`. Must not decide whether a chain is valid, nor word a
//! refusal.
//!
//! **Failed checks** are bounded by their cost. A check starts only while those that failed cost less than `FAILED_COST` of `bounds`. One check may be
//! more expensive than that, but only as expensive as a key that is a trust anchor, or that a trust anchor has certified: webpki verifies
//! from the anchor down, so it never uses a key that the sender made up. Such a check starts only if little failed before, and for no chain that
//! is much longer than those of authorities ([`Bounds::affords`]). A signature that is remembered is not checked, and costs nothing.
//!
//! **Good checks** need no bound. A good signature cannot be forged, and a certificate has one. So there is at most one for each
//! certificate, and for each list and key.
//!
//! **Genuine chains.** If several trust anchors have the same name, a genuine certificate may fail with the keys of the others. The bound
//! of such a policy is what all keys of one name cost. A check may also fail because the sender presents two generations of an issuer, or
//! an issuer with the name of its own issuer. If a certificate names the key of its issuer, a check with another key is *put off*: the
//! first builds make only those that no key identifier speaks against, and if they find no path, second ones make them all. They share the
//! bounds, and half of the steps is left for the second ones.
//!
//! **Steps.** webpki parses all candidates again for each certificate that it puts on a path. A chain without any signature to check can
//! cost more than one with many. So the elements that failed builds parse are bounded too.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm};

use super::bounds::Bounds;
use super::links::Hints;
use super::signature_memory::{SignatureMemory, address, digest, is_list};
use super::spelling::to_be_signed;
use crate::signatures::{CERTIFICATE_SIGNATURES, cost};

/// What one verdict took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Signatures that were verified, good or not. A remembered one is not verified again.
    pub signature_checks: usize,
    /// Those that failed.
    pub failed_checks: usize,
    /// About how many microseconds the failed ones took.
    pub failed_cost: u32,
    /// DER elements that path building parsed without finding a path.
    pub steps: usize,
    /// Of a refused chain: paths that could not be built.
    pub failed_builds: usize,
}

/// The checks of one search.
pub(super) struct Checks<'a> {
    chain: &'a [CertificateDer<'a>],
    /// The same certificates respelled, in the same order; none if webpki gets those that were presented.
    respelled: &'a [CertificateDer<'a>],
    of_issuers: &'a SignatureMemory,
    bounds: Bounds,
    /// What the reading of the chain costs.
    reading: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of every check so far. Bounded as the checks are.
    answers: Vec<Answer>,
    work: Work,
    exhausted: bool,
    /// The place of the first certificate whose signature failed in the current build.
    unsigned: Option<usize>,
    /// Whether the current build put off a check.
    put_off: bool,
    /// The checks that it put off.
    later: Vec<Question>,
    /// Whether the current build left out a check that was not affordable.
    left_out: bool,
    /// Most steps by the end of the current build.
    steps_end: usize,
}

impl State {
    /// Whether no path can be found any more: no check may start, and the end entity, which is the last of every path, has no good one.
    fn is_hopeless(&self, bounds: &Bounds) -> bool {
        let end_entity =
            |known: &Answer| known.outcome == Outcome::Good && known.question.signed == Signed::Certificate(0);
        self.work.failed_cost >= bounds.failed_cost && !self.answers.iter().any(end_entity)
    }

    fn answer(&self, signed: Signed, algorithm: usize, public_key: &[u8]) -> Option<Outcome> {
        let known = self.answers.iter().find(|known| known.question.is(signed, algorithm, public_key));
        known.map(|known| known.outcome)
    }

    fn keep(&mut self, signed: Option<Signed>, algorithm: usize, public_key: &[u8], outcome: Outcome) {
        let Some(signed) = signed else { return };
        self.answers.push(Answer { question: Question { signed, algorithm, public_key: public_key.into() }, outcome });
    }
}

/// What one check would answer. The signature is not part of it, since it belongs to what is signed.
struct Question {
    signed: Signed,
    algorithm: usize,
    public_key: Box<[u8]>,
}

impl Question {
    fn is(&self, signed: Signed, algorithm: usize, public_key: &[u8]) -> bool {
        self.signed == signed && self.algorithm == algorithm && *self.public_key == *public_key
    }
}

/// The result of one check.
struct Answer {
    question: Question,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    Bad,
    /// It was not made, because it was not affordable.
    LeftOut,
}

/// What a signature is on. Both live as long as the search, so that nothing else can take their place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signed {
    /// The certificate at this place of the chain.
    Certificate(usize),
    /// The revocation list at this address, of this length.
    List(usize, usize),
}

impl<'a> Checks<'a> {
    pub(super) fn new(
        chain: &'a [CertificateDer<'a>],
        respelled: &'a [CertificateDer<'a>],
        of_issuers: &'a SignatureMemory,
        bounds: Bounds,
        reading: u32,
    ) -> Self {
        Self { chain, respelled, of_issuers, bounds, reading, state: Mutex::default() }
    }

    /// The same, after an earlier search of the same chain took `spent`.
    pub(super) fn after(self, spent: Work) -> Self {
        self.state().work = spent;
        self
    }

    /// The algorithms for one build of a path, with the memory of the profile's revocation lists. With `hints`, the build puts off the
    /// checks that they speak against.
    pub(super) fn algorithms(
        &'a self,
        of_lists: Option<&'a SignatureMemory>,
        hints: Option<Hints<'a>>,
    ) -> Vec<Checked<'a>> {
        let mut state = self.state();
        (state.unsigned, state.put_off, state.left_out) = (None, false, false);
        state.later.clear();
        state.steps_end = if hints.is_some() { self.bounds.steps() / 2 } else { self.bounds.steps() };
        let checked = |algorithm| Checked { checks: self, algorithm, of_lists, hints };
        (0..CERTIFICATE_SIGNATURES.len()).map(checked).collect()
    }

    /// Whether the current build put off a check that a later one may make.
    pub(super) fn put_off(&self) -> bool {
        let state = self.state();
        state.put_off && !state.exhausted
    }

    /// Accounts for one more certificate on a path, for which candidates with so many elements are parsed.
    ///
    /// # Errors
    ///
    /// One that ends webpki's search, if the bounds are reached.
    pub(super) fn step(&self, elements: usize) -> Result<(), webpki::Error> {
        let mut state = self.state();
        state.exhausted |= state.is_hopeless(&self.bounds);
        if state.exhausted {
            return Err(webpki::Error::MaximumSignatureChecksExceeded);
        }
        if state.work.steps >= state.steps_end {
            // If this ends a build with hints, there are steps left for one without.
            state.put_off |= state.steps_end < self.bounds.steps();
            return Err(webpki::Error::MaximumPathBuildCallsExceeded);
        }
        state.work.steps += elements;
        Ok(())
    }

    /// The steps so far, for [`Checks::forget_steps`].
    pub(super) fn steps(&self) -> usize {
        self.state().work.steps
    }

    /// Takes back the steps of a build that found a path.
    pub(super) fn forget_steps(&self, before: usize) {
        self.state().work.steps = before;
    }

    /// Whether the search ended because too many checks failed.
    pub(super) fn exhausted(&self) -> bool {
        self.state().exhausted
    }

    /// Whether the current build left out a check that was not affordable.
    pub(super) fn left_out(&self) -> bool {
        self.state().left_out
    }

    /// The place of the first certificate whose signature failed in the current build.
    pub(super) fn unsigned(&self) -> Option<usize> {
        self.state().unsigned
    }

    /// The place of the first certificate whose signature failed in the search.
    pub(super) fn first_unsigned(&self) -> Option<usize> {
        self.state().answers.iter().find_map(|answer| match answer.question.signed {
            Signed::Certificate(place) if answer.outcome == Outcome::Bad => Some(place),
            _ => None,
        })
    }

    /// Whether the signature of a certificate verified with one of these keys.
    pub(super) fn verified_with_any<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> bool {
        let state = self.state();
        let of_certificates = |answer: &&Answer| {
            answer.outcome == Outcome::Good && matches!(answer.question.signed, Signed::Certificate(_))
        };
        let good: Vec<&Answer> = state.answers.iter().filter(of_certificates).collect();
        // Most chains that fail have no good answer, so that the keys are not looked at.
        !good.is_empty() && keys.into_iter().any(|key| good.iter().any(|answer| *answer.question.public_key == *key))
    }

    /// What was done so far.
    pub(super) fn work(&self) -> Work {
        self.state().work
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A search runs on one thread. webpki demands `Sync` of its algorithms.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is signed: webpki passes the signed part where it lies. `None` for what is neither in the chain nor a list.
    ///
    /// Also returns the signed part: of a respelled certificate, that of the presented one.
    fn signed<'m>(&'m self, message: &'m [u8]) -> (Option<Signed>, &'m [u8]) {
        if let Some(place) = place_in(self.chain, message) {
            return (Some(Signed::Certificate(place)), message);
        }
        if let Some(place) = place_in(self.respelled, message) {
            return (Some(Signed::Certificate(place)), to_be_signed(&self.chain[place]).unwrap_or_default());
        }
        (is_list(message).then(|| Signed::List(message.as_ptr().addr(), message.len())), message)
    }

    /// The place of the certificate in which this part lies.
    fn place_of(&self, part: &[u8]) -> Option<usize> {
        place_in(self.chain, part).or_else(|| place_in(self.respelled, part))
    }
}

fn place_in(chain: &[CertificateDer<'_>], part: &[u8]) -> Option<usize> {
    let lies = part.as_ptr_range();
    chain.iter().position(|certificate| {
        let certificate = certificate.as_ref().as_ptr_range();
        certificate.start <= lies.start && lies.end <= certificate.end
    })
}

/// One of the algorithms, during one build.
pub(super) struct Checked<'a> {
    checks: &'a Checks<'a>,
    /// The place in [`CERTIFICATE_SIGNATURES`].
    algorithm: usize,
    of_lists: Option<&'a SignatureMemory>,
    hints: Option<Hints<'a>>,
}

impl Checked<'_> {
    /// Whether this build leaves the check to the next one.
    fn puts_off(&self, state: &mut State, signed: Option<Signed>, public_key: &[u8]) -> bool {
        let (Some(hints), Some(signed @ Signed::Certificate(place))) = (&self.hints, signed) else { return false };
        if state.later.iter().any(|known| known.is(signed, self.algorithm, public_key)) {
            return true;
        }
        let puts_off = hints.name_another(place, self.checks.place_of(public_key), public_key);
        if puts_off {
            state.later.push(Question { signed, algorithm: self.algorithm, public_key: public_key.into() });
        }
        puts_off
    }

    fn algorithm(&self) -> &'static dyn SignatureVerificationAlgorithm {
        CERTIFICATE_SIGNATURES[self.algorithm]
    }

    /// Checks a signature that this search has not checked yet. `None` if no further check may start.
    fn check(&self, state: &mut State, signed: Option<Signed>, parts: Parts<'_>) -> Option<Outcome> {
        let Parts { public_key, message, signature } = parts;
        let algorithm = self.algorithm();
        let memory = match signed {
            // An end entity is not remembered beyond the search.
            None | Some(Signed::Certificate(0)) => None,
            Some(Signed::Certificate(_)) => {
                Some(Memory::OfIssuers(self.checks.of_issuers, digest(algorithm, public_key, message, signature)))
            }
            // A list remembers its signer itself.
            Some(Signed::List(..)) => {
                let list = address(message);
                self.of_lists.map(|lists| Memory::FailedLists(lists, digest(algorithm, public_key, &list, signature)))
            }
        };
        if let Some(known) = memory.as_ref().and_then(Memory::outcome) {
            return Some(if known { Outcome::Good } else { Outcome::Bad });
        }
        if state.work.failed_cost >= self.checks.bounds.failed_cost {
            state.exhausted = true;
            return None;
        }
        let cost = cost(algorithm, public_key, message);
        let is_list = matches!(signed, Some(Signed::List(..)));
        if !is_list && !self.checks.bounds.affords(cost, state.work.failed_cost, self.checks.reading) {
            return Some(Outcome::LeftOut);
        }
        state.work.signature_checks += 1;
        let good = algorithm.verify_signature(public_key, message, signature).is_ok();
        if !good {
            state.work.failed_checks += 1;
            state.work.failed_cost = state.work.failed_cost.saturating_add(cost);
        }
        if let Some(memory) = memory {
            memory.remember(good);
        }
        Some(if good { Outcome::Good } else { Outcome::Bad })
    }
}

/// Where the outcome of a check is remembered beyond the search, and under what.
enum Memory<'a> {
    /// The good ones of issuers.
    OfIssuers(&'a SignatureMemory, [u8; 32]),
    /// The failed ones of lists.
    FailedLists(&'a SignatureMemory, [u8; 32]),
}

impl Memory<'_> {
    fn outcome(&self) -> Option<bool> {
        match self {
            Self::OfIssuers(memory, digest) => memory.is_known(digest).then_some(true),
            Self::FailedLists(memory, digest) => memory.is_known(digest).then_some(false),
        }
    }

    fn remember(self, is_good: bool) {
        match self {
            Self::OfIssuers(memory, digest) if is_good => memory.remember(digest),
            Self::FailedLists(memory, digest) if !is_good => memory.remember(digest),
            Self::OfIssuers(..) | Self::FailedLists(..) => {}
        }
    }
}

/// The arguments of one check.
#[derive(Clone, Copy)]
struct Parts<'a> {
    public_key: &'a [u8],
    message: &'a [u8],
    signature: &'a [u8],
}

impl SignatureVerificationAlgorithm for Checked<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let (signed, message) = self.checks.signed(message);
        let mut state = self.checks.state();
        let known = signed.and_then(|signed| state.answer(signed, self.algorithm, public_key));
        let outcome = match known {
            Some(outcome) => outcome,
            None if self.puts_off(&mut state, signed, public_key) => {
                state.put_off = true;
                return Err(InvalidSignature);
            }
            None => {
                let parts = Parts { public_key, message, signature };
                let outcome = self.check(&mut state, signed, parts).ok_or(InvalidSignature)?;
                state.keep(signed, self.algorithm, public_key, outcome);
                outcome
            }
        };
        match (outcome, signed) {
            (Outcome::Good, _) => return Ok(()),
            (Outcome::LeftOut, _) => state.left_out = true,
            (Outcome::Bad, Some(Signed::Certificate(place))) => {
                state.unsigned.get_or_insert(place);
            }
            (Outcome::Bad, _) => {}
        }
        Err(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm().public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm().signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm().fips()
    }
}

impl fmt::Debug for Checked<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Checked").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}
