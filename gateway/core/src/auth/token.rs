//! Tokens: who issued one, for whom, about whom, and when (RFC 7519; OpenID Connect Core, section 2).
//!
//! Owns the bearer token in the `Authorization` field (RFC 6750) and the judgement of claims. Reads no clock and fetches
//! no key. Claims are looked at after the signature has verified, and not before.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use rustls_pki_types::UnixTime;
use serde::Deserialize;

use super::jws::{self, MAX_TOKEN_BYTES, PayloadBuffer, Text};
use super::keys::{KeySets, KeySourceId};
use super::policy::Unproven;
use super::request::{Quoted, only_field};
use crate::reject::{Refusal, Reject};

/// Where Google publishes the keys of its ID tokens; its `Cache-Control` says for how long (OpenID Connect Discovery,
/// `jwks_uri` of `https://accounts.google.com/.well-known/openid-configuration`).
pub const GOOGLE_KEYS_URL: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// The issuer of Google's ID tokens.
const GOOGLE_ISSUER: &str = "https://accounts.google.com";

/// Longest leeway, in seconds: as much as a request's own time-outs could explain. RFC 7519, section 4.1.4: "usually no more
/// than a few minutes".
const MAX_LEEWAY_SECONDS: u64 = 300;

/// Longest NumericDate, exclusive: beyond it a JSON number is not an exact integer (RFC 8259, section 6).
const MAX_NUMERIC_DATE: f64 = 9_007_199_254_740_992.0;

/// What a token must say, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenExpectations {
    /// `iss` must be one of these, byte by byte. Never empty.
    pub issuers: Vec<String>,
    /// `aud` must be or hold one of these, byte by byte: usually the webhook's URL as the sender has it. Never empty.
    pub audiences: Vec<String>,
    /// `email` must be one of these, with `email_verified`. Empty demands none.
    pub emails: Vec<String>,
    /// `sub` must be one of these. Empty demands none.
    pub subjects: Vec<String>,
    /// Neither `emails` nor `subjects`: whoever the issuer gives tokens to is admitted. Safe for an issuer of one's own
    /// alone; Google gives a token for any audience to whoever asks.
    pub unsafe_any_subject: bool,
    /// How far the clocks of issuer and receiver may differ, in seconds; at most 300.
    pub leeway_seconds: u64,
}

/// Why expectations make no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRuleError {
    /// A list that may not be empty.
    #[error("`{key}` is empty, so no token would pass; write {example}")]
    Empty {
        /// Which.
        key: &'static str,
        /// What to write.
        example: &'static str,
    },
    /// Neither email nor subject.
    #[error(
        "neither `emails` nor `subjects` is given, so a token of anyone whom the issuer knows would pass; name the service \
         account, or say `unsafe_any_subject = true` if the issuer is your own"
    )]
    AnySubject,
    /// A value that could not be handed on in a header field.
    #[error("`{key}` holds {value:?}; only printable ASCII can be compared and handed on")]
    NotAscii {
        /// Which.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Too much leeway.
    #[error("`leeway_s` is {leeway}; at most {MAX_LEEWAY_SECONDS} make sense")]
    Leeway {
        /// How much.
        leeway: u64,
    },
    /// Not a project number.
    #[error("\"{text}\" is not a Google Cloud project number; it has digits alone (the project id is another thing)")]
    ProjectNumber {
        /// The text.
        text: String,
    },
}

impl TokenExpectations {
    /// What a service identity token of Dialogflow must say: Google as its issuer, one of `audiences` (the webhook's URL), and
    /// the Dialogflow service agent of the project with this number.
    ///
    /// # Errors
    ///
    /// Where `project_number` is no number.
    pub fn dialogflow(project_number: &str, audiences: Vec<String>) -> Result<Self, TokenRuleError> {
        if project_number.is_empty() || !project_number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TokenRuleError::ProjectNumber { text: project_number.to_owned() });
        }
        Ok(Self {
            issuers: vec![GOOGLE_ISSUER.to_owned()],
            audiences,
            emails: vec![format!("service-{project_number}@gcp-sa-dialogflow.iam.gserviceaccount.com")],
            subjects: Vec::new(),
            unsafe_any_subject: false,
            leeway_seconds: 60,
        })
    }
}

/// A rule for tokens of one source of keys. What it expects is kept as header values, so that handing on what was proven
/// costs no allocation.
#[derive(Debug)]
pub struct TokenRule {
    source: KeySourceId,
    issuers: Box<[HeaderValue]>,
    audiences: Box<[HeaderValue]>,
    emails: Box<[HeaderValue]>,
    subjects: Box<[HeaderValue]>,
    leeway_seconds: u64,
}

