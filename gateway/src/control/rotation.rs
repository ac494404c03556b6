//! Rotation: warns before certificates, trust anchors and revocation lists end, and while senders use a profile that ends.
//!
//! Owns the dates of the configuration in use, their metrics, and the log lines. [`reminder`] decides when a line is due, [`notice`] what
//! it says; both are pure. Must not renew or refuse anything.

mod notice;
pub(super) mod overview;
mod reminder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::Counter;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use self::notice::{Deadline, Notice, Subject};
use self::reminder::{DAY, Reminder};
use super::sunset::SUNSET;
use crate::config::{AcmeCertificate, Certificate, Config, ListFiles, ServerCertificate};
use crate::metrics::rotation::{DateSeries, chains, date};
use hookgate_core::identity::{
    CertificateSighting, ChainSighting, Identity, Profile, Provider, Sightings, trust_anchor_label,
};

/// How long before the end of a certificate the warnings begin. ACME clients renew 30 days ahead, so a certificate with less left was
/// not renewed.
const NOTICE: u64 = 30 * DAY;

/// How long before the end of the newest client certificate the warnings begin. Senders renew by themselves, most of them late.
const CLIENT_NOTICE: u64 = 14 * DAY;

/// The dates of the configuration in use, and what was seen and logged.
#[derive(Default)]
pub(super) struct Rotation {
    dates: Vec<Deadline>,
    files: ListFiles,
    overlaps: Vec<Overlap>,
    sightings: Arc<Sightings>,
    reminder: Reminder,
    /// The published dates.
    series: BTreeMap<DateSeries, u64>,
    counters: Vec<(Arc<ChainSighting>, Counter)>,
}

/// A trust anchor of a profile that ends (`until`).
struct Overlap {
    /// In seconds since 1970.
    ends: u64,
    /// The names of the profiles that stay.
    successors: Arc<str>,
    sighting: Arc<ChainSighting>,
}

impl Rotation {
    /// The certificates and chains that were seen so far.
    pub(super) fn sightings(&self) -> &Arc<Sightings> {
        &self.sightings
    }

    /// Replaces the dates and the providers. Warnings about dates that are due are logged again.
    pub(super) fn adopt(&mut self, dates: Vec<Deadline>, files: ListFiles, identity: &Identity) {
        self.sightings = Arc::clone(identity.sightings());
        self.overlaps = overlaps(identity);
        self.counters = self.sightings.chains().map(|sighting| (Arc::clone(sighting), chains(sighting))).collect();
        self.reminder.forget(|subject| !subject.is_seen());
        (self.dates, self.files) = (dates, files);
        self.publish();
    }

    /// Replaces the dates of the certificate that was kept in the same file.
    pub(super) fn adopt_certificate(&mut self, certificate: &ServerCertificate) {
        let path = certificate.chain_path.display().to_string();
        let is_same = |subject: &Subject| matches!(subject, Subject::Server { file, .. } if *file == path);
        self.dates.retain(|deadline| !is_same(&deadline.subject));
        self.reminder.forget(is_same);
        self.dates.extend(of_issued(certificate));
        self.publish();
    }

    /// Replaces the dates of the revocation lists by those that `providers` have.
    pub(super) fn adopt_lists(&mut self, providers: &[Provider]) {
        self.dates.retain(|deadline| !matches!(deadline.subject, Subject::RevocationList { .. }));
        for deadline in providers.iter().flat_map(|provider| lists_of(provider, &self.files)) {
            if !self.dates.contains(&deadline) {
                self.dates.push(deadline);
            }
        }
        self.publish();
    }

    /// Publishes the metrics that have changed, and logs the warnings that are due at `now`.
    pub(super) fn attend(&mut self, now: UnixTime) {
        for (sighting, counter) in &self.counters {
            counter.absolute(sighting.admitted());
        }
        for certificate in self.sightings.certificates().filter(|certificate| certificate.last_not_after() > 0) {
            let series = DateSeries::Client { provider: certificate.provider.to_string() };
            if self.series.insert(series.clone(), certificate.last_not_after()) != Some(certificate.last_not_after()) {
                date(&series, Some(certificate.last_not_after()));
            }
        }
        for notice in self.due(now.as_secs()) {
            notice.log();
        }
    }

