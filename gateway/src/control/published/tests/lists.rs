//! Revocation lists: only a newer list of the right issuer takes the place of the one in use.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, KeyIdMethod, KeyPair, RevokedCertParams,
};
use rustls_pki_types::CertificateDer;
use time::{Duration as Span, OffsetDateTime};

use super::*;
use hookgate_core::identity::ListSigner;

/// An authority of this name, with a key of its own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self) -> &CertificateDer<'static> {
        self.0.der()
    }

    /// The terms of a list that these authorities may sign.
    pub(super) fn terms(authorities: &[&Self]) -> Terms {
        let signer = |authority: &&Self| ListSigner::of_certificate(authority.certificate()).unwrap();
        Terms::List(authorities.iter().map(signer).collect())
    }

    /// A list of this number, issued so many hours ago, with these entries.
    pub(super) fn list(&self, number: u64, hours: i64, serials: &[u64]) -> Vec<u8> {
        self.signed(params(number, hours, serials))
    }

    /// A list of this number whose time is over.
    pub(super) fn expired(&self, number: u64) -> Vec<u8> {
        let now = OffsetDateTime::now_utc();
        self.signed(CertificateRevocationListParams { next_update: now - Span::hours(1), ..params(number, 48, &[]) })
    }

    /// A list of the certificates that name this URL.
    pub(super) fn list_of_part(&self, number: u64, hours: i64, url: &str) -> Vec<u8> {
        let distribution_point = CrlDistributionPoint { uris: vec![url.to_owned()] };
        let issuing_distribution_point = Some(CrlIssuingDistributionPoint { distribution_point, scope: None });
        self.signed(CertificateRevocationListParams { issuing_distribution_point, ..params(number, hours, &[]) })
    }

    fn signed(&self, params: CertificateRevocationListParams) -> Vec<u8> {
        params.signed_by(&self.0).unwrap().der().to_vec()
    }
}

