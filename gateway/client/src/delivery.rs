//! One webhook as its sender would send it, or wrong in one way: fields, body, proof.
//!
//! Owns how a request is put together. Must not send it: `send` does.

use http::Method;
use hyper::body::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::exchange::Request;
use crate::proof::{self, Key, ProofError, Signed};
use crate::sender::{DeliveryId, Proof, Sender};
use crate::target::Target;
use crate::wrong::Wrong;

/// The body of a sender that documents none.
const UNDOCUMENTED_BODY: &str = "{\"id\":\"@id@\",\"event\":\"hookgate.test\",\"time\":\"@time@\"}";
/// How far a wrong time lies off, in seconds: beyond the longest tolerance that a receiver of hookgate's kind allows, a day.
const WRONG_BY_S: u64 = 90_000;
/// The length of a field value that is too long for common servers, in bytes.
const LONG_FIELD_BYTES: usize = 64 * 1024;
/// What is appended to a path that the receiver then does not have.
const NO_SUCH_PATH: &str = "/hookgate-no-such-path";
/// The host of a request for somebody else.
const OTHER_HOST: &str = "other.hookgate.invalid";

/// What requests are made of.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Whose.
    pub sender: &'a Sender,
    /// To whom.
    pub target: &'a Target,
    /// The proof, and what it is made with; `None` to leave it out.
    pub proof: Option<(&'a Proof, &'a Key)>,
    /// The name of a session parameter.
    pub parameter: &'a str,
    /// How it is wrong.
    pub wrong: Option<Wrong>,
    /// The length of a body that is too large, in bytes.
    pub large_body_bytes: usize,
    /// A body of the user's, which replaces the documented one.
    pub body: Option<&'a [u8]>,
}

/// Why a request cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The proof cannot be made.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The body is not JSON.
    #[error("the session parameter belongs into the body, and the body is not a JSON object")]
    BodyNotJson,
    /// The sender has nothing that could be wrong in this way.
    #[error("--wrong {wrong} has no meaning for {sender}: {why}")]
    Meaningless {
        /// The way.
        wrong: &'static str,
        /// The sender.
        sender: String,
        /// Why.
        why: &'static str,
    },
}

