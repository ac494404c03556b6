//! What is published: ranges of addresses, revocation lists, and the keys of token issuers.
//!
//! Owns what tells them apart: the form of a document, whether it may come without TLS, how one version is compared with the next, and for
//! how long it may be used. Pure. Must not fetch or keep anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hookgate_core::auth::{KeySet, KeySourceId};
use hookgate_core::identity::{ListSigner, Provenance, RevocationList};
use ipnet::IpNet;
use rustls_pki_types::UnixTime;

use super::copy::Copy;
use crate::config::{Feed, RangeSource, day_of, parse_fetched};
use crate::control::fetcher::FetchError;
use crate::control::status::counted;
use crate::key_store::KeyStore;
use hookgate_filter::{Action, Family, Policy, PolicyError, RangeSet};

/// How far in the future a revocation list may have been issued, in seconds: an hour. Clocks of hosts and authorities differ by less.
const CLOCK_SKEW: u64 = 3600;

/// Something published, as the configuration or a certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) enum Source {
    /// A list of ranges.
    Ranges(Arc<RangeSource>),
    /// A revocation list.
    List(Arc<Feed>),
    /// The keys of a token issuer.
    Keys(Arc<KeyFeed>),
}

/// A `[[key_source]]` with a URL.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) struct KeyFeed {
    pub(in crate::control) name: Arc<str>,
    pub(in crate::control) feed: Feed,
}

/// What a document holds.
#[derive(Clone, Debug)]
pub(in crate::control) enum Content {
    Ranges(Arc<[IpNet]>),
    List(RevocationList),
    Keys(Arc<KeySet>),
}

/// What a document must satisfy beside its own form, and where it goes. A reload may change it while the task goes on.
#[derive(Clone)]
pub(in crate::control) enum Terms {
    Ranges(Guard),
    /// Who may have signed the list, as far as that is known.
    List(Arc<[ListSigner]>),
    Keys(Outlet),
}

/// How much of a list of ranges may disappear at once: that of `[filter]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::control) struct Guard {
    /// `largest_shrink_percent`, from 0 to 1.
    pub(in crate::control) largest_shrink: f64,
    /// `force_shrink`
    pub(in crate::control) forced: bool,
}

/// Where workers read keys.
#[derive(Clone)]
pub(in crate::control) struct Outlet {
    /// The store of the configuration in use.
    pub(in crate::control) store: Arc<KeyStore>,
    /// The source in that store.
    pub(in crate::control) source: KeySourceId,
}

impl Source {
    /// Where it is.
    pub(in crate::control) fn feed(&self) -> &Feed {
        match self {
            Self::Ranges(source) => &source.feed,
            Self::List(feed) => feed,
            Self::Keys(keys) => &keys.feed,
        }
    }

    /// The name in logs and metrics.
    pub(in crate::control) fn name(&self) -> String {
        match self {
            Self::Keys(keys) => keys.name.to_string(),
            Self::Ranges(_) | Self::List(_) => self.feed().name(),
        }
    }

