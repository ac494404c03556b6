//! Credentials that are the same in every request: a secret in a header field, and a user name with a password (RFC 7617).
//!
//! Owns their places, and a comparison that takes the same time whatever is presented and whichever of several matches. Must not judge
//! the body: these proofs say nothing about it, and whoever has read one request can send any other.

use data_encoding::BASE64_NOPAD;
use http::header::{AUTHORIZATION, HeaderName};
use ring::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::body_signature::without_padding;
use super::request_view::{RequestView, only_field};
use super::secret::Secret;
use super::strength::{Aspect, Aspects, SECRET_BYTES};
use crate::reject::{Refusal, Reject};

/// Most secrets of a rule or of a user. A rotation needs two.
const MAX_SECRETS: usize = 8;

/// Most users of a rule. Each sender needs one.
const MAX_USERS: usize = 16;

/// Longest user name, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Characters of base64 that are decoded at a time: a multiple of four, so that each block decodes by itself.
const BLOCK: usize = 64;

/// Why a configuration is not a rule. Never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialRuleError {
    /// Not a header field name.
    #[error("\"{name}\" is not a header field name; write one without spaces or a colon, such as \"x-gitlab-token\"")]
    HeaderName {
        /// The text.
        name: String,
    },
    /// No secrets, or too many.
    #[error("{count} secrets; write 1 to {MAX_SECRETS}")]
    Secrets {
        /// The number of secrets.
        count: usize,
    },
    /// No users, or too many.
    #[error("{count} users; write 1 to {MAX_USERS}")]
    Users {
        /// The number of users.
        count: usize,
    },
    /// A name that a client cannot send (RFC 7617, section 2).
    #[error("{name:?} is not a user name; write 1 to {MAX_NAME_BYTES} bytes without a colon or control characters")]
    UserName {
        /// The name.
        name: String,
    },
    /// A user twice.
    #[error("the user {name:?} is there twice; write all of its secrets in one table")]
    RepeatedUser {
        /// The name.
        name: String,
    },
}

/// The SHA-256 of a credential. Two digests are compared in constant time, whatever the lengths of what they are made of.
struct Digest([u8; SHA256_OUTPUT_LEN]);

impl Digest {
    fn of(pieces: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&SHA256);
        pieces.iter().for_each(|piece| context.update(piece));
        Self::finish(context)
    }

    fn finish(context: digest::Context) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// Whether it is one of `known`. No early exit, so that the time does not reveal which one matched.
    fn is_among(&self, known: &[Self]) -> bool {
        known.iter().fold(Choice::from(0), |any, known| any | known.0.ct_eq(&self.0)).into()
    }
}

/// Digests are not printed: a short secret could be found from one.
impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Digest(REDACTED)")
    }
}

/// A secret that stands in a header field, after a prefix, such as `X-Gitlab-Token`.
#[derive(Debug)]
pub struct FieldSecret {
    header: HeaderName,
    prefix: Box<[u8]>,
    secrets: Box<[Digest]>,
    shortest: usize,
}

impl FieldSecret {
    /// The field `header` must be `prefix` and one of `secrets`.
    ///
    /// # Errors
    ///
    /// If `header` is not a field name, or if there are no secrets, or more than 8.
    pub fn new(header: &str, prefix: &str, secrets: &[Secret]) -> Result<Self, CredentialRuleError> {
        let name =
            HeaderName::try_from(header).map_err(|_| CredentialRuleError::HeaderName { name: header.to_owned() })?;
        let shortest = shortest(secrets)?;
        let secrets = secrets.iter().map(|secret| Digest::of(&[secret.expose()])).collect();
        Ok(Self { header: name, prefix: prefix.as_bytes().into(), secrets, shortest })
    }

    /// Its place, and what it demands.
    pub(super) fn strength(&self) -> (String, Aspects) {
        (format!("secret in {}", self.header), length_aspect(self.shortest))
    }

    /// Judges the field of a request. Allocates nothing if it holds.
    ///
    /// # Errors
    ///
    /// `secret_missing` or `secret_mismatch`.
    pub(super) fn check(&self, request: &RequestView<'_>) -> Result<(), Refusal> {
        let header = &self.header;
        let value = only_field(request.headers, header)
            .map_err(|_| {
                Refusal::new(Reject::SecretMismatch, format!("The request has more than one field {header}."))
            })?
            .ok_or_else(|| Refusal::new(Reject::SecretMissing, format!("The request has no field {header}.")))?;
        let presented = value.strip_prefix(&*self.prefix);
        if presented.is_some_and(|presented| Digest::of(&[presented]).is_among(&self.secrets)) {
            return Ok(());
        }
        let detail = format!("The field {header} does not have one of the configured secrets.");
        Err(Refusal::new(Reject::SecretMismatch, detail))
    }
}

