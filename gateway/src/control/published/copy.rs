//! The last good copy of a document: what it holds in memory, and the document in the state directory.
//!
//! Owns the form of its file: a line of JSON about the copy, then the document as it came. A file that cannot be read, or whose document is
//! not the one that the line tells of, is as good as none: the document is fetched anew. Must not fetch.

use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use hookgate_core::identity::{ListSigner, Provenance};
use ring::digest;
use serde::{Deserialize, Serialize};

use super::source::{Content, Source};
use crate::control::fetcher::Validators;
use crate::state::{StateDirectory, StateError};

/// Bytes of the digest of URL and roots that name a file.
const NAME_BYTES: usize = 16;
/// Room for the line about the copy: URL, validators, a key.
const HEAD_BYTES: usize = 16 * 1024;

/// A document as it was fetched.
#[derive(Clone, Debug)]
pub(in crate::control) struct Copy {
    /// When it was fetched or confirmed last, in seconds since 1970.
    pub(in crate::control) fetched: u64,
    /// How long it is fresh from then on.
    pub(in crate::control) fresh_for: Duration,
    /// Its version.
    pub(super) validators: Validators,
    /// SHA-256 of the document.
    pub(super) digest: [u8; 32],
    /// What it holds.
    pub(in crate::control) content: Content,
}

impl Copy {
    /// The same copy, confirmed at `fetched` for this long.
    pub(super) fn again(&self, fetched: u64, fresh_for: Duration) -> Self {
        Self { fetched, fresh_for, ..self.clone() }
    }
}

/// The first line of a file.
#[derive(Deserialize, Serialize)]
struct Head {
    /// For its reader. Without the query of the URL, which may hold a key.
    name: String,
    /// SHA-256 of URL and roots, in hexadecimal.
    source: String,
    /// In seconds since 1970.
    fetched: u64,
    /// In seconds.
    fresh_for: u64,
    etag: Option<String>,
    last_modified: Option<String>,
    /// SHA-256 of the document and of the rest of this line, in hexadecimal.
    sha256: String,
    /// The key that signed a revocation list, as base64 of its SubjectPublicKeyInfo.
    signer: Option<String>,
}

impl Head {
    /// The digest of the document and of all that this line says of it.
    fn digest(&self, document: &[u8]) -> String {
        let numbers = [self.fetched, self.fresh_for].map(|number| Some(number.to_string()));
        let texts = [
            Some(&self.name),
            Some(&self.source),
            self.etag.as_ref(),
            self.last_modified.as_ref(),
            self.signer.as_ref(),
        ];
        let mut context = digest::Context::new(&digest::SHA256);
        for text in numbers.iter().map(Option::as_ref).chain(texts) {
            // What is absent is not what is empty, and no two fields run together.
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            context.update(&length.to_le_bytes());
            context.update(text.map(String::as_bytes).unwrap_or_default());
        }
        context.update(&sha256(document));
        HEXLOWER.encode(context.finish().as_ref())
    }
}

pub(super) fn sha256(document: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest::digest(&digest::SHA256, document).as_ref());
    output
}

/// SHA-256 of URL and roots: what other roots vouched for is another document.
fn identity(source: &Source) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(source.feed().url.to_string().as_bytes());
    for root in source.feed().roots.iter().flatten() {
        context.update(&sha256(root));
    }
    HEXLOWER.encode(context.finish().as_ref())
}

/// The name of the file.
fn name(source: &Source) -> String {
    let identity = identity(source);
    format!("{}{}", source.prefix(), identity.get(..2 * NAME_BYTES).unwrap_or_default())
}

/// The copy of the state directory, read as the configuration says now. Logs why there is none, unless there never was one.
pub(super) fn read(state: &StateDirectory, source: &Source, now: u64) -> Option<Copy> {
    let unusable = |reason: String| {
        tracing::warn!(source = source.name(), reason, "the kept copy cannot be used; it is fetched anew");
    };
    let bytes = match file(state, source) {
        Ok(bytes) => bytes?,
        Err(error) => {
            unusable(error.to_string());
            return None;
        }
    };
    let copy = decode(source, &bytes, now).map_err(unusable).ok()?;
    let usable_until = source.usable_until(&copy);
    if usable_until <= now {
        let age_s = now.saturating_sub(copy.fetched);
        unusable(format!("it is too old: it was fetched or confirmed {age_s} s ago"));
        return None;
    }
    Some(copy)
}

