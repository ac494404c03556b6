//! Refused chains that may be genuine: their metric, their log line, and their files in the state directory.
//!
//! Owns when a chain enters and leaves the list of the operator. [`record`] owns the form of a file, [`advice`] what to write to admit a
//! chain. Must not admit one: the operator writes, and the next reload judges the chain as every other one.

pub(super) mod advice;
pub(super) mod record;
pub(super) mod trial;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use self::advice::{Written, advise};
use crate::metrics::rotation::suspected;
use crate::state::StateDirectory;
use crate::suspects::{MAXIMUM, Pending, Suspects};
use hookgate_core::identity::{Identity, ProviderId, Scope};

/// How long a chain stays on the list after it was seen last, in seconds: a week. PagerDuty sends an event again for 48 hours.
const KEPT_SECONDS: u64 = 7 * 24 * 3600;

/// How often the list is searched for chains that have left, in seconds.
const CLEAN_UP_SECONDS: u64 = 3600;

/// The list, as the control thread keeps it.
#[derive(Default)]
pub(super) struct PendingChains {
    suspects: Arc<Suspects>,
    /// The names of the records that were written, or tried, each with the evidence in it.
    kept: HashMap<String, Arc<str>>,
    /// The providers whose metric is set.
    published: BTreeSet<Arc<str>>,
    next_clean_up: u64,
}

impl PendingChains {
    /// What the workers note.
    pub(super) fn suspects(&self) -> &Arc<Suspects> {
        &self.suspects
    }

    /// Takes over what an earlier process kept in the state directory. A file that cannot be read is left alone.
    pub(super) fn restore(&mut self, state: &StateDirectory, now: UnixTime) {
        let names = state.list(record::PREFIX).unwrap_or_default();
        for name in names.into_iter().take(MAXIMUM) {
            let bytes = state.read(&name, record::MAXIMUM_BYTES).ok().flatten();
            if let Some(chain) = bytes.and_then(|bytes| record::parse(&bytes, now.as_secs())) {
                self.kept.insert(name, Arc::clone(&chain.evidence));
                self.suspects.restore([chain]);
            }
        }
    }

    /// Removes from the list what `identity` admits or refuses for a fault of the sender, and the chains of providers that it does not know.
    /// What it refuses for another reason than before keeps its place: the first lines of the operator were not all. Call it after every load.
    pub(super) fn adopt(&mut self, identity: &Identity, state: Option<&StateDirectory>, now: UnixTime) {
        let mut changed = Vec::new();
        let gone = self.suspects.review(|chain| {
            let found = suspicion(identity, chain, now)?;
            let is_as_before = (&found.0, &found.1) == (&chain.profile, &chain.reason);
            if !is_as_before {
                changed.push(record::name(chain));
            }
            Some(found)
        });
        for chain in &gone {
            let (provider, fingerprint) = (&chain.provider, advice::fingerprint(&chain.fingerprint));
            match outcome(identity, chain, now) {
                Outcome::ProviderGone => {
                    tracing::info!(%provider, %fingerprint, "a chain that was refused is forgotten: its provider is gone");
                }
                Outcome::Admitted => {
                    tracing::info!(%provider, %fingerprint, "a chain that was refused is admitted now")
                }
                Outcome::Refused(reason) => {
                    tracing::info!(%provider, %fingerprint, reason, "a chain that was refused is refused for a fault of the sender now");
                }
            }
        }
        self.forget(&gone, state);
        // Their next announcement says what is to be written now.
        self.kept.retain(|name, _| !changed.contains(name));
        self.publish();
    }

    /// Publishes, keeps and logs the chains that are new.
    pub(super) fn attend(&mut self, configuration: &Path, state: Option<&StateDirectory>, now: UnixTime) {
        if now.as_secs() >= self.next_clean_up {
            self.next_clean_up = now.as_secs() + CLEAN_UP_SECONDS;
            let is_current = |chain: &Pending| now.as_secs() < chain.last_seen.saturating_add(KEPT_SECONDS);
            let gone = self.suspects.retain(is_current);
            self.forget(&gone, state);
            self.publish();
        }
        if !self.suspects.take_changed() {
            return;
        }
        let all = self.suspects.all();
        self.remove_replaced(&all, state);
        for chain in &all {
            match self.kept.insert(record::name(chain), Arc::clone(&chain.evidence)) {
                None => announce(chain, configuration, state),
                Some(before) if before != chain.evidence => keep(chain, state),
                Some(_) => {}
            }
        }
        self.publish();
    }

