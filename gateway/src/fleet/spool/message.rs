//! The form of a delivery in the streams: its subject, what is known of it, and its request.
//!
//! Pure. Owns the names of subjects, and that a message is read as it was written. Must not know a server.
//!
//! A delivery that waits has the subject `hookgate.spool.FLEET.ROUTE.k.KEY` if it has an order key, otherwise `hookgate.spool.FLEET.ROUTE.d.ID`; a
//! dead letter has `hookgate.dead.FLEET.ROUTE.ID`. The field `Hookgate-Delivery` holds a [`Meta`] as JSON. The payload is the request as a handler
//! gets it: a line with method and target, lines with fields, an empty line, the body.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::deliveries::{NewDelivery, RequestParts, StoredRequest, Waiting};

/// The field with the [`Meta`].
const META: &str = "Hookgate-Delivery";

/// What the fields of a message have beside the [`Meta`].
const FRAME_BYTES: usize = 256;

/// Bytes of the digest that stands for a name that cannot be part of a subject.
const DIGEST_BYTES: usize = 16;

/// What is known of a delivery beside its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fleet) struct Meta {
    /// Its id: `X-Hookgate-Delivery`.
    pub(super) id: String,
    /// The name of its route.
    pub(super) route: String,
    /// The name of its provider.
    pub(super) provider: String,
    /// What it proved.
    pub(super) proof: String,
    /// What it waits for, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub(super) received_ms: u64,
    /// No attempt begins after it, in milliseconds since 1970.
    pub(super) until_ms: u64,
    /// Attempts with an outcome, before it was put into this stream.
    pub(super) attempts: u32,
    /// No attempt begins before it, in milliseconds since 1970.
    #[serde(default)]
    pub(super) next_ms: u64,
    /// Of a dead letter: why it is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) outcome: String,
}

impl Meta {
    /// Of a delivery that has just passed every check.
    pub(in crate::fleet) fn of_new(delivery: &NewDelivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            route: delivery.route.to_string(),
            provider: delivery.provider.to_string(),
            proof: delivery.proof.to_owned(),
            key: delivery.key.map(|key| key.to_hex()),
            received_ms: delivery.received_ms,
            until_ms: delivery.until_ms(),
            attempts: 0,
            next_ms: 0,
            outcome: String::new(),
        }
    }

    /// Of a delivery that has waited on the disk of this host.
    pub(in crate::fleet) fn of_waiting(waiting: &Waiting, proof: &str) -> Self {
        Self {
            id: waiting.id.to_string(),
            route: waiting.route.to_string(),
            provider: waiting.provider.to_string(),
            proof: proof.to_owned(),
            key: waiting.key.map(|key| key.to_hex()),
            received_ms: waiting.received_ms,
            until_ms: waiting.until_ms,
            attempts: waiting.attempts,
            next_ms: waiting.next_ms,
            outcome: String::new(),
        }
    }

    /// Whether id and key are of the form that hookgate gives them, so that they can be parts of a subject.
    fn is_well_formed(&self) -> bool {
        let is_hex =
            |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex(&self.id) && self.key.as_deref().is_none_or(is_hex)
    }
}

/// A delivery as a message of the streams.
#[derive(Clone, Debug)]
pub struct Message {
    pub(super) meta: Meta,
    pub(super) payload: Bytes,
}

impl Message {
    pub(in crate::fleet) fn new(meta: Meta, request: &RequestParts) -> Self {
        Self { meta, payload: request.to_message().into() }
    }

    /// A message that was received; `None` if it is not one of hookgate.
    pub(super) fn parse(headers: Option<&HeaderMap>, payload: Bytes) -> Option<Self> {
        let meta: Meta = serde_json::from_str(headers?.get(META)?.as_str()).ok()?;
        meta.is_well_formed().then_some(Self { meta, payload })
    }

    /// Its bytes, as the servers count them.
    pub(in crate::fleet) fn bytes(&self) -> usize {
        self.payload.len() + serde_json::to_string(&self.meta).map_or(0, |text| text.len()) + FRAME_BYTES
    }

    /// Its request; `None` if it is none.
    pub(super) fn request(&self) -> Option<StoredRequest> {
        StoredRequest::of_message(&self.payload)
    }

    /// Its fields. The servers drop a second message with the same `id`.
    pub(super) fn headers(&self, id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        // Strings and numbers always serialize, and JSON has no control characters.
        headers.insert(META, serde_json::to_string(&self.meta).unwrap_or_default().as_str());
        headers
    }
}

/// The subjects of a fleet.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    spool: String,
    dead: String,
}

impl Subjects {
    pub(super) fn new(fleet: &str) -> Self {
        Self { spool: format!("hookgate.spool.{fleet}"), dead: format!("hookgate.dead.{fleet}") }
    }

    /// All deliveries that wait.
    pub(super) fn spool(&self) -> String {
        format!("{}.>", self.spool)
    }

    /// All dead letters.
    pub(super) fn dead(&self) -> String {
        format!("{}.>", self.dead)
    }

    /// The deliveries of a route that wait.
    pub(super) fn spool_of(&self, route: &str) -> String {
        format!("{}.{}.>", self.spool, token(route))
    }

    /// The dead letters of a route.
    pub(super) fn dead_of(&self, route: &str) -> String {
        format!("{}.{}.>", self.dead, token(route))
    }

    /// Where a delivery waits. Those of one order key have the same subject.
    pub(super) fn waiting(&self, meta: &Meta) -> String {
        match &meta.key {
            Some(key) => self.of_key(&meta.route, key),
            None => format!("{}.{}.d.{}", self.spool, token(&meta.route), meta.id),
        }
    }

