//! Session tickets that every host with the same secret and the same trust policy opens.
//!
//! Owns the form of such a ticket, and its keys. No key is stored or sent: HKDF-SHA256 (RFC 5869) makes it of a secret and of what it is for,
//! which is this version of hookgate, one hour, and one trust policy. So keys change every hour by themselves, no ticket opens under another
//! policy, and another version, whose rustls may write sessions in another way, makes a full handshake. Must not judge a session: a ticket
//! that does not open means a full handshake, and the chain in one that does is judged again.
//!
//! **Clocks.** A ticket opens in the hour in which it was sealed, in the 12 after it, and in the one before it. So a host opens what
//! another seals whose clock is ahead by up to an hour, or behind; each hour that a clock is behind takes an hour off the life of its
//! tickets at the others. Beyond that, tickets of others do not open, and handshakes are full. A clock that is set back opens the tickets of
//! that time again.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hookgate_core::auth::Secret;
use hookgate_core::identity::TrustDigest;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{KeyType, Prk};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

/// The number of this form of tickets, and of this way to derive keys. A change of either gets another number.
const FORMAT: u8 = 1;

/// The salt of HKDF: what the secret is used for.
const SALT: &[u8] = b"hookgate session tickets";

/// How long a key seals.
const SECONDS_AN_HOUR: u64 = 60 * 60;

/// How many hours a ticket lives: as many as one of rustls, which are less than the 24 of RFC 5077, section 5.6, and the 7 days of RFC 8446,
/// section 4.6.1.
const LIFETIME_HOURS: u64 = 12;

/// How many hours the clock of another host may be ahead.
const HOURS_AHEAD: u64 = 1;

/// The name of a key, by which a host finds the key of a ticket.
const NAME_BYTES: usize = 16;
/// AES-256.
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// Secrets that several hosts share. The first seals, and all of them open.
#[derive(Clone)]
pub struct TicketSecrets(Arc<[Prk]>);

impl TicketSecrets {
    /// Those of these secrets. Without one, there are no tickets.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        Self(secrets.iter().map(|secret| secret.pseudorandom_key(SALT)).collect())
    }
}

impl fmt::Debug for TicketSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TicketSecrets({} REDACTED)", self.0.len())
    }
}

/// Whose tickets a host opens: those of hosts with these secrets and this trust policy.
#[derive(Clone, Debug)]
pub struct SharedKeys {
    /// The secrets.
    pub secrets: TicketSecrets,
    /// The policy.
    pub trust: TrustDigest,
}

/// Seals and opens the tickets of [`SharedKeys`].
pub(super) struct SharedTickets {
    keys: SharedKeys,
    random: SystemRandom,
    /// Replaced at the first ticket of an hour. A load takes no lock.
    table: ArcSwap<Table>,
}

impl SharedTickets {
    pub(super) fn new(keys: SharedKeys) -> Self {
        Self::at(keys, UnixTime::now())
    }

    fn at(keys: SharedKeys, now: UnixTime) -> Self {
        let table = ArcSwap::from_pointee(Table::new(&keys, hour_of(now), &[]));
        Self { keys, random: SystemRandom::new(), table }
    }

    /// The keys for the hour of `now`. Two threads may make the same table at once, and either is kept.
    fn table(&self, now: UnixTime) -> Arc<Table> {
        let (table, hour) = (self.table.load_full(), hour_of(now));
        if table.hour == hour {
            return table;
        }
        let next = Arc::new(Table::new(&self.keys, hour, &table.keys));
        self.table.store(Arc::clone(&next));
        next
    }

