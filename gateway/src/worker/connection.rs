//! The way of one connection through the stages: accept → tls → identity → http.
//!
//! Owns the order. Must not decide: the stages do.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::ProtocolVersion;

use hookgate_core::identity::{CertificateRequest, PeerChain, Suspect};
use hookgate_io::Socket;
use hookgate_io::sweep::{Deadline, Timer};

use crate::accept::Arrival;
use crate::admission::{self, Verdict};
use crate::cause::Cause;
use crate::context::WorkerContext;
use crate::http::Server;
use crate::http::connection::{Peer, serve};
use crate::snapshot::{Reception, Snapshot};
use crate::strangers::Stranger;
use crate::tls::stream::{HandshakeError, Hello, TlsStream};

/// Takes an accepted connection all the way. The slot is held until the end.
pub(super) async fn receive(server: Rc<Server>, arrival: Arrival) {
    let context = server.context();
    let Arrival { slot: _slot, stranger, address, descriptor } = arrival;
    let mut socket = match Socket::new(context.backend(), descriptor) {
        Ok(socket) => socket,
        Err(error) => {
            let cause = Cause::Gateway.label();
            tracing::warn!(peer = %address, %error, cause, "accepted connection cannot be registered");
            return;
        }
    };
    socket.forbid_large_receives();
    let snapshot = context.snapshot();
    let deadline = context.sweep.watch(socket.descriptor(), Timer::closing(snapshot.limits.handshake_timeout));
    let mut server_name = None;
    // On the heap, so that its memory is freed after the handshake.
    match Box::pin(handshake(context, &snapshot, socket, &stranger, &mut server_name)).await {
        Ok((mut stream, verdict, request)) => {
            let is_judged_by_request = verdict.is_err() && request.admits_without();
            let stranger = if verdict.is_ok() {
                stranger.admitted(context.sweep.coarse());
                stream.allow_large_receives();
                None
            } else {
                let chain = stream.connection().peer_certificates().unwrap_or_default();
                let presented: usize = chain.iter().map(|certificate| certificate.len()).sum();
                // A refusal that may be ours keeps the chain too.
                let suspect = verdict.as_ref().err().and_then(|refused| refused.suspect.as_deref());
                stranger.refused(presented + suspect.map_or(0, Suspect::bytes));
                if !is_judged_by_request {
                    stranger.failed(context.sweep.coarse());
                }
                Some(stranger)
            };
            let peer = Peer { address, server_name, snapshot, verdict, stranger, is_judged_by_request };
            serve(Rc::clone(&server), stream, peer, deadline).await;
        }
        Err(error) => {
            stranger.failed(context.sweep.coarse());
            failed(context, &snapshot, &Caller { address, server_name }, &error, &deadline);
        }
    }
}

/// What is known of the peer of a failed handshake.
struct Caller {
    address: SocketAddr,
    server_name: Option<Box<str>>,
}

/// Sets `server_name`, in lower case, as soon as the ClientHello has arrived.
async fn handshake(
    context: &WorkerContext,
    snapshot: &Snapshot,
    socket: Socket,
    stranger: &Stranger,
    server_name: &mut Option<Box<str>>,
) -> Result<(TlsStream, Verdict, CertificateRequest), HandshakeError> {
    let began = Instant::now();
    let hello = Hello::read(socket, stranger).await?;
    *server_name = hello.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
    let reception = snapshot.reception(hello.client_hello().server_name());
    let site = match reception {
        Reception::Site(site) => site,
        Reception::TurnAway => return Err(hello.turn_away().await),
    };
    let mut stream = hello.complete(Arc::clone(&site.tls), stranger, snapshot.limits.max_presented_bytes).await?;
    let version = match stream.connection().protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "",
    };
    context.meters.handshake_completed(version, stream.is_resumed(), began.elapsed());
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
    Ok((stream, verdict, site.certificate_request))
}

/// Counts and logs a failed handshake.
fn failed(context: &WorkerContext, snapshot: &Snapshot, caller: &Caller, error: &HandshakeError, deadline: &Deadline) {
    let refusal = error.refusal(deadline.is_overdue());
    if let HandshakeError::Refused(refusal) = error {
        drop(admission::refused_in_handshake(context, snapshot, (**refusal).clone()));
    }
    context.meters.handshake_failed(refusal.reject);
    context.meters.rejected(refusal.reject);
    let reason = refusal.reject.row().reason;
    let (peer, server_name) = (caller.address, caller.server_name.as_deref());
    let provider = match error {
        HandshakeError::Refused(refusal) => refusal.provider.map(|id| &*snapshot.identity.provider(id).name),
        _ => None,
    };
    if matches!(error, HandshakeError::Closed) && !deadline.is_overdue() {
        // Port scans and health checks close connections all day.
        tracing::debug!(reason, %peer, server_name, detail = %refusal.detail(), "handshake ended");
        return;
    }
    let cause = Cause::Stranger.label();
    tracing::warn!(reason, provider, %peer, server_name, detail = %refusal.detail(), cause, "handshake refused");
}
