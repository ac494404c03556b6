//! Simulates days and years of rotation.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use hookgate_core::identity::{
    ChainCache, ChainLimits, Condition, ConfiguredAnchor, ExtendedKeyUsage, IdentityRule, OnFailure, PeerChain,
    ProviderId, RefusalAnswer, RevocationLists, Scope,
};

/// 2026-11-18T13:46:40Z
const NOW: u64 = 1_795_009_600;
const HOUR: u64 = 3600;

fn server(until: u64) -> Deadline {
    let subject =
        Subject::Server { name: "hooks.example.com".to_owned(), file: "fullchain.pem".to_owned(), position: 1 };
    Deadline { subject, until, notice: NOTICE }
}

/// The hours, counted from the end, at which a line about `deadline` is due if it is asked every hour of these days.
fn hours(deadline: &Deadline, days: std::ops::Range<i64>) -> Vec<i64> {
    let mut reminder = Reminder::default();
    let at = |hour: i64| deadline.until.checked_add_signed(hour * 3600).unwrap();
    let hours = days.start * 24..days.end * 24;
    hours.filter(|hour| !reminder.due(std::iter::once(deadline), at(*hour)).is_empty()).collect()
}

#[test]
fn an_end_is_announced_thirty_days_ahead_and_then_every_day() {
    let expected: Vec<i64> = (-30..5).map(|day| day * 24).collect();
    assert_eq!(hours(&server(NOW), -400..5), expected);
    // A deadline that is found later is due at once, then each day, and at each threshold.
    let mut reminder = Reminder::default();
    let deadline = server(NOW);
    let due =
        |reminder: &mut Reminder, hour: u64| !reminder.due(std::iter::once(&deadline), NOW - hour * HOUR).is_empty();
    let announced: Vec<u64> = (0..=80).rev().filter(|hour| due(&mut reminder, *hour)).collect();
    assert_eq!(announced, [80, 72, 48, 24, 0]);
}

#[test]
fn what_is_renewed_or_removed_is_no_longer_announced() {
    let mut reminder = Reminder::default();
    let count = |reminder: &mut Reminder, deadlines: &[Deadline], now| reminder.due(deadlines.iter(), now).len();
    let (old, renewed) = (server(NOW + DAY), server(NOW + 90 * DAY));
    assert_eq!(count(&mut reminder, std::slice::from_ref(&old), NOW), 1);
    assert_eq!(count(&mut reminder, std::slice::from_ref(&old), NOW + HOUR), 0);
    assert_eq!(count(&mut reminder, &[renewed], NOW + HOUR), 0);
    assert_eq!(count(&mut reminder, &[server(NOW + 2 * DAY)], NOW + HOUR), 1, "a new end is due at once");
    reminder.forget(|subject| !subject.is_seen());
    assert_eq!(count(&mut reminder, &[server(NOW + 2 * DAY)], NOW + HOUR), 1, "due again after a reload");
    assert_eq!(count(&mut reminder, &[], NOW + HOUR), 0);
    assert!(format!("{reminder:?}").len() < 40, "what is gone is forgotten: {reminder:?}");
}

#[test]
fn a_revocation_list_is_announced_when_half_of_its_lifetime_is_over() {
    let root = Authority::new("root");
    let check = |days: u64, expected: &[i64]| {
        let params = rcgen::CertificateRevocationListParams {
            this_update: time(NOW - days * DAY).into(),
            next_update: time(NOW).into(),
            crl_number: rcgen::SerialNumber::from(7),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = hookgate_core::identity::RevocationList::from_der(params.signed_by(&root.0).unwrap().der()).unwrap();
        let revocation = Some(RevocationLists::new(vec![list], Default::default()));
        let profile = Profile { revocation, ..root.profile("a", None) };
        let dates = of_profile(&"x".into(), &profile, &ListFiles::default());
        let lists: Vec<_> =
            dates.iter().filter(|date| matches!(date.subject, Subject::RevocationList { .. })).collect();
        assert_eq!(hours(lists[0], -40..2), expected, "{days} days");
    };
    check(1, &[-12, 0, 24]);
    check(7, &[-84, -72, -48, -24, 0, 24]);
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A root, and what it issues.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

fn params(name: &str, until: u64) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.not_before = time(NOW - 400 * DAY).into();
    params.not_after = time(until).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = params(name, NOW + 4000 * DAY);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    /// A client certificate of [`CLIENT`].
    fn leaf(&self, until: u64) -> CertificateDer<'static> {
        let mut params = params(CLIENT, until);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&rcgen::KeyPair::generate().unwrap(), &self.0).unwrap().der().clone()
    }

    fn profile(&self, name: &str, overlap_ends: Option<u64>) -> Profile {
        Profile {
            name: name.into(),
            trust_anchors: [ConfiguredAnchor::of(self.0.der(), NOW + 4000 * DAY).unwrap()].into_iter().collect(),
            overlap_ends: overlap_ends.map(at),
            verify_depth: 1,
            identity: vec![IdentityRule::new(vec![Condition::subject_cn(CLIENT).unwrap()]).unwrap()],
            extended_key_usage: ExtendedKeyUsage::ClientAuth,
            revocation: None,
        }
    }
}

