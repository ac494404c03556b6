//! The last good copy of a list: its ranges in memory, and the document in the state directory.
//!
//! Owns the form of its file: a line of JSON about the copy, then the document as it came. A file that cannot be read is as good as none:
//! the list is fetched anew. Must not fetch.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use ipnet::IpNet;
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::config::RangeSource;
use crate::control::jwks::fetch::Validators;
use crate::state::{StateDirectory, StateError};

/// What stands before the digest in the name of a file.
const PREFIX: &str = "ranges-";
/// Bytes of the digest of a URL that name a file.
const NAME_BYTES: usize = 16;
/// Room for the line about the copy: URL and validators.
const HEAD_BYTES: usize = 16 * 1024;

/// A list as it was fetched.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// When it was fetched or confirmed last, in seconds since 1970.
    pub(super) fetched: u64,
    /// Its version.
    pub(super) validators: Validators,
    /// What it holds.
    pub(super) ranges: Arc<[IpNet]>,
}

impl Copy {
    /// The same copy, confirmed at `fetched`.
    pub(super) fn again(&self, fetched: u64) -> Self {
        Self { fetched, ..self.clone() }
    }
}

/// The first line of a file.
#[derive(Deserialize, Serialize)]
struct Head {
    url: String,
    fetched: u64,
    etag: Option<String>,
    last_modified: Option<String>,
}

fn name(source: &RangeSource) -> String {
    let digest = digest::digest(&digest::SHA256, source.url.to_string().as_bytes());
    format!("{PREFIX}{}", HEXLOWER.encode(digest.as_ref().get(..NAME_BYTES).unwrap_or_default()))
}

/// The copy of the state directory, read as the configuration says now. Logs why there is none, unless there never was one.
pub(super) fn read(state: &StateDirectory, source: &RangeSource) -> Option<Copy> {
    let unusable = |reason: String| {
        tracing::warn!(source = source.name(), reason, "the kept copy of a list cannot be used; it is fetched anew");
    };
    let bytes = match state.read(&name(source), source.limits.max_bytes.saturating_add(HEAD_BYTES)) {
        Ok(bytes) => bytes?,
        Err(error) => {
            unusable(error.to_string());
            return None;
        }
    };
    decode(source, &bytes).map_err(unusable).ok()
}

fn decode(source: &RangeSource, bytes: &[u8]) -> Result<Copy, String> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("the file has no first line")?;
    let (head, document) = (&bytes[..end], &bytes[end + 1..]);
    let head: Head = serde_json::from_slice(head).map_err(|error| error.to_string())?;
    if head.url != source.url.to_string() {
        return Err(format!("it is a copy of {}", head.url.escape_default()));
    }
    let ranges = source.parse(document)?.into();
    let validators = Validators { etag: head.etag, last_modified: head.last_modified };
    Ok(Copy { fetched: head.fetched, validators, ranges })
}

/// Keeps `copy`, which came as `document`, in the state directory.
pub(super) fn write(
    state: &StateDirectory,
    source: &RangeSource,
    copy: &Copy,
    document: &[u8],
) -> Result<(), StateError> {
    state.write(&name(source), &encode(source, copy, document))
}

fn encode(source: &RangeSource, copy: &Copy, document: &[u8]) -> Vec<u8> {
    let head = Head {
        url: source.url.to_string(),
        fetched: copy.fetched,
        etag: copy.validators.etag.clone(),
        last_modified: copy.validators.last_modified.clone(),
    };
    // A struct of texts and numbers has no value that JSON lacks.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(document);
    bytes
}
