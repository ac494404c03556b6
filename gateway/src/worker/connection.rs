//! The way of one connection through the stages: accept → proxy → tls → identity → http.
//!
//! Owns the order. Must not decide: the stages do.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::{CipherSuite, ProtocolVersion};

use hookgate_core::identity::{CertificateRequest, ChainRefusal, PeerChain};
use hookgate_io::Socket;
use hookgate_io::sweep::{Deadline, Timer};

use crate::accept::Arrival;
use crate::access::{Outcome, Record, Tls};
use crate::admission::{self, Verdict};
use crate::cause::Cause;
use crate::context::WorkerContext;
use crate::crypto::KeyExchange;
use crate::http::connection::{Peer, serve};
use crate::http::{Server, multiplex};
use crate::metrics::requests::RequestLabels;
use crate::proxy::Origin;
use crate::recent::{Note, What};
use crate::snapshot::{Reception, Snapshot};
use crate::strangers::{self, Stranger};
use crate::tls::stream::{HandshakeError, Hello, TlsStream};
use crate::tls::turn_away::without_header;

/// What a connection does after its handshake.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Takes an accepted connection all the way. The slot is held until the end.
pub(super) async fn receive(server: Rc<Server>, arrival: Arrival) {
    let Arrival { slot: _slot, stranger, address, descriptor } = arrival;
    // Each part is on the heap, so that a connection at rest keeps the memory of its protocol alone, and none of its handshake.
    let serving = Box::pin(begin(server, stranger, address, descriptor)).await;
    if let Some(serving) = serving {
        serving.await;
    }
}

/// Makes the handshake. `None` if the connection is at its end with it.
async fn begin(
    server: Rc<Server>,
    stranger: Stranger,
    address: SocketAddr,
    descriptor: Rc<OwnedFd>,
) -> Option<Serving> {
    let context = server.context();
    let mut socket = match Socket::new(context.backend(), descriptor) {
        Ok(socket) => socket,
        Err(error) => {
            let cause = Cause::Gateway.label();
            tracing::warn!(peer = %address, %error, cause, "accepted connection cannot be registered");
            return None;
        }
    };
    socket.forbid_large_receives();
    let snapshot = context.snapshot();
    let deadline = context.sweep.watch(socket.descriptor(), Timer::closing(snapshot.limits.handshake_timeout));
    let mut caller = Caller { origin: Origin::direct(address), server_name: None, began: Instant::now() };
    match handshake(context, &snapshot, socket, &stranger, &mut caller).await {
        Ok(None) => {
            stranger.failed(context.sweep.coarse());
            None
        }
        Ok(Some(Shaken { mut stream, tls, verdict, request })) => {
            let is_judged_by_request = verdict.is_err() && request.admits_without();
            let stranger = if verdict.is_ok() {
                stranger.admitted(context.sweep.coarse());
                stream.allow_large_receives();
                None
            } else {
                let chain = stream.connection().peer_certificates().unwrap_or_default();
                let presented: usize = chain.iter().map(|certificate| certificate.len()).sum();
                let of_protocol = if stream.is_http2() { strangers::HTTP_2 } else { 0 };
                // The refusal keeps the chain too.
                let kept = presented + verdict.as_ref().err().map_or(0, ChainRefusal::kept_bytes);
                stranger.refused(kept + of_protocol);
                if !is_judged_by_request {
                    stranger.failed(context.sweep.coarse());
                }
                Some(stranger)
            };
            let Caller { origin, server_name, .. } = caller;
            let peer = Peer { origin, server_name, tls, snapshot, verdict, stranger, is_judged_by_request };
            let server = Rc::clone(&server);
            Some(match stream.is_http2() {
                true => Box::pin(multiplex::serve(server, stream, peer, deadline)),
                false => Box::pin(serve(server, stream, peer, deadline)),
            })
        }
        Err(error) => {
            stranger.failed(context.sweep.coarse());
            failed(context, &snapshot, &caller, &error, &deadline);
            None
        }
    }
}

/// What is known of a peer before its handshake is complete.
struct Caller {
    origin: Origin,
    /// In lower case, as soon as the ClientHello has arrived.
    server_name: Option<Box<str>>,
    began: Instant,
}

/// A complete handshake.
struct Shaken {
    stream: TlsStream,
    tls: Tls,
    verdict: Verdict,
    request: CertificateRequest,
}