/// Basic authentication (RFC 7617): one of several users, each with one or more passwords.
#[derive(Debug)]
pub struct BasicCredentials {
    /// Of `name:password`. A name has no colon, so no two pairs give one text.
    users: Box<[Digest]>,
    shortest: usize,
}

impl BasicCredentials {
    /// Each user has a name and its passwords.
    ///
    /// # Errors
    ///
    /// If there are no users, or more than 16; if a name is there twice or cannot be sent; or if a user has no passwords, or more
    /// than 8.
    pub fn new(users: &[(String, Vec<Secret>)]) -> Result<Self, CredentialRuleError> {
        if users.is_empty() || users.len() > MAX_USERS {
            return Err(CredentialRuleError::Users { count: users.len() });
        }
        let (mut digests, mut least) = (Vec::new(), usize::MAX);
        for (index, (name, secrets)) in users.iter().enumerate() {
            let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
            if !fits || name.contains(|character: char| character == ':' || character.is_control()) {
                return Err(CredentialRuleError::UserName { name: name.clone() });
            }
            if users[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(CredentialRuleError::RepeatedUser { name: name.clone() });
            }
            least = least.min(shortest(secrets)?);
            digests.extend(secrets.iter().map(|secret| Digest::of(&[name.as_bytes(), b":", secret.expose()])));
        }
        Ok(Self { users: digests.into(), shortest: least })
    }

    /// Its name, and what it demands.
    pub(super) fn strength(&self) -> (String, Aspects) {
        ("basic authentication".to_owned(), length_aspect(self.shortest))
    }

    /// Judges the `Authorization` field of a request. Allocates nothing if it holds.
    ///
    /// # Errors
    ///
    /// `credentials_missing` or `credentials_mismatch`.
    pub(super) fn check(&self, request: &RequestView<'_>) -> Result<(), Refusal> {
        let mismatch = |detail: &'static str| Refusal::new(Reject::CredentialsMismatch, detail);
        let missing = |detail: &'static str| Refusal::new(Reject::CredentialsMissing, detail);
        let field = only_field(request.headers, &AUTHORIZATION)
            .map_err(|_| mismatch("The request has more than one Authorization field."))?
            .ok_or_else(|| missing("The request has no Authorization field. Send basic authentication."))?;
        // RFC 9110, section 11.4: the scheme, spaces, and the credentials. The scheme has no case.
        let credentials = match field.split_at_checked(b"Basic ".len()) {
            Some((scheme, credentials)) if scheme.eq_ignore_ascii_case(b"Basic ") => credentials.trim_ascii(),
            _ => return Err(missing("The Authorization field has another scheme. Send basic authentication.")),
        };
        match decoded_digest(credentials) {
            Some(presented) if presented.is_among(&self.users) => Ok(()),
            Some(_) => Err(mismatch("The user name or the password is not one of the configured ones.")),
            None => Err(mismatch("The credentials in the Authorization field are not base64.")),
        }
    }
}

/// The digest of what `text` encodes, decoded block by block, so that credentials of any length need a buffer of one block.
fn decoded_digest(text: &[u8]) -> Option<Digest> {
    let text = without_padding(text)?;
    let mut buffer = Zeroizing::new([0; BLOCK / 4 * 3]);
    let mut context = digest::Context::new(&SHA256);
    for block in text.chunks(BLOCK) {
        let decoded = buffer.get_mut(..BASE64_NOPAD.decode_len(block.len()).ok()?)?;
        BASE64_NOPAD.decode_mut(block, decoded).ok()?;
        context.update(decoded);
    }
    Some(Digest::finish(context))
}

fn length_aspect(shortest: usize) -> Aspects {
    let length = Aspect::AtLeast(shortest.min(SECRET_BYTES) as u64);
    Aspects::from([("bytes of the shortest secret".to_owned(), length)])
}

fn shortest(secrets: &[Secret]) -> Result<usize, CredentialRuleError> {
    match secrets.iter().map(Secret::length).min() {
        Some(shortest) if secrets.len() <= MAX_SECRETS => Ok(shortest),
        _ => Err(CredentialRuleError::Secrets { count: secrets.len() }),
    }
}

#[cfg(test)]
mod tests;