    /// Where the deliveries of a route with this order key wait.
    pub(super) fn of_key(&self, route: &str, key: &str) -> String {
        format!("{}.{}.k.{key}", self.spool, token(route))
    }

    /// Where a delivery without an order key waits, of whichever route.
    pub(super) fn waiting_by_id(&self, id: &str) -> String {
        format!("{}.*.d.{id}", self.spool)
    }

    /// Where deliveries with an order key wait.
    pub(super) fn keyed(&self) -> String {
        format!("{}.*.k.*", self.spool)
    }

    /// Where a dead letter is.
    pub(super) fn buried(&self, meta: &Meta) -> String {
        format!("{}.{}.{}", self.dead, token(&meta.route), meta.id)
    }

    /// Whether this is where the delivery waits, or where it is as a dead letter. One that is elsewhere would not be found again.
    pub(super) fn are_of(&self, meta: &Meta, subject: &str) -> bool {
        [self.waiting(meta), self.buried(meta)].iter().any(|place| place == subject)
    }

    /// Where a dead letter is, of whichever route.
    pub(super) fn buried_by_id(&self, id: &str) -> String {
        format!("{}.*.{id}", self.dead)
    }
}

/// The name of a route as a part of a subject, or of the name of a consumer: itself, or a digest if it has other characters than those of a token.
pub(super) fn token(route: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !route.is_empty() && route.bytes().all(is_plain) {
        return route.to_owned();
    }
    let digest = digest::digest(&digest::SHA256, route.as_bytes());
    format!("~{}", HEXLOWER.encode(digest.as_ref().get(..DIGEST_BYTES).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use hyper::Method;
    use hyper::header::HeaderMap as Fields;

    use super::*;

    fn meta(key: Option<&str>) -> Meta {
        Meta {
            id: "8d0f".to_owned(),
            route: "hooks.example.com/orders".to_owned(),
            provider: "github".to_owned(),
            proof: "signature".to_owned(),
            key: key.map(str::to_owned),
            received_ms: 1,
            until_ms: 2,
            attempts: 3,
            next_ms: 0,
            outcome: String::new(),
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut fields = Fields::new();
        fields.append("x-a", "1".parse().unwrap());
        fields.append("x-a", "\u{e9}: 2".parse().unwrap());
        for body in [&b""[..], b"\r\n\r\n{}", b"\x00\xff"] {
            let target = "/orders?x=%20y".parse().unwrap();
            let parts = RequestParts { method: Method::POST, target, fields: fields.clone(), body: body.into() };
            let message = Message::new(meta(Some("ab")), &parts);
            let headers = message.headers("8d0f");
            assert_eq!(headers.get(NATS_MESSAGE_ID).unwrap().as_str(), "8d0f");
            let read = Message::parse(Some(&headers), message.payload.clone()).unwrap();
            assert_eq!(read.meta, message.meta);
            let request = read.request().unwrap();
            let RequestParts { method, target, fields: read_fields, body: read_body } = request.parts();
            assert_eq!((method, target, read_fields), (&parts.method, &parts.target, &parts.fields));
            assert_eq!(read_body, &parts.body);
        }
    }

    #[test]
    fn what_is_no_message_is_not_read() {
        assert!(Message::parse(None, Bytes::new()).is_none());
        let mut headers = HeaderMap::new();
        headers.insert(META, "{}");
        assert!(Message::parse(Some(&headers), Bytes::new()).is_none());
        for (id, key) in
            [("", None), ("*", None), ("a.b", None), ("a b", None), ("8d0f", Some(">")), ("8d0f", Some(""))]
        {
            let foreign = Message { meta: Meta { id: id.to_owned(), ..meta(key) }, payload: Bytes::new() };
            assert!(Message::parse(Some(&foreign.headers("1")), Bytes::new()).is_none(), "{id} {key:?}");
        }
        for payload in [
            "",
            "POST",
            "POST /",
            "POST /\r\n",
            "POST /\r\nx-a: 1\r\n",
            " /\r\n\r\n",
            "POST  \r\n\r\n",
            "CONNECT a:1\r\n\r\n",
            "OPTIONS *\r\n\r\n",
            "GET http://a/\r\n\r\n",
            "POST /\r\ncontent-length: 2\r\n\r\n1",
            "POST /\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            let message = Message { meta: meta(None), payload: payload.into() };
            assert!(message.request().is_none(), "{payload:?}");
        }
    }

    #[test]
    fn subjects_have_one_token_for_each_part() {
        let subjects = Subjects::new("prod");
        assert_eq!(token("orders-2_a"), "orders-2_a");
        assert_ne!(token("a.b"), token("a b"));
        let check = |subject: String, begin: &str, count: usize| {
            assert!(subject.starts_with(begin), "{subject}");
            assert_eq!(subject.split('.').count(), count, "{subject}");
            assert!(!subject.contains([' ', '/']), "{subject}");
        };
        check(subjects.waiting(&meta(Some("ab"))), "hookgate.spool.prod.~", 6);
        check(subjects.waiting(&meta(None)), "hookgate.spool.prod.~", 6);
        check(subjects.buried(&meta(None)), "hookgate.dead.prod.~", 5);
        check(subjects.waiting_by_id("8d0f"), "hookgate.spool.prod.*.d.8d0f", 6);
        check(subjects.buried_by_id("8d0f"), "hookgate.dead.prod.*.8d0f", 5);
    }
}
