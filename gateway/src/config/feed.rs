//! Where something is published, and the bounds within which it is fetched.
//!
//! Owns the keys that all of these have in common. Must not know what a document holds, nor fetch it: `control::published` does.

use std::path::Path;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use toml::Spanned;

use super::bound::Bound;
use super::error::{Problem, ProofProblem};
use super::feed_url::FeedUrl;
use super::file::{self, MAXIMUM_FILE_BYTES};
use super::report::Report;

/// At most a minute. What takes longer is fetched again.
pub(super) const TIMEOUT: Bound = Bound::new(1, 60_000, " ms");

/// Something that is published under a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Where it is.
    pub url: FeedUrl,
    /// The bounds of a fetch.
    pub limits: FetchLimits,
    /// `ca_file`: the trust anchors for the server's certificate, at least one; `None` means the roots of this host.
    pub roots: Option<Vec<CertificateDer<'static>>>,
}

impl Feed {
    /// The name in logs and metrics: the URL without its query, which could hold a key of its reader.
    #[must_use]
    pub fn name(&self) -> String {
        let uri = self.url.uri();
        let scheme = uri.scheme_str().unwrap_or("https");
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{}", uri.path())
    }

    /// Whether a copy of what this publishes is one of `other`: from the same URL, vouched for by the same roots.
    #[must_use]
    pub fn is_same_document(&self, other: &Self) -> bool {
        self.url == other.url && self.roots == other.roots
    }
}

/// The bounds of fetches of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// Longest time of one fetch, from the look-up of the name to the last byte.
    pub timeout: Duration,
    /// Most bytes of the document.
    pub max_bytes: usize,
    /// Shortest interval between fetches, whatever `Cache-Control` says.
    pub min_fresh: Duration,
    /// Longest interval between fetches, whatever `Cache-Control` says. It bounds the time for which a withdrawn key is trusted.
    pub max_fresh: Duration,
    /// How long stale keys are used if a fetch fails.
    pub max_stale: Duration,
    /// Whether the server may have an address that is not public: loopback, private, link-local.
    pub allow_private: bool,
    /// Most redirects that are followed.
    pub redirects: usize,
}

impl Default for FetchLimits {
    /// A set of 64 keys of 8192 bits has 100 KiB. With one day of staleness, an issuer can be unreachable for a night. A
    /// withdrawn key is trusted for at most two days.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            max_bytes: 256 * 1024,
            min_fresh: Duration::from_secs(60),
            max_fresh: Duration::from_secs(24 * 3600),
            max_stale: Duration::from_secs(24 * 3600),
            allow_private: false,
            redirects: 0,
        }
    }
}

/// Parses an `https` URL. Reports what is wrong with it, at `at`.
pub(super) fn url<T>(text: &str, at: &Spanned<T>, report: &mut Report<'_>) -> Option<FeedUrl> {
    FeedUrl::parse(text).map_err(|error| report.error(at, ProofProblem::from(error).into())).ok()
}

/// Parses the URL of a document that is signed, as [`url`].
pub(super) fn url_of_signed<T>(text: &str, at: &Spanned<T>, report: &mut Report<'_>) -> Option<FeedUrl> {
    FeedUrl::parse_signed(text).map_err(|error| report.error(at, ProofProblem::from(error).into())).ok()
}

/// Reads `ca_file`; `None` if it has a reported error.
pub(super) fn roots(
    file: Option<&Spanned<String>>,
    report: &mut Report<'_>,
) -> Option<Option<Vec<CertificateDer<'static>>>> {
    let Some(text) = file else { return Some(None) };
    let roots = read_roots(&report.resolve(text.get_ref())).map_err(|problem| report.error(text, problem));
    roots.ok().map(Some)
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let certificates = file::certificates(&file::read_named(path, MAXIMUM_FILE_BYTES)?, path, &[])?;
    for (index, certificate) in certificates.iter().enumerate() {
        file::trust_anchor(certificate, index, path)?;
    }
    Ok(certificates)
}