    fn forget(&mut self, gone: &[Pending], state: Option<&StateDirectory>) {
        for name in gone.iter().map(record::name) {
            self.kept.remove(&name);
            remove(&name, state);
        }
    }

    /// A chain that needed a place has replaced another one.
    fn remove_replaced(&mut self, all: &[Pending], state: Option<&StateDirectory>) {
        let names: HashSet<String> = all.iter().map(record::name).collect();
        for (name, _) in self.kept.extract_if(|name, _| !names.contains(name)) {
            remove(&name, state);
        }
    }

    fn publish(&mut self) {
        let all = self.suspects.all();
        let names: BTreeSet<Arc<str>> = all.iter().map(|chain| Arc::clone(&chain.provider)).collect();
        for provider in self.published.union(&names) {
            suspected(provider, all.iter().filter(|chain| chain.provider == *provider).count());
        }
        self.published.extend(names);
    }
}

fn remove(name: &str, state: Option<&StateDirectory>) {
    if let Some(Err(error)) = state.map(|state| state.remove(name)) {
        tracing::warn!(%error, "the record of a refused chain cannot be removed");
    }
}

/// The profile and the reason for which this policy, too, refuses the chain of a provider that it knows, if that may be ignorance.
fn suspicion(identity: &Identity, chain: &Pending, now: UnixTime) -> Option<(Arc<str>, Arc<str>)> {
    let mut known = (0..).map(ProviderId).zip(identity.providers());
    let (id, provider) = known.find(|(_, provider)| provider.name == chain.provider)?;
    // Of no site: what is found under this scope admits no peer.
    let scope = Scope { id: u32::MAX, providers: vec![id] };
    let suspect = identity.refusal_of_presented(&scope, &chain.certificates, now)?.refusal.suspect?;
    let claim = suspect.suspected().next()?;
    let profile = provider.profiles.get(usize::from(claim.profile()))?;
    Some((Arc::clone(&profile.name), claim.reject().row().reason.into()))
}

/// What a policy makes of a chain that leaves the list.
enum Outcome {
    ProviderGone,
    Admitted,
    Refused(&'static str),
}

fn outcome(identity: &Identity, chain: &Pending, now: UnixTime) -> Outcome {
    let mut known = (0..).map(ProviderId).zip(identity.providers());
    let Some((id, _)) = known.find(|(_, provider)| provider.name == chain.provider) else {
        return Outcome::ProviderGone;
    };
    // Of no site, as above.
    let scope = Scope { id: u32::MAX, providers: vec![id] };
    match identity.refusal_of_presented(&scope, &chain.certificates, now) {
        None => Outcome::Admitted,
        Some(refused) => Outcome::Refused(refused.refusal.refusal.reject.row().reason),
    }
}

fn keep(chain: &Pending, state: Option<&StateDirectory>) {
    if let Some(Err(error)) = state.map(|state| state.write(&record::name(chain), &record::encode(chain))) {
        tracing::warn!(%error, provider = %chain.provider, "a refused chain cannot be kept");
    }
}

/// Keeps a chain, and logs what to do about it. The line is about the gateway's ignorance, so no flood of strangers hides it.
fn announce(chain: &Pending, configuration: &Path, state: Option<&StateDirectory>) {
    keep(chain, state);
    let advice = advise(chain, Written::read(configuration, &chain.provider).as_ref());
    tracing::warn!(
        provider = %chain.provider,
        profile = %chain.profile,
        reason = %chain.reason,
        evidence = %chain.evidence,
        fingerprint = %advice::fingerprint(&chain.fingerprint),
        check = %advice.check,
        write = %advice.lines().join("; "),
        "rotation suspected: a refused chain claims this provider, and there is evidence that it is genuine; see hookgate trust pending"
    );
}
