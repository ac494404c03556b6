//! The snapshot: the whole configuration as workers use it, immutable and numbered by generation.
//!
//! Owns how a [`Config`] becomes sites, TLS configurations, trust policy and routes. All workers share the current snapshot, and a
//! reload replaces it as a whole. A request keeps the snapshot that was current when its head was complete. Must not read files, nor
//! change after it is built.

use std::sync::Arc;

use hyper::header::{HeaderValue, InvalidHeaderValue};
use rustls::ServerConfig;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use thiserror::Error;

use crate::access::AccessRules;
use crate::config::{AcmeCertificate, Certificate, Config, Durable, ServerCertificate, TlsSection, tls_numbers};
use crate::crypto::{SharedKeys, TicketSecrets, signing_key};
use crate::deliveries::DeliveryStore;
use crate::fleet::Fleet;
use crate::key_store::KeyStore;
use crate::missing_lists::ListNotes;
use crate::proxy::Proxies;
use crate::recent::Recent;
use crate::suspects::Suspects;
use crate::tls::certificates::{Certificates, Entry};
pub use crate::tls::challenge::Challenge;
use crate::tls::challenge::Challenges;
use crate::tls::server::SharedTls;
use hookgate_core::auth::{Demands, ReplayGuard};
use hookgate_core::identity::{
    CertificateRequest, ChainCache, ChainLimits, ClientCertificate, Digested, Identity, OnFailure, Provider,
    ProviderId, PublicRoots, Scope, Sightings, Transcript,
};
use hookgate_core::limits::Limits;
use hookgate_core::ranges::Sources;
use hookgate_core::reject::TypeBase;
use hookgate_core::route::{HostMap, HostPattern, Route, RouteId, RouteTable, SiteRoutes, sites};

/// Why a configuration without errors in the file cannot be served.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The key of a certificate is damaged, or of a kind that is not accepted.
    #[error(
        "the key of certificate {certificate} cannot be used: {source}; use an ECDSA key (P-256 or P-384), an Ed25519 key, or an RSA key of 2048 to 4096 bits"
    )]
    Key {
        /// The file of the chain.
        certificate: String,
        /// The error of the TLS library.
        source: rustls::Error,
    },
    /// The name of a provider cannot be a header value. The configuration file excludes such names.
    #[error("the name of provider {0} is not valid in a header field: {1}")]
    ProviderName(Arc<str>, InvalidHeaderValue),
    /// The TLS library failed.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// What is served under one server name (SNI), or under all names that have the same routes.
#[derive(Debug)]
pub struct Site {
    /// The server names; every host for the site of unknown names, and for the site of clients that send no name.
    pub host: HostPattern,
    /// The providers for which its clients are verified.
    pub scope: Scope,
    /// Whether one of its routes answers everyone.
    pub answers_everyone: bool,
    /// What the handshake asks of a client.
    pub certificate_request: CertificateRequest,
    /// Its TLS configuration.
    pub tls: Arc<ServerConfig>,
}

impl Site {
    /// Whether some request can be served here.
    pub fn serves_anyone(&self) -> bool {
        self.answers_everyone || !self.scope.providers.is_empty()
    }
}

/// The site of each server name.
#[derive(Clone)]
struct Sites {
    named: HostMap<Arc<Site>>,
    /// Of names that no route has.
    unknown: Arc<Site>,
    /// Of clients that send no name.
    unnamed: Arc<Site>,
}

/// What the server name in a client's hello selects.
pub enum Reception<'a> {
    /// This site.
    Site(&'a Arc<Site>),
    /// The end of the handshake: no route has this name, and every provider has `on_failure = "abort"`.
    TurnAway,
}

/// What outlives a snapshot and is passed to the next one.
#[derive(Clone)]
pub struct Lasting {
    /// The verified chains.
    pub cache: Arc<ChainCache>,
    /// The keys of the configuration's token issuers.
    pub keys: Arc<KeyStore>,
    /// The deliveries of the replay check.
    pub replay: Arc<ReplayGuard>,
    /// Where those that were taken outlive this process, if they do.
    pub deliveries: Option<Arc<DeliveryStore>>,
    /// The memory that hosts share, if they do.
    pub fleet: Option<Arc<Fleet>>,
    /// The client certificates that were seen under the snapshot before.
    pub sightings: Arc<Sightings>,
    /// The refused chains for which evidence was found.
    pub suspects: Arc<Suspects>,
    /// The revocation lists that chains lacked.
    pub list_notes: Arc<ListNotes>,
    /// The recent refusals.
    pub recent: Arc<Recent>,
    /// The roots of this host.
    pub public_roots: Arc<PublicRoots>,
    /// The names that authorities verify now.
    pub challenges: Vec<Arc<Challenge>>,
}

