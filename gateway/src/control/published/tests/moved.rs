//! Sources whose URL changes by a reload: the new URL is asked at once, and nothing is in use that neither URL says now.

use hookgate_core::auth::testing::{ISSUER, SOURCE};

use super::lists::Authority;
use super::*;
use crate::key_store::KeyStore;

/// A publisher whose document may no longer be used, and one that has taken its place.
struct Moved {
    publisher: Publisher,
    servers: [Server; 2],
    make: fn(Feed) -> Source,
    terms: Terms,
}

impl Moved {
    async fn start(documents: [Reply; 2], make: fn(Feed) -> Source, terms: Terms) -> Self {
        let [old, new] = documents;
        let servers = [Server::start(old).await, Server::start(new).await];
        Self { publisher: Publisher::default(), servers, make, terms }
    }

    fn source(&self, server: usize) -> Source {
        (self.make)(self.servers[server].feed(limits()))
    }

    /// As a reload does whose configuration names this server alone. Returns whether there is a copy before anything is fetched.
    fn reload(&mut self, server: usize) -> bool {
        let source = self.source(server);
        let prepared = self.publisher.prepare(vec![(source.clone(), self.terms.clone())], None).unwrap();
        let known = prepared.known(&source).is_some();
        self.publisher.adopt(prepared);
        known
    }

    /// Waits for the copy of this server, which needs no offer.
    async fn fetched(&self, server: usize) {
        let source = self.source(server);
        let wait = async {
            while self.publisher.known(&source).is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
    }

    /// The next offer is taken.
    async fn take(&mut self) {
        tokio::time::timeout(Duration::from_secs(5), self.publisher.offer()).await.unwrap().answer(Ok(()));
    }
}

fn list(document: Vec<u8>) -> Reply {
    http("200 OK", "cache-control: max-age=86400\r\n", document)
}

fn lists(feed: Feed) -> Source {
    Source::List(Arc::new(feed))
}

#[tokio::test]
async fn an_expired_list_gives_way_to_the_one_at_the_new_url() {
    let authority = Authority::new("CA");
    let documents = [list(authority.expired(7)), list(authority.list(8, 1, &[]))];
    let mut moved = Moved::start(documents, lists, Authority::terms(&[&authority])).await;
    assert!(!moved.reload(0));
    moved.take().await;
    let old = moved.source(0);
    assert!(moved.publisher.known(&old).unwrap().content.to_string().contains("number 7"));
    assert!(!moved.reload(1), "the list of the former URL is no copy of the new one");
    moved.take().await;
    let new = moved.source(1);
    assert!(moved.publisher.known(&new).unwrap().content.to_string().contains("number 8"));
    assert!(moved.publisher.known(&old).is_none());
    assert_eq!(moved.servers[1].hits(), 1);
}

#[tokio::test]
async fn a_mirror_that_is_behind_does_not_admit_what_was_revoked() {
    let authority = Authority::new("CA");
    let documents = [list(authority.list(7, 24, &[1])), list(authority.list(6, 48, &[]))];
    let mut moved = Moved::start(documents, lists, Authority::terms(&[&authority])).await;
    moved.reload(0);
    moved.take().await;
    // The signer of a list is known once it was verified.
    let signed = moved.publisher.known(&moved.source(0)).unwrap();
    assert!(matches!(&signed.content, Content::List(list) if list.signer().is_some()));
    assert!(!moved.reload(1));
    let new = moved.source(1);
    assert!(
        moved.publisher.first_offer(Publisher::first_deadline()).await.is_none(),
        "it was asked, and offers nothing"
    );
    assert!(moved.publisher.known(&new).is_none() && moved.servers[1].hits() == 1);
    // A list of other certificates has versions of its own.
    moved.servers[1].answer(list(authority.list_of_part(1, 48, "http://c.example/2")));
    moved.take().await;
    assert!(moved.publisher.known(&new).unwrap().content.to_string().contains("number 1"));
}

#[tokio::test]
async fn ranges_at_a_new_url_are_fetched_at_once() {
    let ranges = |feed| Source::Ranges(Arc::new(RangeSource { feed, format: RangeFormat::Any }));
    let guard = Guard { largest_shrink: 0.5, forced: false };
    let list = |text: &str| http("200 OK", "cache-control: max-age=86400\r\n", text);
    let documents = [list("192.0.2.0/24\n"), list("198.51.100.0/24\n")];
    let mut moved = Moved::start(documents, ranges, Terms::Ranges(guard)).await;
    moved.reload(0);
    moved.take().await;
    moved.servers[0].answer(http("410 Gone", "", ""));
    assert!(!moved.reload(1), "no address of the former list is admitted");
    moved.take().await;
    assert_eq!(moved.publisher.known(&moved.source(1)).unwrap().content.to_string(), "1 range");
    assert_eq!(moved.servers[1].hits(), 1);
}

#[tokio::test]
async fn keys_at_a_new_url_are_fetched_at_once() {
    let make = |feed| Source::Keys(Arc::new(KeyFeed { name: "issuer".into(), feed }));
    let keys = |kid: &str| {
        let body = serde_json::json!({ "keys": [ISSUER.rsa_jwk(kid)] }).to_string();
        http("200 OK", "cache-control: max-age=86400\r\n", body)
    };
    let outlet = || Outlet { store: Arc::new(KeyStore::new(1)), source: SOURCE };
    let mut moved = Moved::start([keys("old"), keys("new")], make, Terms::Keys(outlet())).await;
    moved.reload(0);
    moved.fetched(0).await;
    moved.servers[0].answer(http("410 Gone", "", ""));
    // The store of the next configuration has no keys before it fetched its own.
    moved.terms = Terms::Keys(outlet());
    assert!(!moved.reload(1), "no key of the former issuer is used");
    moved.fetched(1).await;
    assert_eq!(moved.servers[1].hits(), 1);
}