impl Plan<'_> {
    /// Fails if nothing of this sender can be wrong in the wanted way.
    ///
    /// # Errors
    ///
    /// [`PlanError::Meaningless`].
    pub fn check(&self) -> Result<(), PlanError> {
        let Some(wrong) = self.wrong else { return Ok(()) };
        let has_time = match self.proof.map(|(proof, _)| proof) {
            Some(Proof::Hmac(form, _) | Proof::PublicKey(form, _)) => form.timestamp.is_some(),
            Some(Proof::StandardWebhooks(_)) => true,
            _ => false,
        };
        let signs =
            matches!(self.proof, Some((Proof::Hmac(..) | Proof::PublicKey(..) | Proof::StandardWebhooks(_), _)));
        let why = match wrong {
            Wrong::NoProof if self.sender.proofs.is_empty() => "its certificate is its only proof",
            Wrong::BadProof if self.proof.is_none() => "this needs --secret-file, with the right secret",
            Wrong::ChangedBody if !signs => "this needs a signature, and the right secret as --secret-file",
            Wrong::StaleTimestamp | Wrong::FutureTimestamp if !has_time => {
                "it signs no time, or --secret-file is missing"
            }
            Wrong::Duplicate | Wrong::NoDeliveryId if self.sender.delivery_id.is_none() => {
                "its preset has no delivery id"
            }
            _ => return Ok(()),
        };
        Err(PlanError::Meaningless { wrong: wrong.id(), sender: self.sender.name.clone(), why })
    }

    /// A new delivery.
    ///
    /// # Errors
    ///
    /// The proof cannot be made with this key.
    pub fn request(&self) -> Result<Request, PlanError> {
        let now = proof::now();
        let timestamp = match self.wrong {
            Some(Wrong::StaleTimestamp) => now - WRONG_BY_S,
            Some(Wrong::FutureTimestamp) => now + WRONG_BY_S,
            _ => now,
        };
        let id = delivery_id();
        let method = if self.wrong == Some(Wrong::BadMethod) { Method::DELETE } else { Method::POST };
        let path = match self.wrong {
            Some(Wrong::BadPath) => wrong_path(&self.target.path),
            _ => self.target.path.clone(),
        };
        let mut body = self.body(&id, timestamp)?;
        let fill = |text: &str| filled(text, &id, timestamp);
        let mut fields: Vec<(String, String)> =
            self.sender.request.fields.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
        if let Some(DeliveryId::Header(name)) = &self.sender.delivery_id {
            set(&mut fields, name, id.clone());
        }
        if let Some((proof, key)) = self.proof.filter(|_| self.wrong != Some(Wrong::NoProof)) {
            let signed =
                Signed { method: method.as_str(), path: &path, url: &self.target.url, id: &id, timestamp, body: &body };
            for (name, value) in proof::fields(proof, key, &signed)? {
                set(&mut fields, &name, value);
            }
        }
        if self.wrong == Some(Wrong::NoDeliveryId)
            && let Some(DeliveryId::Header(header)) = &self.sender.delivery_id
        {
            fields.retain(|(name, _)| !name.eq_ignore_ascii_case(header));
        }
        self.spoil(&mut fields, &mut body);
        let host = if self.wrong == Some(Wrong::WrongHost) { OTHER_HOST } else { &self.target.authority };
        Ok(Request { method, path, fields, host: host.to_owned(), body: Bytes::from(body) })
    }

    /// Makes wrong what is wrong after the signature.
    fn spoil(&self, fields: &mut Vec<(String, String)>, body: &mut Vec<u8>) {
        match self.wrong {
            Some(Wrong::ChangedBody) => body.push(b' '),
            Some(Wrong::HeadTooLarge) => fields.push(("x-hookgate-padding".into(), "a".repeat(LONG_FIELD_BYTES))),
            Some(Wrong::BadProof) => {
                let Some((proof, _)) = self.proof else { return };
                let name = match proof {
                    Proof::Hmac(form, _) | Proof::PublicKey(form, _) => form.header.as_str(),
                    Proof::StandardWebhooks(names) => names.signature.as_str(),
                    Proof::FieldSecret { header: Some(header), .. } => header,
                    _ => "authorization",
                };
                for (_, value) in fields.iter_mut().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
                    *value = changed(value);
                }
            }
            _ => {}
        }
    }

    fn body(&self, id: &str, timestamp: u64) -> Result<Vec<u8>, PlanError> {
        if self.wrong == Some(Wrong::TooLarge) {
            return Ok(padded(self.large_body_bytes));
        }
        let body = match self.body {
            Some(body) => body.to_vec(),
            None => {
                let template = self.sender.request.body.as_deref().unwrap_or(UNDOCUMENTED_BODY);
                filled(template, id, timestamp).into_bytes()
            }
        };
        let parameter = match self.proof.filter(|_| self.wrong != Some(Wrong::NoProof)) {
            Some((Proof::SessionParameter(pointer), key)) => Some((pointer, proof::parameter(key)?)),
            _ => None,
        };
        let id_pointer = match &self.sender.delivery_id {
            Some(DeliveryId::Body(pointer)) => Some(pointer),
            _ => None,
        };
        if parameter.is_none() && (id_pointer.is_none() || self.wrong != Some(Wrong::NoDeliveryId)) {
            return Ok(body);
        }
        let mut json: serde_json::Value = serde_json::from_slice(&body).map_err(|_| PlanError::BodyNotJson)?;
        if let Some((pointer, value)) = parameter {
            let value = if self.wrong == Some(Wrong::BadProof) { changed(value) } else { value.to_owned() };
            let pointer = pointer.replace("{name}", self.parameter);
            place(&mut json, &pointer, value.into()).ok_or(PlanError::BodyNotJson)?;
        }
        if let Some(pointer) = id_pointer.filter(|_| self.wrong == Some(Wrong::NoDeliveryId)) {
            remove(&mut json, pointer);
        }
        serde_json::to_vec(&json).map_err(|_| PlanError::BodyNotJson)
    }
}

/// An id as a UUID of version 4 (RFC 9562), which is what most senders use.
fn delivery_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// `text` with its placeholders filled.
fn filled(text: &str, id: &str, timestamp: u64) -> String {
    let time = i64::try_from(timestamp).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let time = time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default();
    text.replace("@id@", id).replace("@unix@", &timestamp.to_string()).replace("@time@", &time)
}

fn set(fields: &mut Vec<(String, String)>, name: &str, value: String) {
    fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
    fields.push((name.to_owned(), value));
}

/// `path` with something appended before its query.
fn wrong_path(path: &str) -> String {
    match path.split_once('?') {
        None => format!("{}{NO_SUCH_PATH}", path.trim_end_matches('/')),
        Some((path, query)) => format!("{}{NO_SUCH_PATH}?{query}", path.trim_end_matches('/')),
    }
}