/// What a token proved. Header values, since that is what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// `iss`, one of the expected.
    pub issuer: HeaderValue,
    /// The expected audience that `aud` is or holds.
    pub audience: HeaderValue,
    /// `sub`, where the token has one that a header field can carry.
    pub subject: Option<HeaderValue>,
    /// `email`, where the token has one that is verified.
    pub email: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Claims<'payload> {
    #[serde(borrow)]
    iss: Option<Text<'payload>>,
    #[serde(borrow)]
    sub: Option<Text<'payload>>,
    #[serde(borrow)]
    aud: Option<Audience<'payload>>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    #[serde(borrow)]
    email: Option<Text<'payload>>,
    email_verified: Option<bool>,
}

/// `aud`: a string or a list of them (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience<'payload> {
    #[serde(borrow)]
    One(Text<'payload>),
    #[serde(borrow)]
    Many(Vec<Text<'payload>>),
}

/// Seconds since 1970, a fraction cut off (RFC 7519, section 2).
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct NumericDate(u64);

impl TryFrom<f64> for NumericDate {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        if (0.0..MAX_NUMERIC_DATE).contains(&seconds) { Ok(Self(seconds as u64)) } else { Err("not a NumericDate") }
    }
}

impl TokenRule {
    /// A rule for tokens that the keys of `source` verify.
    ///
    /// # Errors
    ///
    /// Where the expectations would admit nobody or anybody, or hold what no token and no header field could.
    pub fn new(source: KeySourceId, expectations: &TokenExpectations) -> Result<Self, TokenRuleError> {
        let TokenExpectations { issuers, audiences, emails, subjects, unsafe_any_subject, leeway_seconds } =
            expectations;
        if issuers.is_empty() {
            return Err(TokenRuleError::Empty { key: "issuers", example: "the \"iss\" of the tokens" });
        }
        if audiences.is_empty() {
            return Err(TokenRuleError::Empty { key: "audiences", example: "the webhook's URL as the sender has it" });
        }
        if emails.is_empty() && subjects.is_empty() && !unsafe_any_subject {
            return Err(TokenRuleError::AnySubject);
        }
        if *leeway_seconds > MAX_LEEWAY_SECONDS {
            return Err(TokenRuleError::Leeway { leeway: *leeway_seconds });
        }
        Ok(Self {
            source,
            issuers: header_values("issuers", issuers)?,
            audiences: header_values("audiences", audiences)?,
            emails: header_values("emails", emails)?,
            subjects: header_values("subjects", subjects)?,
            leeway_seconds: *leeway_seconds,
        })
    }

    /// Which keys verify the tokens.
    #[must_use]
    pub fn source(&self) -> KeySourceId {
        self.source
    }

    /// Judges the bearer token of a request.
    ///
    /// # Errors
    ///
    /// `token_*`, or `keys_unavailable`.
    pub(super) fn check_bearer(
        &self,
        headers: &HeaderMap,
        keys: &KeySets,
        now: UnixTime,
    ) -> Result<TokenClaims, Unproven> {
        self.check(bearer(headers)?, keys, now)
    }

