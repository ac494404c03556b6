//! Session parameters: a value that your own authentication server put into a Dialogflow session, in the JSON body of a webhook.
//!
//! Owns the place of the parameter and its expected value. Dialogflow CX has the parameter at `/sessionInfo/parameters/<name>`
//! and the session's name at `/sessionInfo/session`. Dialogflow ES has the parameter at
//! `/queryResult/outputContexts/*/parameters/<name>` or under `/originalDetectIntentRequest/payload`, and the session's name at
//! `/session`. Must not parse JSON: `json_pointer` does.

use std::borrow::Cow;

use ring::hmac;

use super::body_signature::{Encoding, HmacHash};
use super::json_pointer::JsonPointer;
use super::proof_policy::Unproven;
use super::request_view::{RequestView, not_json};
use super::secret::Secret;
use super::strength::{Aspect, Aspects, KeyAspects, SECRET_BYTES};
use super::token::TokenRule;
use super::token_keys::{KeySets, KeySourceId};
use crate::reject::{Refusal, Reject};

/// Most secrets of one rule. A rotation needs two.
const MAX_SECRETS: usize = 8;

/// A rule for a session parameter. If the pointer finds several strings, one that matches suffices: only the authentication
/// server can make it.
#[derive(Debug)]
pub struct SessionParameter {
    pointer: JsonPointer,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Secret(Box<[Secret]>),
    Hmac { session: JsonPointer, keys: Box<[hmac::Key]>, encoding: Encoding, shortest: usize },
    Token { rule: TokenRule, session: Option<JsonPointer> },
}

/// Why a configuration is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionParameterError {
    /// No secrets, or too many.
    #[error("{count} secrets; write 1 to {MAX_SECRETS}")]
    Secrets {
        /// The number of secrets.
        count: usize,
    },
}

impl SessionParameter {
    /// The parameter must be one of these secrets. The weakest form: anyone who sees it once can use it in any session.
    ///
    /// # Errors
    ///
    /// If there are no secrets, or more than 8.
    pub fn secret(pointer: JsonPointer, secrets: Vec<Secret>) -> Result<Self, SessionParameterError> {
        count(&secrets)?;
        Ok(Self { pointer, expected: Expected::Secret(secrets.into()) })
    }

    /// The parameter must be the HMAC-SHA-256 of the session's name, the string at `session`, with one of these secrets.
    ///
    /// # Errors
    ///
    /// If there are no secrets, or more than 8.
    pub fn hmac(
        pointer: JsonPointer,
        session: JsonPointer,
        secrets: &[Secret],
        encoding: Encoding,
    ) -> Result<Self, SessionParameterError> {
        count(secrets)?;
        let key = |secret: &Secret| hmac::Key::new(HmacHash::Sha256.algorithm(), secret.expose());
        let (keys, shortest) = (secrets.iter().map(key).collect(), shortest(secrets));
        Ok(Self { pointer, expected: Expected::Hmac { session, keys, encoding, shortest } })
    }

    /// The parameter must be a token of your own issuer. If `session` is given, the token's `sub` must be the session's name, the
    /// string at `session`, so that a token is valid in one session only.
    #[must_use]
    pub fn token(pointer: JsonPointer, rule: TokenRule, session: Option<JsonPointer>) -> Self {
        Self { pointer, expected: Expected::Token { rule, session } }
    }

    /// Its place, and what it demands.
    pub(super) fn strength(&self, keys: &KeyAspects<'_>) -> (String, Aspects) {
        let secret = |length: usize| {
            let length = Aspect::AtLeast(length.min(SECRET_BYTES) as u64);
            Aspects::from([("bytes of the shortest secret".to_owned(), length)])
        };
        let (mut aspects, in_session) = match &self.expected {
            Expected::Secret(secrets) => (secret(shortest(secrets)), false),
            Expected::Hmac { shortest, .. } => (secret(*shortest), true),
            Expected::Token { rule, session } => (rule.aspects(keys), session.is_some()),
        };
        if in_session {
            aspects.insert("the session's name".to_owned(), Aspect::Demanded);
        }
        (format!("session parameter at {}", self.pointer), aspects)
    }

    /// Whether it is a token, which expires. Otherwise it is the same in every request, or in every request of a session.
    pub(super) fn is_token(&self) -> bool {
        matches!(self.expected, Expected::Token { .. })
    }

    /// The source of the keys that verify the parameter, if it is a token.
    pub(super) fn key_source(&self) -> Option<KeySourceId> {
        match &self.expected {
            Expected::Token { rule, .. } => Some(rule.source()),
            Expected::Secret(_) | Expected::Hmac { .. } => None,
        }
    }

