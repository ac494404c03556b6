//! The configuration: one TOML file, and every file that it names, parsed into types once.
//!
//! Owns the syntax, the defaults, the bounds, and the errors about them. Reads files, and nothing else of the outside
//! world: no socket, and clock and environment but once, in [`Config::load`]. What it returns is complete: no later stage reads a file
//! again, so a reload either has everything or changes nothing.
//!
//! Each section is read into a raw struct whose values know their place in the file, and from there into its type, once. What
//! is wrong is collected and not thrown: [`Config::parse`] has all of it, or a configuration.

mod anchor;
mod certificate;
mod coverage;
mod document;
mod error;
mod file;
mod filter;
pub mod inventory;
mod key_source;
mod key_url;
mod length;
mod limits;
mod listen;
pub mod preset;
mod profile;
mod proof;
mod provider;
mod ranges;
mod route;
#[cfg(test)]
mod tests;
mod warning;

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde::Deserialize;
use toml::Spanned;

use self::certificate::RawCertificate;
use self::document::{Document, Report, Surroundings};
use self::filter::RawFilter;
use self::inventory::Inventory;
use self::key_source::{KeySources, RawKeySource};
use self::limits::RawLimits;
use self::listen::{RawListen, RawMetrics};
use self::provider::RawProvider;
use self::route::RawRoute;
use crate::auth::ProofPolicy;
use crate::identity::{Provider, ProviderId};
use crate::ranges::{Ranges, Sources};

pub use self::error::{ConfigError, ConfigErrors, Location, Problem};
pub use self::file::{FileVersion, FileVersions, day_of};
pub use self::filter::{FilterSection, PIN_DIRECTORY};
pub use self::key_source::{FetchLimits, KeyOrigin, KeySource};
pub use self::key_url::{KeyUrl, KeyUrlError};
pub use self::listen::DEFAULT_BACKLOG;
pub use self::proof::ProofProblem;
pub use self::provider::DEFAULT_VERIFY_DEPTH;
pub use self::ranges::RangeProblem;
pub use self::warning::{Caution, Warning};

/// Everything that the operator said, complete and within bounds.
#[derive(Debug)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[[certificate]]`: ours. Empty only where providers and routes are too; the first is the default.
    pub certificates: Vec<ServerCertificate>,
    /// `[[provider]]`, in the order of the file: [`ProviderId`] is the index.
    pub providers: Vec<Provider>,
    /// By [`ProviderId`]: where each sends from.
    pub sources: Vec<Sources>,
    /// `[[route]]`, in the order of the file.
    pub routes: Vec<Route>,
    /// `[limits]`
    pub limits: Limits,
    /// What is demanded of requests beyond the certificate, and the keys for it: `proof` and `replay` of providers and routes,
    /// `[[key_source]]`.
    pub proofs: Proofs,
    /// `[filter]`; off without the section.
    pub filter: FilterSection,
    /// `[metrics]`; without the section there is no endpoint.
    pub metrics: Option<Metrics>,
    /// `reload`: when the file is read again.
    pub reload: ReloadTrigger,
    /// What stands in the file and in those that it names, in short, for the report of what a reload changed.
    pub inventory: Inventory,
}

/// `reload`: what makes a running hookgate load its configuration again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadTrigger {
    /// SIGHUP alone.
    #[default]
    Signal,
    /// Also a change of the file, or of one that it names.
    Watch,
}

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Reading {
    /// The file itself and every file that it names, as far as reading got, each with the version that was read.
    pub files: FileVersions,
    /// The configuration, and what it is warned of, or everything that is wrong with it.
    pub outcome: Result<(Config, Vec<Warning>), ConfigErrors>,
}

/// The whole file as it stands.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    reload: Option<ReloadTrigger>,
    #[serde(deserialize_with = "document::table")]
    listen: Option<Spanned<RawListen>>,
    #[serde(deserialize_with = "document::tables")]
    certificate: Option<Spanned<Vec<Spanned<RawCertificate>>>>,
    #[serde(deserialize_with = "document::tables")]
    key_source: Option<Spanned<Vec<Spanned<RawKeySource>>>>,
    #[serde(deserialize_with = "document::tables")]
    provider: Option<Spanned<Vec<Spanned<RawProvider>>>>,
    #[serde(deserialize_with = "document::tables")]
    route: Option<Spanned<Vec<Spanned<RawRoute>>>>,
    #[serde(deserialize_with = "document::table")]
    limits: Option<Spanned<RawLimits>>,
    #[serde(deserialize_with = "document::table")]
    filter: Option<Spanned<RawFilter>>,
    #[serde(deserialize_with = "document::table")]
    metrics: Option<Spanned<RawMetrics>>,
}