    fn due(&mut self, now: u64) -> Vec<Notice> {
        let seen = seen(&self.overlaps, &self.sightings, now);
        self.reminder.due(self.dates.iter().chain(&seen), now)
    }

    /// Publishes the dates in place of those before.
    fn publish(&mut self) {
        let mut series: BTreeMap<DateSeries, u64> = BTreeMap::new();
        for deadline in &self.dates {
            let Some(name) = deadline.subject.series() else { continue };
            // Of several certificates with one name, the first to end counts.
            series.entry(name).and_modify(|until| *until = deadline.until.min(*until)).or_insert(deadline.until);
        }
        let old = std::mem::take(&mut self.series);
        let is_known = |provider: &str| self.sightings.certificates().any(|known| *known.provider == *provider);
        for (name, until) in old {
            match &name {
                DateSeries::Client { provider } if is_known(provider) => {
                    series.insert(name, until);
                }
                name if !series.contains_key(name) => date(name, None),
                _ => {}
            }
        }
        for (name, until) in &series {
            date(name, Some(*until));
        }
        self.series = series;
    }
}

/// The dates in `config` on which something ends.
pub(super) fn dates(config: &Config) -> Vec<Deadline> {
    let of_certificate = |certificate: &Certificate| match certificate {
        Certificate::Files(files) => of_certificate(files, NOTICE),
        Certificate::Acme(AcmeCertificate { issued, .. }) => issued.as_deref().map(of_issued).unwrap_or_default(),
    };
    let certificates = config.certificates.iter().flat_map(of_certificate);
    let of_provider = |provider: &Provider| {
        let name = Arc::clone(&provider.name);
        provider
            .profiles
            .iter()
            .flat_map(move |profile| of_profile(&name, profile, &config.list_files))
            .collect::<Vec<_>>()
    };
    let mut dates: Vec<Deadline> = certificates.collect();
    for deadline in config.providers.iter().flat_map(of_provider) {
        // Profiles of one provider can share anchors and lists.
        if !dates.contains(&deadline) {
            dates.push(deadline);
        }
    }
    dates
}

/// hookgate asks for another one at two thirds of the lifetime. The warnings begin when half of the rest is over, so that attempts have failed
/// for long: 15 days of 90, and one of 6.
fn of_issued(certificate: &ServerCertificate) -> Vec<Deadline> {
    let lifetime = certificate.validity().map_or(0, |(from, until)| until.saturating_sub(from));
    of_certificate(certificate, (lifetime / 6).min(NOTICE))
}

fn of_certificate(certificate: &ServerCertificate, notice: u64) -> Vec<Deadline> {
    let path = || certificate.chain_path.display().to_string();
    let name = certificate.names.first().cloned().unwrap_or_else(path);
    let deadline = |(position, der): (usize, &CertificateDer<'static>)| {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let subject = Subject::Server { name: name.clone(), file: path(), position };
        Some(Deadline { subject, until, notice })
    };
    (1..).zip(&certificate.chain).filter_map(deadline).collect()
}

fn lists_of(provider: &Provider, files: &ListFiles) -> Vec<Deadline> {
    provider.profiles.iter().flat_map(|profile| lists_of_profile(&provider.name, profile, files)).collect()
}

fn of_profile(provider: &Arc<str>, profile: &Profile, files: &ListFiles) -> Vec<Deadline> {
    let anchors = profile.trust_anchors.with_ends().map(|(anchor, until)| {
        let subject = Subject::TrustAnchor { provider: Arc::clone(provider), anchor: trust_anchor_label(anchor) };
        Deadline { subject, until, notice: NOTICE }
    });
    anchors.chain(lists_of_profile(provider, profile, files)).collect()
}