/// One generation of the configuration, as workers use it.
#[derive(Clone)]
pub struct Snapshot {
    /// 1 for the first load, and one more for each successful reload, and for each revocation list that revokes more than the one before.
    pub generation: u64,
    /// The trust policy.
    pub identity: Arc<Identity>,
    /// The routes.
    pub routes: Arc<RouteTable>,
    /// By [`RouteId`]: how the deliveries of a route are stored and handed over; `None` if its handler answers the sender.
    pub durable: Arc<[Option<Arc<Durable>>]>,
    /// The proofs that requests must carry in addition to the certificate.
    pub demands: Arc<Demands>,
    /// The keys of token issuers, which the control plane refreshes.
    pub keys: Arc<KeyStore>,
    /// The name of each provider as a header value for handlers, by [`ProviderId`].
    pub provider_fields: Box<[HeaderValue]>,
    /// The source ranges of each provider, by [`ProviderId`].
    pub sources: Box<[Sources]>,
    /// The deliveries of the replay check. Outlives the snapshot.
    pub replay: Arc<ReplayGuard>,
    /// Where those that were taken outlive this process, if they do. Outlives the snapshot.
    pub deliveries: Option<Arc<DeliveryStore>>,
    /// The memory of deliveries that hosts share, if they do. Outlives the snapshot.
    pub fleet: Option<Arc<Fleet>>,
    /// The refused chains for which evidence was found. Outlives the snapshot.
    pub suspects: Arc<Suspects>,
    /// The revocation lists that chains lacked. Outlives the snapshot.
    pub list_notes: Arc<ListNotes>,
    /// The recent refusals. Outlives the snapshot.
    pub recent: Arc<Recent>,
    /// The proxies that convey the address of a peer.
    pub proxies: Proxies,
    /// The configured limits.
    pub limits: Limits,
    /// Which requests and handshakes the log has an event for.
    pub access: AccessRules,
    /// The `type` of problem documents.
    pub problem_types: TypeBase,
    /// The longest body that is read of a stranger: `max_body_bytes` of the routes that admit a provider without certificates; otherwise 0.
    pub strangers_body: usize,
    tls: TlsSection,
    /// The keys of tickets that other hosts have too.
    tickets: Option<SharedKeys>,
    scopes: Arc<Scopes>,
    shared: Arc<SharedTls>,
    certificates: Arc<Certificates>,
    challenges: Challenges,
    sites: Sites,
    turns_unknown_away: bool,
}