/// Sets what it learns of `caller`. `None` after a handshake that was all: one by which an authority verifies a name.
async fn handshake(
    context: &WorkerContext,
    snapshot: &Snapshot,
    mut socket: Socket,
    stranger: &Stranger,
    caller: &mut Caller,
) -> Result<Option<Shaken>, HandshakeError> {
    if let Some(proxy) = snapshot.proxies.at(caller.origin.address()) {
        caller.origin = match proxy.origin(&mut socket, stranger).await {
            Ok(origin) => origin,
            Err(error) => return Err(without_header(socket, error).await),
        };
        stranger.comes_from(caller.origin.address().ip(), context.sweep.coarse());
    }
    let hello = Hello::read(socket, stranger).await?;
    caller.server_name = hello.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
    if let Some(config) = snapshot.challenge(&hello.client_hello()).map(Arc::clone) {
        let stream = hello.complete(config, stranger, snapshot.limits.max_presented_bytes).await?;
        note_handshake(context, &stream, caller);
        context.meters.challenge_answered();
        let (peer, server_name, cause) =
            (caller.origin.address(), caller.server_name.as_deref(), Cause::Stranger.label());
        tracing::info!(%peer, server_name, cause, "an authority looked at this name");
        stream.end_at_once().await;
        return Ok(None);
    }
    if snapshot.lacks_certificate(hello.client_hello().server_name()) {
        return Err(hello.turn_away_without_certificate().await);
    }
    let reception = snapshot.reception(hello.client_hello().server_name());
    let site = match reception {
        Reception::Site(site) => site,
        Reception::TurnAway => return Err(hello.turn_away().await),
    };
    let mut stream = hello.complete(Arc::clone(&site.tls), stranger, snapshot.limits.max_presented_bytes).await?;
    let tls = note_handshake(context, &stream, caller);
    let verdict = match stream.take_refusal() {
        // By the same snapshot, whose TLS configuration the handshake used.
        Some(refusal) => admission::refused_in_handshake(context, snapshot, refusal),
        None => {
            // `complete` returns when the handshake is complete.
            let chain = PeerChain::of_handshake(stream.connection()).ok_or(HandshakeError::Closed)?;
            if chain.certificates().is_empty() && site.certificate_request.admits_without() {
                admission::no_certificate()
            } else {
                admission::judge(context, snapshot, &site.scope, chain)
            }
        }
    };
    Ok(Some(Shaken { stream, tls, verdict, request: site.certificate_request }))
}

/// Counts a complete handshake, and returns what it negotiated.
fn note_handshake(context: &WorkerContext, stream: &TlsStream, caller: &Caller) -> Tls {
    let tls = negotiated(stream);
    let group =
        stream.connection().negotiated_key_exchange_group().map_or("", |group| KeyExchange::name_of(group.name()));
    context.meters.handshake_completed(tls.version, group, tls.resumed, caller.began.elapsed());
    tls
}

/// What the handshake of `stream` negotiated.
fn negotiated(stream: &TlsStream) -> Tls {
    let version = match stream.connection().protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "",
    };
    let suite = stream.connection().negotiated_cipher_suite().map_or("", |suite| suite_name(suite.suite()));
    Tls { version, suite, resumed: stream.is_resumed() }
}

/// The name in the registry of IANA (RFC 8446, appendix B.4), which rustls changes for TLS 1.3.
fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or_default(),
    }
}

/// Counts and logs a failed handshake.
fn failed(context: &WorkerContext, snapshot: &Snapshot, caller: &Caller, error: &HandshakeError, deadline: &Deadline) {
    let refusal = error.refusal(deadline.is_overdue(), snapshot.tls_versions());
    if let HandshakeError::Refused(refusal) = error {
        drop(admission::refused_in_handshake(context, snapshot, (**refusal).clone()));
    }
    context.meters.handshake_failed(refusal.reject);
    let provider = match error {
        HandshakeError::Refused(refused) => refused.provider.map(|id| &snapshot.identity.provider(id).name),
        _ => None,
    };
    let labels = RequestLabels { provider, ..RequestLabels::default() };
    context.meters.requests.rejected(refusal.reject, labels);
    // Port scans and health checks close connections all day.
    let is_ended = error.is_end_of_stream() && !deadline.is_overdue();
    let outcome = if is_ended { Outcome::HandshakeEnded } else { Outcome::HandshakeRefused };
    if !is_ended {
        snapshot.recent.note(refusal.reject, caller.origin.address().ip(), || {
            let note = Note::new(What::Handshake, &refusal, context.now(), caller.origin.address());
            let chain = match error {
                HandshakeError::Refused(refused) => refused.presented.clone(),
                _ => None,
            };
            let note = note.at_server_name(caller.server_name.as_deref()).of_providers(provider.cloned());
            Note { generation: snapshot.generation, proxy: caller.origin.proxy(), chain, ..note }
        });
    }
    let cause = Some(Cause::Stranger);
    if snapshot.access.want(outcome, cause) {
        let peer = caller.origin.address().to_string();
        let proxy = caller.origin.proxy().map(|proxy| proxy.to_string());
        Record {
            refusal: Some(&refusal),
            proxy: proxy.as_deref(),
            provider: provider.map(|name| &**name),
            server_name: caller.server_name.as_deref(),
            duration: Some(caller.began.elapsed()),
            cause,
            ..Record::new(&peer, context.index())
        }
        .log(outcome);
    }
}
