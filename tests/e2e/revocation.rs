//! Revocation lists: what they revoke, what they do not cover, and when they are expired.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::pki::{ClientIdentity, DAY, RevocationListOptions, Sender, SenderPki, Serial, Variant};

use crate::alert::{CERTIFICATE_REVOKED, CERTIFICATE_UNKNOWN};
use crate::environment::{Environment, SOON};
use crate::refusal::{Expected, MODES, check};
use crate::test_gateway::TestGateway;

const REVOKED: Expected =
    Expected { reason: "certificate_revoked", status: 403, alert: CERTIFICATE_REVOKED, at_fault: Some(0) };

const UNKNOWN: Expected =
    Expected { reason: "revocation_unknown", status: 403, alert: CERTIFICATE_UNKNOWN, at_fault: Some(0) };

/// The fault of the operator, not of the sender. The status makes senders retry.
const OUT_OF_DATE: Expected =
    Expected { reason: "revocation_list_expired", status: 503, alert: CERTIFICATE_UNKNOWN, at_fault: None };

/// Makes the lists that a gateway starts with.
type Lists = fn(&Environment, &ClientIdentity) -> Result<Vec<PathBuf>>;

fn pagerduty(environment: &Environment) -> &SenderPki {
    environment.pki.sender(Sender::PagerDuty)
}

/// The configuration with these lists for PagerDuty. `crl_scope` says which certificates are looked up.
fn configuration(environment: &Environment, on_failure: &str, lists: &[PathBuf], crl_scope: &str) -> String {
    let mut configuration = environment.configuration();
    configuration.on_failure = on_failure;
    configuration.revocation_lists = vec![(Sender::PagerDuty, lists.to_vec())];
    configuration.toml().replace("crls = ", &format!("crl_scope = \"{crl_scope}\"\ncrls = "))
}

fn start(on_failure: &str, lists: Lists, crl_scope: &str) -> (TestGateway, ClientIdentity) {
    let environment = Environment::new().unwrap();
    let identity = environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let lists = lists(&environment, &identity).unwrap();
    let gateway = TestGateway::in_environment(environment, |environment| {
        configuration(environment, on_failure, &lists, crl_scope)
    })
    .unwrap();
    (gateway, identity)
}

