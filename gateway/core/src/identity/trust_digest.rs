//! The digest of a trust policy. Two hosts have the same one if their configurations say the same about who is admitted by a certificate,
//! wherever their files are and in whichever order the keys of their tables stand.
//!
//! Owns how a policy becomes bytes that have one reading, and their hash. Each type of the policy implements [`Digested`] beside its
//! definition, by a pattern that names every field: a new field does not compile until it is decided whether it counts. What is checked for
//! each request (proofs, ranges, routes below a server name), what only warns, and limits do not count. Must not depend on anything of one
//! host alone: paths, addresses of memory, clocks, fetches that have not happened yet.

use std::fmt;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

use super::Identity;

/// SHA-256 of a trust policy. No secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrustDigest([u8; 32]);

impl TrustDigest {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first 32 bits, by which an operator tells policies apart.
    #[must_use]
    pub fn number(&self) -> u32 {
        let [first, second, third, fourth, ..] = self.0;
        u32::from_be_bytes([first, second, third, fourth])
    }
}

impl From<[u8; 32]> for TrustDigest {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Debug for TrustDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TrustDigest({})", HEXLOWER.encode(&self.0))
    }
}

/// A part of a trust policy.
pub trait Digested {
    /// Adds everything that decides. Two values that differ in it add different bytes.
    fn add_to(&self, transcript: &mut Transcript);
}

/// What is hashed: numbers of 8 bytes, and bytes after their number. Each type adds a fixed sequence of these, so no two sequences of values
/// add the same bytes.
pub struct Transcript(Context);

impl Transcript {
    /// An empty one for this purpose.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        let mut transcript = Self(Context::new(&SHA256));
        transcript.add(purpose);
        transcript
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// Adds a value.
    pub fn add(&mut self, value: &(impl Digested + ?Sized)) {
        value.add_to(self);
    }

    /// The digest of everything that was added.
    #[must_use]
    pub fn finish(self) -> TrustDigest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        TrustDigest(digest)
    }
}

impl Digested for str {
    fn add_to(&self, transcript: &mut Transcript) {
        transcript.bytes(self.as_bytes());
    }
}

impl Digested for bool {
    fn add_to(&self, transcript: &mut Transcript) {
        transcript.number(u64::from(*self));
    }
}

impl<T: Digested> Digested for [T] {
    fn add_to(&self, transcript: &mut Transcript) {
        transcript.number(self.len() as u64);
        self.iter().for_each(|value| value.add_to(transcript));
    }
}

impl<T: Digested> Digested for Option<T> {
    fn add_to(&self, transcript: &mut Transcript) {
        transcript.add(&self.is_some());
        self.iter().for_each(|value| value.add_to(transcript));
    }
}

impl Digested for Identity {
    fn add_to(&self, transcript: &mut Transcript) {
        // Of the others, the limits bound what is looked at, the public roots are evidence and no more, and the rest is made of the providers
        // or remembers.
        let Self {
            generation: _,
            providers,
            path_demands: _,
            cache: _,
            limits: _,
            bounds: _,
            sightings: _,
            issuer_signatures: _,
            anchor_names: _,
            public_roots: _,
        } = self;
        transcript.add(&**providers);
    }
}