    /// The name of the key, a nonce, the encrypted session and its tag.
    ///
    /// The nonces are random. With 2³² of them under one key, which all hosts use for an hour, two are equal with a probability of 2⁻³² (NIST
    /// SP 800-38D, section 8.3). That is more than a million handshakes a second, over all hosts.
    fn seal(&self, session: &[u8], now: UnixTime) -> Option<Vec<u8>> {
        let table = self.table(now);
        let HourKey { name, key, .. } = table.sealing()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + NONCE_LEN + session.len() + TAG_BYTES);
        ticket.extend(name);
        ticket.extend(nonce);
        ticket.extend(session);
        let sealed = ticket.get_mut(NAME_BYTES + NONCE_LEN..)?;
        let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), sealed).ok()?;
        ticket.extend(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: UnixTime) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk()?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        let table = self.table(now);
        let HourKey { name, key, .. } = table.named(name)?;
        let mut session = sealed.to_vec();
        let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut session);
        let length = opened.ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME_HOURS * SECONDS_AN_HOUR).unwrap_or_default()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, UnixTime::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, UnixTime::now())
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedTickets").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The keys that open in one hour: for each secret, one for each hour in which a ticket may have been sealed. 14 at most, some half a
/// kibibyte each.
struct Table {
    hour: u64,
    keys: Vec<Arc<HourKey>>,
}

impl Table {
    /// Those of `hour`. What is among `known` is not derived again.
    fn new(shared: &SharedKeys, hour: u64, known: &[Arc<HourKey>]) -> Self {
        let mut keys = Vec::new();
        for (secret, pseudorandom_key) in shared.secrets.0.iter().enumerate() {
            for sealed in hours(hour) {
                let known = known.iter().find(|key| (key.secret, key.hour) == (secret, sealed)).cloned();
                let derive = || HourKey::derive(secret, pseudorandom_key, sealed, &shared.trust).map(Arc::new);
                keys.extend(known.or_else(derive));
            }
        }
        Self { hour, keys }
    }

    /// The key of the first secret for this hour.
    fn sealing(&self) -> Option<&HourKey> {
        self.keys.iter().find(|key| (key.secret, key.hour) == (0, self.hour)).map(|key| &**key)
    }

    fn named(&self, name: &[u8; NAME_BYTES]) -> Option<&HourKey> {
        self.keys.iter().find(|key| key.name == *name).map(|key| &**key)
    }
}

/// The hours whose tickets open in `hour`.
fn hours(hour: u64) -> RangeInclusive<u64> {
    hour.saturating_sub(LIFETIME_HOURS)..=hour.saturating_add(HOURS_AHEAD)
}

/// The hours since 1970.
fn hour_of(now: UnixTime) -> u64 {
    now.as_secs() / SECONDS_AN_HOUR
}

/// The key of one secret for one hour.
struct HourKey {
    /// The place of the secret in the configuration.
    secret: usize,
    hour: u64,
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl HourKey {
    fn derive(secret: usize, pseudorandom_key: &Prk, hour: u64, trust: &TrustDigest) -> Option<Self> {
        let (name, key) = derived(pseudorandom_key, env!("CARGO_PKG_VERSION"), hour, trust)?;
        Some(Self { secret, hour, name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?) })
    }
}

/// Name and key of an hour. Never `None`: HKDF-Expand fails for 8,160 bytes or more.
fn derived(
    pseudorandom_key: &Prk,
    version: &str,
    hour: u64,
    trust: &TrustDigest,
) -> Option<([u8; NAME_BYTES], Zeroizing<[u8; KEY_BYTES]>)> {
    // Only the last part has no fixed length.
    let parts: [&[u8]; 4] = [&[FORMAT], &hour.to_be_bytes(), trust.as_bytes(), version.as_bytes()];
    let mut output = Zeroizing::new([0; KEY_BYTES + NAME_BYTES]);
    pseudorandom_key.expand(&parts, Derived).ok()?.fill(&mut *output).ok()?;
    let (key, name) = output.split_first_chunk()?;
    Some((name.try_into().ok()?, Zeroizing::new(*key)))
}

/// The length of what is derived.
struct Derived;

impl KeyType for Derived {
    fn len(&self) -> usize {
        KEY_BYTES + NAME_BYTES
    }
}

#[cfg(test)]
mod tests;
