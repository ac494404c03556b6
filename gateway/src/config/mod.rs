//! The configuration: one TOML file and every file that it names, parsed into types once.
//!
//! Owns the syntax, defaults and bounds, and the errors about them. Reads files; must not open a socket. Reads the clock and the
//! environment once, in [`Config::load`]. The result is complete: no later stage reads a file again, so a reload has everything
//! or changes nothing.
//!
//! Each section is deserialized into a raw struct, whose values know their lines, and parsed from there into its type. Errors are
//! collected: [`Config::parse`] returns a configuration or all errors. This file puts the parts together; each section has a file
//! of its own.

mod acme;
mod admin;
mod advice;
mod anchor;
mod bound;
mod certificate;
mod client_certificate;
mod coverage;
mod crls;
mod document;
mod durable;
mod entry;
mod error;
mod feed;
mod feed_url;
mod file;
mod filter;
mod fleet;
pub mod inventory;
mod issued;
mod key_source;
mod length;
mod levels;
mod limits;
mod listen;
mod log;
mod name;
mod pem;
mod places;
pub mod preset;
mod problem;
mod profile;
mod proof;
mod provider;
mod range_url;
mod ranges;
mod report;
mod route;
mod state;
pub mod strength;
#[cfg(test)]
pub(crate) mod tests;
mod tickets;
mod tls;
mod warning;

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookgate_core::limits::Limits;
use hookgate_core::route::Route;
use ipnet::IpNet;
use rustls_pki_types::UnixTime;
use serde::Deserialize;
use toml::Spanned;

use self::admin::RawAdmin;
use self::certificate::RawCertificate;
use self::document::Document;
use self::filter::RawFilter;
use self::fleet::RawFleet;
use self::inventory::Inventory;
use self::key_source::{KeySources, RawKeySource};
use self::limits::RawLimits;
use self::listen::{RawListen, RawMetrics};
use self::log::RawLog;
use self::preset::{Presets, RawPresets};
use self::problem::RawProblem;
use self::provider::{ParsedProviders, RawProvider};
use self::ranges::ProviderRanges;
use self::report::{Environment, Report};
use self::route::{ParsedRoutes, RawRoute};
use self::state::RawState;
use self::strength::Strength;
use self::tickets::RawTickets;
use self::tls::RawTls;
use crate::crypto::TicketSecrets;
use hookgate_core::identity::Provider;
use hookgate_core::ranges::{Ranges, Sources};
use hookgate_core::reject::TypeBase;

pub use self::acme::{AcmeOrder, ExternalAccount, HmacKey};
pub use self::admin::{Admin, AdminAddress};
pub use self::certificate::{AcmeCertificate, Certificate, ChainEnd, ServerCertificate};
pub use self::crls::{FetchedLists, parse_fetched};
pub use self::durable::{Durable, OrderBy, percent_used};
pub(crate) use self::error::one_line;
pub use self::error::{
    AcmeProblem, CertificateProblem, ConfigError, ConfigErrors, DurableProblem, FileForm, FleetProblem, HandlerProblem,
    IssuedProblem, Location, OtherAnchor, PresetProblem, Problem, ProofProblem, RangeProblem, RevocationProblem,
    RouteProblem, TicketProblem, is_of_host,
};
pub use self::feed::{Feed, FetchLimits};
pub use self::feed_url::{FeedUrl, FeedUrlError};
pub use self::file::{FileVersion, FileVersions, ListFiles, day_of};
pub use self::filter::{FilterSection, PIN_DIRECTORY};
pub use self::fleet::{Fallback, Fleet, FleetSpool};
pub use self::issued::chain_of_pem;
pub use self::key_source::{KeyOrigin, KeySource};
pub use self::levels::{Levels, LevelsError};
pub use self::listen::{DEFAULT_BACKLOG, Listen, Metrics};
pub use self::log::{DEFAULT_ACCESS_PER_SECOND, LogFormat, LogSection};
pub use self::name::MAXIMUM_NAME_BYTES;
pub use self::places::{NamedPlaces, Sections};
pub use self::profile::DEFAULT_VERIFY_DEPTH;
pub(crate) use self::profile::SINGLE_PROFILE;
pub use self::proof::{Addition, AdditionForm, FileKind, Proofs, Usual};
pub use self::range_url::{RangeFormat, RangeSource, RangeUrl};
pub use self::state::{Deliveries, OnStateFailure, State};
pub use self::tls::TlsSection;
pub(crate) use self::tls::numbers as tls_numbers;
pub use self::warning::{ListFlaw, ListWarning, RouteWarning, Warning, WarningKind};

