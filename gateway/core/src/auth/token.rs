//! Tokens: issuer, audience, subject and times (RFC 7519; OpenID Connect Core, section 2).
//!
//! Owns the bearer token in the `Authorization` field (RFC 6750) and the judgement of claims. Reads a claim only after the
//! signature has verified. Must not read a clock or fetch a key.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use rustls_pki_types::UnixTime;
use serde::Deserialize;

use super::json_member::{Member, WrongType};
use super::jws::{self, MAX_PAYLOAD_BYTES};
use super::proof_policy::Unproven;
use super::request_view::{Quoted, only_field};
use super::strength::{Aspect, Aspects, KeyAspects};
use super::token_keys::{KeySets, KeySourceId};
use crate::reject::{Refusal, Reject};

/// The URL of the keys of Google's ID tokens (OpenID Connect Discovery, `jwks_uri` of
/// `https://accounts.google.com/.well-known/openid-configuration`). Its `Cache-Control` says how long they are fresh.
pub const GOOGLE_KEYS_URL: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// The issuer of Google's ID tokens.
const GOOGLE_ISSUER: &str = "https://accounts.google.com";

/// Longest leeway, in seconds. RFC 7519, section 4.1.4: "usually no more than a few minutes".
const MAX_LEEWAY_SECONDS: u64 = 300;

/// Largest NumericDate, exclusive. A larger JSON number need not be an exact integer (RFC 8259, section 6).
const MAX_NUMERIC_DATE: f64 = 9_007_199_254_740_992.0;

/// The claims that a token must have, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenExpectations {
    /// `iss` must be one of these, byte by byte. Never empty.
    pub issuers: Vec<String>,
    /// `aud` must be one of these, or a list with one of these, byte by byte. Usually the webhook's URL, as the sender has it.
    /// Never empty.
    pub audiences: Vec<String>,
    /// `email` must be one of these, with `email_verified`. If empty, `email` is not checked.
    pub emails: Vec<String>,
    /// `sub` must be one of these. If empty, `sub` is not checked.
    pub subjects: Vec<String>,
    /// Allows both `emails` and `subjects` to be empty, so that every token of the issuer for the audience passes. Safe only with
    /// an issuer of your own: Google issues a token for any audience to anyone who asks.
    pub unsafe_any_subject: bool,
    /// The largest difference between the clocks of issuer and receiver, in seconds, at most 300.
    pub leeway_seconds: u64,
}

/// Why expectations are not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRuleError {
    /// A list that must not be empty.
    #[error("{key} is empty, so no token would pass; write {example}")]
    Empty {
        /// The key of the list.
        key: &'static str,
        /// What to write.
        example: &'static str,
    },
    /// Neither emails nor subjects.
    #[error(
        "neither emails nor subjects is given, so every token of the issuer for this audience would pass; write \
         emails = [\"…\"] with the service account, or unsafe_any_subject = true if the issuer is your own"
    )]
    AnySubject,
    /// A value that a header field cannot carry.
    #[error(
        "{key} has the value {value:?}; write printable ASCII characters, at least one, since a header field carries the value"
    )]
    NotAscii {
        /// The key of the list.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Too long a leeway.
    #[error("leeway_s = {leeway} is too large; write at most {MAX_LEEWAY_SECONDS}")]
    Leeway {
        /// The leeway, in seconds.
        leeway: u64,
    },
    /// Not a project number.
    #[error("\"{text}\" is not a Google Cloud project number; write the number (digits only), not the project id")]
    ProjectNumber {
        /// The text.
        text: String,
    },
}