fn file(state: &StateDirectory, source: &Source) -> Result<Option<Vec<u8>>, StateError> {
    state.read(&name(source), source.feed().limits.max_bytes.saturating_add(HEAD_BYTES))
}

/// The line and the document of a file.
fn parts(bytes: &[u8]) -> Result<(Head, &[u8]), String> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("the file has no first line")?;
    let head: Head = serde_json::from_slice(&bytes[..end]).map_err(|error| error.to_string())?;
    let document = &bytes[end + 1..];
    if head.digest(document) != head.sha256 {
        return Err("it is not what was kept; the file is damaged, or of another version of hookgate".to_owned());
    }
    Ok((head, document))
}

fn decode(source: &Source, bytes: &[u8], now: u64) -> Result<Copy, String> {
    let (head, document) = parts(bytes)?;
    if head.source != identity(source) {
        return Err(format!("it is a copy of {}", head.name.escape_default()));
    }
    let content = source.parse(document)?;
    if let (Content::List(list), Some(signer)) = (&content, &head.signer) {
        let key = BASE64.decode(signer.as_bytes()).map_err(|error| error.to_string())?;
        if list.provenance(&[ListSigner::of_key(list, key)]) != Provenance::Signed {
            return Err("the key beside it did not sign it; the file is damaged".to_owned());
        }
    }
    Ok(Copy {
        // Whatever the clock was, no copy is from the future.
        fetched: head.fetched.min(now),
        fresh_for: Duration::from_secs(head.fresh_for).min(source.feed().limits.max_fresh),
        validators: Validators { etag: head.etag, last_modified: head.last_modified },
        digest: sha256(document),
        content,
    })
}

/// Keeps `copy`, which came as `document`, in the state directory.
pub(super) fn write(state: &StateDirectory, source: &Source, copy: &Copy, document: &[u8]) -> Result<(), StateError> {
    state.write(&name(source), &encode(source, copy, document))
}

/// Notes in the file of `copy` that it was confirmed. Writes nothing if the file has another document, or none.
pub(super) fn confirm(state: &StateDirectory, source: &Source, copy: &Copy) -> Result<(), StateError> {
    let Some(bytes) = file(state, source)? else { return Ok(()) };
    match parts(&bytes) {
        Ok((_, document)) if sha256(document) == copy.digest => write(state, source, copy, document),
        _ => Ok(()),
    }
}

/// Removes the file of `source`.
pub(super) fn remove(state: &StateDirectory, source: &Source) -> Result<(), StateError> {
    state.remove(&name(source))
}

fn encode(source: &Source, copy: &Copy, document: &[u8]) -> Vec<u8> {
    let signer = match &copy.content {
        Content::List(list) => list.signer().map(|key| BASE64.encode(key)),
        Content::Ranges(_) | Content::Keys(_) => None,
    };
    let mut head = Head {
        name: source.name(),
        source: identity(source),
        fetched: copy.fetched,
        fresh_for: copy.fresh_for.as_secs(),
        etag: copy.validators.etag.clone(),
        last_modified: copy.validators.last_modified.clone(),
        sha256: String::new(),
        signer,
    };
    head.sha256 = head.digest(document);
    // A struct of texts and numbers has no value that JSON lacks.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(document);
    bytes
}

/// A file with this head and document, as if it had been kept so.
#[cfg(test)]
pub(super) fn sealed(head: &str, document: &[u8]) -> Option<Vec<u8>> {
    let mut head: Head = serde_json::from_str(head).ok()?;
    head.sha256 = head.digest(document);
    Some([&serde_json::to_vec(&head).ok()?, &b"\n"[..], document].concat())
}
