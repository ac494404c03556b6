//! `[fleet]`: the NATS servers over which several hosts share the memory of deliveries, and the spool.
//!
//! Owns which servers, with what they are trusted and how this host is known to them. Connects to nothing: `fleet` does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::bound::Bound;
use super::certificate::{self, RawPair};
use super::document;
use super::error::{FleetProblem, Problem};
use super::file::{self, MAXIMUM_FILE_BYTES};
use super::length;
use super::name::{self, MAXIMUM_NAME_BYTES};
use super::proof::{DEFAULT_WINDOW_SECONDS, Proofs};
use super::report::Report;
use super::warning::WarningKind;

/// A cluster of NATS has three or five servers; a client that knows some learns the others.
const MAXIMUM_SERVERS: usize = 16;

/// JetStream keeps at most five copies.
const REPLICAS: Bound = Bound::new(1, 5, "");

/// As for other sizes of the file: from 1 MiB to 1 TiB.
const BYTES: Bound = Bound::new(1024 * 1024, 1 << 40, " bytes");

/// Four times the default of a route on a disk: every host stores there.
const DEFAULT_BYTES: u64 = 1024 * 1024 * 1024;

/// From the two minutes in which JetStream itself looks for duplicates, to the longest window of a rule.
const KEEP: Bound = Bound::new(120, 7 * 86_400, " s");

/// The default window of a rule.
const DEFAULT_KEEP: Duration = Duration::from_secs(DEFAULT_WINDOW_SECONDS);

/// A user JWT and a seed have some kilobytes.
const CREDENTIALS_BYTES: usize = 64 * 1024;

/// The port of NATS, if none is written.
const PORT: u16 = 4222;

const WRITE_NATS: &str = "nats = [\"tls://nats-1.example.com:4222\"]";

/// Where the deliveries of durable routes are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetSpool {
    /// In a stream of the servers, from which every host hands over.
    #[default]
    Stream,
    /// On the disk of the host that accepted them.
    Disk,
}

/// What takes over when the servers store nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Nothing: senders of durable routes get 503.
    #[default]
    None,
    /// The disk of this host, until the servers have what is there.
    Disk,
}

/// `[fleet]`.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// `nats`: at least one server, as `tls://HOST:PORT` or `nats://HOST:PORT`.
    pub servers: Vec<String>,
    /// `name`: hosts with the same name share their memory.
    pub name: Arc<str>,
    /// `replicas`: on how many servers the memory is kept, if it is to be made.
    pub replicas: usize,
    /// `spool`: where the deliveries of durable routes are stored.
    pub spool: FleetSpool,
    /// `fallback`: what takes over when the servers store nothing.
    pub fallback: Fallback,
    /// `max_bytes`: of each stream of the spool, if it is to be made.
    pub max_bytes: u64,
    /// `keep_s`: how long the memory keeps what was taken; no window of a rule is longer.
    pub keep: Duration,
    /// `trust_anchors`: who vouches for the servers; empty for the authorities of this host.
    pub trust_anchors: Vec<CertificateDer<'static>>,
    /// `certificate`: the chain and the key of this host.
    pub certificate: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    /// `credentials`: a user JWT and its seed.
    pub credentials: Option<Arc<Zeroizing<String>>>,
}

impl PartialEq for Fleet {
    fn eq(&self, other: &Self) -> bool {
        let Self { servers, name, replicas, spool, fallback, max_bytes, keep, trust_anchors, certificate, credentials } =
            self;
        let keys = |certificate: &Option<(Vec<_>, Arc<PrivateKeyDer<'static>>)>| {
            certificate.as_ref().map(|(chain, key)| (chain.clone(), key.secret_der().to_vec()))
        };
        *servers == other.servers
            && *name == other.name
            && *replicas == other.replicas
            && *spool == other.spool
            && *fallback == other.fallback
            && *max_bytes == other.max_bytes
            && *keep == other.keep
            && *trust_anchors == other.trust_anchors
            && keys(certificate) == keys(&other.certificate)
            && *credentials == other.credentials
    }
}