const CLIENT: &str = "*.dialogflow.com";

/// The policy of one provider with these profiles, after `rotation` saw another.
fn adopt(rotation: &mut Rotation, generation: u64, profiles: Vec<Profile>) -> Identity {
    let provider = Provider {
        name: "dialogflow-cx".into(),
        profiles,
        on_failure: OnFailure::Respond,
        refusal: RefusalAnswer::Deny,
        client_certificate: Default::default(),
    };
    let limits = ChainLimits { max_certificates: 8, max_bytes: 32 * 1024 };
    let cache = Arc::new(ChainCache::new(8, Duration::from_secs(3600)));
    let identity = Identity::new(generation, Arc::new([provider]), cache, limits).after(rotation.sightings());
    rotation.adopt(Vec::new(), ListFiles::default(), &identity);
    identity
}

/// The sender presents this certificate at `now`.
fn send(identity: &Identity, leaf: &CertificateDer<'static>, now: u64) {
    let scope = Scope { id: 0, providers: vec![ProviderId(0)] };
    let chain = identity.verify(&scope, PeerChain::unsafe_assumed(std::slice::from_ref(leaf)), at(now)).result.unwrap();
    identity.note_admitted(&chain, at(now));
}

fn logged(rotation: &mut Rotation, now: u64) -> Vec<String> {
    rotation.due(now).iter().map(|notice| format!("{}{notice}", if notice.is_urgent() { "!" } else { "" })).collect()
}

#[test]
fn a_profile_that_ends_is_announced_while_it_is_used() {
    // The first second of 2 December 2026.
    let end = 1_796_169_600;
    let (gts, ssl) = (Authority::new("GTS Root R1"), Authority::new("SSL.com Root"));
    let (old, new) = (gts.leaf(NOW + 300 * DAY), ssl.leaf(NOW + 300 * DAY));
    let profiles = || vec![gts.profile("google-trust-services", Some(end)), ssl.profile("ssl-com", None)];
    let mut rotation = Rotation::default();
    let identity = adopt(&mut rotation, 1, profiles());
    send(&identity, &new, NOW);
    assert_eq!(logged(&mut rotation, NOW), [""; 0], "the newer chain is no news");
    send(&identity, &old, NOW);
    let lines = logged(&mut rotation, NOW);
    let words = [
        "dialogflow-cx still sends the chain of profile google-trust-services (anchor GTS Root R1 (",
        ", whose use ends on 2026-12-01, in 13 days: its successor is ssl-com",
    ];
    assert!(lines.len() == 1 && words.iter().all(|words| lines[0].contains(words)), "{lines:?}");
    // A reload does not repeat it.
    let identity = adopt(&mut rotation, 2, profiles());
    let days = (1..=16 * 24).filter(|hour| {
        send(&identity, &old, NOW + hour * HOUR);
        let lines = logged(&mut rotation, NOW + hour * HOUR);
        let urgent = NOW + hour * HOUR >= end;
        assert!(lines.iter().all(|line| line.starts_with('!') == urgent), "{lines:?}");
        assert!(!urgent || lines.iter().all(|line| line.contains("use ended on 2026-12-01")), "{lines:?}");
        !lines.is_empty()
    });
    let days = days.count();
    assert!((16..=22).contains(&days), "each day, and at each threshold: {days}");
    let last = NOW + 16 * DAY;
    assert!((1..48).all(|hour| logged(&mut rotation, last + DAY + hour * HOUR).is_empty()), "no longer in use");
    let counts: Vec<_> = identity.sightings().chains().map(|chain| (&*chain.profile, chain.admitted())).collect();
    assert_eq!(counts, [("google-trust-services", 1 + 16 * 24), ("ssl-com", 1)]);
}

