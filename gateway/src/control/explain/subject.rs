//! What is to be explained: a recent refusal of the daemon, or a certificate and a request from the command line.
//!
//! Owns the question to the daemon, and what the options add to a record. Must not judge.

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use hyper::Request;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::cli::Explain;
use crate::config::Config;
use crate::control::inquiry::{ControlSocket, DELIVERIES, Record};
use crate::deliveries::{Answer, Command};

/// The time-out of each system call on the connection to the daemon, which is on this host and answers within two seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The bound on the answer: more than all records and a chain.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// The bound on a body and on a file with a chain: more than any webhook has, and than `max_presented_bytes` allows.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The host of a request that names none.
const ANY_HOST: &str = "localhost";

/// What the command line asks for.
pub(super) enum Wanted {
    /// All recent refusals.
    List(Vec<Record>),
    /// This one.
    Subject(Box<Subject>),
}

/// What is to be explained.
pub(super) struct Subject {
    /// What the daemon has kept of the refusal.
    pub(super) record: Option<Record>,
    /// As presented, end entity first; empty if there is none.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) server_name: Option<Box<str>>,
    /// The head of the request, if its path is known.
    pub(super) head: Option<Parts>,
    pub(super) body: Bytes,
    /// Whether `head` and `body` are the whole request: the daemon keeps neither fields nor bodies.
    pub(super) is_whole: bool,
    /// Where it comes from.
    pub(super) from: Option<IpAddr>,
}

/// Whether the options name a certificate or a request themselves.
fn is_described(options: &Explain) -> bool {
    options.chain.is_some() || options.path.is_some() || options.server_name.is_some()
}

/// Whether the options ask for the list of the recent refusals, which needs no configuration.
pub(super) fn is_list(options: &Explain) -> bool {
    options.what.is_none() && !is_described(options)
}

/// What the options ask for. Asks the daemon if they name no certificate and no request.
pub(super) fn find(options: &Explain, config: &Config) -> anyhow::Result<Wanted> {
    let record = match &options.what {
        Some(wanted) => Some(recorded(config, wanted)?),
        None if is_described(options) => None,
        None => return Ok(Wanted::List(ask(&ControlSocket::of(config), "recent")?)),
    };
    let chain = match (&record, &options.chain) {
        (_, Some(file)) => read_chain(file)?,
        (Some(record), None) => record.chain(),
        (None, None) => Vec::new(),
    };
    let of_record = |value: fn(&Record) -> Option<&String>| record.as_ref().and_then(value).cloned();
    let server_name = options.server_name.clone().or_else(|| of_record(|record| record.server_name.as_ref()));
    let server_name = server_name.or_else(|| only_host(config, record.is_none()));
    let server_name: Option<Box<str>> = server_name.map(|name| name.to_ascii_lowercase().into());
    let path = options.path.clone().or_else(|| of_record(|record| record.path.as_ref()));
    let method = options.method.clone().or_else(|| of_record(|record| record.method.as_ref()));
    let is_host_given = options.header.iter().any(|field| field.to_ascii_lowercase().starts_with("host:"));
    if path.is_some() && server_name.is_none() && record.is_none() && !is_host_given {
        let hosts = hosts(config);
        ensure!(hosts.is_empty(), "write --server-name NAME: the routes have the hosts {}", hosts.join(", "));
    }
    let head = path.map(|path| head(options, &path, method.as_deref().unwrap_or("POST"), server_name.as_deref()));
    let body = options.body.as_deref().map(|file| read(file).map(Bytes::from)).transpose()?.unwrap_or_default();
    let address = |record: &Record| Some(record.peer.parse::<SocketAddr>().ok()?.ip());
    let from = options.from.or_else(|| record.as_ref().and_then(address));
    let is_whole = record.is_none() || !options.header.is_empty() || options.body.is_some();
    let head = head.transpose()?;
    Ok(Wanted::Subject(Box::new(Subject { record, chain, server_name, head, body, is_whole, from })))
}