fn params(number: u64, hours: i64, serials: &[u64]) -> CertificateRevocationListParams {
    let now = OffsetDateTime::now_utc();
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: (*serial).into(),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: now - Span::hours(hours),
        next_update: now + Span::days(7),
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

fn source(feed: Feed) -> Source {
    Source::List(Arc::new(feed))
}

fn list(document: impl AsRef<[u8]>) -> Reply {
    http("200 OK", "etag: \"one\"\r\n", document)
}

async fn kept(document: Vec<u8>, terms: Terms, state: Option<&StateDirectory>) -> Kept {
    Kept::start(Server::start_plain(list(document)).await, source, terms, state).await
}

#[tokio::test]
async fn only_a_newer_list_of_its_issuer_takes_the_place_of_the_one_in_use() {
    let (authority, impostor, other) = (Authority::new("CA"), Authority::new("CA"), Authority::new("other"));
    let in_use = authority.list(7, 24, &[1]);
    let kept = kept(in_use.clone(), Authority::terms(&[&authority]), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    assert!(kept.in_use().starts_with("1 entries of CN=CA, number 7, of "), "{}", kept.in_use());
    let some_reasons = {
        let mut list = params(8, 1, &[]);
        let distribution_point = CrlDistributionPoint { uris: vec!["http://c.example/".to_owned()] };
        let scope = Some(CrlScope::UserCertsOnly);
        list.issuing_distribution_point = Some(CrlIssuingDistributionPoint { distribution_point, scope });
        // onlyContainsUserCerts [1] becomes onlyContainsAttributeCerts [5]: the signature is not looked at before.
        let mut der = authority.signed(list);
        let at = der.windows(3).position(|bytes| bytes == [0x81, 0x01, 0xff]).unwrap();
        der[at] = 0x85;
        der
    };
    let pem = authority.0.pem();
    for (document, label, words) in [
        (&b"<!DOCTYPE html><title>Not found</title>"[..], "document", "a page of HTML"),
        (b"", "document", "not a revocation list"),
        (pem.as_bytes(), "document", "CERTIFICATE"),
        (&authority.list(8, 1, &[1])[..100], "document", "not a DER-encoded certificate revocation list"),
        (&some_reasons, "document", "onlyContainsAttributeCerts"),
        (&authority.list(8, 25, &[1]), "older", "older than the one in use"),
        (&authority.list(6, 1, &[1]), "older", "(number 6), older than the one in use"),
        (&authority.list(8, -2, &[1]), "refused", "in the future; check the clock"),
        (&impostor.list(8, 1, &[1]), "wrong_signer", "not by its issuer, CN=CA"),
        (&other.list(8, 1, &[1]), "wrong_signer", "nothing vouches for that; the list in use is of CN=CA"),
        (&authority.list(8, 1, &(0..1000).collect::<Vec<_>>()), "too_large", "8192"),
    ] {
        kept.refuses(list(document), label, words).await;
    }
    let moved = |to: &str| http("302 Found", &format!("location: {to}\r\n"), "");
    kept.refuses(moved("ftp://127.0.0.1/"), "redirect", "not an http or https URL").await;
    kept.refuses(moved("http://127.0.0.1:1/"), "connect", "127.0.0.1:1").await;
    kept.refuses(http("404 Not Found", "", &in_use), "status", "404").await;
    let cut = [b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", &in_use[..50]].concat();
    kept.refuses(Reply::Bytes(cut.clone()), "http", "cannot be read").await;
    kept.refuses(Reply::Stall(cut), "timed_out", "0.5 s").await;

    kept.server.answer(http("304 Not Modified", "", ""));
    assert_eq!(kept.round().await, Ok("not_modified"));
    kept.server.answer(list(&in_use));
    assert_eq!(kept.round().await, Ok("unchanged"));
    kept.server.answer(list(authority.list(8, 1, &[1, 2])));
    assert_eq!(kept.round().await, Ok("ok"));
    assert!(kept.in_use().starts_with("2 entries of CN=CA, number 8"), "{}", kept.in_use());
}

#[tokio::test]
async fn no_list_comes_from_a_private_address_behind_a_redirect() {
    let authority = Authority::new("CA");
    let kept = kept(authority.list(7, 24, &[1]), Authority::terms(&[&authority]), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    kept.refuses_redirects_to_private_addresses().await;
}

/// A publisher that shows an old list again, and one that is over: neither takes the place of a newer one. A list with fewer entries does, if it
/// is newer, since certificates that have ended leave it.
#[tokio::test]
async fn a_stale_list_changes_nothing_and_a_shorter_one_is_taken() {
    let authority = Authority::new("CA");
    let kept = kept(authority.list(7, 24, &[1, 2]), Authority::terms(&[&authority]), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    kept.refuses(list(authority.list(7, 30, &[1, 2])), "older", "older than the one in use").await;
    kept.refuses(list(authority.expired(8)), "older", "older than the one in use").await;
    kept.server.answer(list(authority.list(8, 1, &[2])));
    assert_eq!(kept.round().await, Ok("ok"));
    assert!(kept.in_use().starts_with("1 entries of CN=CA, number 8"), "{}", kept.in_use());
}

/// As an intermediate does that no chain has shown yet.
#[tokio::test]
async fn a_list_of_an_unknown_issuer_gives_way_to_one_whose_issuer_is_known() {
    let (authority, impostor) = (Authority::new("CA"), Authority::new("CA"));
    let kept = kept(impostor.list(900, 0, &[]), Authority::terms(&[]), None).await;
    assert_eq!(kept.round().await, Ok("ok"), "nobody of its name is known");
    kept.refuses(list(impostor.list(800, 0, &[])), "older", "number 800").await;
    // A chain shows the issuer. The task is woken, and trusts the list in use no longer: neither its version nor its age counts.
    kept.place.accept(Authority::terms(&[&authority]));
    tokio::time::timeout(Duration::from_secs(5), kept.place.wake.notified()).await.unwrap();
    kept.refuses(list(impostor.list(900, 0, &[])), "wrong_signer", "not by its issuer").await;
    assert!(!kept.server.heads().last().unwrap().contains("if-none-match"));
    kept.server.answer(list(authority.list(7, 24, &[])));
    assert_eq!(kept.round().await, Ok("ok"));
    assert!(kept.in_use().contains("number 7"), "{}", kept.in_use());
}

#[tokio::test]
async fn a_new_key_of_an_issuer_is_taken_when_a_chain_has_shown_it() {
    let (old, new) = (Authority::new("CA"), Authority::new("CA"));
    let kept = kept(old.list(7, 24, &[]), Authority::terms(&[&old]), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    kept.refuses(list(new.list(1, 1, &[])), "wrong_signer", "not by its issuer").await;
    kept.place.accept(Authority::terms(&[&old, &new]));
    // Its numbers may begin anew, if the lists name their keys, as these do.
    assert_eq!(kept.round().await, Ok("ok"));
    assert!(kept.in_use().contains("number 1,"), "{}", kept.in_use());
    // Terms that say nothing new wake nobody.
    kept.place.accept(Authority::terms(&[&old, &new]));
    kept.place.accept(Authority::terms(&[&new, &Authority::new("other")]));
    let woken = tokio::time::timeout(Duration::from_millis(50), kept.place.wake.notified());
    assert!(woken.await.is_ok(), "by the key that was shown");
    let woken = tokio::time::timeout(Duration::from_millis(50), kept.place.wake.notified());
    assert!(woken.await.is_err(), "and by nothing else");
}

#[tokio::test]
async fn a_kept_list_is_used_and_its_replay_is_refused_after_a_restart() {
    let (_at, state) = state();
    let (authority, impostor) = (Authority::new("CA"), Authority::new("CA"));
    let first = kept(authority.list(7, 24, &[1]), Authority::terms(&[&authority]), Some(&state)).await;
    assert_eq!(first.round().await, Ok("ok"));
    let (name, bytes) = file(&state, "crl-");
    let head = String::from_utf8_lossy(&bytes[..bytes.iter().position(|byte| *byte == b'\n').unwrap()]).into_owned();
    assert!(head.contains("/keys\"") && !head.contains("v=3"), "without the query: {head}");

    // Another process, which knows no issuer: the kept key vouches.
    let again = Kept { place: place(first.place.source.clone(), Authority::terms(&[]), Some(&state)), ..first };
    let in_use = again.place.current.load_full().unwrap();
    assert!(matches!(&in_use.content, Content::List(list) if list.signer().is_some()));
    again.refuses(list(authority.list(6, 30, &[])), "older", "number 6").await;
    again.refuses(list(impostor.list(8, 1, &[])), "wrong_signer", "not by its issuer").await;
    again.server.answer(list(authority.list(8, 1, &[1, 2])));
    assert_eq!(again.round().await, Ok("ok"));

    for damaged in damages(&bytes) {
        state.write(&name, &damaged).unwrap();
        assert!(again.restarted(&state).is_none(), "{}", damaged.escape_ascii());
    }
    // A list by somebody else in the place of the kept one.
    let foreign =
        Kept::start(Server::start_plain(list(impostor.list(9, 1, &[]))).await, source, Authority::terms(&[]), None);
    assert_eq!(foreign.await.round().await, Ok("ok"));
    let document = impostor.list(9, 1, &[]);
    state.write(&name, &copy::sealed(&head, &document).unwrap()).unwrap();
    assert!(again.restarted(&state).is_none(), "the key beside it did not sign it");
}

#[tokio::test]
async fn a_list_is_fetched_again_before_it_expires() {
    let authority = Authority::new("CA");
    let expiring = |left: Span| {
        let now = OffsetDateTime::now_utc();
        authority.signed(CertificateRevocationListParams { next_update: now + left, ..params(7, 24, &[]) })
    };
    let fresh = "cache-control: max-age=86400\r\n";
    for (left, expected) in
        [(Span::days(30), 86_400), (Span::hours(8), 14_400), (Span::minutes(10), 300), (Span::hours(-5), 60)]
    {
        let terms = Authority::terms(&[&authority]);
        let server = Server::start_plain(http("200 OK", fresh, expiring(left))).await;
        let kept = Kept::start(server, source, terms, None).await;
        let next = kept.renewed().await.unwrap().next.as_secs();
        assert!((expected - 2..=expected).contains(&next), "{left}: {next}");
    }
}

/// A chain shows the key after the list was kept. Without it, the next process would take a list of anybody.
#[tokio::test]
async fn a_key_that_is_found_later_is_kept_and_vouches_after_a_restart() {
    let (_at, state) = state();
    let (authority, stranger) = (Authority::new("CA"), Authority::new("other"));
    let first = kept(authority.list(7, 24, &[1]), Authority::terms(&[]), Some(&state)).await;
    assert_eq!(first.round().await, Ok("ok"));
    let signer = |kept: &Kept| match &kept.restarted(&state).unwrap().content {
        Content::List(list) => list.signer().map(<[u8]>::to_vec),
        _ => None,
    };
    task::keep_signer(&first.place).await;
    assert_eq!(signer(&first), None, "no key is known");
    let in_use = first.place.current.load_full().unwrap();
    assert!(Authority::terms(&[&authority]).hold(&in_use.content));
    let noted = first.place.noted.load(Ordering::Relaxed);
    task::keep_signer(&first.place).await;
    assert!(signer(&first).is_some(), "it is kept");
    assert_eq!(first.place.noted.load(Ordering::Relaxed), noted, "and the age of the copy is as before");
    let again = Kept { place: place(first.place.source.clone(), Authority::terms(&[]), Some(&state)), ..first };
    again.refuses(list(stranger.list(8, 1, &[])), "wrong_signer", "nothing vouches for that").await;
}