#[test]
fn a_profile_without_a_successor_says_so() {
    let root = Authority::new("Only Root");
    let mut rotation = Rotation::default();
    let identity = adopt(&mut rotation, 1, vec![root.profile("only", Some(NOW + 3 * DAY))]);
    send(&identity, &root.leaf(NOW + 300 * DAY), NOW);
    let lines = logged(&mut rotation, NOW);
    assert!(lines[0].ends_with("ask the sender for the successor, and add a profile for it"), "{lines:?}");
}

#[test]
fn a_client_certificate_without_a_newer_one_is_announced() {
    let root = Authority::new("Root");
    let mut rotation = Rotation::default();
    let identity = adopt(&mut rotation, 1, vec![root.profile("default", None)]);
    let (old, new) = (root.leaf(NOW + 20 * DAY), root.leaf(NOW + 200 * DAY));
    send(&identity, &old, NOW);
    let lines_of_day = |rotation: &mut Rotation, day: u64| logged(rotation, NOW + day * DAY);
    assert_eq!(lines_of_day(&mut rotation, 5), [""; 0]);
    let lines = lines_of_day(&mut rotation, 6);
    assert!(
        lines[0].contains("from dialogflow-cx ends on 2026-12-08, in 14 days, and no newer one was seen"),
        "{lines:?}"
    );
    assert_eq!(lines_of_day(&mut rotation, 7).len(), 1);
    // Another of its senders has a newer one, and the old one goes on.
    send(&identity, &new, NOW + 8 * DAY);
    send(&identity, &old, NOW + 8 * DAY);
    assert_eq!(lines_of_day(&mut rotation, 8), [""; 0]);
    let certificate = identity.sightings().certificates().next().unwrap();
    assert_eq!((certificate.last_not_after(), certificate.latest_not_after()), (NOW + 20 * DAY, NOW + 200 * DAY));
    let count = (9..400).filter(|day| !lines_of_day(&mut rotation, *day).is_empty()).count();
    assert_eq!(count, 15, "from 14 days before to the end; after that, no sender uses it");
}

#[test]
fn each_end_says_what_it_is_and_what_to_do() {
    let provider: Arc<str> = "pagerduty".into();
    let list = |file: Option<&str>| Subject::RevocationList {
        provider: Arc::clone(&provider),
        issuer: "CN=Issuing CA".to_owned(),
        file: file.map(str::to_owned),
    };
    let (fetched, list) = (list(None), list(Some("/etc/hookgate/ca.crl")));
    let anchor = Subject::TrustAnchor { provider: Arc::clone(&provider), anchor: "Root (00112233)".to_owned() };
    let check = |subject: &Subject, left: i64, words: &[&str]| {
        let notice = Notice { subject: subject.clone(), until: NOW.checked_add_signed(left).unwrap(), now: NOW };
        let text = notice.to_string();
        assert!(words.iter().all(|words| text.contains(words)) && !text.contains('\n'), "{words:?}: {text}");
        assert_eq!(notice.is_urgent(), left <= 0);
    };
    let hours = 3600;
    check(
        &server(0).subject,
        5 * 24 * hours + 60,
        &["certificate of hooks.example.com (fullchain.pem) ends on 2026-11-23, in 5 days: renew it"],
    );
    check(&server(0).subject, 47 * hours, &["in 1 day:"]);
    check(&server(0).subject, 23 * hours, &["in 23 hours:"]);
    check(&server(0).subject, 0, &["ended on 2026-11-18: senders refuse it"]);
    check(&fetched, 3 * 24 * hours, &["revocation list of CN=Issuing CA for pagerduty ends", "fetch the current one"]);
    check(
        &list,
        -hours,
        &["for pagerduty (/etc/hookgate/ca.crl) ended on 2026-11-18: certificates of that issuer are refused"],
    );
    check(&anchor, 29 * 24 * hours, &["trust anchor Root (00112233) of pagerduty ends on 2026-12-17", "trust_anchors"]);
    check(&anchor, -hours, &["trusted as long as it is configured"]);
}