/// The hosts of the routes, each once.
fn hosts(config: &Config) -> Vec<&str> {
    let mut hosts: Vec<&str> = config.routes.iter().filter_map(|route| route.host.as_deref()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The host of all routes, if they have one and the command line need not say more.
fn only_host(config: &Config, may_guess: bool) -> Option<String> {
    match hosts(config).as_slice() {
        [only] if may_guess => Some((*only).to_owned()),
        _ => None,
    }
}

fn head(options: &Explain, path: &str, method: &str, server_name: Option<&str>) -> anyhow::Result<Parts> {
    ensure!(path.starts_with('/'), "--path {path}: write the path with its first slash, such as /pagerduty");
    let mut request = Request::builder().method(method).uri(path);
    for field in &options.header {
        let (name, value) = field
            .split_once(':')
            .with_context(|| "--header: write a field as NAME: VALUE, such as \"Content-Type: application/json\"")?;
        let name = HeaderName::try_from(name.trim()).with_context(|| format!("--header: {name} is no field name"))?;
        // The value may be a secret.
        let value = HeaderValue::try_from(value.trim());
        request = request.header(&name, value.with_context(|| format!("--header {name}: not a field value"))?);
    }
    let (mut head, ()) = request.body(()).context("--method or --path is not well-formed")?.into_parts();
    // Without a server name, no route has a host, and any is as good.
    let name = server_name.unwrap_or(ANY_HOST);
    if !head.headers.contains_key(HOST) {
        head.headers.insert(HOST, HeaderValue::try_from(name).context("--server-name is no host")?);
    }
    Ok(head)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    opened.take(FILE_BYTES).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}

fn read_chain(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let bytes = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.with_context(|| format!("{} is damaged", file.display()))?;
    ensure!(
        !certificates.is_empty(),
        "{} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----); write the end entity first, then its intermediates",
        file.display()
    );
    Ok(certificates)
}

/// The refusal with this id or fingerprint.
fn recorded(config: &Config, wanted: &str) -> anyhow::Result<Record> {
    let is_plausible = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    ensure!(
        wanted.len() >= 32 && wanted.bytes().all(is_plausible),
        "{wanted} is neither a request id (32 hexadecimal digits), nor a SHA-256 fingerprint (64), nor a reason (docs/reasons.md)"
    );
    let socket = ControlSocket::of(config);
    let found = ask(&socket, &format!("refused {wanted}"));
    let mut found =
        found.map_err(|error| anyhow!("{error:#}; --chain FILE explains a certificate without a daemon"))?;
    let Some(record) = found.pop() else {
        if is_stored(&socket, wanted) {
            bail!(
                "this request was not refused: its delivery is stored, and what became of it is in hookgate deliveries show {wanted}"
            );
        }
        bail!(
            "the daemon keeps no refusal with this id or fingerprint: it was answered, or newer refusals have replaced it, or the daemon was \
             restarted; hookgate explain lists what is kept, and --chain FILE explains a certificate"
        );
    };
    Ok(record)
}

/// The answer of the daemon.
pub(super) fn ask(socket: &ControlSocket, question: &str) -> anyhow::Result<Vec<Record>> {
    let answer = socket.ask(question, ANSWER_BYTES, PATIENCE)?;
    serde_json::from_slice(&answer).with_context(|| socket.other_version())
}

/// Whether the delivery of this request is stored.
fn is_stored(socket: &ControlSocket, id: &str) -> bool {
    let command = serde_json::to_string(&Command::Show { id: id.to_owned(), body: false });
    let answer = command.ok().and_then(|text| socket.ask(&format!("{DELIVERIES} {text}"), ANSWER_BYTES, PATIENCE).ok());
    answer.is_some_and(|answer| matches!(serde_json::from_slice(&answer), Ok(Answer::Delivery(_))))
}
