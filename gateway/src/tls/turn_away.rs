//! The end of a connection before TLS: the alert that says why, or an answer of plain HTTP.
//!
//! Owns what is sent, and that it arrives: a reset may overtake it. Must not decide why a connection ends.

use std::future::poll_fn;
use std::time::Duration;

use hookgate_core::reject::Reject;
use hookgate_io::Socket;
use hookgate_io::timer::timeout;
use rustls::AlertDescription;

use super::stream::HandshakeError;
use crate::proxy::HeaderError;

/// Bytes that a peer may send after an alert before the connection is reset: some records of a client that speaks first.
const AFTER_ALERT_BYTES: usize = 64 * 1024;

/// How long a peer may send after an alert: a few round trips across a continent.
const AFTER_ALERT_TIME: Duration = Duration::from_millis(500);

/// Refuses a connection from a proxy, of which `error` says why it has no header.
pub async fn without_header(mut socket: Socket, error: HeaderError) -> HandshakeError {
    match error {
        HeaderError::Closed => HandshakeError::Closed,
        HeaderError::Io(error) => HandshakeError::Io(error),
        HeaderError::Evicted(eviction) => HandshakeError::Evicted(eviction),
        HeaderError::Flawed(flaw) => {
            socket.consume(usize::MAX);
            alert_and_end(&mut socket, flaw.refusal().reject).await;
            HandshakeError::Header(flaw)
        }
    }
}

/// Refuses a client that sent too long a ClientHello.
pub(super) async fn too_large(mut socket: Socket) -> HandshakeError {
    socket.consume(usize::MAX);
    alert_and_end(&mut socket, Reject::HelloTooLarge).await;
    HandshakeError::HelloTooLarge
}

/// Sends the alert of `reject` to a client whose handshake has no keys yet, and ends the stream.
pub(super) async fn alert_and_end(socket: &mut Socket, reject: Reject) {
    socket.queue().extend_from_slice(&plaintext_alert(reject.row().alert));
    flush_and_end(socket).await;
}

/// A plaintext alert record (RFC 8446, section 5.1): alert, TLS 1.2 record version, two bytes: fatal, and the description.
pub(super) fn plaintext_alert(description: AlertDescription) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description.into()]
}

/// Whether a connection begins with the method of an HTTP request, or a part of one: capital letters up to the first space. No TLS record
/// begins with a letter.
pub(super) fn is_plain_http(received: &[u8]) -> bool {
    let method = received.split(|&byte| byte == b' ').next().unwrap_or_default();
    !method.is_empty() && method.iter().all(u8::is_ascii_uppercase)
}

/// Answers a client of plain HTTP in its own language, and ends the stream.
pub(super) async fn answer_plainly(mut socket: Socket) -> HandshakeError {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 37\r\nconnection: close\r\n\r\n\
        This port speaks TLS: use https://.\r\n";
    socket.consume(usize::MAX);
    socket.queue().extend_from_slice(ANSWER);
    flush_and_end(&mut socket).await;
    HandshakeError::PlainHttp
}

/// Sends what is queued, shuts down the sending direction, and discards what the peer still sends: unread data would make the kernel
/// reset the connection, and a reset may overtake the alert. Errors are ignored: the connection ends anyway.
pub(super) async fn flush_and_end(socket: &mut Socket) {
    if poll_fn(|context| socket.poll_finish(context)).await.is_ok() {
        // The owner drops the socket next, which ends a receive in flight.
        let _ = timeout(AFTER_ALERT_TIME, discard(socket, AFTER_ALERT_BYTES, || ())).await;
    }
}

/// Reads and discards what the peer sends, until it ends the stream or `limit` bytes have arrived. Calls `received` after each receive.
pub(super) async fn discard(socket: &mut Socket, limit: usize, received: impl Fn()) {
    let mut total = 0;
    while total < limit {
        match poll_fn(|context| socket.poll_fill(context)).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                total += count;
                socket.consume(count);
                received();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_told_from_tls() {
        for (start, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], true),
            (b"P", true),
            (b"POST", true),
            (b"POST ", true),
            (b"", false),
            (b" GET", false),
            (b"SSH-2.0-x", false),
            (b"get / HTTP/1.1", false),
            (&[22, 3, 1, 2, 0, 1], false),
            (&[0x80, 0x2e, 1], false),
        ] {
            assert_eq!(is_plain_http(start), expected, "{}", start.escape_ascii());
        }
    }
}