impl TokenExpectations {
    /// The claims of a service identity token of Dialogflow: Google as its issuer, one of `audiences` (the webhook's URL), and
    /// the email of the Dialogflow service agent of the project with this number.
    ///
    /// # Errors
    ///
    /// If `project_number` is not a number.
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

/// A rule for tokens that the keys of one source verify. Expected values are stored as header values, so that a proven one is
/// forwarded without an allocation.
#[derive(Debug)]
pub struct TokenRule {
    source: KeySourceId,
    issuers: Box<[HeaderValue]>,
    audiences: Box<[HeaderValue]>,
    emails: Box<[HeaderValue]>,
    subjects: Box<[HeaderValue]>,
    leeway_seconds: u64,
}

/// The proven claims of a token, as the header values that are forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// `iss`, one of the expected issuers.
    pub issuer: HeaderValue,
    /// The expected audience that `aud` is, or contains.
    pub audience: HeaderValue,
    /// `sub`, if the token has one that a header field can carry.
    pub subject: Option<HeaderValue>,
    /// `email`, if the token has one with `email_verified`.
    pub email: Option<HeaderValue>,
}

/// The claims that a rule may ask for, of any type: a wrong type is an error only if the rule asks for the claim.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims<'payload> {
    #[serde(borrow)]
    iss: Member<'payload>,
    #[serde(borrow)]
    sub: Member<'payload>,
    #[serde(borrow)]
    aud: Member<'payload>,
    #[serde(borrow)]
    exp: Member<'payload>,
    #[serde(borrow)]
    nbf: Member<'payload>,
    #[serde(borrow)]
    iat: Member<'payload>,
    #[serde(borrow)]
    email: Member<'payload>,
    #[serde(borrow)]
    email_verified: Member<'payload>,
}

