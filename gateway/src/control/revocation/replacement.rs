//! Which list may take the place of one of another issuer, and which URLs serve lists that no chain needs.
//!
//! Owns the rule for a URL that serves the list of another issuer than before, and the line about URLs that serve the wrong one. Must not
//! judge signatures or ages: `published` does, before this is asked.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::{Known, Names, ProfileLists, Revocation};
use crate::config::{Feed, day_of};
use crate::control::published::{Content, Source};
use crate::missing_lists::Note;
use hookgate_core::identity::{ListSigner, RevocationList};

/// For how long the list in use counts as needed after a chain needed it, in seconds: a day. Senders send more often, and the chain cache
/// hides a use for an hour at most.
const NEEDED_SECONDS: u64 = 24 * 3600;

/// Most lines about URLs that serve no needed list, from one load of the configuration to the next.
const MAXIMUM_TOLD: usize = 64;

/// A profile, the issuer whose list it lacks, and what its URLs serve.
pub(super) type Unserved = (Names, String, String);

impl Revocation {
    /// Checks that `next`, which `source` serves, may take the place of the copy in use. It may not if that is a good list of another issuer
    /// which a profile has from nowhere else, unless chains lack a list of the new issuer and have not needed the old one for a day.
    ///
    /// # Errors
    ///
    /// Why the copy in use stays.
    pub(in crate::control) fn check_replacement(
        &self,
        known: Known<'_>,
        source: &Source,
        next: &Content,
        now: UnixTime,
    ) -> Result<(), String> {
        let (Source::List(feed), Content::List(next)) = (source, next) else { return Ok(()) };
        let Some(before) = list_of(feed, known) else { return Ok(()) };
        let is_good = before.signer().is_some() && now < before.next_update();
        if before.has_issuer_of(next) || !is_good {
            return Ok(());
        }
        let is_idle = before.last_used().saturating_add(NEEDED_SECONDS) < now.as_secs();
        // Profiles of one provider share its URLs, and a chain lacks a list as one of them.
        let users = || self.profiles.iter().filter(|profile| self.feeds(profile).contains(feed));
        let is_lacked =
            || users().any(|profile| self.learned.signers(&profile.names).any(|signer| signed(next, signer)));
        if is_idle && is_lacked() {
            return Ok(());
        }
        for profile in users() {
            let feeds = self.feeds(profile);
            let stays_covered = || {
                let others = feeds.iter().filter(|other| *other != feed).filter_map(|other| list_of(other, known));
                let mut all = profile.files.iter().cloned().chain(others);
                all.any(|other| now < other.next_update() && other.covers_those_of(&before))
            };
            if !stays_covered() {
                let (provider, ends) = (&profile.names.provider, day_of(before.next_update().as_secs()));
                let (issuer, other) = (before.issuer(), next.issuer());
                return Err(format!(
                    "it is a list of {other}, and {provider} has that of {issuer}, which is good until {ends}, from this URL alone; \
                     correct what the URL serves, or write a URL of the list of {issuer} beside this one"
                ));
            }
        }
        Ok(())
    }

    /// Logs which URLs serve lists that do not help a chain: each case once.
    pub(in crate::control) fn tell_unserved(&mut self, notes: &[Note], known: Known<'_>) {
        for note in notes {
            let Some(profile) = self.profiles.iter().find(|profile| profile.names.are_of(note)) else { continue };
            let Some(served) = profile.served(known) else { continue };
            let feeds = self.feeds(profile);
            for missing in &note.lists {
                let lists = feeds.iter().filter_map(|feed| list_of(feed, known)).chain(profile.files.iter().cloned());
                let is_there = lists.into_iter().any(|list| missing.signer.is_issuer_of(&list));
                let told = (profile.names.clone(), missing.signer.name(), served.clone());
                if is_there || self.told.len() >= MAXIMUM_TOLD || self.told.contains(&told) {
                    continue;
                }
                let (Names { provider, profile }, issuer, served) = &told;
                tracing::warn!(
                    %provider, %profile, issuer, served,
                    "no URL of crl_urls serves the revocation list that a certificate needs; write the URL of the list of this issuer"
                );
                self.told.push(told);
            }
        }
    }

    /// The names of the providers whose lists come from `source`.
    pub(in crate::control) fn users(&self, source: &Source) -> Vec<Arc<str>> {
        let Source::List(feed) = source else { return Vec::new() };
        let users = self.profiles.iter().filter(|profile| self.feeds(profile).contains(feed));
        users.map(|profile| Arc::clone(&profile.names.provider)).collect()
    }

    /// Whether an authority that the configuration names, or a chain has shown, is the issuer of `list`, for one of the profiles that have it
    /// from `source`.
    pub(in crate::control) fn knows_issuer(&self, source: &Source, list: &RevocationList) -> bool {
        let Source::List(feed) = source else { return false };
        let mut users = self.profiles.iter().filter(|profile| self.feeds(profile).contains(feed));
        users.any(|profile| {
            let mut signers = profile.signers.iter().chain(self.learned.signers(&profile.names));
            signers.any(|signer| signer.is_issuer_of(list))
        })
    }
}

impl ProfileLists {
    /// Each URL of the configuration with the issuer of its list; `None` without URLs, or if one of them has served nothing yet.
    fn served(&self, known: Known<'_>) -> Option<String> {
        let served =
            |feed: &Arc<Feed>| Some(format!("{} serves that of {}", feed.name(), list_of(feed, known)?.issuer()));
        let served: Option<Vec<String>> = self.urls.iter().map(served).collect();
        served.filter(|served| !served.is_empty()).map(|served| served.join("; "))
    }
}

/// The list in use of a source.
fn list_of(feed: &Arc<Feed>, known: Known<'_>) -> Option<RevocationList> {
    match &known(&Source::List(Arc::clone(feed)))?.content {
        Content::List(list) => Some(list.clone()),
        Content::Ranges(_) | Content::Keys(_) => None,
    }
}

/// Whether `signer` was found to have signed `list`.
fn signed(list: &RevocationList, signer: &ListSigner) -> bool {
    list.signer().is_some_and(|key| ListSigner::of_key(list, key.to_vec()) == *signer)
}