/// The whole configuration, within its bounds.
#[derive(Debug)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `proxy_protocol` of `[listen]`: the ranges of the proxies that convey the address of a peer. Empty without the key.
    pub proxies: Ranges,
    /// `http2` of `[listen]`: whether peers may choose HTTP/2.
    pub http2: bool,
    /// `[[certificate]]`. The first is the default. Empty only if there are no providers and no routes.
    pub certificates: Vec<Certificate>,
    /// `[[provider]]`, in the order of the file: [`ProviderId`](hookgate_core::identity::ProviderId) is the index.
    pub providers: Vec<Provider>,
    /// By [`ProviderId`](hookgate_core::identity::ProviderId): the ranges of its addresses.
    pub sources: Vec<Sources>,
    /// By [`ProviderId`](hookgate_core::identity::ProviderId): ranges that are fetched, in addition to `sources`.
    pub range_urls: Vec<Vec<RangeUrl>>,
    /// By [`ProviderId`](hookgate_core::identity::ProviderId): the ranges of `sources` as they are written.
    pub written_ranges: Vec<Vec<IpNet>>,
    /// By [`ProviderId`](hookgate_core::identity::ProviderId) and the index of its profile: the revocation lists that are fetched.
    pub fetched_lists: Vec<Vec<FetchedLists>>,
    /// `[[route]]`, in the order of the file.
    pub routes: Vec<Route>,
    /// By the index of the route: how its deliveries are stored and handed over; `None` if its handler answers the sender.
    pub durable: Vec<Option<Arc<Durable>>>,
    /// `[limits]`
    pub limits: Limits,
    /// `proof` and `replay` of providers and routes, and `[[key_source]]`.
    pub proofs: Proofs,
    /// `[filter]`; off without the section.
    pub filter: FilterSection,
    /// `[metrics]`; without the section, there is no endpoint.
    pub metrics: Option<Metrics>,
    /// `[admin]`; without the section, there is no admin side.
    pub admin: Option<Admin>,
    /// `[log]`
    pub log: LogSection,
    /// `[tls]`: versions, suites and key exchange of handshakes with senders.
    pub tls: TlsSection,
    /// `[tickets]`: the secrets of session tickets that other hosts have too; without the section, no other host opens a ticket.
    pub tickets: Option<TicketSecrets>,
    /// `[problem]`: the `type` of problem documents.
    pub problem_types: TypeBase,
    /// `[state]`, or the directory of the service manager: where hookgate keeps what outlives a restart.
    pub state: State,
    /// `[fleet]`: over which servers hosts share the memory of deliveries, if they do.
    pub fleet: Option<Fleet>,
    /// `reload`: when hookgate loads the configuration again.
    pub reload: ReloadTrigger,
    /// The settings and the contents of the files, so that a reload can log what it changed.
    pub inventory: Inventory,
    /// What it demands of senders, so that a reload does not demand less by accident.
    pub strength: Strength,
    /// Which file each revocation list of `crls` is from.
    pub list_files: ListFiles,
    /// What only `hookgate check` says: nothing is wrong.
    pub notes: Vec<Warning>,
}

/// `reload`: what makes a running hookgate load its configuration again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadTrigger {
    /// Only SIGHUP.
    #[default]
    Signal,
    /// SIGHUP, and a change of the configuration or of a file that it names.
    Watch,
}

/// The result of reading a configuration.
#[derive(Debug)]
pub struct Reading {
    /// The configuration file and the files that it names, each with the version that was read. Incomplete if parsing stopped.
    pub files: FileVersions,
    /// The configuration with its warnings, or all errors.
    pub outcome: Result<(Config, Vec<Warning>), ConfigErrors>,
}

/// The whole file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    reload: Option<ReloadTrigger>,
    accept_weaker: Option<Spanned<String>>,
    #[serde(deserialize_with = "document::table")]
    listen: Option<Spanned<RawListen>>,
    #[serde(deserialize_with = "document::tables")]
    certificate: Option<Spanned<Vec<Spanned<RawCertificate>>>>,
    #[serde(deserialize_with = "document::tables")]
    key_source: Option<Spanned<Vec<Spanned<RawKeySource>>>>,
    #[serde(deserialize_with = "document::table")]
    presets: Option<Spanned<RawPresets>>,
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
    #[serde(deserialize_with = "document::table")]
    admin: Option<Spanned<RawAdmin>>,
    #[serde(deserialize_with = "document::table")]
    log: Option<Spanned<RawLog>>,
    #[serde(deserialize_with = "document::table")]
    state: Option<Spanned<RawState>>,
    #[serde(deserialize_with = "document::table")]
    fleet: Option<Spanned<RawFleet>>,
    #[serde(deserialize_with = "document::table")]
    problem: Option<Spanned<RawProblem>>,
    #[serde(deserialize_with = "document::table")]
    tls: Option<Spanned<RawTls>>,
    #[serde(deserialize_with = "document::table")]
    tickets: Option<Spanned<RawTickets>>,
}

