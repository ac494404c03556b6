//! What certificates have told about revocation lists: the URLs at which they are, and the keys that sign them.
//!
//! Owns the bounds, the age of a URL, and its file in the state directory. The keys are not kept: each copy of a list has its own. Must not
//! judge which certificates count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Names;
use crate::config::FeedUrl;
use crate::state::{StateDirectory, StateError};
use hookgate_core::identity::ListSigner;

/// Most URLs of one profile: the parts of the lists of a few authorities. Each is fetched by a task of its own.
pub(super) const MAXIMUM_POINTS: usize = 64;

/// Most keys of one profile. A sender has some issuers at a time, and two generations of each.
const MAXIMUM_SIGNERS: usize = 32;

/// How long a URL stays known without a chain that needs its list, in seconds: 90 days, as long as the short-lived certificates of public
/// authorities.
const KEPT_SECONDS: u64 = 90 * 24 * 3600;

/// How long a URL keeps its place although another one needs it, in seconds: an hour, so that a sender with too many certificates causes few
/// fetches.
const PLACE_SECONDS: u64 = 3600;

/// Most URLs of all profiles that are kept.
const MAXIMUM_KEPT: usize = 4096;

const FILE: &str = "learned-crl-urls";
/// Room for [`MAXIMUM_KEPT`] of the longest URLs.
const FILE_BYTES: usize = 8 * 1024 * 1024;

/// What was learned, by profile.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned(BTreeMap<Names, Told>);

#[derive(Clone, Debug, Default)]
struct Told {
    points: Vec<Point>,
    signers: Vec<ListSigner>,
}

/// A URL that a certificate named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) url: FeedUrl,
    /// When a chain needed it last, in seconds since 1970.
    pub(super) used: u64,
}

/// A line of the file.
#[derive(Deserialize, Serialize)]
struct Kept {
    provider: String,
    profile: String,
    url: String,
    used: u64,
}