fn status(gateway: &TestGateway, identity: &ClientIdentity) -> Option<u16> {
    gateway.curl().identity(identity).post(PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap().status()
}

fn check_refused(lists: Lists, expected: &Expected) {
    for on_failure in MODES {
        let (gateway, identity) = start(on_failure, lists, "chain");
        check(&gateway, on_failure, Some(&identity), expected);
        gateway.still_serves().unwrap();
    }
}

fn check_admitted(lists: Lists, crl_scope: &str) {
    for on_failure in MODES {
        let (gateway, identity) = start(on_failure, lists, crl_scope);
        assert_eq!(status(&gateway, &identity), Some(200), "{on_failure}: {}", gateway.daemon.log());
    }
}

/// Current lists of intermediate and root. That of the root revokes `by_root`.
fn lists_with(environment: &Environment, by_root: Vec<Serial>) -> Result<Vec<PathBuf>> {
    let sender = pagerduty(environment);
    let [of_intermediate, _] = sender.revocation_lists(&RevocationListOptions::default())?;
    let options = RevocationListOptions { revoked: by_root, ..RevocationListOptions::default() };
    Ok(vec![of_intermediate, environment.write("root.crl", sender.root.revocation_list(&options)?)?])
}

#[test]
fn a_certificate_that_is_on_no_list_is_admitted() {
    check_admitted(|environment, _| lists_with(environment, Vec::new()), "chain");
}

#[test]
fn a_revoked_certificate_is_refused() {
    check_refused(|environment, identity| Ok(pagerduty(environment).revoke(&[identity])?.to_vec()), &REVOKED);
}

#[test]
fn a_certificate_below_a_revoked_intermediate_is_refused() {
    let lists: Lists = |environment, _| lists_with(environment, vec![pagerduty(environment).intermediate.serial()]);
    check_refused(lists, &Expected { at_fault: Some(1), ..REVOKED });
}

#[test]
fn a_certificate_that_no_list_covers_is_refused() {
    check_refused(|environment, _| Ok(lists_with(environment, Vec::new())?.split_off(1)), &UNKNOWN);
}

#[test]
fn a_certificate_below_an_intermediate_that_no_list_covers_is_refused() {
    let lists: Lists = |environment, _| Ok(lists_with(environment, Vec::new())?.drain(..1).collect());
    check_refused(lists, &Expected { at_fault: Some(1), ..UNKNOWN });
}

#[test]
fn an_expired_list_is_the_fault_of_the_operator() {
    let lists: Lists =
        |environment, _| Ok(pagerduty(environment).revocation_lists(&RevocationListOptions::expired())?.to_vec());
    check_refused(lists, &OUT_OF_DATE);
}

#[test]
fn the_scope_end_entity_needs_no_list_of_the_root() {
    check_admitted(|environment, _| Ok(lists_with(environment, Vec::new())?.drain(..1).collect()), "end-entity");
}

#[test]
fn the_scope_end_entity_does_not_look_up_the_intermediate() {
    check_admitted(
        |environment, _| lists_with(environment, vec![pagerduty(environment).intermediate.serial()]),
        "end-entity",
    );
}

#[test]
fn the_scope_end_entity_still_refuses_a_revoked_certificate() {
    for on_failure in MODES {
        let lists: Lists = |environment, identity| Ok(pagerduty(environment).revoke(&[identity])?.to_vec());
        let (gateway, identity) = start(on_failure, lists, "end-entity");
        check(&gateway, on_failure, Some(&identity), &REVOKED);
    }
}

/// Lists over time, in the same files: expired, renewed, with an entry, without it.
#[test]
fn a_reload_reads_the_current_lists() {
    for on_failure in MODES {
        let expired: Lists =
            |environment, _| Ok(pagerduty(environment).revocation_lists(&RevocationListOptions::expired())?.to_vec());
        let (gateway, identity) = start(on_failure, expired, "chain");
        check(&gateway, on_failure, Some(&identity), &OUT_OF_DATE);
        let renew = |lists: [PathBuf; 2]| {
            gateway.reload(&configuration(&gateway.environment, on_failure, &lists, "chain")).unwrap();
        };
        renew(pagerduty(&gateway.environment).revoke(&[]).unwrap());
        assert_eq!(status(&gateway, &identity), Some(200), "{}", gateway.daemon.log());
        let lists = pagerduty(&gateway.environment).revoke(&[&identity]).unwrap();
        assert_eq!(status(&gateway, &identity), Some(200), "before the reload");
        renew(lists);
        check(&gateway, on_failure, Some(&identity), &REVOKED);
        renew(pagerduty(&gateway.environment).revoke(&[]).unwrap());
        assert_eq!(status(&gateway, &identity), Some(200), "{}", gateway.daemon.log());
    }
}

/// nextUpdate passes while the chain is cached and a connection is open, without a reload.
#[test]
fn a_list_that_expires_affects_cached_chains_and_open_connections() {
    const LIFE: Duration = Duration::from_secs(3);
    let environment = Environment::new().unwrap();
    let identity = environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let next_update = SystemTime::now() + LIFE;
    let options =
        RevocationListOptions { this_update: next_update - DAY, next_update, ..RevocationListOptions::default() };
    let lists = pagerduty(&environment).revocation_lists(&options).unwrap();
    let gateway =
        TestGateway::in_environment(environment, |environment| configuration(environment, "respond", &lists, "chain"))
            .unwrap();
    let mut connection = gateway.openssl().identity(&identity).keep_open().unwrap();
    connection.post(HOST, PAGERDUTY.path, b"{}").unwrap();
    assert_eq!(connection.responses(1, SOON).unwrap()[0].status, 200, "{}", gateway.daemon.log());
    assert_eq!(status(&gateway, &identity), Some(200));
    // The workers' clock is coarse.
    thread::sleep(next_update.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_millis(500));
    check(&gateway, "respond", Some(&identity), &OUT_OF_DATE);
    connection.post(HOST, PAGERDUTY.path, b"{}").unwrap();
    let last = connection.responses(2, SOON).unwrap().remove(1);
    assert_eq!((last.status, last.reason().as_deref()), (503, Some("revocation_list_expired")));
}