impl Config {
    /// Reads the file at `path`, at most 4 MiB, and all files that it names. Judges validity by the clock.
    ///
    /// # Errors
    /// All errors.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::read(path).outcome
    }

    /// As [`Config::load`]; also returns the files that the outcome depends on.
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
            ConfigErrors(vec![ConfigError { location, problem: Problem::Unreadable { source, option: "--config" } }])
        })?;
        Self::parse_in(&text, path, Self::environment(), files)
    }

    /// Parses `text` as [`Config::read`] parses the file at `path`, which need not exist.
    ///
    /// # Errors
    /// All errors.
    pub fn parse_draft(text: &str, path: &Path) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::parse_in(text, path, Self::environment(), &mut FileVersions::default())
    }

    /// What the parsers get from the clock and the environment of this process.
    fn environment() -> Environment {
        // systemd.exec(5): the files of LoadCredential= and similar settings.
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        // Several directories are separated by colons; hookgate needs one.
        let state = env::var_os("STATE_DIRECTORY").and_then(|paths| env::split_paths(&paths).next());
        let state = state.filter(|path| !path.as_os_str().is_empty());
        let preset_directories = preset::DIRECTORIES.iter().map(PathBuf::from).collect();
        Environment { credentials, state, preset_directories, ..Environment::at(UnixTime::now()) }
    }

    /// Parses `text`, the content of the file at `path`, and reads all files that it names. Relative paths are relative to the
    /// directory of `path`. Warns of what has expired at `now`. There are no credentials of the service manager, and no presets but those
    /// that are compiled in or in `[presets]`.
    ///
    /// # Errors
    /// All errors; of syntax errors, the first.
    pub fn parse(text: &str, path: &Path, now: UnixTime) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::parse_in(text, path, Environment::at(now), &mut FileVersions::default())
    }

    fn parse_in(
        text: &str,
        path: &Path,
        environment: Environment,
        files: &mut FileVersions,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let document = Document::parse(text, path)?;
        let mut report = Report::new(&document, environment);
        let raw: RawConfig = report.read();
        strength::check_permission(raw.accept_weaker.as_ref(), &mut report);
        let raw_certificates = elements(raw.certificate.as_ref());
        let raw_providers = elements(raw.provider.as_ref());
        let raw_routes = elements(raw.route.as_ref());
        let proxies = listen::proxies(raw.listen.as_ref(), &mut report);
        let http2 = listen::http2(raw.listen.as_ref());
        let listen = listen::listen(raw.listen, &mut report);
        let certificates = certificate::certificates(raw_certificates, &mut report);
        let mut key_sources = KeySources::new(elements(raw.key_source.as_ref()), &mut report);
        let limits = limits::limits(raw.limits.as_ref().map(Spanned::get_ref), &mut report);
        let presets = Presets::load(raw.presets.as_ref(), &mut report);
        let ParsedProviders { providers, proofs: provider_proofs, fetched_lists, names } =
            provider::providers(raw_providers, &presets, &mut key_sources, &mut report);
        presets.warn_of_unusable(&mut report);
        let ParsedRoutes { routes, proofs: route_proofs, durable } =
            route::routes(raw_routes, &names, &limits, &mut key_sources, &mut report);
        let key_sources = key_sources.finish(&mut report);
        let proofs = Proofs { providers: provider_proofs, routes: route_proofs, key_sources };
        let counts = [raw_certificates.len(), raw_providers.len(), raw_routes.len()];
        coverage::expect_sections(counts, &mut report);
        let metrics = listen::metrics(raw.metrics, listen.as_ref(), &mut report);
        let admin = admin::admin(raw.admin, listen.as_ref(), metrics.as_ref(), &mut report);
        let log = log::log(raw.log.as_ref(), &mut report);
        let state = state::state(raw.state.as_ref(), &mut report);
        let tls = tls::tls(raw.tls.as_ref(), &mut report);
        let fleet = fleet::fleet(raw.fleet.as_ref(), &mut report);
        let tickets = tickets::tickets(raw.tickets.as_ref(), &mut report);
        let names_directory = raw.state.as_ref().is_some_and(|state| state.get_ref().names_directory());
        let written = raw_routes.iter().map(|raw| raw.get_ref().written_delivery());
        fleet::check(raw.fleet.as_ref(), fleet.as_ref(), &proofs, &mut report);
        durable::check(written, &routes, &durable, (&state, names_directory), &mut report);
        let problem_types = problem::types(raw.problem.as_ref(), &mut report);
        let ranges = provider::source_ranges(raw_providers, &mut report);
        let range_urls = provider::range_urls(raw_providers, &mut report);
        let context = filter::Context {
            listen: listen.as_ref(),
            proxies: &proxies,
            providers: raw_providers,
            ranges: &ranges,
            range_urls: &range_urls,
        };
        let filter = filter::filter(raw.filter.as_ref(), &context, &mut report);
        let range_counts: Vec<usize> = ranges.iter().map(|it| it.prefixes.len()).collect();
        let sources = sources(&ranges, &range_urls);
        let parsed = inventory::Parsed {
            certificates: &certificates,
            providers: &providers,
            sources: &sources,
            range_counts: &range_counts,
            routes: &routes,
            filter_sets: &filter.policy.sets,
        };
        let inventory = Inventory::new(document.root(), &parsed, report.entries());
        coverage::acme(&certificates, raw_certificates, (&state, names_directory), &filter, &mut report);
        coverage::providers(&providers, raw_providers, &routes, &mut report);
        coverage::certificates(&certificates, raw_certificates, &routes, &mut report);
        coverage::bytes_of_disk(raw_routes, fleet.as_ref(), &mut report);
        coverage::hosts(&routes, raw_routes, &certificates, &mut report);
        let own = own_addresses(listen.as_ref(), metrics.as_ref(), admin.as_ref());
        coverage::handlers(&routes, raw_routes, &own, &mut report);
        coverage::authority_names(&providers, &routes, raw_routes, &mut report);
        advice::advise(
            &advice::Parsed {
                presets: &presets,
                raw_providers,
                providers: &providers,
                fetched_lists: &fetched_lists,
                raw_routes,
                routes: &routes,
                proofs: &proofs,
                raw_limits: raw.limits.as_ref().map(Spanned::get_ref),
                raw_tls: raw.tls.as_ref().map(Spanned::get_ref),
                tls: &tls,
            },
            &mut report,
        );
        let strength = Strength::new(&strength::Parsed {
            root: document.root(),
            permission: raw.accept_weaker.as_ref().map(|written| written.get_ref().as_str()),
            proxies: &proxies,
            providers: &providers,
            sources: &sources,
            ranges: &ranges,
            routes: &routes,
            durable: &durable,
            proofs: &proofs,
            filter: &filter,
            log: &log,
            tls: &tls,
            presets: &provider::presets_in_use(raw_providers, &presets),
            subordinates: report.subordinates(),
        });
        let written_ranges = ranges.into_iter().map(|it| it.prefixes).collect();
        let reload = raw.reload.unwrap_or_default();
        let notes = report.take_notes();
        let list_files = std::mem::take(&mut report.list_files);
        let config = listen.map(|listen| Self {
            listen,
            proxies: Ranges::new(&proxies),
            http2,
            certificates,
            providers,
            sources,
            range_urls,
            written_ranges,
            fetched_lists,
            routes,
            durable,
            limits,
            proofs,
            filter,
            metrics,
            admin,
            log,
            tls,
            tickets,
            problem_types,
            state,
            fleet,
            reload,
            inventory,
            strength,
            list_files,
            notes,
        });
        *files = std::mem::take(files).with(report.files());
        report.finish(config)
    }
}

