//! The way of one connection through the stages: accept → tls → identity → http.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::ProtocolVersion;

use super::Worker;
use super::deadline::{Deadline, Phase};
use super::io::{Socket, peer_address};
use super::run::Slot;
use crate::http::connection::{Peer, serve};
use crate::identity::{CacheOutcome, ChainRefusal, Verification, VerifiedChain};
use crate::reject::{Refusal, Reject};
use crate::snapshot::{Reception, Site, Snapshot};
use crate::tls::stream::{HandshakeError, Hello, TlsStream};

/// Takes an accepted connection all the way.
pub(crate) async fn receive(slot: Slot, descriptor: OwnedFd) {
    let worker = slot.worker();
    let Some(address) = peer_address(&descriptor) else { return };
    let socket = match Socket::new(worker.backend, descriptor) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(peer = %address, %error, "an accepted connection could not be used");
            return;
        }
    };
    let snapshot = worker.snapshot();
    let deadline = worker.sweep.watch(socket.descriptor(), Phase::Handshake, snapshot.limits.handshake_timeout);
    let mut server_name = None;
    // On the heap, so that a connection does not keep the room for as long as it lives.
    match Box::pin(handshake(worker, &snapshot, socket, &mut server_name)).await {
        Ok((stream, verdict)) => {
            let peer = Peer { address, server_name, snapshot, verdict };
            serve(Rc::clone(worker), stream, peer, deadline).await;
        }
        Err(error) => failed(worker, &snapshot, &Caller { address, server_name }, &error, &deadline),
    }
}

type Verdict = Result<Arc<VerifiedChain>, ChainRefusal>;

/// Who called, as far as it is known when a handshake fails.
struct Caller {
    address: SocketAddr,
    server_name: Option<Box<str>>,
}

/// `server_name` is what the peer asked for, in lower case, as soon as it has.
async fn handshake(
    worker: &Worker,
    snapshot: &Snapshot,
    socket: Socket,
    server_name: &mut Option<Box<str>>,
) -> Result<(TlsStream, Verdict), HandshakeError> {
    let began = Instant::now();
    let hello = Hello::read(socket).await?;
    *server_name = hello.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
    let reception = snapshot.reception(hello.client_hello().server_name());
    let site = match reception {
        Reception::Site(site) => site,
        Reception::TurnAway => return Err(hello.turn_away().await),
    };
    let stream = hello.complete(Arc::clone(&site.tls)).await?;
    let version = match stream.connection().protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "",
    };
    worker.meters.handshake_completed(version, stream.is_resumed(), began.elapsed());
    let verdict = verify(worker, snapshot, site, &stream);
    Ok((stream, verdict))
}

/// Judges the chain whose key signed this handshake, or the one that was resumed.
fn verify(worker: &Worker, snapshot: &Snapshot, site: &Site, stream: &TlsStream) -> Verdict {
    let chain = stream.connection().peer_certificates().unwrap_or_default();
    let now = worker.sweep.now();
    let verification = snapshot.identity.verify(&site.scope, chain, now);
    if let Ok(chain) = &verification.result {
        snapshot.identity.sighted(chain, now);
    }
    verified(worker, snapshot, &verification);
    verification.result
}

fn verified(worker: &Worker, snapshot: &Snapshot, verification: &Verification) {
    worker.meters.verified(verification, |id| Arc::clone(&snapshot.identity.provider(id).name));
}

/// Counts and logs a handshake that came to nothing.
fn failed(worker: &Worker, snapshot: &Snapshot, caller: &Caller, error: &HandshakeError, deadline: &Deadline) {
    let refusal = match error {
        // Only what the sweep ended is late: an alert that was on its way when the time was up has its own reason.
        HandshakeError::Closed | HandshakeError::Io(_) if deadline.expired().is_some() => {
            Refusal::new(Reject::HandshakeTimeout, "The handshake was not complete within handshake_timeout_ms.")
        }
        HandshakeError::Refused(refusal) => refusal.refusal.clone(),
        HandshakeError::UnknownServerName => Refusal::new(Reject::UnknownServerName, error.to_string()),
        HandshakeError::Tls(rustls::Error::NoCertificatesPresented) => {
            Refusal::new(Reject::NoCertificate, "The client presented no certificate.")
        }
        HandshakeError::Closed | HandshakeError::Io(_) | HandshakeError::Tls(_) => {
            Refusal::new(Reject::HandshakeFailed, error.to_string())
        }
    };
    if let HandshakeError::Refused(refusal) = error {
        // The verifier judged inside the handshake, and counts nothing; what it refused was in no cache.
        let verification = Verification { result: Err((**refusal).clone()), cache: CacheOutcome::Miss };
        verified(worker, snapshot, &verification);
    }
    worker.meters.handshake_failed(refusal.reject);
    worker.meters.rejected(refusal.reject);
    let reason = refusal.reject.row().reason;
    let (peer, server_name) = (caller.address, caller.server_name.as_deref());
    let provider = match error {
        HandshakeError::Refused(refusal) => refusal.provider.map(|id| &*snapshot.identity.provider(id).name),
        _ => None,
    };
    if matches!(error, HandshakeError::Closed) && deadline.expired().is_none() {
        // Port scans and health checks do this all day.
        tracing::debug!(reason, %peer, server_name, detail = %refusal.detail, "handshake ended");
        return;
    }
    worker.log_refusal(
        || tracing::warn!(reason, provider, %peer, server_name, detail = %refusal.detail, "handshake refused"),
    );
}
