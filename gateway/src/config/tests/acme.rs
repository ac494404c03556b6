//! `acme` of a certificate: what it says of a good one, and what is wrong with a bad one; and what an authority may issue.

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

use super::bad::check;
use super::*;
use crate::config::{AcmeOrder, IssuedProblem, chain_of_pem};

const STATE: &str = "[state]\ndirectory = \"state\"\n";

fn certificate(keys: &str) -> String {
    format!(
        "[[certificate]]\nacme = {{ domains = [\"Hooks.Example.com\"], directory = \"letsencrypt\", terms_of_service_agreed = true{keys} }}\n"
    )
}

fn order(fixture: &Fixture, certificate: &str) -> (AcmeOrder, Vec<Warning>) {
    let (config, warnings) = fixture.parse(&[LISTEN, certificate, PROVIDER, ROUTE, STATE].concat()).unwrap();
    let acme = config.certificates[0].of_acme().unwrap();
    assert!(acme.issued.is_none());
    (AcmeOrder::clone(&acme.order), warnings)
}

#[test]
fn a_directory_with_a_name_is_that_of_its_authority() {
    let fixture = Fixture::new();
    let (letsencrypt, warnings) = order(&fixture, &certificate(""));
    let said = warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(!said.contains("acme") && !said.contains("certificate[0]"), "{said}");
    assert_eq!(letsencrypt.domains, ["hooks.example.com"]);
    assert_eq!(letsencrypt.directory.url.to_string(), "https://acme-v02.api.letsencrypt.org/directory");
    assert!(letsencrypt.is_public && !letsencrypt.directory.limits.allow_private);
    let staging = certificate("").replace("letsencrypt", "letsencrypt-staging");
    assert!(!order(&fixture, &staging).0.is_public, "its certificates are for trials");
    let by_url = certificate("").replace("\"letsencrypt\"", "\"https://acme-v02.api.letsencrypt.org/directory\"");
    assert!(order(&fixture, &by_url).0.is_public, "the name does not matter");
}

#[test]
fn every_key_reaches_its_field() {
    let fixture = Fixture::new();
    fixture.write("eab.key", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n");
    let keys = ", contact = [\"mailto:ops@example.com\"], profile = \"shortlived\", ca_file = \"ca.pem\", allow_private = true, \
                eab = { key_id = \"kid-1\", hmac_key_file = \"eab.key\" }";
    let (order, _) = order(&fixture, &certificate(keys));
    assert_eq!(
        (order.contact, order.profile),
        (vec!["mailto:ops@example.com".to_owned()], Some("shortlived".to_owned()))
    );
    assert_eq!(order.directory.roots.map(|roots| roots.len()), Some(1));
    assert!(order.directory.limits.allow_private);
    let external = order.external_account.unwrap();
    assert_eq!((external.key_id.as_str(), external.key.bytes().len()), ("kid-1", 48));
    assert!(format!("{external:?}").contains("REDACTED"));
}

#[test]
fn what_is_wrong_is_said_with_what_to_write() {
    let acme = |inner: &str| format!("[[certificate]]\nacme = {{ {inner} }}\n");
    let whole = |domains: &str, more: &str| {
        acme(&format!("domains = [{domains}], directory = \"letsencrypt\", terms_of_service_agreed = true{more}"))
    };
    let good = "\"hooks.example.com\"";
    let check = |section: &str, key: &str, words: &str| {
        let fixture = Fixture::new();
        let errors = fixture.errors(&[LISTEN, section, PROVIDER, ROUTE, STATE].concat());
        assert_eq!(errors.len(), 1, "{section}\n{errors:#?}");
        assert!(errors[0].contains(&format!(": {key}: ")) && errors[0].contains(words), "{section}\n{errors:#?}");
    };
    for (domains, words) in [
        ("", "empty; write domains ="),
        ("\"*.example.com\"", "is a wildcard"),
        ("\"192.0.2.1\"", "is an address; write a name"),
        ("\"2001:db8::1\"", "is an address; write a name"),
        ("\"hooks.example.com.\"", "without a final dot"),
        ("\"bücher.example\"", "as xn--…"),
        ("\"a b\"", "is no DNS name"),
        ("\"a.example\", \"A.example\"", "the domain \"a.example\""),
    ] {
        let key = match domains {
            "" => "certificate[0].acme.domains",
            two if two.contains(", ") => "certificate[0].acme.domains[1]",
            _ => "certificate[0].acme.domains[0]",
        };
        check(&whole(domains, ""), key, words);
    }
    for (more, key, words) in [
        (", contact = [\"ops@example.com\"]", "contact[0]", "as \"mailto:you@example.com\""),
        (", contact = [\"mailto:a@b,c@d\"]", "contact[0]", "write one address"),
        (", profile = \"a b\"", "profile", "no name of a profile"),
        (", eab = { key_id = \"a\" }", "eab.hmac_key_file", "missing; write hmac_key_file ="),
        (", eab = { key_id = \"\", hmac_key_file = \"webhook.secret\" }", "eab.key_id", "empty or too long"),
        (", eab = { key_id = \"a\", hmac_key_file = \"ca.pem\" }", "eab.hmac_key_file", "in base64url"),
        (", ca_file = \"absent.pem\"", "ca_file", "cannot be read"),
        (", challenge = \"dns-01\"", "challenge", "unknown key"),
    ] {
        check(&whole(good, more), &format!("certificate[0].acme.{key}"), words);
    }
    let with = |directory: &str| whole(good, "").replace("\"letsencrypt\"", directory);
    let directory = "certificate[0].acme.directory";
    check(&with("\"lets-encrypt\""), directory, "no directory that has a name here");
    check(&with("\"http://acme.example/\""), directory, "is not an https URL");
    check(&whole(good, "").replace("directory = \"letsencrypt\", ", ""), directory, "missing; write directory =");
    let agreed = "certificate[0].acme.terms_of_service_agreed";
    check(&whole(good, "").replace("agreed = true", "agreed = false"), agreed, "no authority gives an account");
    check(&whole(good, "").replace(", terms_of_service_agreed = true", ""), agreed, "missing; write terms");
    let files = format!("{}chain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n", whole(good, ""));
    check(&files, "certificate[0].acme", "remove chain and key, or acme");
}

#[test]
fn it_needs_a_state_directory_that_the_file_names() {
    check(&certificate(""), 2, "certificate[0].acme", "write [state] with directory =");
}

#[test]
fn a_filter_that_enforces_its_ranges_keeps_the_authority_out() {
    let fixture = Fixture::new();
    let filter = "[filter]\nmode = \"enforce\"\ninterfaces = [\"eth0\"]\nallow = [\"192.0.2.0/24\"]\n";
    let listen = LISTEN.replace("127.0.0.1:0", "127.0.0.1:443");
    let provider = format!("{PROVIDER}source_ranges = [\"192.0.2.0/24\"]\n");
    let text = [&listen, &certificate(""), &provider, ROUTE, STATE, filter].concat();
    let (_, warnings) = fixture.parse(&text).unwrap();
    let said = warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said.contains("so that no certificate is issued"), "{said}");
}