/// What is known of the addresses of each provider before anything was fetched.
fn sources(ranges: &[ProviderRanges], urls: &[Vec<RangeUrl>]) -> Vec<Sources> {
    let source = |(written, urls): (&ProviderRanges, &Vec<RangeUrl>)| Sources {
        check: written.check,
        ranges: Ranges::new(&written.prefixes),
        is_complete: urls.is_empty(),
    };
    ranges.iter().zip(urls).map(source).collect()
}

/// The elements of an array of tables; empty without the array.
/// Where hookgate itself listens, with the key that says so.
fn own_addresses(
    listen: Option<&Listen>,
    metrics: Option<&Metrics>,
    admin: Option<&Admin>,
) -> Vec<(&'static str, SocketAddr)> {
    let listen = listen.into_iter().flat_map(|listen| &listen.addresses).map(|address| ("listen.addresses", *address));
    let metrics = metrics.map(|metrics| ("metrics.listen", metrics.listen));
    let admin = admin.and_then(|admin| match admin.listen {
        AdminAddress::Loopback(address) => Some(("admin.listen", address)),
        AdminAddress::Unix(_) => None,
    });
    listen.chain(metrics).chain(admin).collect()
}

fn elements<T>(array: Option<&Spanned<Vec<Spanned<T>>>>) -> &[Spanned<T>] {
    array.map(|array| array.get_ref().as_slice()).unwrap_or_default()
}