fn lists_of_profile(provider: &Arc<str>, profile: &Profile, files: &ListFiles) -> Vec<Deadline> {
    let mut issuers = Vec::new();
    let mut lists = Vec::new();
    // The newest list of an issuer comes first, and is the one in use.
    for list in profile.revocation.iter().flat_map(|lists| lists.lists()) {
        let issuer = list.issuer();
        if !issuers.contains(&issuer) {
            issuers.push(issuer.clone());
            let (this_update, until) = (list.this_update().as_secs(), list.next_update().as_secs());
            // A list is renewed every day or week. If half of its lifetime is over, it was not renewed.
            let notice = (until.saturating_sub(this_update) / 2).min(NOTICE);
            let file = files.file_of(list).map(|path| path.display().to_string());
            let subject = Subject::RevocationList { provider: Arc::clone(provider), issuer, file };
            lists.push(Deadline { subject, until, notice });
        }
    }
    lists
}

fn overlaps(identity: &Identity) -> Vec<Overlap> {
    let mut overlaps = Vec::new();
    for (id, provider) in (0..).map(hookgate_core::identity::ProviderId).zip(identity.providers()) {
        for (index, profile) in provider.profiles.iter().enumerate() {
            let Some(ends) = profile.overlap_ends else { continue };
            let stays = |other: &&Profile| other.overlap_ends.is_none_or(|others| others > ends);
            let successors: Vec<&str> = provider.profiles.iter().filter(stays).map(|other| &*other.name).collect();
            let successors: Arc<str> = successors.join(", ").into();
            for sighting in identity.sightings().chains_of(id, index) {
                let (successors, sighting) = (Arc::clone(&successors), Arc::clone(sighting));
                overlaps.push(Overlap { ends: ends.as_secs(), successors, sighting });
            }
        }
    }
    overlaps
}

/// The deadlines of what was seen: profiles that end and were used within a day, the newest client certificate of each provider, and
/// chains that a stricter rule would refuse.
fn seen(overlaps: &[Overlap], sightings: &Sightings, now: u64) -> Vec<Deadline> {
    let used = |overlap: &&Overlap| overlap.sighting.last_seen() > 0 && now < overlap.sighting.last_seen() + DAY;
    let overlaps = overlaps.iter().filter(used).map(|Overlap { ends, successors, sighting }| {
        let subject = Subject::Overlap {
            provider: Arc::clone(&sighting.provider),
            profile: Arc::clone(&sighting.profile),
            anchor: Arc::clone(&sighting.trust_anchor),
            successors: Arc::clone(successors),
        };
        // The warnings begin with the first chain.
        Deadline { subject, until: *ends, notice: u64::MAX }
    });
    // An expired certificate is never admitted. A sender without a newer one within a day has stopped sending.
    let current = |certificate: &&Arc<CertificateSighting>| {
        certificate.latest_not_after() > 0 && now < certificate.latest_not_after().saturating_add(DAY)
    };
    let certificates = sightings.certificates().filter(current).map(|certificate| Deadline {
        subject: Subject::Client { provider: Arc::clone(&certificate.provider) },
        until: certificate.latest_not_after(),
        notice: CLIENT_NOTICE,
    });
    let lenient = |chain: &&Arc<ChainSighting>| chain.last_lenient() > 0 && now < chain.last_lenient() + DAY;
    let lenient = sightings.chains().filter(lenient).map(|chain| Deadline {
        subject: Subject::Lenient {
            provider: Arc::clone(&chain.provider),
            profile: Arc::clone(&chain.profile),
            anchor: Arc::clone(&chain.trust_anchor),
            rule: chain.rule().label(),
        },
        until: SUNSET,
        // The warnings begin with the first chain.
        notice: u64::MAX,
    });
    overlaps.chain(certificates).chain(lenient).collect()
}