impl Learned {
    /// What was kept in the state directory; nothing if the file cannot be read, since certificates tell it again.
    pub(super) fn read(state: &StateDirectory, now: u64) -> Self {
        let mut learned = Self::default();
        let kept: Result<Vec<Kept>, String> = match state.read(FILE, FILE_BYTES) {
            Ok(None) => return learned,
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match kept {
            Ok(kept) => {
                for Kept { provider, profile, url, used } in kept.into_iter().take(MAXIMUM_KEPT) {
                    let names = Names { provider: provider.into(), profile: profile.into() };
                    let Ok(url) = FeedUrl::parse_signed(&url) else { continue };
                    let points = &mut learned.0.entry(names).or_default().points;
                    if points.len() < MAXIMUM_POINTS {
                        points.push(Point { url, used: used.min(now) });
                    }
                }
            }
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "the kept URLs of revocation lists cannot be used; certificates tell them again"
                );
            }
        }
        learned
    }

    /// Keeps the URLs in the state directory.
    pub(super) fn write(&self, state: &StateDirectory) -> Result<(), StateError> {
        let kept = self.0.iter().flat_map(|(names, told)| {
            told.points.iter().map(|point| Kept {
                provider: names.provider.to_string(),
                profile: names.profile.to_string(),
                url: point.url.to_string(),
                used: point.used,
            })
        });
        let kept: Vec<Kept> = kept.take(MAXIMUM_KEPT).collect();
        // A struct of texts and numbers has no value that JSON lacks.
        state.write(FILE, &serde_json::to_vec(&kept).unwrap_or_default())
    }

    /// The part about profiles that there still are; `takes_urls` says whether such a profile still learns URLs, and `None` that it is gone.
    pub(super) fn retained(&self, takes_urls: impl Fn(&Names) -> Option<bool>) -> Self {
        let kept = self.0.iter().filter_map(|(names, told)| {
            let points = if takes_urls(names)? { told.points.clone() } else { Vec::new() };
            Some((names.clone(), Told { points, signers: told.signers.clone() }))
        });
        Self(kept.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(|told| told.points.is_empty())
    }

    pub(super) fn points(&self, names: &Names) -> impl Iterator<Item = &Point> {
        self.0.get(names).into_iter().flat_map(|told| &told.points)
    }

    pub(super) fn signers(&self, names: &Names) -> impl Iterator<Item = &ListSigner> {
        self.0.get(names).into_iter().flat_map(|told| &told.signers)
    }

    /// Learns a URL, which a chain needs at `now`. Whether it is new, and has a place.
    pub(super) fn add_point(&mut self, names: &Names, url: FeedUrl, now: u64) -> bool {
        let points = &mut self.0.entry(names.clone()).or_default().points;
        if let Some(known) = points.iter_mut().find(|known| known.url == url) {
            known.used = now;
            return false;
        }
        if points.len() >= MAXIMUM_POINTS {
            let oldest = (0..).zip(&*points).min_by_key(|(_, point)| point.used);
            let Some((place, _)) = oldest.filter(|(_, point)| point.used.saturating_add(PLACE_SECONDS) < now) else {
                return false;
            };
            points.remove(place);
        }
        points.push(Point { url, used: now });
        true
    }

    /// Learns who signs lists. Whether that is new. If there are too many, the first leaves.
    pub(super) fn add_signer(&mut self, names: &Names, signer: &ListSigner) -> bool {
        let signers = &mut self.0.entry(names.clone()).or_default().signers;
        if signers.contains(signer) {
            return false;
        }
        if signers.len() >= MAXIMUM_SIGNERS {
            signers.remove(0);
        }
        signers.push(signer.clone());
        true
    }

    /// Notes when the list of each URL was used last, as `used` says.
    pub(super) fn note_uses(&mut self, used: impl Fn(&Names, &FeedUrl) -> u64) {
        for (names, told) in &mut self.0 {
            for point in &mut told.points {
                point.used = point.used.max(used(names, &point.url));
            }
        }
    }

    /// Forgets the URLs that no chain has needed for [`KEPT_SECONDS`]. Whether there were any.
    pub(super) fn forget_old(&mut self, now: u64) -> bool {
        let mut any = false;
        for told in self.0.values_mut() {
            let before = told.points.len();
            told.points.retain(|point| now <= point.used.saturating_add(KEPT_SECONDS));
            any |= told.points.len() < before;
        }
        any
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: u64 = 1_795_009_600;

    fn names(provider: &str) -> Names {
        Names { provider: provider.into(), profile: "default".into() }
    }

    fn url(number: usize) -> FeedUrl {
        FeedUrl::parse_signed(&format!("http://crl.example/{number}.crl?a=b")).unwrap()
    }

    #[test]
    fn the_number_of_urls_is_bounded_and_a_used_one_keeps_its_place() {
        let (mut learned, names) = (Learned::default(), names("sender"));
        for number in 0..MAXIMUM_POINTS {
            assert!(learned.add_point(&names, url(number), NOW));
            assert!(!learned.add_point(&names, url(number), NOW), "it is known");
        }
        assert!(!learned.add_point(&names, url(999), NOW + PLACE_SECONDS), "all places are taken");
        learned.note_uses(|_, used| if *used == url(0) { NOW + 10 } else { 0 });
        assert!(learned.add_point(&names, url(999), NOW + PLACE_SECONDS + 1));
        let known: Vec<&FeedUrl> = learned.points(&names).map(|point| &point.url).collect();
        assert_eq!(known.len(), MAXIMUM_POINTS);
        assert!(known.contains(&&url(0)) && !known.contains(&&url(1)) && known.contains(&&url(999)));
        assert!(!learned.forget_old(NOW + KEPT_SECONDS));
        assert!(learned.forget_old(NOW + KEPT_SECONDS + 11));
        assert_eq!(learned.points(&names).count(), 1);
    }

    #[test]
    fn urls_survive_a_restart_and_a_damaged_file_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        assert_eq!(Learned::read(&state, NOW).points(&names("sender")).count(), 0);
        let mut learned = Learned::default();
        learned.add_point(&names("sender"), url(1), NOW);
        learned.add_point(&names("other"), url(2), NOW);
        learned.write(&state).unwrap();
        let again = Learned::read(&state, NOW - 5);
        let kept: Vec<Point> = again.points(&names("sender")).cloned().collect();
        assert_eq!(kept, [Point { url: url(1), used: NOW - 5 }], "no use is in the future");

        // What a reload removes is forgotten, and so are the URLs of a profile that takes none any more.
        let left = again.retained(|names| (&*names.provider == "other").then_some(false));
        assert_eq!((left.points(&names("sender")).count(), left.points(&names("other")).count()), (0, 0));

        let whole = state.read(FILE, FILE_BYTES).unwrap().unwrap();
        for damaged in [
            &whole[..whole.len() - 2],
            b"",
            b"[{}]",
            b"[{\"provider\":\"a\",\"profile\":\"b\",\"url\":\"ldap://x\",\"used\":1}]",
        ] {
            state.write(FILE, damaged).unwrap();
            assert!(Learned::read(&state, NOW).0.is_empty(), "{}", damaged.escape_ascii());
        }
    }
}
