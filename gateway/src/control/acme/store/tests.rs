//! What the store keeps, what it finds again, and who may read it.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::config::{Feed, FeedUrl, FetchLimits};

fn state() -> (TempDir, StateDirectory) {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let state = StateDirectory::open(directory.path()).unwrap();
    (directory, state)
}

fn order(directory: &str, domains: &[&str]) -> AcmeOrder {
    AcmeOrder {
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        directory: Feed { url: FeedUrl::parse(directory).unwrap(), limits: FetchLimits::default(), roots: None },
        is_public: false,
        contact: Vec::new(),
        profile: None,
        external_account: None,
    }
}

fn certificate(order: &AcmeOrder, until: i32) -> Kept {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(order.domains.clone()).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let chain = vec![CertificateDer::from(params.self_signed(&key).unwrap())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Kept::issued(order.certificate(chain, key, &PathBuf::from("kept")).unwrap(), OBTAINED)
}

const HERE: &str = "https://acme.example/directory";
const OBTAINED: u64 = 1_780_000_000;

#[test]
fn a_kept_certificate_comes_back_and_only_this_user_can_read_it() {
    let (directory, state) = state();
    let order = order(HERE, &["a.example.com", "b.example.com"]);
    let made = certificate(&order, 2040);
    CertificateRecord::new(&order, &made).write(&state, &order).unwrap();
    let kept = Certificates::read(&state).best(&state, &order).unwrap();
    assert_eq!((kept.fits, kept.obtained), (true, OBTAINED));
    let made = made.certificate;
    assert_eq!((&kept.certificate.chain, &kept.certificate.names), (&made.chain, &order.domains));
    assert_eq!(kept.certificate.key.secret_der(), made.key.secret_der());
    assert_eq!(kept.certificate.chain_path, certificate_path(&state, &order));
    let mode = fs::metadata(certificate_path(&state, &order)).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, directory.path().read_dir().unwrap().count()), (0o600, 1));
    let reordered = AcmeOrder { domains: vec!["b.example.com".into(), "a.example.com".into()], ..order };
    assert!(Certificates::read(&state).best(&state, &reordered).unwrap().fits);
}

#[test]
fn a_file_without_the_time_of_issue_is_used() {
    let (_directory, state) = state();
    let order = order(HERE, &["a.example.com"]);
    let mut record = serde_json::to_value(CertificateRecord::new(&order, &certificate(&order, 2040))).unwrap();
    assert_eq!(record.as_object_mut().unwrap().remove("obtained"), Some(OBTAINED.into()));
    state.write(&certificate_name(&order), record.to_string().as_bytes()).unwrap();
    let kept = Certificates::read(&state).best(&state, &order).unwrap();
    assert_eq!((kept.fits, kept.obtained), (true, 0));
}

#[test]
fn another_set_of_names_is_served_by_the_best_that_there_is_until_its_own_is_issued() {
    let (_directory, state) = state();
    let old = order(HERE, &["a.example.com", "b.example.com"]);
    let one = order("https://other.example/directory", &["a.example.com"]);
    for order in [&old, &one] {
        CertificateRecord::new(order, &certificate(order, 2040)).write(&state, order).unwrap();
    }
    let best = |order: &AcmeOrder| Certificates::read(&state).best(&state, order);
    let grown = best(&order(HERE, &["c.example.com", "b.example.com", "a.example.com"])).unwrap();
    assert_eq!(
        (grown.fits, grown.certificate.names.as_slice()),
        (false, &["b.example.com".into(), "a.example.com".into()][..])
    );
    let shrunk = best(&order(HERE, &["b.example.com"])).unwrap();
    assert!(shrunk.fits, "a name that is gone leaves with the next renewal");
    assert!(best(&one).unwrap().fits);
    assert!(best(&order(HERE, &["d.example.com"])).is_none());
    let profiled = AcmeOrder { profile: Some("shortlived".into()), ..old };
    assert!(!best(&profiled).unwrap().fits, "it is of another profile");
}

#[test]
fn a_damaged_file_is_as_good_as_none() {
    let (_directory, state) = state();
    let order = order(HERE, &["a.example.com"]);
    for content in [&b""[..], b"{}", b"\xff", br#"{"directory":"x","profile":null,"chain":["!"],"key":"!"}"#] {
        state.write(&certificate_name(&order), content).unwrap();
        state.write(&account_name(&order), content).unwrap();
        assert!(Certificates::read(&state).best(&state, &order).is_none());
        assert!(AccountRecord::read(&state, &order).is_none());
    }
    // The key of another certificate.
    let (mine, other) = (certificate(&order, 2040), certificate(&order, 2040));
    let mixed =
        CertificateRecord { key: CertificateRecord::new(&order, &other).key, ..CertificateRecord::new(&order, &mine) };
    mixed.write(&state, &order).unwrap();
    assert!(Certificates::read(&state).best(&state, &order).is_none());
}

#[test]
fn an_account_without_a_usable_url_is_as_good_as_none() {
    let (_directory, state) = state();
    let order = order(HERE, &["a.example.com"]);
    let key = data_encoding::BASE64URL_NOPAD.encode(&KeyPair::generate().unwrap().serialize_der());
    let is_read = |id: &str| {
        let credentials = serde_json::json!({ "id": id, "key_pkcs8": key, "directory": HERE });
        let record = AccountRecord::new(&order, serde_json::from_value(credentials).unwrap());
        record.write(&state, &order).unwrap();
        AccountRecord::read(&state, &order).is_some()
    };
    assert!(is_read("https://acme.example/account/1"));
    for id in ["", "ht tp://x", "//", "/rel", "file:///etc/passwd", "http://acme.example/account/1"] {
        assert!(!is_read(id), "{id}");
    }
}

#[test]
fn only_what_has_ended_and_is_in_no_use_is_removed() {
    let (_directory, state) = state();
    let (used, ended, other) =
        (order(HERE, &["a.example.com"]), order(HERE, &["b.example.com"]), order(HERE, &["c.example.com"]));
    for (order, until) in [(&used, 2020), (&ended, 2020), (&other, 2040)] {
        CertificateRecord::new(order, &certificate(order, until)).write(&state, order).unwrap();
    }
    let failed = FailureRecord { failures: 3, at: 1_700_000_000, next: 1_700_000_060 };
    for order in [&used, &other] {
        failed.write(&state, order).unwrap();
    }
    clean_up(&state, &[Arc::new(used.clone())], 1_700_000_000);
    assert_eq!(FailureRecord::read(&state, &used), Some(failed));
    assert_eq!(FailureRecord::read(&state, &other), None);
    FailureRecord::remove(&state, &used).unwrap();
    assert_eq!(state.list(FAILURES).unwrap(), [""; 0]);
    let left = state.list(CERTIFICATES).unwrap();
    assert!(left.contains(&certificate_name(&used)) && left.contains(&certificate_name(&other)));
    assert_eq!(left.len(), 2);
}