    /// Judges one token, wherever it stood.
    pub(super) fn check(&self, token: &[u8], keys: &KeySets, now: UnixTime) -> Result<TokenClaims, Unproven> {
        let Some(set) = keys.usable(self.source, now) else {
            let detail = "the issuer's keys were not fetched yet, or are too old to rely on";
            return Err(Refusal::new(Reject::KeysUnavailable, detail).into());
        };
        let mut buffer: PayloadBuffer = [0; MAX_TOKEN_BYTES / 4 * 3];
        let payload = jws::verify(token, set, &mut buffer).map_err(|refusal| Unproven {
            wants_keys: (refusal.reject == Reject::TokenUnknownKey).then_some(self.source),
            refusal,
        })?;
        let claims: Claims<'_> = serde_json::from_slice(payload).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let detail = format!("the token's claims cannot be read, line {line} column {column} of the payload");
            Refusal::new(Reject::TokenMalformed, detail)
        })?;
        Ok(self.judge(&claims, now.as_secs())?)
    }

    fn judge(&self, claims: &Claims<'_>, now: u64) -> Result<TokenClaims, Refusal> {
        let issuer = self.judge_issuer(claims)?;
        let audience = self.judge_audience(claims)?;
        self.judge_times(claims, now)?;
        let email = self.judge_email(claims)?;
        let subject = match &claims.sub {
            Some(Text(subject)) => match expected(&self.subjects, subject) {
                None if self.subjects.is_empty() => printable(subject),
                None => return Err(wrong(Reject::TokenWrongSubject, "sub", subject)),
                known => known,
            },
            None if self.subjects.is_empty() => None,
            None => return Err(Refusal::new(Reject::TokenWrongSubject, "the token has no \"sub\"")),
        };
        Ok(TokenClaims { issuer, audience, subject, email })
    }

    fn judge_issuer(&self, claims: &Claims<'_>) -> Result<HeaderValue, Refusal> {
        match &claims.iss {
            Some(Text(issuer)) => {
                expected(&self.issuers, issuer).ok_or_else(|| wrong(Reject::TokenWrongIssuer, "iss", issuer))
            }
            None => Err(Refusal::new(Reject::TokenWrongIssuer, "the token has no \"iss\"")),
        }
    }

    fn judge_audience(&self, claims: &Claims<'_>) -> Result<HeaderValue, Refusal> {
        match &claims.aud {
            Some(Audience::One(Text(audience))) => {
                expected(&self.audiences, audience).ok_or_else(|| wrong(Reject::TokenWrongAudience, "aud", audience))
            }
            Some(Audience::Many(audiences)) => {
                audiences.iter().find_map(|Text(audience)| expected(&self.audiences, audience)).ok_or_else(|| {
                    let count = audiences.len();
                    Refusal::new(
                        Reject::TokenWrongAudience,
                        format!("none of the token's {count} audiences is expected here"),
                    )
                })
            }
            None => Err(Refusal::new(Reject::TokenWrongAudience, "the token has no \"aud\"")),
        }
    }

    /// RFC 7519, sections 4.1.4 to 4.1.6: `now` must be before `exp` and not before `nbf`; and a token from the future was
    /// not issued, or the clocks differ. `exp` is demanded, since a token that never ends is a password.
    fn judge_times(&self, claims: &Claims<'_>, now: u64) -> Result<(), Refusal> {
        let Some(NumericDate(expires)) = claims.exp else {
            return Err(Refusal::new(Reject::TokenMalformed, "the token has no \"exp\""));
        };
        if now >= expires.saturating_add(self.leeway_seconds) {
            let detail = format!("the token expired {} s ago (\"exp\" is {expires})", now - expires);
            return Err(Refusal::new(Reject::TokenExpired, detail));
        }
        for (name, date) in [("nbf", claims.nbf), ("iat", claims.iat)] {
            if let Some(NumericDate(begins)) = date
                && begins > now.saturating_add(self.leeway_seconds)
            {
                let detail =
                    format!("the token begins in {} s (\"{name}\" is {begins}); do the clocks agree?", begins - now);
                return Err(Refusal::new(Reject::TokenNotYetValid, detail));
            }
        }
        Ok(())
    }

    fn judge_email(&self, claims: &Claims<'_>) -> Result<Option<HeaderValue>, Refusal> {
        let verified = claims.email_verified == Some(true);
        match &claims.email {
            Some(Text(email)) => match expected(&self.emails, email) {
                Some(_) if !verified => {
                    Err(Refusal::new(Reject::TokenWrongEmail, "the token's \"email\" is not verified by its issuer"))
                }
                None if self.emails.is_empty() => Ok(printable(email).filter(|_| verified)),
                None => Err(wrong(Reject::TokenWrongEmail, "email", email)),
                known => Ok(known),
            },
            None if self.emails.is_empty() => Ok(None),
            None => {
                let detail = "the token has no \"email\"; it must be requested with the email included";
                Err(Refusal::new(Reject::TokenWrongEmail, detail))
            }
        }
    }
}

fn header_values(key: &'static str, values: &[String]) -> Result<Box<[HeaderValue]>, TokenRuleError> {
    let header =
        |value: &String| printable(value).ok_or_else(|| TokenRuleError::NotAscii { key, value: value.clone() });
    values.iter().map(header).collect()
}

/// `text` as a header value, if it is something and printable ASCII: what a receiver of the header could read in two ways is
/// not handed on.
fn printable(text: &str) -> Option<HeaderValue> {
    let ascii = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    HeaderValue::from_str(text).ok().filter(|_| ascii && !text.is_empty())
}

/// The expected value that equals `claim`. These are no secrets: whoever has a token can read them in it.
fn expected(values: &[HeaderValue], claim: &str) -> Option<HeaderValue> {
    values.iter().find(|value| value.as_bytes() == claim.as_bytes()).cloned()
}

fn wrong(reject: Reject, name: &str, claim: &str) -> Refusal {
    Refusal::new(reject, format!("the token's \"{name}\" is {}, which is not expected here", Quoted(claim.as_bytes())))
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let credentials = only_field(headers, &AUTHORIZATION)
        .map_err(|_| Refusal::new(Reject::TokenMalformed, "the Authorization field stands more than once"))?
        .ok_or_else(|| Refusal::new(Reject::TokenMissing, "the request has no Authorization field"))?;
    let (scheme, token) = match credentials.iter().position(|&byte| byte == b' ') {
        Some(space) => credentials.split_at(space),
        None => (credentials, &b""[..]),
    };
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Err(Refusal::new(Reject::TokenMissing, "the Authorization field does not hold a bearer token"));
    }
    let token = token.trim_ascii();
    if token.is_empty() {
        return Err(Refusal::new(Reject::TokenMissing, "the bearer token is empty"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
