//! The revocation lists that chains lacked: what workers note, and the control thread fetches.
//!
//! Owns the bound on their number. Must not fetch, nor decide which chains count: `identity` says what is missing, and only of a chain that
//! leads to a trust anchor and matches an identity rule. A note admits nobody.

use std::sync::{Arc, Mutex, PoisonError};

use hookgate_core::identity::{MissingList, MissingLists, Provider};

/// Most notes that wait for the control thread, which takes them four times a second. One that finds no place comes again with the next
/// chain.
const MAXIMUM: usize = 64;

/// What one chain lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The name of the provider that the chain claims.
    pub provider: Arc<str>,
    /// The name of the profile.
    pub profile: Arc<str>,
    /// One for each certificate without a list.
    pub lists: Vec<MissingList>,
}

/// The notes of all workers.
#[derive(Debug, Default)]
pub struct ListNotes(Mutex<Vec<Note>>);

impl ListNotes {
    /// Notes what a refused chain of `provider` lacked. Takes a lock for one look-up.
    pub fn note(&self, provider: &Provider, missing: &MissingLists) {
        let Some(profile) = provider.profiles.get(usize::from(missing.profile)) else { return };
        let (profile, lists) = (Arc::clone(&profile.name), missing.lists.clone());
        let note = Note { provider: Arc::clone(&provider.name), profile, lists };
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MAXIMUM && !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookgate_core::identity::{ClientCertificate, ExtendedKeyUsage, OnFailure, Profile, ProviderId, RefusalAnswer};

    #[test]
    fn notes_are_bounded_and_each_is_there_once() {
        let profile = |number: usize| Profile {
            name: format!("profile-{number}").into(),
            trust_anchors: Default::default(),
            overlap_ends: None,
            verify_depth: 1,
            identity: Vec::new(),
            extended_key_usage: ExtendedKeyUsage::ClientAuth,
            revocation: None,
        };
        let provider = Provider {
            name: "sender".into(),
            profiles: (0..200).map(profile).collect(),
            on_failure: OnFailure::Respond,
            refusal: RefusalAnswer::Deny,
            client_certificate: ClientCertificate::Required,
        };
        let missing = |profile| MissingLists { provider: ProviderId(0), profile, lists: Vec::new() };
        let notes = ListNotes::default();
        for _ in 0..3 {
            (0..300).for_each(|profile| notes.note(&provider, &missing(profile)));
        }
        let taken = notes.take();
        assert_eq!((taken.len(), &*taken[7].profile), (MAXIMUM, "profile-7"));
        assert!(notes.take().is_empty());
    }
}
