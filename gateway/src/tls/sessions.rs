//! Sessions that are resumed by their id: TLS 1.2 without tickets (RFC 5246, section 7.3). curl and some load balancers do so.
//!
//! Owns the bounds of this memory. Every snapshot makes its own, so no session outlives a change of trust, and a resumed session is
//! authorized again like every other one. Must not judge a session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

/// The most sessions. The oldest is evicted.
const SESSIONS: usize = 1024;

/// The most bytes of a session, most of which are the chain of the client: two or three certificates. With [`SESSIONS`] at most 8 MiB.
const SESSION_BYTES: usize = 8 * 1024;

/// How long a session can be resumed: as long as a ticket of rustls, which is less than the day of RFC 5246, appendix F.1.4.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// A bounded memory of sessions, each with its age.
pub(super) struct Sessions {
    memory: Arc<ServerSessionMemoryCache>,
    began: Instant,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self { memory: ServerSessionMemoryCache::new(SESSIONS), began: Instant::now() }
    }

    fn put_at(&self, key: Vec<u8>, session: &[u8], age: Duration) -> bool {
        session.len() <= SESSION_BYTES && self.memory.put(key, [&age.as_secs().to_be_bytes()[..], session].concat())
    }

    fn young(stored: Option<Vec<u8>>, age: Duration) -> Option<Vec<u8>> {
        let stored = stored?;
        let (made, session) = stored.split_first_chunk()?;
        let is_young = age.as_secs().saturating_sub(u64::from_be_bytes(*made)) < LIFETIME.as_secs();
        is_young.then(|| session.to_vec())
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(key, &value, self.began.elapsed())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::young(self.memory.get(key), self.began.elapsed())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::young(self.memory.take(key), self.began.elapsed())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_bounded_in_size_number_and_age() {
        let sessions = Sessions::new();
        let put = |number: usize, bytes: usize| sessions.put(number.to_be_bytes().to_vec(), vec![1; bytes]);
        assert!(put(0, SESSION_BYTES));
        assert!(!put(1, SESSION_BYTES + 1), "a session with a long chain is not kept");
        let get = |number: usize| sessions.get(&number.to_be_bytes());
        assert_eq!((get(0), get(1)), (Some(vec![1; SESSION_BYTES]), None));
        assert!((2..=SESSIONS + 1).all(|number| put(number, 8)));
        let kept = (0..=SESSIONS + 1).filter(|number| get(*number).is_some()).count();
        assert!(kept <= SESSIONS, "{kept}");
        let age = |age| Sessions::young(sessions.memory.get(&(SESSIONS + 1).to_be_bytes()), age);
        assert_eq!(age(LIFETIME.saturating_sub(Duration::from_secs(1))), Some(vec![1; 8]));
        assert_eq!(age(LIFETIME + Duration::from_secs(1)), None, "an old session is not resumed");
    }
}