impl TokenRule {
    /// A rule for tokens that the keys of `source` verify.
    ///
    /// # Errors
    ///
    /// If the expectations would admit no token or every token, if a value is not printable ASCII, or if the leeway is out of
    /// bounds.
    pub fn new(source: KeySourceId, expectations: &TokenExpectations) -> Result<Self, TokenRuleError> {
        let TokenExpectations { issuers, audiences, emails, subjects, unsafe_any_subject, leeway_seconds } =
            expectations;
        if issuers.is_empty() {
            return Err(TokenRuleError::Empty {
                key: "issuers",
                example: "issuers = [\"…\"] with the \"iss\" of the tokens",
            });
        }
        if audiences.is_empty() {
            return Err(TokenRuleError::Empty {
                key: "audiences",
                example: "audiences = [\"…\"] with the URL of the webhook, as the sender has it",
            });
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

    /// The source of the keys that verify the tokens.
    #[must_use]
    pub fn source(&self) -> KeySourceId {
        self.source
    }

    /// What it demands, with what `keys` says about its source.
    pub(super) fn aspects(&self, keys: &KeyAspects<'_>) -> Aspects {
        let mut aspects = keys(self.source);
        aspects.insert("leeway_s".to_owned(), Aspect::AtMost(self.leeway_seconds));
        let lists = [("emails", &self.emails), ("subjects", &self.subjects)];
        let demanded = lists.into_iter().filter(|(_, values)| !values.is_empty());
        aspects.extend(demanded.map(|(name, _)| (name.to_owned(), Aspect::Demanded)));
        aspects
    }

    /// Judges the bearer token of a request.
    ///
    /// # Errors
    ///
    /// `token_*` or `keys_unavailable`.
    pub(super) fn check_bearer(
        &self,
        headers: &HeaderMap,
        keys: &KeySets,
        now: UnixTime,
    ) -> Result<TokenClaims, Unproven> {
        self.check(bearer(headers)?, keys, now)
    }

    /// Judges one token, from the `Authorization` field or from a session parameter.
    pub(super) fn check(&self, token: &[u8], keys: &KeySets, now: UnixTime) -> Result<TokenClaims, Unproven> {
        let Some(set) = keys.usable(self.source, now) else {
            let detail =
                "No usable keys of the token's issuer: none were fetched yet, or they are too old. Try again later.";
            return Err(Refusal::new(Reject::KeysUnavailable, detail).into());
        };
        let mut buffer = [0; MAX_PAYLOAD_BYTES];
        let payload = jws::verify(token, set, &mut buffer).map_err(|refusal| Unproven {
            wants_keys: (refusal.reject == Reject::TokenUnknownKey).then_some(self.source),
            refusal,
        })?;
        let members = "iss, sub, aud, exp, nbf, iat, email or email_verified";
        let claims: Claims<'_> = jws::object(payload, "payload", members).map_err(|what| jws::malformed(&what))?;
        Ok(self.judge(&claims, now.as_secs())?)
    }

    fn judge(&self, claims: &Claims<'_>, now: u64) -> Result<TokenClaims, Refusal> {
        let issuer = self.judge_issuer(claims)?;
        let audience = self.judge_audience(claims)?;
        self.judge_times(claims, now)?;
        let email = self.judge_email(claims)?;
        let subject = self.judge_subject(claims)?;
        Ok(TokenClaims { issuer, audience, subject, email })
    }

    fn judge_issuer(&self, claims: &Claims<'_>) -> Result<HeaderValue, Refusal> {
        match claims.iss.text("iss").map_err(wrong_type)? {
            Some(issuer) => {
                expected(&self.issuers, issuer).ok_or_else(|| wrong(Reject::TokenWrongIssuer, "iss", issuer))
            }
            None => Err(missing(Reject::TokenWrongIssuer, "iss")),
        }
    }

    /// `aud`: a string or a list of strings (RFC 7519, section 4.1.3).
    fn judge_audience(&self, claims: &Claims<'_>) -> Result<HeaderValue, Refusal> {
        let audiences =
            claims.aud.texts("aud").map_err(wrong_type)?.ok_or_else(|| missing(Reject::TokenWrongAudience, "aud"))?;
        audiences.iter().find_map(|audience| expected(&self.audiences, audience)).ok_or_else(|| match audiences {
            [audience] => wrong(Reject::TokenWrongAudience, "aud", audience),
            _ => {
                let count = audiences.len();
                let detail = format!("None of the {count} audiences in the token's \"aud\" is one of this webhook.");
                Refusal::new(Reject::TokenWrongAudience, detail)
            }
        })
    }

    /// RFC 7519, sections 4.1.4 to 4.1.6: `now` must be before `exp`, and not before `nbf`. An `iat` in the future means that the
    /// clocks differ. `exp` is mandatory, because a token without an end is a password. An `iat` that is not a number restricts
    /// nothing, and is ignored.
    fn judge_times(&self, claims: &Claims<'_>, now: u64) -> Result<(), Refusal> {
        let expires = numeric_date(&claims.exp, "exp")?.ok_or_else(|| {
            Refusal::new(Reject::TokenMalformed, "The token has no \"exp\" claim, and every token must expire.")
        })?;
        if now >= expires.saturating_add(self.leeway_seconds) {
            let detail = format!("The token expired {} s ago (\"exp\" is {expires}).", now - expires);
            return Err(Refusal::new(Reject::TokenExpired, detail));
        }
        let issued = numeric_date(&claims.iat, "iat").unwrap_or_default();
        for (name, date) in [("nbf", numeric_date(&claims.nbf, "nbf")?), ("iat", issued)] {
            if let Some(begins) = date
                && begins > now.saturating_add(self.leeway_seconds)
            {
                let detail = format!(
                    "The token becomes valid in {} s (\"{name}\" is {begins}). Check the clocks of the issuer and of this host.",
                    begins - now
                );
                return Err(Refusal::new(Reject::TokenNotYetValid, detail));
            }
        }
        Ok(())
    }

    fn judge_email(&self, claims: &Claims<'_>) -> Result<Option<HeaderValue>, Refusal> {
        if self.emails.is_empty() {
            let email = claims.email.text("email").unwrap_or_default();
            return Ok(email.and_then(printable).filter(|_| claims.email_verified == Member::Boolean(true)));
        }
        let Some(email) = claims.email.text("email").map_err(wrong_type)? else {
            let detail = "The token has no \"email\" claim. Request a token that includes the email.";
            return Err(Refusal::new(Reject::TokenWrongEmail, detail));
        };
        let Some(email) = expected(&self.emails, email) else {
            return Err(wrong(Reject::TokenWrongEmail, "email", email));
        };
        match &claims.email_verified {
            Member::Boolean(true) => Ok(Some(email)),
            Member::Boolean(false) | Member::Absent => {
                let detail = "The issuer did not verify the token's \"email\": \"email_verified\" is not true.";
                Err(Refusal::new(Reject::TokenWrongEmail, detail))
            }
            // OpenID Connect Core, section 5.1: a Boolean. A rule that relies on it guesses at nothing else.
            other => Err(wrong_type(other.is_not("a Boolean", "email_verified"))),
        }
    }

    fn judge_subject(&self, claims: &Claims<'_>) -> Result<Option<HeaderValue>, Refusal> {
        if self.subjects.is_empty() {
            return Ok(claims.sub.text("sub").unwrap_or_default().and_then(printable));
        }
        match claims.sub.text("sub").map_err(wrong_type)? {
            None => Err(missing(Reject::TokenWrongSubject, "sub")),
            Some(subject) => match expected(&self.subjects, subject) {
                None => Err(wrong(Reject::TokenWrongSubject, "sub", subject)),
                known => Ok(known),
            },
        }
    }
}

/// A time in seconds since 1970, rounded down (NumericDate of RFC 7519, section 2).
fn numeric_date(member: &Member<'_>, name: &'static str) -> Result<Option<u64>, Refusal> {
    match *member {
        Member::Absent => Ok(None),
        Member::Number(seconds) if (0.0..MAX_NUMERIC_DATE).contains(&seconds) => Ok(Some(seconds as u64)),
        Member::Number(seconds) => {
            Err(jws::malformed(&format!("its \"{name}\" is {seconds:e}, not a number of seconds since 1970")))
        }
        _ => Err(wrong_type(member.is_not("a number of seconds since 1970", name))),
    }
}

fn wrong_type(error: WrongType) -> Refusal {
    jws::malformed(&format!("its claim {error}"))
}

fn missing(reject: Reject, name: &str) -> Refusal {
    Refusal::new(reject, format!("The token has no \"{name}\" claim, and this webhook requires one."))
}

fn header_values(key: &'static str, values: &[String]) -> Result<Box<[HeaderValue]>, TokenRuleError> {
    let header =
        |value: &String| printable(value).ok_or_else(|| TokenRuleError::NotAscii { key, value: value.clone() });
    values.iter().map(header).collect()
}

/// `text` as a header value, if it is printable ASCII and not empty. Two receivers could read any other value in two ways, so it
/// is not forwarded.
fn printable(text: &str) -> Option<HeaderValue> {
    let ascii = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    HeaderValue::from_str(text).ok().filter(|_| ascii && !text.is_empty())
}

/// The expected value that equals `claim`. Not compared in constant time: a claim is not a secret, and every holder of a token
/// can read it.
fn expected(values: &[HeaderValue], claim: &str) -> Option<HeaderValue> {
    values.iter().find(|value| value.as_bytes() == claim.as_bytes()).cloned()
}

fn wrong(reject: Reject, name: &str, claim: &str) -> Refusal {
    Refusal::new(
        reject,
        format!("The token's \"{name}\" is {}, which this webhook does not accept.", Quoted(claim.as_bytes())),
    )
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let credentials = only_field(headers, &AUTHORIZATION)
        .map_err(|_| Refusal::new(Reject::TokenMalformed, "The request has more than one Authorization field."))?
        .ok_or_else(|| {
            Refusal::new(
                Reject::TokenMissing,
                "The request has no Authorization field. Send \"Authorization: Bearer TOKEN\".",
            )
        })?;
    let (scheme, token) = match credentials.iter().position(|&byte| byte == b' ') {
        Some(space) => credentials.split_at(space),
        None => (credentials, &b""[..]),
    };
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Err(Refusal::new(
            Reject::TokenMissing,
            "The Authorization field has no bearer token. Send \"Authorization: Bearer TOKEN\".",
        ));
    }
    let token = token.trim_ascii();
    if token.is_empty() {
        return Err(Refusal::new(Reject::TokenMissing, "The bearer token in the Authorization field is empty."));
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
