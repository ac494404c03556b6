//! The revocation lists that are fetched: from which URLs, on whose word, and how they become lists of profiles.
//!
//! Owns what the configuration in use says about them, and what certificates have told: the keys of issuers, and the URLs at which their
//! lists are. Must not fetch: `published` does, nor look a certificate up.
//!
//! **What is known.** A trust anchor signs the lists about the certificates below it. A file of trust anchors may have intermediates, which
//! sign lists too, and name the list of their issuer. Everything else is learned from chains: one that verifies up to a trust anchor of a
//! profile, matches its identity rules, and lacks nothing but lists, tells the keys of its issuers and, with `crls = "from-certificates"`,
//! the URLs of the lists ([`crate::missing_lists`]). A chain that fails in any other way tells nothing.
//!
//! **Bounds.** A profile learns at most 64 URLs and 32 keys. A URL whose list no chain has needed for 90 days is forgotten: an authority
//! that divides its list names another part in each certificate.

mod learned;
mod replacement;

use std::collections::HashMap;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use self::learned::{Learned, MAXIMUM_POINTS};
use self::replacement::Unserved;
use super::published::{Content, Copy, Source, Terms};
use crate::config::{Config, Feed, FeedUrl, FetchLimits, FetchedLists};
use crate::missing_lists::Note;
use crate::state::StateDirectory;
use hookgate_core::identity::{
    AwaitedLists, Identity, ListSigner, ProviderId, RevocationList, RevocationLists, RevocationScope,
    distribution_points,
};

/// The copy of a source, if there is one.
type Known<'k> = &'k dyn Fn(&Source) -> Option<Arc<Copy>>;

/// The profiles of a configuration whose lists are fetched, and what was learned for them.
#[derive(Default)]
pub(super) struct Revocation {
    profiles: Vec<ProfileLists>,
    learned: Learned,
    /// What was logged about URLs that serve other lists than chains need.
    told: Vec<Unserved>,
}

/// The lists of one profile.
struct ProfileLists {
    provider: ProviderId,
    /// Among those of the provider.
    index: usize,
    names: Names,
    files: Vec<RevocationList>,
    scope: RevocationScope,
    urls: Vec<Arc<Feed>>,
    from_certificates: Option<FetchLimits>,
    /// The URLs that intermediates of the configuration name.
    points: Vec<Arc<Feed>>,
    /// Anchors and intermediates of the configuration.
    signers: Vec<ListSigner>,
}

/// The names of a provider and of a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Names {
    pub(super) provider: Arc<str>,
    pub(super) profile: Arc<str>,
}

impl Revocation {
    /// Takes this part out of `config`. What was learned for a profile that stays, stays.
    pub(super) fn prepare(&self, config: &mut Config) -> Self {
        let fetched = std::mem::take(&mut config.fetched_lists);
        let mut profiles = Vec::new();
        for ((id, provider), fetched) in (0..).map(ProviderId).zip(&config.providers).zip(fetched) {
            for (index, (profile, fetched)) in provider.profiles.iter().zip(fetched).enumerate() {
                let Some(written) = profile.revocation.as_ref().filter(|_| fetched.any()) else { continue };
                let names = Names { provider: Arc::clone(&provider.name), profile: Arc::clone(&profile.name) };
                let anchors = profile.trust_anchors.iter().map(ListSigner::of_anchor).collect();
                profiles.push(ProfileLists::new((id, index), names, written, anchors, fetched));
            }
        }
        let learns = |names: &Names| {
            let of = profiles.iter().find(|profile| profile.names == *names);
            of.map(|profile| profile.from_certificates.is_some())
        };
        let learned = self.learned.retained(learns);
        Self { profiles, learned, told: Vec::new() }
    }

    /// Takes over what an earlier process has learned.
    pub(super) fn restore(&mut self, state: &StateDirectory, now: UnixTime) {
        self.learned = Learned::read(state, now.as_secs());
    }

    /// The lists to fetch, each once, with the keys that may have signed it.
    pub(super) fn sources(&self) -> Vec<(Source, Terms)> {
        let mut all: Vec<(Arc<Feed>, Vec<ListSigner>)> = Vec::new();
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for profile in &self.profiles {
            let signers = profile.signers.iter().chain(self.learned.signers(&profile.names));
            let signers: Vec<&ListSigner> = signers.collect();
            for feed in self.feeds(profile) {
                let of_url = places.entry(feed.url.to_string()).or_default();
                let place = match of_url.iter().find(|place| all[**place].0 == feed) {
                    Some(place) => *place,
                    None => {
                        of_url.push(all.len());
                        all.push((feed, Vec::new()));
                        all.len() - 1
                    }
                };
                let known = &mut all[place].1;
                for signer in &signers {
                    if !known.contains(signer) {
                        known.push((*signer).clone());
                    }
                }
            }
        }
        all.into_iter().map(|(feed, signers)| (Source::List(feed), Terms::List(signers.into()))).collect()
    }

    /// All lists of a profile that are fetched.
    fn feeds(&self, profile: &ProfileLists) -> Vec<Arc<Feed>> {
        let mut feeds: Vec<Arc<Feed>> = profile.urls.iter().chain(&profile.points).cloned().collect();
        if let Some(limits) = profile.from_certificates {
            let learned = self.learned.points(&profile.names);
            feeds.extend(learned.map(|point| Arc::new(Feed { url: point.url.clone(), limits, roots: None })));
        }
        feeds
    }

