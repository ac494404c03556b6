//! Everything that a worker needs to know, immutable and numbered: what a reload replaces as a whole.
//!
//! Built once from a [`Config`] and shared by all workers. A request keeps the snapshot with which it began. Must not read files,
//! nor change after it is made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hyper::header::{HeaderValue, InvalidHeaderValue};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use thiserror::Error;

use crate::config::{Config, ServerCertificate};
use crate::crypto::signing_key;
use crate::keys::KeyStore;
use crate::tls::certificates::Certificates;
use crate::tls::server::SharedTls;
use hookgate_core::auth::{Demands, ReplayGuard};
use hookgate_core::identity::{ChainCache, ChainLimits, Identity, OnFailure, Provider, ProviderId, Scope, Sightings};
use hookgate_core::limits::Limits;
use hookgate_core::ranges::Sources;
use hookgate_core::route::Route;
use hookgate_core::route::RouteTable;

/// Why a configuration that parsed cannot be served.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// A key is of a kind that the TLS library does not know.
    #[error("the key of certificate {certificate} cannot be used: {source}; use an ECDSA P-256, Ed25519 or RSA key")]
    Key {
        /// File of the chain.
        certificate: String,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// A provider has a name that no configuration file can give it.
    #[error("the name of provider {0} is not fit for a header field: {1}")]
    ProviderName(Arc<str>, InvalidHeaderValue),
    /// The TLS library refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What is served under one server name.
#[derive(Debug)]
pub struct Site {
    /// The server name in lower case; `None` for the sites of unknown names and of clients that send none.
    pub server_name: Option<Arc<str>>,
    /// The providers that its peers are verified for.
    pub scope: Scope,
    /// Its TLS configuration.
    pub tls: Arc<ServerConfig>,
}

/// How a client is received, by the server name in its hello.
pub enum Reception<'a> {
    /// With this site.
    Site(&'a Arc<Site>),
    /// Not at all: no route has this name, and every provider wants such a client turned away in the handshake.
    TurnAway,
}

/// What a snapshot shares with others, before it and after.
#[derive(Clone)]
pub struct Lasting {
    /// Verified chains.
    pub cache: Arc<ChainCache>,
    /// The keys of the configuration's token issuers.
    pub keys: Arc<KeyStore>,
    /// The deliveries that were taken.
    pub replay: Arc<ReplayGuard>,
    /// What was seen of the providers' certificates under the snapshot before.
    pub sightings: Arc<Sightings>,
}

/// One generation of everything.
pub struct Snapshot {
    /// Counts up from 1 with every successful load.
    pub generation: u64,
    /// The trust policy.
    pub identity: Arc<Identity>,
    /// The routes.
    pub routes: RouteTable,
    /// What requests must prove beside their certificate.
    pub demands: Demands,
    /// The keys of token issuers, kept fresh by the control plane.
    pub keys: Arc<KeyStore>,
    /// By [`ProviderId`]: the name of each, as handlers are told it.
    pub provider_fields: Box<[HeaderValue]>,
    /// By [`ProviderId`]: where each sends from.
    pub sources: Box<[Sources]>,
    /// The deliveries that were taken; outlives the snapshot.
    pub replay: Arc<ReplayGuard>,
    /// The bounds.
    pub limits: Limits,
    named: HashMap<Arc<str>, Arc<Site>>,
    unknown: Arc<Site>,
    unnamed: Arc<Site>,
    turns_unknown_away: bool,
}

impl Snapshot {
    /// Builds generation `generation` out of `config`, upon what outlives it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; nothing was changed then.
    pub fn build(config: Config, generation: u64, lasting: Lasting) -> Result<Self, SnapshotError> {
        let Config { certificates, providers, sources, routes, proofs, limits, .. } = config;
        let Lasting { cache, keys, replay, sightings } = lasting;
        let demands = Demands::new(proofs.providers, proofs.routes);
        let field = |provider: &Provider| {
            HeaderValue::from_str(&provider.name)
                .map_err(|error| SnapshotError::ProviderName(Arc::clone(&provider.name), error))
        };
        let provider_fields = providers.iter().map(field).collect::<Result<_, _>>()?;
        let turns_unknown_away = providers.iter().all(|provider| provider.on_failure == OnFailure::Abort);
        let chain_limits =
            ChainLimits { max_certificates: limits.max_presented_certificates, max_bytes: limits.max_presented_bytes };
        let identity = Identity::new(generation, providers.into(), cache, chain_limits).after(&sightings);
        let identity = Arc::new(identity);
        let shared = SharedTls::new(Arc::new(server_certificates(certificates)?))?;
        let mut sites = Sites { identity: Arc::clone(&identity), shared, next_scope: 0 };
        let hosts: BTreeSet<_> = routes.iter().filter_map(|route| route.host.clone()).collect();
        let mut named = HashMap::new();
        for host in hosts {
            let admits = |route: &&Route| route.host.is_none() || route.host.as_ref() == Some(&host);
            let site = sites.make(Some(Arc::clone(&host)), routes.iter().filter(admits))?;
            named.insert(host, site);
        }
        let unknown = sites.make(None, routes.iter().filter(|route| route.host.is_none()))?;
        let unnamed = sites.make(None, routes.iter())?;
        let routes = RouteTable::new(routes.into());
        Ok(Self {
            generation,
            identity,
            routes,
            demands,
            keys,
            provider_fields,
            sources: sources.into(),
            replay,
            limits,
            named,
            unknown,
            unnamed,
            turns_unknown_away,
        })
    }

    /// How a client with `server_name` (as sent) is received.
    pub fn reception(&self, server_name: Option<&str>) -> Reception<'_> {
        let Some(server_name) = server_name else { return Reception::Site(&self.unnamed) };
        let lower;
        let server_name = if server_name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = server_name.to_ascii_lowercase();
            lower.as_str()
        } else {
            server_name
        };
        match self.named.get(server_name) {
            Some(site) => Reception::Site(site),
            None if self.unknown.scope.providers.is_empty() && self.turns_unknown_away => Reception::TurnAway,
            None => Reception::Site(&self.unknown),
        }
    }
}

fn server_certificates(certificates: Vec<ServerCertificate>) -> Result<Certificates, SnapshotError> {
    let mut keys = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        let key = signing_key(&certificate.key).map_err(|source| SnapshotError::Key {
            certificate: certificate.chain_path.display().to_string(),
            source,
        })?;
        keys.push((Arc::new(CertifiedKey::new(certificate.chain, key)), certificate.names));
    }
    Ok(Certificates::new(keys))
}

/// Makes sites with distinct scopes.
struct Sites {
    identity: Arc<Identity>,
    shared: SharedTls,
    next_scope: u32,
}

impl Sites {
    fn make<'a>(
        &mut self,
        server_name: Option<Arc<str>>,
        routes: impl Iterator<Item = &'a Route>,
    ) -> Result<Arc<Site>, SnapshotError> {
        let providers: BTreeSet<ProviderId> = routes.flat_map(|route| route.providers.iter().copied()).collect();
        let scope = Scope { id: self.next_scope, providers: providers.into_iter().collect() };
        self.next_scope += 1;
        let tls = self.shared.server_config(&self.identity, &scope)?;
        Ok(Arc::new(Site { server_name, scope, tls }))
    }
}