    /// What the names of its copies in the state directory begin with.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Ranges(_) => "ranges-",
            Self::List(_) => "crl-",
            Self::Keys(_) => "keys-",
        }
    }

    /// Whether the document is signed, so that it may come over plain HTTP.
    pub(super) fn is_signed(&self) -> bool {
        matches!(self, Self::List(_))
    }

    /// The media types to ask for.
    pub(super) fn accept(&self) -> &'static str {
        match self {
            Self::Keys(_) => "application/jwk-set+json, application/json",
            // Their publishers declare any.
            Self::Ranges(_) | Self::List(_) => "*/*",
        }
    }

    /// Whether a copy of this is one of `other`: the same document, read in the same way.
    pub(super) fn is_same_document(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ranges(own), Self::Ranges(others)) => own.is_same_list(others),
            (Self::List(own), Self::List(others)) => own.is_same_document(others),
            (Self::Keys(own), Self::Keys(others)) => own.feed.is_same_document(&others.feed),
            _ => false,
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as one sentence.
    pub(in crate::control) fn parse(&self, document: &[u8]) -> Result<Content, String> {
        if document.trim_ascii_start().starts_with(b"<") {
            let wanted = match self {
                Self::Ranges(_) => "a list of ranges",
                Self::List(_) => "a revocation list",
                Self::Keys(_) => "a set of keys",
            };
            return Err(format!("it is a page of HTML or XML, not {wanted}; correct the URL"));
        }
        match self {
            Self::Ranges(source) => Ok(Content::Ranges(source.parse(document)?.into())),
            Self::List(_) => parse_fetched(document).map(Content::List),
            Self::Keys(_) => {
                let set = KeySet::parse(document).map_err(|error| error.to_string())?;
                Ok(Content::Keys(Arc::new(set)))
            }
        }
    }

    /// Until when a copy may be used, in seconds since 1970: keys until `max_stale` after they went stale, lists without bound. (An expired
    /// revocation list refuses chains by itself.)
    pub(in crate::control) fn usable_until(&self, copy: &Copy) -> u64 {
        match self {
            Self::Keys(keys) => {
                let usable_for = copy.fresh_for.saturating_add(keys.feed.limits.max_stale);
                copy.fetched.saturating_add(usable_for.as_secs())
            }
            Self::Ranges(_) | Self::List(_) => u64::MAX,
        }
    }

    /// How long to wait before the next fetch of what is fresh for `fresh_for`. A revocation list is also fetched again when half of the time
    /// to its nextUpdate is over, so that an authority may be unreachable for a while.
    pub(super) fn wait(&self, content: &Content, fresh_for: Duration, now: u64) -> Duration {
        let Content::List(list) = content else { return fresh_for };
        let left = Duration::from_secs(list.next_update().as_secs().saturating_sub(now));
        fresh_for.min(left / 2).max(self.feed().limits.min_fresh)
    }
}

impl Outlet {
    /// Makes these the keys of the source until `until`, in seconds since 1970.
    pub(super) fn publish(&self, keys: &Arc<KeySet>, until: u64) {
        let until = UnixTime::since_unix_epoch(Duration::from_secs(until));
        self.store.publish(self.source, Arc::clone(keys), until);
    }
}

impl Content {
    /// Whether [`Terms::hold`] need not be asked.
    pub(super) fn is_beyond_doubt(&self) -> bool {
        !matches!(self, Self::List(list) if list.signer().is_none())
    }

    /// Whether the next version says the same.
    pub(super) fn is_same(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Ranges(own), Self::Ranges(next)) => own == next,
            (Self::List(own), Self::List(next)) => own.der() == next.der(),
            // Two documents can differ in keys that are not usable alone, but then the bytes tell.
            (Self::Keys(own), Self::Keys(next)) => Arc::ptr_eq(own, next),
            _ => false,
        }
    }
}

/// What it holds, for the log and for `hookgate fetch`.
impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ranges(ranges) => formatter.write_str(&counted(ranges.len(), "range")),
            Self::Keys(keys) => formatter.write_str(&counted(keys.usable_keys(), "key")),
            Self::List(list) => {
                let (issued, next) = (list.this_update().as_secs(), list.next_update().as_secs());
                let number = list.number().map(|number| format!("number {number}, ")).unwrap_or_default();
                let (issued, next) = (day_of(issued), day_of(next));
                let (entries, issuer) = (list.entries(), list.issuer());
                write!(formatter, "{entries} entries of {issuer}, {number}of {issued}, next update {next}")
            }
        }
    }
}

/// Checks that a revocation list from a new URL is no older than those in use whose URLs are gone. Otherwise a mirror that is behind would
/// admit again what was revoked.
pub(super) fn check_former(former: &[RevocationList], next: &Content) -> Result<(), FetchError> {
    let Content::List(next) = next else { return Ok(()) };
    let newer = former.iter().find(|former| next.is_about_those_of(former) && next.is_older_than(former));
    match newer {
        None => Ok(()),
        Some(former) => {
            let reason =
                format!("the list is of {}, older than that of {} from the former URL", version(next), version(former));
            Err(FetchError::Older(reason))
        }
    }
}