/// `[fleet]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFleet {
    nats: Option<Spanned<Vec<Spanned<String>>>>,
    name: Option<Spanned<String>>,
    replicas: Option<Spanned<i64>>,
    spool: Option<Spanned<FleetSpool>>,
    fallback: Option<Spanned<Fallback>>,
    max_bytes: Option<Spanned<i64>>,
    keep_s: Option<Spanned<i64>>,
    trust_anchors: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default, deserialize_with = "document::table")]
    certificate: Option<Spanned<RawPair>>,
    credentials: Option<Spanned<String>>,
}

/// Parses `[fleet]`. Reports what is wrong; `None` without the section, or without servers.
pub(super) fn fleet(raw: Option<&Spanned<RawFleet>>, report: &mut Report<'_>) -> Option<Fleet> {
    let raw = raw?;
    let RawFleet { nats, name, replicas, spool, fallback, max_bytes, keep_s, trust_anchors, certificate, credentials } =
        raw.get_ref();
    let name = name.as_ref().map(|at| {
        let text = at.get_ref();
        let is_valid = name::is_valid(text) && !text.contains('.');
        if !is_valid {
            report.error(at, FleetProblem::Name { text: text.clone(), maximum: MAXIMUM_NAME_BYTES }.into());
        }
        is_valid.then(|| Arc::<str>::from(text.as_str()))
    });
    let replicas = REPLICAS.count(replicas.as_ref(), 3, report);
    let spool = spool.as_ref().map(|raw| *raw.get_ref()).unwrap_or_default();
    if let (Some(at), FleetSpool::Disk) = (fallback, spool) {
        report.error(at, FleetProblem::Fallback.into());
    }
    let fallback = fallback.as_ref().map(|raw| *raw.get_ref()).unwrap_or_default();
    let max_bytes = BYTES.check(max_bytes.as_ref(), report).unwrap_or(DEFAULT_BYTES);
    let keep = KEEP.seconds(keep_s.as_ref(), DEFAULT_KEEP, report);
    let trust_anchors = trust_anchors.as_ref().map(|anchors| certificates(anchors, report)).unwrap_or_default();
    let certificate = certificate.as_ref().map(|raw| certificate::pair(raw, report));
    let credentials = credentials.as_ref().map(|at| read_credentials(at, report));
    let Some(nats) = nats else {
        report.missing(raw, "nats", WRITE_NATS);
        return None;
    };
    length::is_within(nats, MAXIMUM_SERVERS, WRITE_NATS, report);
    let servers = nats.get_ref().iter().filter_map(|text| match server(text.get_ref()) {
        Ok(server) => Some(server),
        Err(problem) => {
            report.error(text, problem.into());
            None
        }
    });
    let servers: Vec<_> = servers.collect();
    // Some of a cluster do: a client learns the others from them.
    if servers.len() == 1 && replicas > 1 {
        report.warn(nats, WarningKind::LonelyServer { replicas });
    }
    Some(Fleet {
        servers,
        name: name.unwrap_or_else(|| Some("hookgate".into()))?,
        replicas,
        spool,
        fallback,
        max_bytes,
        keep,
        trust_anchors,
        certificate: certificate.map_or(Some(None), |pair| pair.map(|(chain, key)| Some((chain, Arc::new(key)))))?,
        credentials: credentials.map_or(Some(None), |read| read.map(|text| Some(Arc::new(text))))?,
    })
}

/// Reports a memory that is shorter than the window of a rule.
pub(super) fn check(raw: Option<&Spanned<RawFleet>>, fleet: Option<&Fleet>, proofs: &Proofs, report: &mut Report<'_>) {
    let (Some(raw), Some(fleet)) = (raw, fleet) else { return };
    let window = proofs.longest_window();
    if window > fleet.keep {
        let at = raw.get_ref().keep_s.as_ref().map_or_else(|| raw.span(), Spanned::span);
        let problem = FleetProblem::Keep { keep: fleet.keep.as_secs(), window: window.as_secs() };
        report.error(&Spanned::new(at, ()), problem.into());
    }
}

