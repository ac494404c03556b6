//! Refused chains for which evidence was found: what an operator may want to trust.
//!
//! Workers note them, and the control thread publishes and keeps them. Owns the bound on their number, and which of them keep a place. Must not
//! trust any: a chain leaves the list when the configuration admits it, and only the operator changes that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookgate_core::identity::{Claim, Provider, Suspect};
use hookgate_core::suspicion::EvidenceKind;
use ring::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Most chains of one provider: its regions and two generations of its certificates.
pub const MAXIMUM_OF_PROVIDER: usize = 4;

/// Most chains of all providers. Each is at most `max_presented_bytes` (and a root) long.
pub const MAXIMUM: usize = 64;

/// How long a chain keeps its place without being seen, in seconds, if one with evidence of the same worth needs it. So what one provider can
/// cause is bounded too: twice [`MAXIMUM_OF_PROVIDER`] log lines and files in an hour, once for each worth.
const KEPT_SECONDS: u64 = 3600;

/// One refused chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The name of the provider that it claims.
    pub provider: Arc<str>,
    /// The name of the profile for which its path failed.
    pub profile: Arc<str>,
    /// The reason of its refusal.
    pub reason: Arc<str>,
    /// The kind of the best evidence that was found.
    pub evidence: Arc<str>,
    /// In seconds since 1970.
    pub first_seen: u64,
    /// In seconds since 1970.
    pub last_seen: u64,
    /// SHA-256 of the end entity.
    pub fingerprint: [u8; 32],
    /// As presented, end entity first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The public root of the host to which the chain verifies, if one vouches for it.
    pub public_root: Option<CertificateDer<'static>>,
}

/// The refused chains of this process.
#[derive(Debug, Default)]
pub struct Suspects {
    chains: Mutex<Vec<Pending>>,
    changed: AtomicBool,
}

impl Suspects {
    /// A chain that claims `provider` was refused at `now`, and there is evidence of this kind. Does nothing if there is no place for it. Takes a lock for one look-up; no impostor without evidence gets here.
    pub fn note(&self, provider: &Provider, suspect: &Suspect, claim: &Claim, evidence: EvidenceKind, now: UnixTime) {
        let Some(end_entity) = suspect.certificates().first() else { return };
        let fingerprint = sha256(end_entity);
        let now = now.as_secs();
        let mut chains = self.lock();
        let known = |chain: &&mut Pending| chain.fingerprint == fingerprint && chain.provider == provider.name;
        if let Some(known) = chains.iter_mut().find(known) {
            known.last_seen = now;
            if worth(evidence.label()) > worth(&known.evidence) {
                known.evidence = evidence.label().into();
                self.changed.store(true, Ordering::Release);
            }
            return;
        }
        if !make_room(&mut chains, &provider.name, worth(evidence.label()), now) {
            return;
        }
        let profile = provider.profiles.get(usize::from(claim.profile()));
        chains.push(Pending {
            provider: Arc::clone(&provider.name),
            profile: profile.map_or_else(|| Arc::from(""), |profile| Arc::clone(&profile.name)),
            reason: claim.reject().row().reason.into(),
            evidence: evidence.label().into(),
            first_seen: now,
            last_seen: now,
            fingerprint,
            certificates: suspect.certificates().to_vec(),
            public_root: suspect.public_root().filter(|_| claim.is_vouched()).cloned(),
        });
        drop(chains);
        self.changed.store(true, Ordering::Release);
    }

    /// Adds what an earlier process kept, as far as there is room.
    pub fn restore(&self, kept: impl IntoIterator<Item = Pending>) {
        let mut chains = self.lock();
        for chain in kept {
            if make_room(&mut chains, &chain.provider, worth(&chain.evidence), 0) {
                chains.push(chain);
            }
        }
    }

    /// Whether a chain was added, or got better evidence, since the last call.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Acquire)
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Pending> {
        self.lock().clone()
    }

    /// Removes those that `keep` does not want, and returns them.
    pub fn retain(&self, mut keep: impl FnMut(&Pending) -> bool) -> Vec<Pending> {
        let mut chains = self.lock();
        let (kept, gone) = std::mem::take(&mut *chains).into_iter().partition(|chain| keep(chain));
        *chains = kept;
        gone
    }