impl Config {
    /// Reads the file at `path`, of at most 4 MiB, and all files that it names, and judges validity by the clock.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::read(path).outcome
    }

    /// As [`Config::load`], and tells the files that the outcome depends on.
    pub fn read(path: &Path) -> Reading {
        let mut files = FileVersions::default();
        files.note(path);
        let outcome = Self::read_noting(path, &mut files);
        Reading { files, outcome }
    }

    fn read_noting(path: &Path, files: &mut FileVersions) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let text = file::read(path, file::MAXIMUM_FILE_BYTES).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        let text = text.map_err(|source| {
            let location = Location { file: path.to_owned(), line: None, key: String::new() };
            ConfigErrors(vec![ConfigError { location, problem: Problem::Unreadable { source } }])
        })?;
        // systemd.exec(5): where it put what LoadCredential= and its kin name.
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::parse_in(&text, path, Surroundings { now: UnixTime::now(), credentials }, files)
    }

    /// Parses `text`, which stands at `path`: relative paths in it are relative to the directory of `path`. Reads all files
    /// that it names. `now` decides what has expired, which is only ever warned of. There are no credentials of the service
    /// manager.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once; of errors in the syntax of TOML the first.
    pub fn parse(text: &str, path: &Path, now: UnixTime) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::parse_in(text, path, Surroundings { now, credentials: None }, &mut FileVersions::default())
    }

    fn parse_in(
        text: &str,
        path: &Path,
        surroundings: Surroundings,
        files: &mut FileVersions,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let document = Document::parse(text, path)?;
        let mut report = Report::new(&document, surroundings);
        let raw: RawConfig = document.read(&mut report);
        let raw_certificates = elements(raw.certificate.as_ref());
        let raw_providers = elements(raw.provider.as_ref());
        let raw_routes = elements(raw.route.as_ref());
        let listen = listen::listen(raw.listen, &mut report);
        let certificates = certificate::certificates(raw_certificates, &mut report);
        let mut sources = KeySources::new(elements(raw.key_source.as_ref()), &mut report);
        let (providers, provider_proofs, names) = provider::providers(raw_providers, &mut sources, &mut report);
        let (routes, route_proofs) = route::routes(raw_routes, &names, &mut sources, &mut report);
        let proofs =
            Proofs { providers: provider_proofs, routes: route_proofs, key_sources: sources.finish(&mut report) };
        let counts = [raw_certificates.len(), raw_providers.len(), raw_routes.len()];
        coverage::expect_sections(counts, &mut report);
        let limits = limits::limits(raw.limits.as_ref().map(Spanned::get_ref), &mut report);
        let metrics = listen::metrics(raw.metrics, listen.as_ref(), &mut report);
        let ranges = ranges::of_providers(raw_providers, &mut report);
        let context = filter::Context { listen: listen.as_ref(), providers: raw_providers, ranges: &ranges };
        let filter = filter::filter(raw.filter.as_ref(), &context, &mut report);
        let counts: Vec<usize> = ranges.iter().map(|it| it.prefixes.len()).collect();
        let source = |it: ranges::ProviderRanges| Sources { check: it.check, ranges: Ranges::new(&it.prefixes) };
        let sources = ranges.into_iter().map(source).collect();
        let mut config = listen.map(|listen| Self {
            listen,
            certificates,
            providers,
            sources,
            routes,
            limits,
            proofs,
            filter,
            metrics,
            reload: raw.reload.unwrap_or_default(),
            inventory: Inventory::default(),
        });
        *files = std::mem::take(files).with(report.files());
        if let Some(config) = &mut config {
            config.inventory = Inventory::new(document.root(), config, &counts, report.notes());
            coverage::warn(config, raw_certificates, raw_providers, raw_routes, &mut report);
        }
        report.finish(config)
    }
}

/// The elements of an array of tables; none where there is no array.
fn elements<T>(array: Option<&Spanned<Vec<Spanned<T>>>>) -> &[Spanned<T>] {
    array.map(|array| array.get_ref().as_slice()).unwrap_or_default()
}

/// `[listen]`: where connections are accepted, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Addresses, IPv4 and IPv6; an IPv6 address never takes IPv4 connections. Never empty, no duplicates.
    pub addresses: Vec<SocketAddr>,
    /// Worker threads; 0 stands for one a core that this process may run on. At most 1,024.
    pub workers: usize,
    /// Which backend does the socket I/O.
    pub io: IoBackend,
    /// Length of each listener's accept queue; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
}

/// `listen.io`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoBackend {
    /// io_uring where the host allows it, else epoll with a warning and a metric.
    #[default]
    Auto,
    /// io_uring, or refuse to start.
    IoUring,
    /// io_uring by a reactor of our own, or refuse to start.
    IoUringDirect,
    /// epoll.
    Epoll,
}

/// One of our certificates, with its key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// End entity first, then its issuers in order.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the end entity; that they belong together was checked.
    pub key: PrivateKeyDer<'static>,
    /// The DNS names of the subjectAltName extension, lower case, `*.` kept.
    pub names: Vec<String>,
    /// Where the chain was read from, for messages.
    pub chain_path: PathBuf,
}

