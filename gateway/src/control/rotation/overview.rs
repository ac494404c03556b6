//! What ends, as the status page lists it.
//!
//! Owns the rows. Must not log, nor decide when a warning is due: the deadline says it.

use rustls_pki_types::UnixTime;

use super::notice::{Deadline, Notice, Subject};
use super::{Rotation, seen};

/// Something that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Ending {
    /// What it is.
    pub(in crate::control) kind: &'static str,
    /// Its name.
    pub(in crate::control) name: String,
    /// The provider that it belongs to; `None` of the gateway's own.
    pub(in crate::control) provider: Option<String>,
    /// In seconds since 1970.
    pub(in crate::control) until: u64,
    /// What the log says, if it is time.
    pub(in crate::control) warning: Option<String>,
    /// Whether the end has passed.
    pub(in crate::control) is_over: bool,
}

impl Rotation {
    /// Everything that ends, the first to end first.
    pub(in crate::control) fn overview(&self, now: UnixTime) -> Vec<Ending> {
        let now = now.as_secs();
        let seen = seen(&self.overlaps, &self.sightings, now);
        let mut endings: Vec<Ending> = self.dates.iter().chain(&seen).map(|deadline| ending(deadline, now)).collect();
        endings.sort_by(|one, other| (one.until, &one.name).cmp(&(other.until, &other.name)));
        endings
    }
}

fn ending(deadline: &Deadline, now: u64) -> Ending {
    let Deadline { subject, until, notice } = deadline;
    let is_due = now.saturating_add(*notice) >= *until;
    let warning = is_due.then(|| Notice { subject: subject.clone(), until: *until, now }.to_string());
    let (kind, name, provider) = row(subject);
    Ending { kind, name, provider, until: *until, warning, is_over: now >= *until }
}

fn row(subject: &Subject) -> (&'static str, String, Option<String>) {
    let of = |provider: &std::sync::Arc<str>| Some(provider.to_string());
    match subject {
        Subject::Server { name, position: 1, .. } => ("server certificate", name.clone(), None),
        Subject::Server { name, position, .. } => ("intermediate", format!("{name}, certificate {position}"), None),
        Subject::TrustAnchor { provider, anchor } => ("trust anchor", anchor.clone(), of(provider)),
        Subject::RevocationList { provider, issuer, .. } => ("revocation list", issuer.clone(), of(provider)),
        Subject::Client { provider } => ("client certificate", "the newest that was seen".to_owned(), of(provider)),
        Subject::Overlap { provider, profile, anchor, .. } => {
            ("profile in use", format!("{profile} (anchor {anchor})"), of(provider))
        }
        Subject::Lenient { provider, profile, rule, .. } => {
            ("lenient rule", format!("profile {profile}, extended_key_usage = \"{rule}\""), of(provider))
        }
    }
}