    /// Asks `judge` for the profile and the reason that each of them has now. Removes those without, and returns these.
    pub fn review(&self, mut judge: impl FnMut(&Pending) -> Option<(Arc<str>, Arc<str>)>) -> Vec<Pending> {
        let mut gone = Vec::new();
        let mut chains = self.lock();
        for mut chain in std::mem::take(&mut *chains) {
            let Some((profile, reason)) = judge(&chain) else {
                gone.push(chain);
                continue;
            };
            if (&profile, &reason) != (&chain.profile, &chain.reason) {
                self.changed.store(true, Ordering::Release);
            }
            (chain.profile, chain.reason) = (profile, reason);
            chains.push(chain);
        }
        gone
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pending>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What evidence is worth when there are fewer places than chains. Anyone can rent an address in the range of a cloud; a proof takes the secret
/// or a request of the sender, and a public root the sender's domain.
fn worth(evidence: &str) -> u8 {
    u8::from(evidence != EvidenceKind::SourceRange.label())
}

/// Whether there is room for a chain of `provider` with evidence of this worth, after another one has left if it must: one with evidence that
/// is worth less, otherwise the one that was not seen for longest, if that is long enough. If there are too many in all, a chain of the
/// provider with the most leaves, so that no provider takes the places of the others.
fn make_room(chains: &mut Vec<Pending>, provider: &str, worth_of_new: u8, now: u64) -> bool {
    let of = |name: &str| chains.iter().filter(|chain| *chain.provider == *name).count();
    let of_provider = of(provider);
    if of_provider < MAXIMUM_OF_PROVIDER && chains.len() < MAXIMUM {
        return true;
    }
    let must_be_its = of_provider >= MAXIMUM_OF_PROVIDER;
    let rank = |chain: &Pending| {
        let is_older = chain.last_seen.saturating_add(KEPT_SECONDS) < now;
        let is_of_many = of(&chain.provider) > of_provider.saturating_add(1);
        let gives_way = is_older || worth(&chain.evidence) < worth_of_new || is_of_many;
        gives_way.then(|| (worth(&chain.evidence), std::cmp::Reverse(of(&chain.provider)), chain.last_seen))
    };
    let candidates = (0..).zip(&*chains).filter(|(_, chain)| !must_be_its || *chain.provider == *provider);
    let ranked = candidates.filter_map(|(place, chain)| Some((rank(chain)?, place)));
    let Some((_, place)) = ranked.min() else { return false };
    chains.remove(place);
    true
}

/// The fingerprint of a certificate, as the pages of authorities show it.
pub fn sha256(certificate: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest(&SHA256, certificate).as_ref());
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(provider: &str, number: u8, last_seen: u64) -> Pending {
        let (reason, evidence) = (Arc::from("unknown_issuer"), Arc::from("proof"));
        let (first_seen, fingerprint, certificates) = (last_seen, [number; 32], Vec::new());
        let (provider, profile) = (provider.into(), Arc::from("default"));
        Pending {
            provider,
            profile,
            reason,
            evidence,
            first_seen,
            last_seen,
            fingerprint,
            certificates,
            public_root: None,
        }
    }

    fn left(chains: &[Pending]) -> Vec<u8> {
        chains.iter().map(|chain| chain.fingerprint[0]).collect()
    }

    #[test]
    fn a_provider_has_a_few_places_and_the_longest_unseen_chain_leaves_after_an_hour() {
        let mut chains: Vec<_> = (0..4).map(|number| chain("a", number, 1000 + u64::from(number))).collect();
        assert!(!make_room(&mut chains, "a", 1, 1000 + KEPT_SECONDS));
        assert!(make_room(&mut chains, "b", 1, 1000), "another provider has its own");
        assert!(make_room(&mut chains, "a", 1, 1001 + KEPT_SECONDS));
        assert_eq!(left(&chains), [1, 2, 3]);
    }

    #[test]
    fn evidence_that_is_worth_more_takes_the_place_of_what_is_worth_less() {
        let by_address = |number| Pending { evidence: "source_range".into(), ..chain("a", number, 1000) };
        let mut chains: Vec<_> = (0..4).map(by_address).collect();
        assert!(!make_room(&mut chains, "a", worth("source_range"), 1000));
        assert!(make_room(&mut chains, "a", worth("proof"), 1000));
        chains.push(chain("a", 4, 1000));
        assert_eq!(left(&chains), [1, 2, 3, 4]);
        assert!(!make_room(&mut chains, "a", worth("source_range"), 1000), "an address drives no proof out");
        // Nor does it after an hour, as long as there is another of no more worth.
        assert!(make_room(&mut chains, "a", worth("source_range"), 1001 + KEPT_SECONDS));
        assert_eq!(left(&chains), [2, 3, 4]);
        assert!(worth("public_root") == worth("proof") && worth("proof") > worth("source_range"));
    }

    #[test]
    fn providers_with_many_chains_leave_room_for_the_others() {
        let mut chains: Vec<_> = (0..64).map(|number| chain(&format!("p{}", number / 4), number, 1000)).collect();
        assert!(make_room(&mut chains, "other", 1, 1000), "sixteen providers have taken all places");
        chains.push(chain("other", 100, 1000));
        assert_eq!((chains.len(), chains.iter().any(|chain| chain.fingerprint[0] == 0)), (64, false));
        // The second place of a provider counts no more than the second of another one, and the fourth no less.
        let mut equal: Vec<_> = (0..64).map(|number| chain(&format!("p{number}"), number, 1000)).collect();
        assert!(!make_room(&mut equal, "p1", 1, 1000) && !make_room(&mut equal, "other", 1, 1000));
    }

    #[test]
    fn all_providers_together_have_a_bound() {
        let suspects = Suspects::default();
        suspects.restore((0..200).map(|number| chain(&format!("provider-{number}"), number, 1000)));
        assert_eq!(suspects.all().len(), MAXIMUM);
        let gone = suspects.retain(|chain| *chain.provider == *"provider-7");
        assert_eq!((suspects.all().len(), gone.len()), (1, MAXIMUM - 1));
    }
}