/// `[[route]]`: what is handed to which handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `name`, the metric label; where it is not given, host and path.
    pub name: Arc<str>,
    /// Host in lower case, without port; `None` matches every host.
    pub host: Option<Arc<str>>,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; never empty. Default `POST`.
    pub methods: Vec<Method>,
    /// Any of these may call; never empty, ascending.
    pub providers: Vec<ProviderId>,
    /// Where the request goes.
    pub handler: Handler,
    /// Whether `Client-Cert-Chain` (RFC 9440) is forwarded too.
    pub client_cert_chain: bool,
}

/// Which request paths a route takes. Compared byte by byte with the path as sent, query excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// `"/pagerduty"`: this path alone.
    Exact(Arc<str>),
    /// `"/pagerduty/*"`: every path that begins with `/pagerduty/`. Holds the prefix with its last slash.
    Prefix(Arc<str>),
}

/// `handler`: a Unix stream socket that speaks HTTP/1.1. `unix:/absolute/path` in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handler {
    /// Path of the socket, absolute, at most 107 bytes (`sun_path`, unix(7)).
    pub socket: PathBuf,
}

/// What each provider and route demands of a request beyond the certificate.
#[derive(Debug)]
pub struct Proofs {
    /// By [`ProviderId`]: as many as there are providers.
    pub providers: Vec<Arc<ProofPolicy>>,
    /// By the index of [`Config::routes`]. What a route demands replaces what its providers do; `None` leaves that as it is.
    pub routes: Vec<Option<Arc<ProofPolicy>>>,
    /// By [`KeySourceId`](crate::auth::KeySourceId): `[[key_source]]` in the order of the file, then the built-in one, if a
    /// token needs it.
    pub key_sources: Vec<KeySource>,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where Prometheus scrapes; plain HTTP.
    pub listen: SocketAddr,
}

/// `[limits]`: every bound of the data plane. Keys carry the unit; defaults stand in [`Limits::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: over all workers.
    pub max_connections: usize,
    /// `handshake_timeout_ms`: from accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// `request_head_timeout_ms`: from the first byte of a request to the end of its head; also from the end of the handshake
    /// to the first byte of the first request.
    pub request_head_timeout: Duration,
    /// `request_timeout_ms`: from the first byte of a request to the last of its body.
    pub request_timeout: Duration,
    /// `handler_timeout_ms`: from a complete request to the head of the handler's answer, waiting included; then between two
    /// pieces of its body.
    pub handler_timeout: Duration,
    /// `response_timeout_ms`: how long a peer may take nothing of an answer.
    pub response_timeout: Duration,
    /// `idle_timeout_ms`: between two requests on a connection.
    pub idle_timeout: Duration,
    /// `drain_timeout_ms`: how long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
    /// `max_head_bytes`: request line and fields.
    pub max_head_bytes: usize,
    /// `max_headers`: fields in a request head.
    pub max_headers: usize,
    /// `max_body_bytes`: of one request.
    pub max_body_bytes: usize,
    /// `max_buffered_bytes`: of all request bodies at once, over all workers.
    pub max_buffered_bytes: usize,
    /// `max_presented_certificates`: in a client's chain.
    pub max_presented_certificates: usize,
    /// `max_presented_bytes`: of DER in a client's chain.
    pub max_presented_bytes: usize,
    /// `chain_cache_entries`: verified chains remembered; 0 remembers none.
    pub chain_cache_entries: usize,
    /// `chain_cache_ttl_s`: how long at the most.
    pub chain_cache_ttl: Duration,
    /// `replay_entries`: deliveries remembered, over all providers and routes; about 56 bytes each.
    pub replay_entries: usize,
    /// `handler_max_in_flight`: requests with one handler at once, over all workers.
    pub handler_max_in_flight: usize,
    /// `handler_max_waiting`: requests that wait for one handler, over all workers; more are refused.
    pub handler_max_waiting: usize,
    /// `handler_idle_connections`: kept open to one handler by each worker.
    pub handler_idle_connections: usize,
    /// `handler_idle_timeout_ms`: how long an unused connection to a handler is kept.
    pub handler_idle_timeout: Duration,
}

impl Default for Limits {
    /// The documented defaults. Time-outs follow what webhook senders do: PagerDuty gives a receiver 5 s and Dialogflow at
    /// most 30 s, so a longer wait serves nobody; sizes leave room above the largest bodies that they document (64 KiB).
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            request_head_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            handler_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            max_head_bytes: 16 * 1024,
            max_headers: 100,
            max_body_bytes: 1024 * 1024,
            max_buffered_bytes: 256 * 1024 * 1024,
            max_presented_certificates: 8,
            max_presented_bytes: 32 * 1024,
            chain_cache_entries: 4096,
            chain_cache_ttl: Duration::from_secs(3600),
            replay_entries: 100_000,
            handler_max_in_flight: 256,
            handler_max_waiting: 1024,
            handler_idle_connections: 32,
            handler_idle_timeout: Duration::from_secs(30),
        }
    }
}
