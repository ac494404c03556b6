//! Session parameters: what one's own authentication server put into a Dialogflow session, found in the body of a webhook.
//!
//! Owns where it stands and what it must be. Dialogflow CX has it at `/sessionInfo/parameters/<name>` and the session's name at
//! `/sessionInfo/session`; ES at `/queryResult/outputContexts/*/parameters/<name>` or under
//! `/originalDetectIntentRequest/payload`, and the session's name at `/session`.

use std::borrow::Cow;

use ring::hmac;

use super::keys::{KeySets, KeySourceId};
use super::pointer::JsonPointer;
use super::policy::Unproven;
use super::request::RequestView;
use super::secret::Secret;
use super::signature::{Encoding, HmacHash};
use super::token::TokenRule;
use crate::reject::{Refusal, Reject};

/// Most secrets of one rule; two while one is being replaced.
const MAX_SECRETS: usize = 8;

/// A rule for a session parameter. Where the pointer leads to several strings, one that proves suffices: nobody but the
/// authentication server could have made it.
#[derive(Debug)]
pub struct SessionParameter {
    pointer: JsonPointer,
    demand: Demand,
}

#[derive(Debug)]
enum Demand {
    Secret(Box<[Secret]>),
    Hmac { session: JsonPointer, keys: Box<[hmac::Key]>, encoding: Encoding },
    Token { rule: TokenRule, session: Option<JsonPointer> },
}

/// Why a configuration makes no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionParameterError {
    /// None, or too many.
    #[error("{count} secrets; there must be 1 to {MAX_SECRETS}")]
    Secrets {
        /// How many.
        count: usize,
    },
}

impl SessionParameter {
    /// The parameter must be one of these secrets. The weakest form: whoever sees it once can use it in any session.
    ///
    /// # Errors
    ///
    /// Where there are no secrets or more than 8.
    pub fn secret(pointer: JsonPointer, secrets: Vec<Secret>) -> Result<Self, SessionParameterError> {
        count(&secrets)?;
        Ok(Self { pointer, demand: Demand::Secret(secrets.into()) })
    }

    /// The parameter must be HMAC-SHA-256 of the session's name, the string at `session`, with one of these secrets.
    ///
    /// # Errors
    ///
    /// Where there are no secrets or more than 8.
    pub fn hmac(
        pointer: JsonPointer,
        session: JsonPointer,
        secrets: &[Secret],
        encoding: Encoding,
    ) -> Result<Self, SessionParameterError> {
        count(secrets)?;
        let key = |secret: &Secret| hmac::Key::new(HmacHash::Sha256.algorithm(), secret.expose());
        Ok(Self { pointer, demand: Demand::Hmac { session, keys: secrets.iter().map(key).collect(), encoding } })
    }

    /// The parameter must be a token by one's own issuer. Where `session` is given, the token's `sub` must be the session's
    /// name, the string there, so that a token serves in its own session alone.
    #[must_use]
    pub fn token(pointer: JsonPointer, rule: TokenRule, session: Option<JsonPointer>) -> Self {
        Self { pointer, demand: Demand::Token { rule, session } }
    }

    /// Which keys verify the parameter, where it is a token.
    pub(super) fn key_source(&self) -> Option<KeySourceId> {
        match &self.demand {
            Demand::Token { rule, .. } => Some(rule.source()),
            Demand::Secret(_) | Demand::Hmac { .. } => None,
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
                    let detail = format!("the body has no session parameter at {}", self.pointer);
                    Refusal::new(Reject::SessionParameterMissing, detail)
                }
                _ => {
                    let detail = format!("the session parameter at {} is not a string", self.pointer);
                    Refusal::new(Reject::SessionParameterMismatch, detail)
                }
            }
            .into())
        })
    }

    fn session_name<'body>(&self, body: &'body [u8]) -> Result<Option<Cow<'body, str>>, Refusal> {
        let (Demand::Hmac { session: pointer, .. } | Demand::Token { session: Some(pointer), .. }) = &self.demand
        else {
            return Ok(None);
        };
        let name = pointer.only_string(body).map_err(|error| not_json(&error))?;
        match name {
            Some(name) => Ok(Some(name)),
            None => {
                let detail = format!("the body has no session name at {pointer}");
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
        match (&self.demand, session) {
            (Demand::Secret(secrets), _) => {
                // No early exit: which of the secrets matched is nobody's business either.
                let matches = secrets.iter().fold(false, |any, secret| any | secret.matches(value.as_bytes()));
                if matches {
                    Ok(())
                } else {
                    Err(mismatch(format!("the session parameter at {} differs", self.pointer)).into())
                }
            }
            (Demand::Hmac { keys, encoding, .. }, Some(session)) => {
                let mut buffer = [0; 48];
                let presented = encoding.decode(value.as_bytes(), &mut buffer).unwrap_or_default();
                if keys.iter().any(|key| hmac::verify(key, session.as_bytes(), presented).is_ok()) {
                    return Ok(());
                }
                let detail =
                    format!("the session parameter at {} is not the HMAC of this session's name", self.pointer);
                Err(mismatch(detail).into())
            }
            (Demand::Token { rule, .. }, session) => {
                let claims = rule
                    .check(value.as_bytes(), keys, request.received_at)
                    .map_err(|unproven| self.not_a_token(unproven))?;
                match (session, claims.subject) {
                    (None, _) => Ok(()),
                    (Some(session), Some(subject)) if subject.as_bytes() == session.as_bytes() => Ok(()),
                    _ => Err(mismatch("the token in the session parameter is for another session".to_owned()).into()),
                }
            }
            (Demand::Hmac { .. }, None) => Err(mismatch("the body has no session name".to_owned()).into()),
        }
    }

    /// The reasons of tokens speak of the bearer token; here they become one reason, and what they say its detail. What calls for
    /// keys stays as it is, since a retry may pass.
    fn not_a_token(&self, unproven: Unproven) -> Unproven {
        if unproven.refusal.reject == Reject::KeysUnavailable {
            return unproven;
        }
        let detail = format!("the session parameter at {}: {}", self.pointer, unproven.refusal);
        Unproven { refusal: Refusal::new(Reject::SessionParameterMismatch, detail), wants_keys: unproven.wants_keys }
    }
}

fn count(secrets: &[Secret]) -> Result<(), SessionParameterError> {
    match secrets.len() {
        1..=MAX_SECRETS => Ok(()),
        count => Err(SessionParameterError::Secrets { count }),
    }
}

/// Says where the body stops being JSON, and nothing of what it holds.
pub(super) fn not_json(error: &serde_json::Error) -> Refusal {
    let (line, column) = (error.line(), error.column());
    let what = if error.is_data() { "names a member twice" } else { "is not well-formed JSON" };
    Refusal::new(Reject::BodyNotJson, format!("the body {what}, line {line} column {column}"))
}

#[cfg(test)]
mod tests;
