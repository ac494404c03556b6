//! The keys of token issuers, kept fresh.
//!
//! Owns when keys are fetched and how long they are relied on. How one fetch goes is in [`fetch`], how the data plane reads the
//! keys in [`crate::keys`]. Must not judge tokens: `auth` does.
//!
//! A source is fetched when its keys are about to be stale, as the issuer's `Cache-Control` says; after a failure again and again,
//! ever more seldom; and when a token names a key that is not there, but not more often than every 30 seconds, so that
//! whoever makes up key names cannot make hookgate hammer an issuer.

pub mod fetch;

use std::sync::Arc;
use std::time::Duration;

use hookgate_core::auth::{KeySet, KeySourceId};
use rustls_pki_types::UnixTime;
use tokio::time::sleep;

use crate::keys::KeyStore;
use fetch::{FetchError, Fetched, Fetcher};

/// The first wait after a failure, doubled after each further one up to the last.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// What came of a fetch, for metrics and logs.
#[derive(Debug)]
pub enum FetchEvent<'event> {
    /// Keys were fetched and published.
    Fetched {
        /// The keys.
        set: &'event KeySet,
        /// Until when they are relied on if no later fetch succeeds.
        usable_until: UnixTime,
        /// When they are fetched again.
        next: Duration,
    },
    /// The keys stay as they were.
    Failed {
        /// Why.
        error: &'event FetchError,
        /// How many fetches have failed in a row.
        failures: u32,
        /// When it is tried again.
        next: Duration,
    },
}

/// Keeps the keys of one source fresh, for as long as it is polled. `observe` is told of every fetch; `now` is the clock that
/// the data plane judges tokens by.
pub async fn keep_fresh(
    store: Arc<KeyStore>,
    source: KeySourceId,
    fetcher: Fetcher,
    now: impl Fn() -> UnixTime,
    mut observe: impl FnMut(FetchEvent<'_>),
) {
    let Some(attendant) = store.attend(source) else { return };
    let mut failures = 0;
    loop {
        attendant.begin();
        let next = match fetcher.fetch().await {
            Ok(Fetched { set, fresh_for }) => {
                failures = 0;
                let set = Arc::new(set);
                let usable_for = fresh_for.saturating_add(fetcher.limits().max_stale).as_secs();
                let usable_until =
                    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs().saturating_add(usable_for)));
                store.publish(source, Arc::clone(&set), usable_until);
                let next = earlier(fresh_for);
                observe(FetchEvent::Fetched { set: &set, usable_until, next });
                next
            }
            Err(error) => {
                failures += 1;
                let next = backoff(failures);
                observe(FetchEvent::Failed { error: &error, failures, next });
                next
            }
        };
        attendant.end();
        tokio::select! {
            () = sleep(next) => {}
            () = attendant.wanted() => {}
        }
    }
}

/// A little before `fresh_for` is over, so that keys do not go stale, and at another moment in every instance.
fn earlier(fresh_for: Duration) -> Duration {
    fresh_for.mul_f64(0.9 + 0.1 * fastrand::f64())
}

/// The wait after `failures` in a row, from 1: doubled each time, the latter half of it at random.
fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_BACKOFF);
    doubled.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests;
