//! Refused chains for which evidence was found: what an operator may want to trust.
//!
//! Workers note them, and the control thread publishes and keeps them. Owns the bound on their number. Must not trust any: a chain leaves
//! the list when the configuration admits it, and only the operator changes that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookgate_core::identity::{Provider, Suspect};
use hookgate_core::suspicion::EvidenceKind;
use ring::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Most chains of one provider: its regions and two generations of its certificates.
pub const MAXIMUM_OF_PROVIDER: usize = 4;

/// Most chains of all providers. Each is at most `max_presented_bytes` (and a root) long.
pub const MAXIMUM: usize = 64;

/// How long a chain keeps its place without being seen, in seconds, if another one needs it. So what one provider can cause is bounded too:
/// [`MAXIMUM_OF_PROVIDER`] log lines and files in an hour.
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
    /// The kind of the evidence that was found first.
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
    /// A chain of `provider` was refused at `now`, and there is evidence of this kind for its claim. Does nothing if there is no place for
    /// it. Takes a lock for one look-up; no impostor without evidence gets here.
    pub fn note(&self, provider: &Provider, suspect: &Suspect, evidence: EvidenceKind, now: UnixTime) {
        let Some(end_entity) = suspect.certificates().first() else { return };
        let fingerprint = sha256(end_entity);
        let now = now.as_secs();
        let mut chains = self.lock();
        let known = |chain: &&mut Pending| chain.fingerprint == fingerprint && chain.provider == provider.name;
        if let Some(known) = chains.iter_mut().find(known) {
            known.last_seen = now;
            return;
        }
        if !make_room(&mut chains, &provider.name, now) {
            return;
        }
        let profile = provider.profiles.get(usize::from(suspect.profile()));
        chains.push(Pending {
            provider: Arc::clone(&provider.name),
            profile: profile.map_or_else(|| Arc::from(""), |profile| Arc::clone(&profile.name)),
            reason: suspect.reject().row().reason.into(),
            evidence: evidence.label().into(),
            first_seen: now,
            last_seen: now,
            fingerprint,
            certificates: suspect.certificates().to_vec(),
            public_root: suspect.public_root().cloned(),
        });
        drop(chains);
        self.changed.store(true, Ordering::Release);
    }

    /// Adds what an earlier process kept, as far as there is room.
    pub fn restore(&self, kept: impl IntoIterator<Item = Pending>) {
        let mut chains = self.lock();
        for chain in kept {
            if make_room(&mut chains, &chain.provider, 0) {
                chains.push(chain);
            }
        }
    }

    /// Whether a chain was added since the last call.
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

/// Whether there is room for a chain of `provider`, after the one that was not seen for longest has left if it must.
fn make_room(chains: &mut Vec<Pending>, provider: &str, now: u64) -> bool {
    let of_provider = chains.iter().filter(|chain| *chain.provider == *provider).count();
    if of_provider < MAXIMUM_OF_PROVIDER && chains.len() < MAXIMUM {
        return true;
    }
    let must_be_its = of_provider >= MAXIMUM_OF_PROVIDER;
    let candidates = (0..).zip(&*chains).filter(|(_, chain)| !must_be_its || *chain.provider == *provider);
    let Some((place, oldest)) = candidates.min_by_key(|(_, chain)| chain.last_seen) else { return false };
    let is_old = oldest.last_seen.saturating_add(KEPT_SECONDS) < now;
    if is_old {
        chains.remove(place);
    }
    is_old
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

    #[test]
    fn a_provider_has_a_few_places_and_the_longest_unseen_chain_leaves_after_an_hour() {
        let mut chains: Vec<_> = (0..4).map(|number| chain("a", number, 1000 + u64::from(number))).collect();
        assert!(!make_room(&mut chains, "a", 1000 + KEPT_SECONDS));
        assert!(make_room(&mut chains, "b", 1000), "another provider has its own");
        assert!(make_room(&mut chains, "a", 1001 + KEPT_SECONDS));
        let left: Vec<u8> = chains.iter().map(|chain| chain.fingerprint[0]).collect();
        assert_eq!(left, [1, 2, 3]);
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
