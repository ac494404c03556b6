//! The wording of a rotation warning: what ends, for which provider or name, when, and what to do.
//!
//! Must not decide when a warning is due: [`super::reminder`] does.

use std::fmt;
use std::sync::Arc;

use super::reminder::DAY;
use crate::config::day_of;
use crate::control::sunset::SUNSET;
use crate::metrics::rotation::DateSeries;

/// Something that ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::control) enum Subject {
    /// A certificate in a chain of the gateway.
    Server {
        /// The first name of the end entity.
        name: String,
        /// The file of the chain.
        file: String,
        /// The position in the chain, from 1.
        position: usize,
    },
    /// A trust anchor.
    TrustAnchor { provider: Arc<str>, anchor: String },
    /// A revocation list, and its file unless it was fetched.
    RevocationList { provider: Arc<str>, issuer: String, file: Option<String> },
    /// The newest client certificate that was seen from a provider.
    Client { provider: Arc<str> },
    /// A profile that ends (`until`), and whose chains still arrive.
    Overlap { provider: Arc<str>, profile: Arc<str>, anchor: Arc<str>, successors: Arc<str> },
    /// Chains that a stricter `extended_key_usage` would refuse.
    Lenient { provider: Arc<str>, profile: Arc<str>, anchor: Arc<str>, rule: &'static str },
}

impl Subject {
    /// Whether it was seen in a handshake. If not, it is in the configuration.
    pub(super) fn is_seen(&self) -> bool {
        matches!(self, Self::Client { .. } | Self::Overlap { .. } | Self::Lenient { .. })
    }

    /// The metric of its date; `None` if the date is not in the configuration, or not published.
    pub(super) fn series(&self) -> Option<DateSeries> {
        match self {
            Self::Server { name, position: 1, .. } => Some(DateSeries::Server { name: name.clone() }),
            Self::TrustAnchor { provider, anchor } => {
                Some(DateSeries::TrustAnchor { provider: provider.to_string(), name: anchor.clone() })
            }
            Self::RevocationList { provider, issuer, .. } => {
                Some(DateSeries::RevocationList { provider: provider.to_string(), issuer: issuer.clone() })
            }
            Self::Server { .. } | Self::Client { .. } | Self::Overlap { .. } | Self::Lenient { .. } => None,
        }
    }
}

/// When something ends, and when the warnings begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Deadline {
    pub(super) subject: Subject,
    /// In seconds since 1970.
    pub(super) until: u64,
    /// The warnings begin this many seconds before.
    pub(super) notice: u64,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) subject: Subject,
    pub(super) until: u64,
    pub(super) now: u64,
}

impl Notice {
    /// Whether the end has passed.
    pub(super) fn is_urgent(&self) -> bool {
        self.now >= self.until
    }

    /// The day on which it ends. `until` of an overlap is the first second after its last day.
    fn last_day(&self) -> time::Date {
        day_of(match self.subject {
            Subject::Overlap { .. } => self.until.saturating_sub(1),
            _ => self.until,
        })
    }

    /// The verb, the day, and the time left.
    fn when(&self) -> String {
        let day = self.last_day();
        match self.until.saturating_sub(self.now) {
            0 => format!("ended on {day}"),
            left if left < DAY => format!("ends on {day}, in {} hours", left / 3600),
            left if left < 2 * DAY => format!("ends on {day}, in 1 day"),
            left => format!("ends on {day}, in {} days", left / DAY),
        }
    }
}

/// What the fields of a line say beside its sentence.
#[derive(Default)]
struct Fields<'n> {
    what: &'static str,
    provider: Option<&'n str>,
    profile: Option<&'n str>,
    subject: Option<&'n str>,
    file: Option<&'n str>,
    position: Option<usize>,
}

impl Notice {
    /// Logs it: a warning before the end, an error from then on.
    pub(super) fn log(&self) {
        let Fields { what, provider, profile, subject, file, position } = self.subject.fields();
        let ends = self.last_day();
        match self.is_urgent() {
            true => {
                tracing::error!(what, provider, profile, subject, file, position, %ends, detail = %self, "has ended")
            }
            false => {
                tracing::warn!(what, provider, profile, subject, file, position, %ends, detail = %self, "ends soon")
            }
        }
    }
}