impl Snapshot {
    /// The numbers of the versions of TLS that the policy has, for messages.
    pub fn tls_versions(&self) -> &'static str {
        tls_numbers(self.tls.policy_versions())
    }

    /// Builds the snapshot of `config` with this generation number.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]. Nothing has changed then.
    pub fn build(config: Config, generation: u64, lasting: Lasting) -> Result<Self, SnapshotError> {
        let Config {
            proxies,
            http2,
            certificates,
            providers,
            sources,
            routes,
            durable,
            proofs,
            limits,
            log,
            tls,
            tickets,
            problem_types,
            ..
        } = config;
        let demands = Arc::new(Demands::new(proofs.providers, proofs.routes).of_providers(&providers));
        let strangers_body = strangers_body(&providers, &routes);
        let field = |provider: &Provider| {
            HeaderValue::from_str(&provider.name)
                .map_err(|error| SnapshotError::ProviderName(Arc::clone(&provider.name), error))
        };
        let provider_fields = providers.iter().map(field).collect::<Result<_, _>>()?;
        let turns_unknown_away = providers.iter().all(|provider| provider.on_failure == OnFailure::Abort);
        let chain_limits =
            ChainLimits { max_certificates: limits.max_presented_certificates, max_bytes: limits.max_presented_bytes };
        let identity =
            Identity::new(generation, providers.into(), lasting.cache, chain_limits).after(&lasting.sightings);
        let identity = Arc::new(identity.with_public_roots(lasting.public_roots));
        let scopes = Arc::new(Scopes::new(&routes));
        let tickets = tickets.map(|secrets| scopes.shared_keys(&secrets, &identity, &tls));
        let certificates = Arc::new(server_certificates(&certificates)?);
        let resolver = Arc::<Certificates>::clone(&certificates);
        let shared = Arc::new(SharedTls::new(resolver, tls.policy, &tls.key_exchange, tickets.clone(), http2)?);
        let challenges = shared.challenges(&lasting.challenges)?;
        let sites = scopes.sites(&identity, &shared)?;
        let routes = Arc::new(RouteTable::new(routes.into()));
        Ok(Self {
            generation,
            identity,
            routes,
            durable: durable.into(),
            demands,
            keys: lasting.keys,
            provider_fields,
            sources: sources.into(),
            replay: lasting.replay,
            deliveries: lasting.deliveries,
            fleet: lasting.fleet,
            suspects: lasting.suspects,
            list_notes: lasting.list_notes,
            recent: lasting.recent,
            proxies: Proxies::new(proxies),
            limits,
            access: log.access,
            problem_types,
            strangers_body,
            tls,
            tickets,
            scopes,
            shared,
            certificates,
            challenges,
            sites,
            turns_unknown_away,
        })
    }

    /// The same generation with other ranges: trust, keys of tickets and cached chains stay. `sources` has an element for each provider.
    #[must_use]
    pub fn with_sources(&self, sources: Vec<Sources>) -> Self {
        Self { sources: sources.into(), ..self.clone() }
    }

    /// The same configuration with this policy, which differs in revocation lists alone. If it is of the same generation, sessions and tickets
    /// stay; otherwise they end, as after a reload. Tickets whose keys hosts share end in both cases, because their keys are those of these
    /// lists: on each host that has the same ones, and on no other.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Tls`]. Nothing has changed then.
    pub fn with_identity(&self, identity: Identity) -> Result<Self, SnapshotError> {
        let generation = identity.generation();
        let identity = Arc::new(identity);
        let keys = |before: &SharedKeys| self.scopes.shared_keys(&before.secrets, &identity, &self.tls);
        let tickets = self.tickets.as_ref().map(keys);
        let shared = match generation == self.generation {
            true => Arc::new(self.shared.under(tickets.clone())?),
            false => Arc::new(self.shared.renewed(tickets.clone())?),
        };
        let sites = self.scopes.sites(&identity, &shared)?;
        Ok(Self { generation, identity, tickets, shared, sites, ..self.clone() })
    }

    /// The same generation with another certificate of this server at `index` of the configuration: sessions, tickets and cached chains stay.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]. Nothing has changed then.
    pub fn with_certificate(&self, index: usize, certificate: &ServerCertificate) -> Result<Self, SnapshotError> {
        let certificates = Arc::new(self.certificates.with(index, entry(certificate)?));
        let resolver = Arc::<Certificates>::clone(&certificates);
        let shared = Arc::new(self.shared.with_certificates(resolver));
        let sites = self.scopes.sites(&self.identity, &shared)?;
        Ok(Self { certificates, shared, sites, ..self.clone() })
    }

    /// The same generation while authorities verify these names, and no other.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]. Nothing has changed then.
    pub fn with_challenges(&self, challenges: &[Arc<Challenge>]) -> Result<Self, SnapshotError> {
        Ok(Self { challenges: self.shared.challenges(challenges)?, ..self.clone() })
    }

    /// What a client that verifies a name for an authority is answered with; `None` for every other client.
    pub fn challenge(&self, hello: &ClientHello<'_>) -> Option<&Arc<ServerConfig>> {
        self.challenges.of(hello)
    }

    /// Whether there is no certificate yet for clients with this server name, in any case.
    pub fn lacks_certificate(&self, server_name: Option<&str>) -> bool {
        self.certificates.lacks(server_name)
    }

    /// The number of the trust policy whose tickets other hosts open too; 0 if none does.
    pub fn ticket_policy(&self) -> u32 {
        self.tickets.as_ref().map_or(0, |keys| keys.trust.number())
    }

    /// How the deliveries of this route are stored; `None` if its handler answers the sender.
    pub fn durable(&self, route: RouteId) -> Option<&Arc<Durable>> {
        self.durable.get(route.0)?.as_ref()
    }

    /// What the handshake asks of a client that sends this server name, in any case.
    pub fn certificate_request(&self, server_name: Option<&str>) -> CertificateRequest {
        match self.reception(server_name) {
            Reception::Site(site) => site.certificate_request,
            Reception::TurnAway => CertificateRequest::Required,
        }
    }

    /// Selects the site for a client that sends this server name, in any case.
    pub fn reception(&self, server_name: Option<&str>) -> Reception<'_> {
        let Sites { named, unknown, unnamed } = &self.sites;
        let Some(server_name) = server_name else { return Reception::Site(unnamed) };
        let lower;
        let server_name = if server_name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = server_name.to_ascii_lowercase();
            lower.as_str()
        } else {
            server_name
        };
        let [exact, wildcard] = named.of(server_name);
        match exact.or(wildcard) {
            Some(site) => Reception::Site(site),
            None if self.turns_unknown_away && !unknown.serves_anyone() => Reception::TurnAway,
            None => Reception::Site(unknown),
        }
    }
}

/// The longest body that is read of a stranger.
fn strangers_body(providers: &[Provider], routes: &[Route]) -> usize {
    let is_free = |id: &ProviderId| {
        let provider = providers.get(usize::from(id.0));
        provider.is_some_and(|provider| provider.client_certificate != ClientCertificate::Required)
    };
    let free = routes.iter().filter(|route| route.providers.iter().any(is_free));
    free.map(|route| route.limits.max_body_bytes).max().unwrap_or_default()
}