/// The address with its port.
fn server(text: &str) -> Result<String, FleetProblem> {
    let wrong = || FleetProblem::Server { text: text.to_owned() };
    let (is_plain, rest) = match (text.strip_prefix("tls://"), text.strip_prefix("nats://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(wrong()),
    };
    let authority: hyper::http::uri::Authority = rest.parse().map_err(|_| wrong())?;
    // A password in a URL would be in every log of the address.
    if rest.contains(['@', '/']) || authority.host().is_empty() {
        return Err(wrong());
    }
    let host = authority.host();
    if authority.as_str() != host && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(wrong());
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if is_plain && !is_here {
        return Err(FleetProblem::Plain { text: text.to_owned() });
    }
    let scheme = if is_plain { "nats" } else { "tls" };
    Ok(format!("{scheme}://{host}:{}", authority.port_u16().unwrap_or(PORT)))
}

/// The certificates of all files.
fn certificates(files: &Spanned<Vec<Spanned<String>>>, report: &mut Report<'_>) -> Vec<CertificateDer<'static>> {
    length::is_within(files, MAXIMUM_SERVERS, "trust_anchors = [\"nats-ca.pem\"], or remove the key", report);
    let mut all = Vec::new();
    for at in files.get_ref() {
        let path = report.resolve(at.get_ref());
        let read = file::read_named(&path, MAXIMUM_FILE_BYTES).and_then(|bytes| file::certificates(&bytes, &path, &[]));
        match read {
            Ok(certificates) => all.extend(certificates),
            Err(problem) => report.error(at, problem),
        }
    }
    all
}

fn read_credentials(at: &Spanned<String>, report: &mut Report<'_>) -> Option<Zeroizing<String>> {
    let path = report.resolve(at.get_ref());
    let bytes = match file::read_secret(&path, CREDENTIALS_BYTES) {
        Ok(bytes) => bytes,
        Err(source) => {
            report.error(at, Problem::File { path, source });
            return None;
        }
    };
    let text = std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()));
    let has_both = |text: &&Zeroizing<String>| {
        text.contains("-----BEGIN NATS USER JWT-----") && text.contains("-----BEGIN USER NKEY SEED-----")
    };
    if text.as_ref().filter(has_both).is_none() {
        report.error(at, FleetProblem::Credentials { path }.into());
        return None;
    }
    if let Some(access) = file::open_to_others(&path) {
        report.warn(at, WarningKind::OpenToOthers { path, access });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_tls_unless_it_is_on_this_host() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(server(text).ok().as_deref(), expected, "{text}");
        check("tls://nats.example.com", Some("tls://nats.example.com:4222"));
        check("tls://nats.example.com:4333", Some("tls://nats.example.com:4333"));
        check("tls://[2001:db8::1]:4222", Some("tls://[2001:db8::1]:4222"));
        check("nats://127.0.0.1:4222", Some("nats://127.0.0.1:4222"));
        check("nats://[::1]", Some("nats://[::1]:4222"));
        check("nats://localhost", Some("nats://localhost:4222"));
        for wrong in [
            "",
            "nats.example.com",
            "http://nats.example.com",
            "tls://",
            "tls://:4222",
            "tls://user:secret@nats.example.com",
            "tls://nats.example.com/path",
            "tls://nats.example.com:0",
            "tls://nats.example.com:99999",
            "tls://a b",
        ] {
            check(wrong, None);
        }
        assert!(matches!(server("nats://nats.example.com"), Err(FleetProblem::Plain { .. })));
        assert!(matches!(server("nats://127.0.0.1.example.com"), Err(FleetProblem::Plain { .. })));
    }
}