/// From 2026-01-01 to 2027-01-01, as the certificates of [`Fixture`].
fn in_2026() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000))
}

#[test]
fn what_an_authority_issued_is_judged_before_it_is_used() {
    let fixture = Fixture::new();
    let (mut order, _) = order(&fixture, &certificate("").replace("letsencrypt", "letsencrypt-staging"));
    let read = |name: &str| fs::read_to_string(fixture.path(name)).unwrap();
    let key = |name: &str| {
        let pem = read(name);
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der))
    };
    let judge = |order: &AcmeOrder, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, now| {
        let certificate = order.certificate(chain, key, Path::new("kept"))?;
        order.judge(&certificate, now)
    };
    let chain = |name: &str| chain_of_pem(&read(name)).unwrap();
    let (good, private) = (|| chain("fullchain.pem"), || key("privkey.pem"));
    assert_eq!(judge(&order, good(), private(), in_2026()), Ok(()));
    let mut shown = Vec::new();
    let mut refused = |outcome: Result<(), IssuedProblem>| shown.push(outcome.unwrap_err().to_string());
    refused(judge(&order, good(), key("other.key"), in_2026()));
    refused(judge(&order, chain("unordered.pem"), private(), in_2026()));
    refused(judge(&order, good()[..1].to_vec(), private(), in_2026()));
    refused(judge(&order, good(), private(), UnixTime::since_unix_epoch(Duration::from_secs(1_600_000_000))));
    refused(judge(&order, good(), private(), UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000))));
    let issuer = || good().remove(1);
    let with_issuers =
        |count: usize| good().into_iter().take(1).chain(std::iter::repeat_with(issuer).take(count)).collect();
    refused(judge(&order, with_issuers(401), private(), in_2026()));
    refused(judge(&order, with_issuers(10), private(), in_2026()));
    refused(judge(&order, with_issuers(9), private(), in_2026()));
    order.is_public = true;
    refused(judge(&order, good(), private(), in_2026()));
    order.domains.push("more.example.com".to_owned());
    refused(judge(&order, good(), private(), in_2026()));
    order.domains = vec!["more.example.com".to_owned()];
    refused(judge(&order, good(), private(), in_2026()));
    refused(chain_of_pem("").map(drop));
    refused(chain_of_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").map(drop));
    for (said, words) in shown.iter().zip([
        "another key",
        "certificate 2 of the chain did not issue",
        "lacks the certificate of its issuer",
        "begins on 2026-01-01",
        "ended on 2027-01-01",
        "has 402 certificates and ",
        "has 11 certificates and ",
        "certificate 3 of the chain is there before",
        "no root of Mozilla's list",
        "lacks the names more.example.com",
        "none of the configured names",
        "cannot be read",
        "cannot be read",
    ]) {
        assert!(said.contains(words), "{said}, expected {words}");
    }
}