    /// The lists of each profile: those of files, and those that were fetched.
    fn lists(&self, known: Known<'_>) -> HashMap<(ProviderId, usize), RevocationLists> {
        let lists = self.profiles.iter().map(|profile| {
            let list = |feed: &Arc<Feed>| match &known(&Source::List(Arc::clone(feed)))?.content {
                Content::List(list) => Some(list.clone()),
                Content::Ranges(_) | Content::Keys(_) => None,
            };
            let fetched = self.feeds(profile).iter().filter_map(list).collect::<Vec<_>>();
            let awaited = AwaitedLists {
                from_urls: !profile.urls.is_empty(),
                incomplete: profile.urls.iter().any(|feed| list(feed).is_none()),
                from_certificates: profile.from_certificates.is_some(),
            };
            let lists = profile.files.iter().cloned().chain(fetched).collect();
            ((profile.provider, profile.index), RevocationLists::new(lists, profile.scope).awaiting(awaited))
        });
        lists.collect()
    }

    /// Gives the profiles of `config` their lists.
    pub(super) fn complete(&self, known: Known<'_>, config: &mut Config) {
        for ((provider, index), lists) in self.lists(known) {
            let profiles = config.providers.get_mut(usize::from(provider.0)).map(|provider| &mut provider.profiles);
            if let Some(profile) = profiles.and_then(|profiles| profiles.get_mut(index)) {
                profile.revocation = Some(lists);
            }
        }
    }

    /// The policy `identity` with the lists that are known now. It is of the next generation if a list may revoke more than before, so that no
    /// verdict, session or connection by the old one may be used as it is.
    pub(super) fn renewed(&self, known: Known<'_>, identity: &Identity) -> Identity {
        let lists = self.lists(known);
        let revokes_more = lists.iter().any(|((id, index), lists)| {
            let profile = identity.providers().get(usize::from(id.0)).and_then(|it| it.profiles.get(*index));
            let before = profile.and_then(|profile| profile.revocation.as_ref());
            before.is_some_and(|before| lists.may_revoke_more_than(before))
        });
        let generation = identity.generation() + u64::from(revokes_more);
        identity.with_lists(generation, |id, index| lists.get(&(id, index)).cloned())
    }

    /// Learns from what chains lacked at `now`. Whether there is anything new.
    pub(super) fn learn(&mut self, notes: &[Note], now: UnixTime) -> bool {
        let mut has_learned = false;
        for note in notes {
            let Some(profile) = self.profiles.iter().find(|profile| profile.names.are_of(note)) else { continue };
            for missing in &note.lists {
                // Also one that the configuration names: that its list is missing is learned.
                has_learned |= self.learned.add_signer(&profile.names, &missing.signer);
                let points = missing.points.iter().filter(|_| profile.from_certificates.is_some());
                for url in points.filter_map(|text| FeedUrl::parse_signed(text).ok()) {
                    let is_configured = profile.urls.iter().chain(&profile.points).any(|feed| feed.url == url);
                    if !is_configured && self.learned.add_point(&profile.names, url.clone(), now.as_secs()) {
                        has_learned = true;
                        let (provider, name) = (&note.provider, &note.profile);
                        tracing::info!(%provider, profile = %name, %url, "a certificate names a revocation list; it is fetched from now on");
                    }
                }
            }
        }
        has_learned
    }

    /// Whether anything is to be kept over a restart.
    pub(super) fn has_learned(&self) -> bool {
        !self.learned.is_empty()
    }

    /// Forgets what no chain has needed for long. Whether there was any.
    pub(super) fn forget_old(&mut self, now: UnixTime) -> bool {
        self.learned.forget_old(now.as_secs())
    }

    /// Notes which of the learned URLs chains need, as their lists say.
    pub(super) fn note_uses(&mut self, known: Known<'_>) {
        let Self { profiles, learned, .. } = self;
        learned.note_uses(|names, url| {
            let limits = profiles.iter().find(|profile| profile.names == *names).and_then(|it| it.from_certificates);
            let feed = |limits| Feed { url: url.clone(), limits, roots: None };
            let copy = limits.and_then(|limits| known(&Source::List(Arc::new(feed(limits)))));
            match copy.as_deref().map(|copy| &copy.content) {
                Some(Content::List(list)) => list.last_used(),
                _ => 0,
            }
        });
    }

    /// Keeps what was learned over a restart.
    pub(super) fn keep(&self, state: &StateDirectory) {
        if let Err(error) = self.learned.write(state) {
            tracing::warn!(%error, "the URLs of revocation lists are not kept over a restart");
        }
    }
}

impl ProfileLists {
    fn new(
        (provider, index): (ProviderId, usize),
        names: Names,
        written: &RevocationLists,
        anchors: Vec<ListSigner>,
        fetched: FetchedLists,
    ) -> Self {
        let FetchedLists { urls, from_certificates, intermediates } = fetched;
        let mut signers: Vec<ListSigner> = anchors;
        signers.extend(intermediates.iter().filter_map(|certificate| ListSigner::of_certificate(certificate)));
        let mut points: Vec<Arc<Feed>> = Vec::new();
        if let Some(limits) = from_certificates {
            let named = intermediates.iter().flat_map(|certificate| distribution_points(certificate));
            for url in named.filter_map(|text| FeedUrl::parse_signed(&text).ok()).take(MAXIMUM_POINTS) {
                if !urls.iter().chain(&points).any(|feed| feed.url == url) {
                    points.push(Arc::new(Feed { url, limits, roots: None }));
                }
            }
        }
        let (files, scope) = (written.lists().to_vec(), written.scope());
        Self { provider, index, names, files, scope, urls, from_certificates, points, signers }
    }
}

impl Names {
    fn are_of(&self, note: &Note) -> bool {
        self.provider == note.provider && self.profile == note.profile
    }
}