/// `value` with one letter or digit in the middle of its last part changed, so that its form stays.
fn changed(value: &str) -> String {
    let start = value.rfind([',', '=', ' ', '.']).map_or(0, |at| if at + 8 < value.len() { at + 1 } else { 0 });
    let middle = start + (value.len() - start) / 2;
    let position = value.char_indices().position(|(at, letter)| at >= middle && letter.is_ascii_alphanumeric());
    let Some(position) = position else { return format!("{value}x") };
    let swap = |(index, letter): (usize, char)| match letter {
        '0' if index == position => '1',
        _ if index == position => '0',
        other => other,
    };
    value.chars().enumerate().map(swap).collect()
}

/// A JSON object of this length.
fn padded(bytes: usize) -> Vec<u8> {
    let frame = "{\"padding\":\"\"}".len();
    format!("{{\"padding\":\"{}\"}}", "a".repeat(bytes.saturating_sub(frame))).into_bytes()
}

/// The parts of a JSON pointer (RFC 6901).
fn parts(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// Puts `value` at `pointer`, and makes the objects on the way there. A part `*` stands for the first element of an array.
fn place(json: &mut serde_json::Value, pointer: &str, value: serde_json::Value) -> Option<()> {
    let parts = parts(pointer);
    let mut at = json;
    for (index, part) in parts.iter().enumerate() {
        let next_is_array = parts.get(index + 1).is_some_and(|next| next == "*");
        at = match at {
            serde_json::Value::Array(elements) => {
                if elements.is_empty() {
                    elements.push(serde_json::json!({}));
                }
                elements.first_mut()?
            }
            serde_json::Value::Object(members) => {
                let empty = if next_is_array { serde_json::json!([]) } else { serde_json::json!({}) };
                members.entry(part.clone()).or_insert(empty)
            }
            _ => return None,
        };
    }
    *at = value;
    Some(())
}

fn remove(json: &mut serde_json::Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    if let Some(members) = json.pointer_mut(parent).and_then(serde_json::Value::as_object_mut) {
        members.remove(name);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn ids_are_uuids_and_differ() {
        let (one, other) = (delivery_id(), delivery_id());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15]), (36, "4"), "{one}");
        assert!(["8", "9", "a", "b"].contains(&&one[19..20]), "{one}");
    }

    #[test]
    fn one_character_of_a_proof_changes_and_its_form_stays() {
        for value in
            ["v1=0123456789abcdef", "t=17,v1=0123456789abcdef", "Bearer aaaa.bbbb.cccccccccccccc", "v1,abcdefghijkl="]
        {
            let changed = changed(value);
            let differing = value.chars().zip(changed.chars()).filter(|(one, other)| one != other).count();
            assert_eq!((changed.len(), differing), (value.len(), 1), "{value} {changed}");
            let separators = |text: &str| text.matches([',', '=', ' ', '.']).count();
            assert_eq!(separators(value), separators(&changed));
        }
        assert!(changed("t=17,v1=0123456789abcdef").starts_with("t=17,v1="));
    }

    #[test]
    fn a_parameter_is_placed_where_its_pointer_leads() {
        let mut json = serde_json::json!({ "sessionInfo": { "session": "s" } });
        place(&mut json, "/sessionInfo/parameters/token", "x".into()).unwrap();
        assert_eq!(json.pointer("/sessionInfo/parameters/token").unwrap(), "x");
        let mut json = serde_json::json!({});
        place(&mut json, "/queryResult/outputContexts/*/parameters/token", "x".into()).unwrap();
        assert_eq!(json.pointer("/queryResult/outputContexts/0/parameters/token").unwrap(), "x");
        remove(&mut json, "/queryResult/outputContexts");
        assert_eq!(json, serde_json::json!({ "queryResult": {} }));
        assert_eq!(place(&mut serde_json::json!({ "a": 1 }), "/a/b", "x".into()), None);
    }

    #[test]
    fn wrong_paths_keep_their_query() {
        assert_eq!(wrong_path("/hook?x=1"), "/hook/hookgate-no-such-path?x=1");
        assert_eq!(wrong_path("/"), "/hookgate-no-such-path");
    }

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(filled("@id@ @unix@ @time@", "x", 1_700_000_000), "x 1700000000 2023-11-14T22:13:20Z");
        assert_eq!(padded(100).len(), 100);
    }
}
