//! The operations on the bucket: claim, take, release.
//!
//! Owns the form of an entry, and that of several hosts at most one succeeds: each change names the revision that it replaces. Must not know
//! the connection.
//!
//! The key of an entry is the SHA-256 that a delivery is remembered by, in hex; it tells nothing of the request. The value is `claimed` or
//! `taken`, a space, and the last second since 1970 in which it counts: of a claim, by when its handler has answered; of a taken delivery,
//! the last second in which a copy is a duplicate. Hosts read each other's seconds, so their clocks must agree; [`SKEW`] is allowed for.

use std::time::Duration;

use async_nats::jetstream::kv::{CreateErrorKind, Entry, Operation, Store, UpdateErrorKind};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use hookgate_core::auth::KeptDelivery;
use rustls_pki_types::UnixTime;

use super::stream::{Failed, failed};

/// How far the clocks of two hosts may differ, in seconds: NTP keeps them within a tenth of a second.
const SKEW: u64 = 5;

/// How often an operation is tried that another host has overtaken. Each time, that host has made progress.
const ATTEMPTS: usize = 4;

/// An id of a delivery that this host has claimed.
#[derive(Debug)]
pub struct Claimed {
    key: String,
    revision: u64,
    /// Until when a copy is a duplicate, if the delivery is taken.
    until: u64,
}

/// What became of a claim.
#[derive(Debug)]
pub(super) enum Outcome {
    Claimed(Vec<Claimed>),
    Taken,
    InFlight,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Claimed { until: u64 },
    Taken { until: u64 },
}

impl State {
    fn text(self) -> Bytes {
        match self {
            Self::Claimed { until } => format!("claimed {until}"),
            Self::Taken { until } => format!("taken {until}"),
        }
        .into()
    }

    /// `None` if it is not one.
    fn parse(value: &[u8]) -> Option<Self> {
        let (word, until) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        let until = until.parse().ok()?;
        match word {
            "claimed" => Some(Self::Claimed { until }),
            "taken" => Some(Self::Taken { until }),
            _ => None,
        }
    }
}

/// The bucket.
#[derive(Clone, Debug)]
pub(super) struct Memory(Store);

impl Memory {
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }

    /// Claims all of `deliveries` for this long, or none.
    pub(super) async fn claim(&self, deliveries: &[KeptDelivery], held_for: Duration) -> Result<Outcome, Failed> {
        let mut claimed = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let outcome = self.claim_one(delivery, held_for).await;
            match outcome {
                Ok(Ok(one)) => claimed.push(one),
                Ok(Err(other)) => {
                    self.release(claimed).await;
                    return Ok(other);
                }
                Err(failed) => {
                    self.release(claimed).await;
                    return Err(failed);
                }
            }
        }
        Ok(Outcome::Claimed(claimed))
    }

    async fn claim_one(&self, delivery: &KeptDelivery, held_for: Duration) -> Result<Result<Claimed, Outcome>, Failed> {
        let key = HEXLOWER.encode(&delivery.digest);
        for _ in 0..ATTEMPTS {
            let now = UnixTime::now().as_secs();
            let value = State::Claimed { until: now.saturating_add(held_for.as_secs()) }.text();
            let claimed = |revision| Claimed { key: key.clone(), revision, until: delivery.until };
            match self.0.create(&key, value.clone()).await {
                Ok(revision) => return Ok(Ok(claimed(revision))),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            let entry = self.0.entry(&key).await.map_err(failed)?;
            // Released since.
            let Some(Entry { value: found, revision, operation: Operation::Put, .. }) = entry else { continue };
            let Some(state) = State::parse(&found) else {
                return Err(failed(format!("the entry {key} is not one of hookgate")));
            };
            match state {
                State::Taken { until } if now <= until.saturating_add(SKEW) => return Ok(Err(Outcome::Taken)),
                State::Claimed { until } if now <= until.saturating_add(SKEW) => return Ok(Err(Outcome::InFlight)),
                State::Taken { .. } | State::Claimed { .. } => {}
            }
            match self.0.update(&key, value, revision).await {
                Ok(revision) => return Ok(Ok(claimed(revision))),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Err(Outcome::InFlight))
    }

    /// Marks all as taken.
    ///
    /// # Errors
    ///
    /// One is not known to be stored, or the claim had expired and another host has the delivery.
    pub(super) async fn take(&self, claimed: &[Claimed]) -> Result<(), Failed> {
        for Claimed { key, revision, until } in claimed {
            let taken = State::Taken { until: *until }.text();
            self.0.update(key, taken, *revision).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Removes the claims. One that cannot be removed expires.
    pub(super) async fn release(&self, claimed: Vec<Claimed>) {
        for Claimed { key, revision, .. } in claimed {
            if let Err(error) = self.0.purge_expect_revision(&key, Some(revision)).await {
                tracing::debug!(%error, "a claim could not be released; it expires");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_nothing_else_is() {
        for state in [State::Claimed { until: 1 }, State::Taken { until: u64::MAX }] {
            assert_eq!(State::parse(&state.text()), Some(state));
        }
        for wrong in ["", "taken", "taken ", "taken x", "taken -1", "taken 1 2", "claimed1", "TAKEN 1", "\u{0}"] {
            assert_eq!(State::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