/// The day of a list, and its number.
fn version(list: &RevocationList) -> String {
    let number = list.number().map(|number| format!(" (number {number})")).unwrap_or_default();
    format!("{}{number}", day_of(list.this_update().as_secs()))
}

impl Terms {
    /// Judges a document that would take the place of `before`.
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    pub(super) fn judge(&self, before: Option<&Content>, next: &Content, now: u64) -> Result<(), FetchError> {
        match (self, before, next) {
            (Self::Ranges(guard), before, Content::Ranges(ranges)) => {
                let known = match before {
                    Some(Content::Ranges(known)) => known,
                    _ => &[][..],
                };
                check_shrink(known, ranges, *guard).map_err(FetchError::Refused)
            }
            (Self::List(signers), before, Content::List(list)) => {
                let before = match before {
                    Some(Content::List(before)) => Some(before),
                    _ => None,
                };
                check_list(signers, before, list, now)
            }
            _ => Ok(()),
        }
    }

    /// Whether content that was taken still holds. A revocation list is taken unverified if nobody with the name of its issuer is known; if
    /// somebody is known now, that authority must have signed it.
    pub(super) fn hold(&self, content: &Content) -> bool {
        match (self, content) {
            (Self::List(signers), Content::List(list)) => {
                list.signer().is_some() || list.provenance(signers) != Provenance::Foreign
            }
            _ => true,
        }
    }
}

/// Checks that a list does not lose too many addresses at once, as the filter checks its sets.
fn check_shrink(old: &[IpNet], new: &[IpNet], guard: Guard) -> Result<(), String> {
    let policy = |ranges: &[IpNet]| Policy {
        sets: vec![RangeSet { name: String::new(), action: Action::Allow, prefixes: ranges.to_vec() }],
        largest_shrink: guard.largest_shrink,
        ..Policy::default()
    };
    policy(old).may_become(&policy(new), guard.forced).map_err(|error| match error {
        PolicyError::Shrink { family, lost_percent, allowed_percent, .. } => format!(
            "it would take away {lost_percent:.0} % of the {} addresses, and at most {allowed_percent:.0} % may go at once \
             (largest_shrink_percent in [filter]): look at the document, and if it is right, write force_shrink = true in [filter] and \
             reload",
            if family == Family::Ipv6 { "IPv6" } else { "IPv4" }
        ),
        error => error.to_string(),
    })
}

/// Checks that a revocation list is by its issuer, and no older than the one before it. Anyone on the path can send an old list again, or
/// one of their own.
fn check_list(
    signers: &[ListSigner],
    before: Option<&RevocationList>,
    list: &RevocationList,
    now: u64,
) -> Result<(), FetchError> {
    let issued = list.this_update().as_secs();
    if issued > now.saturating_add(CLOCK_SKEW) {
        let reason = format!("the list is of {}, which is in the future; check the clock of this host", day_of(issued));
        return Err(FetchError::Refused(reason));
    }
    let proven = before.and_then(|before| Some(ListSigner::of_key(before, before.signer()?.to_vec())));
    let known: Vec<ListSigner> = signers.iter().cloned().chain(proven.clone()).collect();
    let provenance = list.provenance(&known);
    match (provenance, before) {
        (Provenance::Foreign, _) => {
            let reason = format!("its signature is not by its issuer, {}", list.issuer());
            return Err(FetchError::Signer(reason));
        }
        (Provenance::Unknown, Some(before)) if proven.is_some() => {
            let (issuer, expected) = (list.issuer(), before.issuer());
            let reason =
                format!("its issuer is {issuer}, and nothing vouches for that; the list in use is of {expected}");
            return Err(FetchError::Signer(reason));
        }
        _ => {}
    }
    // An unverified list says nothing against one that is verified.
    let comparable = before.filter(|before| before.has_issuer_of(list));
    let comparable = comparable.filter(|_| proven.is_some() || provenance == Provenance::Unknown);
    if let Some(before) = comparable.filter(|before| list.is_older_than(before)) {
        let reason = format!("the list is of {}, older than the one in use, of {}", version(list), version(before));
        return Err(FetchError::Older(reason));
    }
    Ok(())
}