    /// Judges the parameter of a request.
    ///
    /// # Errors
    ///
    /// `body_not_json`, `session_parameter_missing`, `session_parameter_mismatch`, `token_unknown_key` or `keys_unavailable`.
    pub(super) fn check(&self, request: &RequestView<'_>, keys: &KeySets) -> Result<(), Unproven> {
        let body = request.json_body()?;
        let session = self.session_name(body)?;
        let mut verdict = None;
        let mut judge = |value: Cow<'_, str>| {
            if !matches!(verdict, Some(Ok(()))) {
                verdict = Some(self.judge(&value, session.as_deref(), request, keys));
            }
        };
        let others = self.pointer.strings(body, &mut judge).map_err(|error| not_json(&error))?;
        verdict.unwrap_or_else(|| {
            Err(match others {
                0 => {
                    let detail = format!("The body has no session parameter at {}.", self.pointer);
                    Refusal::new(Reject::SessionParameterMissing, detail)
                }
                _ => {
                    let detail = format!("The session parameter at {} is not a string.", self.pointer);
                    Refusal::new(Reject::SessionParameterMismatch, detail)
                }
            }
            .into())
        })
    }

    fn session_name<'body>(&self, body: &'body [u8]) -> Result<Option<Cow<'body, str>>, Refusal> {
        let (Expected::Hmac { session: pointer, .. } | Expected::Token { session: Some(pointer), .. }) = &self.expected
        else {
            return Ok(None);
        };
        let name = pointer.only_string(body).map_err(|error| not_json(&error))?;
        match name {
            Some(name) => Ok(Some(name)),
            None => {
                let detail =
                    format!("The body does not have one string at {pointer}, the place of the session's name.");
                Err(Refusal::new(Reject::SessionParameterMissing, detail))
            }
        }
    }

    fn judge(
        &self,
        value: &str,
        session: Option<&str>,
        request: &RequestView<'_>,
        keys: &KeySets,
    ) -> Result<(), Unproven> {
        let mismatch = |detail: String| Refusal::new(Reject::SessionParameterMismatch, detail);
        match (&self.expected, session) {
            (Expected::Secret(secrets), _) => {
                // No early exit, so that the time does not reveal which secret matched.
                let matches = secrets.iter().fold(false, |any, secret| any | secret.matches(value.as_bytes()));
                if matches {
                    Ok(())
                } else {
                    Err(mismatch(format!(
                        "The session parameter at {} is not one of the configured secrets.",
                        self.pointer
                    ))
                    .into())
                }
            }
            (Expected::Hmac { keys, encoding, .. }, Some(session)) => {
                let mut buffer = [0; 48];
                let presented = encoding.decode(value.as_bytes(), &mut buffer).unwrap_or_default();
                if keys.iter().any(|key| hmac::verify(key, session.as_bytes(), presented).is_ok()) {
                    return Ok(());
                }
                let detail = format!(
                    "The session parameter at {} is not the HMAC-SHA-256 of this session's name.",
                    self.pointer
                );
                Err(mismatch(detail).into())
            }
            (Expected::Token { rule, .. }, session) => {
                let claims = rule
                    .check(value.as_bytes(), keys, request.received_at)
                    .map_err(|unproven| self.not_a_token(unproven))?;
                match (session, claims.subject) {
                    (None, _) => Ok(()),
                    (Some(session), Some(subject)) if subject.as_bytes() == session.as_bytes() => Ok(()),
                    _ => {
                        let detail = format!(
                            "The token at {} is for another session: its \"sub\" is not this session's name.",
                            self.pointer
                        );
                        Err(mismatch(detail).into())
                    }
                }
            }
            (Expected::Hmac { .. }, None) => Err(mismatch("The body has no session name.".to_owned()).into()),
        }
    }

    /// Replaces the reason of a token, which is about the bearer token, by that of the session parameter, and keeps its detail.
    /// `keys_unavailable` stays, because a retry can pass.
    fn not_a_token(&self, unproven: Unproven) -> Unproven {
        if unproven.refusal.reject == Reject::KeysUnavailable {
            return unproven;
        }
        let refusal = &unproven.refusal;
        let reason = refusal.reject.row().reason;
        let detail = format!("The token at {} is refused ({reason}). {}", self.pointer, refusal.peer_detail());
        Unproven { refusal: Refusal::new(Reject::SessionParameterMismatch, detail), wants_keys: unproven.wants_keys }
    }
}

fn shortest(secrets: &[Secret]) -> usize {
    secrets.iter().map(Secret::length).min().unwrap_or(0)
}

fn count(secrets: &[Secret]) -> Result<(), SessionParameterError> {
    match secrets.len() {
        1..=MAX_SECRETS => Ok(()),
        count => Err(SessionParameterError::Secrets { count }),
    }
}

#[cfg(test)]
mod tests;