impl Subject {
    fn fields(&self) -> Fields<'_> {
        let of = |what, provider| Fields { what, provider: Some(provider), ..Fields::default() };
        match self {
            Self::Server { name, file, position } => Fields {
                what: "server_certificate",
                subject: Some(name),
                file: Some(file),
                position: Some(*position),
                ..Fields::default()
            },
            Self::TrustAnchor { provider, anchor } => Fields { subject: Some(anchor), ..of("trust_anchor", provider) },
            Self::RevocationList { provider, issuer, file } => {
                Fields { subject: Some(issuer), file: file.as_deref(), ..of("revocation_list", provider) }
            }
            Self::Client { provider } => of("client_certificate", provider),
            Self::Overlap { provider, profile, anchor, .. } => {
                Fields { profile: Some(profile), subject: Some(anchor), ..of("profile", provider) }
            }
            Self::Lenient { provider, profile, anchor, .. } => {
                Fields { profile: Some(profile), subject: Some(anchor), ..of("client_auth", provider) }
            }
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (when, ended) = (self.when(), self.is_urgent());
        match &self.subject {
            Subject::Server { name, file, position: 1 } => {
                let then = if ended { "senders refuse it; renew it now" } else { "renew it" };
                write!(formatter, "the certificate of {name} ({file}) {when}: {then}, then reload")
            }
            Subject::Server { name, file, position } => write!(
                formatter,
                "certificate {position} in the chain of {name} ({file}) {when}: write the current chain of the issuer to the file, then reload"
            ),
            Subject::TrustAnchor { provider, anchor } if ended => write!(
                formatter,
                "the trust anchor {anchor} of {provider} {when}, and stays trusted as long as it is configured: remove it once no chain ends there"
            ),
            Subject::TrustAnchor { provider, anchor } => write!(
                formatter,
                "the trust anchor {anchor} of {provider} {when}: ask the sender for its successor, and add it to trust_anchors before that day"
            ),
            Subject::RevocationList { provider, issuer, file } if ended => write!(
                formatter,
                "the revocation list of {issuer} for {provider}{} {when}: certificates of that issuer are refused until the current list is in its place",
                in_file(file.as_deref())
            ),
            Subject::RevocationList { provider, issuer, file } => write!(
                formatter,
                "the revocation list of {issuer} for {provider}{} {when}: fetch the current one, or every certificate of that issuer is refused from then on",
                in_file(file.as_deref())
            ),
            Subject::Client { provider } => write!(
                formatter,
                "the newest client certificate seen from {provider} {when}, and no newer one was seen: ask the sender when it changes, and whether a profile here accepts the new one"
            ),
            Subject::Lenient { provider, profile, anchor, rule } => write!(
                formatter,
                "chains of {provider} (profile {profile}, anchor {anchor}) pass by extended_key_usage = \"{rule}\" and would not by a stricter rule; {}: keep this rule, or ask the sender for certificates with clientAuth of an authority that goes on issuing them",
                sunset_of_client_auth(ended)
            ),
            Subject::Overlap { provider, profile, anchor, successors } => {
                write!(
                    formatter,
                    "{provider} still sends the chain of profile {profile} (anchor {anchor}), whose use {when}: "
                )?;
                match (&**successors, ended) {
                    ("", _) => formatter.write_str("ask the sender for the successor, and add a profile for it"),
                    (successors, false) => {
                        write!(
                            formatter,
                            "its successor is {successors}; make sure that this provider has that profile, and ask the sender when it changes"
                        )
                    }
                    (successors, true) => {
                        write!(
                            formatter,
                            "the sender should have changed to {successors}; ask why it still sends the old chain"
                        )
                    }
                }
            }
        }
    }
}

fn in_file(file: Option<&str>) -> String {
    file.map(|file| format!(" ({file})")).unwrap_or_default()
}

fn sunset_of_client_auth(ended: bool) -> String {
    let day = day_of(SUNSET);
    let verb = if ended { "stopped" } else { "stops" };
    format!("DigiCert {verb} issuing clientAuth on {day}, and other public authorities do too")
}
