//! What is published stays current, against a real publisher: whatever it answers, the copy in use stays until a better one is there.

#![expect(clippy::unwrap_used, reason = "tests")]

mod keys;
mod lists;
mod moved;
mod ranges;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::AtomicU64;

use tempfile::TempDir;

use super::task::{Renewed, backoff, earlier, renew};
use super::*;
use crate::config::{Feed, FetchLimits, RangeFormat, RangeSource};
use crate::control::fetcher::server::{Answer as Reply, Server, http};

/// A document at a publisher, and the place of it, one round at a time.
struct Kept {
    server: Server,
    place: Arc<Place>,
    fetcher: Fetcher,
    /// What the control loop says to an offer.
    verdict: Result<(), String>,
}

impl Kept {
    /// `source` makes the source of what is published.
    async fn start(server: Server, source: fn(Feed) -> Source, terms: Terms, state: Option<&StateDirectory>) -> Self {
        let source = source(server.feed(limits()));
        let tls = tls_settings(server.roots.clone()).unwrap();
        let fetcher = Fetcher::new(source.feed(), tls, source.accept(), source.is_signed());
        Self { place: place(source, terms, state), server, fetcher, verdict: Ok(()) }
    }

    /// One round: the result, or the label and the text of the error.
    async fn round(&self) -> Result<&'static str, (&'static str, String)> {
        self.renewed().await.map(|renewed| renewed.result)
    }

    async fn renewed(&self) -> Result<Renewed, (&'static str, String)> {
        let (offers, mut inbox) = mpsc::channel::<Offer>(1);
        let verdict = self.verdict.clone();
        let control = tokio::spawn(async move {
            if let Some(offer) = inbox.recv().await {
                offer.answer(verdict);
            }
        });
        let outcome = renew(&self.place, &self.fetcher, &offers).await;
        drop(offers);
        control.await.unwrap();
        outcome.map_err(|error| (error.label(), error.to_string()))
    }

    /// What is in use, in words.
    fn in_use(&self) -> String {
        self.place.current.load().as_ref().map(|copy| copy.content.to_string()).unwrap_or_default()
    }

    /// Checks that this answer is refused, for this reason, and changes nothing.
    async fn refuses(&self, reply: Reply, label: &str, words: &str) {
        let before = self.in_use();
        self.server.answer(reply);
        let (found, error) = self.round().await.unwrap_err();
        assert!(found == label && error.contains(words), "{label}, {words}: {found}: {error}");
        assert!(!error.contains('\n'), "one line: {error}");
        assert_eq!(self.in_use(), before, "{label}");
    }

    /// Checks that a publisher with a public address cannot lead to a private one, and that nothing is asked there.
    async fn refuses_redirects_to_private_addresses(&self) {
        let (before, scheme) = (self.in_use(), if self.place.source.is_signed() { "http" } else { "https" });
        let feed = self.server.public_feed(limits());
        let tls = tls_settings(self.server.roots.clone()).unwrap();
        let fetcher = Fetcher::new(&feed, tls, self.place.source.accept(), self.place.source.is_signed());
        let port = self.server.address.port();
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254"] {
            let hits = self.server.hits();
            self.server.answer(http("302 Found", &format!("location: {scheme}://{host}:{port}/\r\n"), ""));
            let (offers, _) = mpsc::channel(1);
            let error = renew(&self.place, &fetcher, &offers).await.unwrap_err();
            assert!(error.label() == "not_public" && error.to_string().contains(host), "{host}: {error}");
            assert_eq!((self.in_use(), self.server.hits() - hits), (before.clone(), 1), "{host}");
        }
    }

    /// What a process that starts now has of it.
    fn restarted(&self, state: &StateDirectory) -> Option<Arc<Copy>> {
        let terms = Terms::clone(&self.place.terms.load());
        place(self.place.source.clone(), terms, Some(state)).current.load_full()
    }
}

fn place(source: Source, terms: Terms, state: Option<&StateDirectory>) -> Arc<Place> {
    let copy = state.and_then(|state| copy::read(state, &source, now())).map(Arc::new);
    Arc::new(Place::new(source, terms, copy, state.cloned()))
}

fn limits() -> FetchLimits {
    let base = FetchLimits { timeout: Duration::from_millis(500), max_bytes: 8192, ..FetchLimits::default() };
    FetchLimits { allow_private: true, redirects: 3, ..base }
}

fn state() -> (TempDir, StateDirectory) {
    let at = TempDir::new().unwrap();
    std::fs::set_permissions(at.path(), Permissions::from_mode(0o700)).unwrap();
    let state = StateDirectory::open(at.path()).unwrap();
    (at, state)
}

/// The one file whose name begins like this.
fn file(state: &StateDirectory, prefix: &str) -> (String, Vec<u8>) {
    let names = state.list(prefix).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    let bytes = state.read(&names[0], 100_000).unwrap().unwrap();
    (names[0].clone(), bytes)
}

/// Every damage of a file makes it as good as none.
fn damages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let document = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut flipped = bytes.to_vec();
    flipped[document] ^= 1;
    let mut other = b"{}\n".to_vec();
    other.extend_from_slice(&bytes[document..]);
    // A digit of the line about it.
    let mut number = bytes.to_vec();
    let word: &[u8] = b"\"fresh_for\":";
    let digit = bytes.windows(word.len()).position(|window| window == word).unwrap() + word.len();
    number[digit] = if number[digit] == b'9' { b'8' } else { b'9' };
    vec![
        number,
        bytes[..10].to_vec(),
        bytes[..bytes.len() - 3].to_vec(),
        flipped,
        other,
        Vec::new(),
        [bytes, b"x"].concat(),
    ]
}

/// The time of the tests that let it pass, in seconds since 1970.
static CLOCK: AtomicU64 = AtomicU64::new(0);

fn clock() -> u64 {
    CLOCK.load(Ordering::Relaxed)
}

#[test]
fn waits_grow_to_their_bound_and_differ() {
    for (failures, least, most) in
        [(1, 500, 1000), (2, 1000, 2000), (5, 8000, 16_000), (10, 150_000, 300_000), (u32::MAX, 150_000, 300_000)]
    {
        let waits: Vec<u128> = (0..100).map(|_| backoff(failures).as_millis()).collect();
        assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{failures}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{failures}");
    }
    for _ in 0..100 {
        let next = earlier(Duration::from_secs(1000));
        assert!((900..=1000).contains(&next.as_secs()), "{next:?}");
    }
}