/// In the order of the configuration, and then the names that an older certificate of an authority lacks: they get no other one.
fn server_certificates(certificates: &[Certificate]) -> Result<Certificates, SnapshotError> {
    let (mut entries, mut awaited) = (Vec::new(), Vec::new());
    for certificate in certificates {
        match certificate {
            Certificate::Files(files) => entries.push(entry(files)?),
            Certificate::Acme(AcmeCertificate { order, issued: None }) => {
                entries.push(Entry { names: order.domains.clone(), key: None });
            }
            Certificate::Acme(AcmeCertificate { order, issued: Some(issued) }) => {
                entries.push(entry(issued)?);
                let lacking = order.domains.iter().filter(|domain| !issued.names.contains(domain));
                awaited.extend(lacking.map(|domain| Entry { names: vec![domain.clone()], key: None }));
            }
        }
    }
    entries.append(&mut awaited);
    Ok(Certificates::new(entries))
}

fn entry(certificate: &ServerCertificate) -> Result<Entry, SnapshotError> {
    Ok(Entry { names: certificate.names.clone(), key: Some(certified(certificate)?) })
}

fn certified(certificate: &ServerCertificate) -> Result<Arc<CertifiedKey>, SnapshotError> {
    let key = signing_key(&certificate.key)
        .map_err(|source| SnapshotError::Key { certificate: certificate.chain_path.display().to_string(), source })?;
    Ok(Arc::new(CertifiedKey::new(certificate.chain.clone(), key)))
}

/// What the server names of a site are for, with an id of its own.
#[derive(Clone, Debug)]
struct Scoped {
    host: HostPattern,
    scope: Scope,
    answers_everyone: bool,
}

impl Scoped {
    fn site(&self, identity: &Arc<Identity>, shared: &SharedTls) -> Result<Arc<Site>, SnapshotError> {
        let Self { host, scope, answers_everyone } = self.clone();
        let asked = identity.certificate_request(&scope);
        let certificate_request = match answers_everyone {
            true => asked.beside_public_route(!scope.providers.is_empty()),
            false => asked,
        };
        let tls = shared.server_config(identity, &scope, certificate_request)?;
        Ok(Arc::new(Site { host, scope, answers_everyone, certificate_request, tls }))
    }
}

impl Digested for Scoped {
    fn add_to(&self, transcript: &mut Transcript) {
        let Self { host, scope, answers_everyone } = self;
        // No pattern is empty, and that of a wildcard begins with an asterisk.
        transcript.add(host.as_str().unwrap_or_default());
        transcript.add(scope);
        transcript.add(answers_everyone);
    }
}

/// What each server name is for.
#[derive(Debug)]
struct Scopes {
    /// In the order of their patterns, whatever that of the routes is.
    named: Vec<Scoped>,
    unnamed: Scoped,
}

impl Scopes {
    fn new(routes: &[Route]) -> Self {
        let mut ids = 0..;
        let mut scoped = |SiteRoutes { host, providers, answers_everyone }: SiteRoutes| {
            let scope = Scope { id: ids.next().unwrap_or(u32::MAX), providers: providers.into_iter().collect() };
            Scoped { host, scope, answers_everyone }
        };
        let unnamed = scoped(SiteRoutes::without_name(routes));
        Self { named: sites(routes).into_iter().map(scoped).collect(), unnamed }
    }

    /// The sites under this policy.
    fn sites(&self, identity: &Arc<Identity>, shared: &SharedTls) -> Result<Sites, SnapshotError> {
        let make = |scoped: &Scoped| scoped.site(identity, shared);
        let unnamed = make(&self.unnamed)?;
        let mut unknown = Arc::clone(&unnamed);
        let mut named = HostMap::default();
        for scoped in &self.named {
            match &scoped.host {
                HostPattern::Every => unknown = make(scoped)?,
                host @ (HostPattern::Exact(_) | HostPattern::Wildcard(_)) => named.insert(host, make(scoped)?),
            }
        }
        Ok(Sites { named, unknown, unnamed })
    }

    /// The keys of tickets under this policy, and under these versions, suites and groups of TLS: a session of TLS 1.2 is resumed without
    /// another key exchange.
    fn shared_keys(&self, secrets: &TicketSecrets, identity: &Identity, tls: &TlsSection) -> SharedKeys {
        let Self { named, unnamed } = self;
        let TlsSection { policy, key_exchange } = tls;
        let mut transcript = Transcript::new("hookgate trust policy");
        transcript.add(identity);
        transcript.add(named.as_slice());
        transcript.add(unnamed);
        transcript.add(policy.name());
        transcript.number(key_exchange.len() as u64);
        key_exchange.iter().for_each(|group| transcript.add(group.name()));
        SharedKeys { secrets: secrets.clone(), trust: transcript.finish() }
    }
}

#[cfg(test)]
mod tests;
