//! Revocation lists: what is on them, what they do not cover, and when they are out of date.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::pki::{ClientIdentity, DAY, RevocationListOptions, Sender, SenderPki, Serial, Variant};

use crate::refusal::{Expected, MODES, check};
use crate::world::{SOON, Scene, World};

const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_UNKNOWN: u8 = 46;

const REVOKED: Expected =
    Expected { reason: "certificate_revoked", status: 403, alert: CERTIFICATE_REVOKED, at_fault: Some(0) };

const UNKNOWN: Expected =
    Expected { reason: "revocation_unknown", status: 403, alert: CERTIFICATE_UNKNOWN, at_fault: Some(0) };

/// The operator's doing, not the sender's: so a status after which senders try again.
const OUT_OF_DATE: Expected =
    Expected { reason: "revocation_list_expired", status: 503, alert: CERTIFICATE_UNKNOWN, at_fault: None };

/// The lists with which a world is to start.
type Lists = fn(&Scene, &ClientIdentity) -> Result<Vec<PathBuf>>;

fn pagerduty(scene: &Scene) -> &SenderPki {
    scene.pki.sender(Sender::PagerDuty)
}

/// PagerDuty's configuration with these lists, looked up for all of the chain or, as `crl_scope` says, for less.
fn configuration(scene: &Scene, on_failure: &str, lists: &[PathBuf], crl_scope: &str) -> String {
    let mut configuration = scene.configuration();
    configuration.on_failure = on_failure;
    configuration.revocation_lists = vec![(Sender::PagerDuty, lists.to_vec())];
    configuration.toml().replace("crls = ", &format!("crl_scope = \"{crl_scope}\"\ncrls = "))
}

fn start(on_failure: &str, lists: Lists, crl_scope: &str) -> (World, ClientIdentity) {
    let scene = Scene::set().unwrap();
    let identity = scene.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let lists = lists(&scene, &identity).unwrap();
    let world = World::written(scene, |scene| Ok(configuration(scene, on_failure, &lists, crl_scope))).unwrap();
    (world, identity)
}

fn status(world: &World, identity: &ClientIdentity) -> Option<u16> {
    world.curl().identity(identity).post(PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap().status()
}

fn check_refused(lists: Lists, expected: &Expected) {
    for on_failure in MODES {
        let (world, identity) = start(on_failure, lists, "chain");
        check(&world, on_failure, Some(&identity), expected);
        world.still_serves().unwrap();
    }
}

fn check_admitted(lists: Lists, crl_scope: &str) {
    for on_failure in MODES {
        let (world, identity) = start(on_failure, lists, crl_scope);
        assert_eq!(status(&world, &identity), Some(200), "{on_failure}: {}", world.gateway.log());
    }
}

/// Current lists of intermediate and root; the root's revokes `by_root`.
fn lists_with(scene: &Scene, by_root: Vec<Serial>) -> Result<Vec<PathBuf>> {
    let sender = pagerduty(scene);
    let [of_intermediate, _] = sender.revocation_lists(&RevocationListOptions::default())?;
    let options = RevocationListOptions { revoked: by_root, ..RevocationListOptions::default() };
    Ok(vec![of_intermediate, scene.write("root.crl", sender.root.revocation_list(&options)?)?])
}

#[test]
fn a_certificate_that_is_on_no_list_is_admitted() {
    check_admitted(|scene, _| lists_with(scene, Vec::new()), "chain");
}

#[test]
fn a_revoked_certificate_is_refused() {
    check_refused(|scene, identity| Ok(pagerduty(scene).revoke(&[identity])?.to_vec()), &REVOKED);
}

#[test]
fn a_certificate_below_a_revoked_intermediate_is_refused() {
    let lists: Lists = |scene, _| lists_with(scene, vec![pagerduty(scene).intermediate.serial()]);
    check_refused(lists, &Expected { at_fault: Some(1), ..REVOKED });
}

#[test]
fn a_certificate_that_no_list_covers_is_refused() {
    check_refused(|scene, _| Ok(lists_with(scene, Vec::new())?.split_off(1)), &UNKNOWN);
}

#[test]
fn a_certificate_below_an_intermediate_that_no_list_covers_is_refused() {
    let lists: Lists = |scene, _| Ok(lists_with(scene, Vec::new())?.drain(..1).collect());
    check_refused(lists, &Expected { at_fault: Some(1), ..UNKNOWN });
}

#[test]
fn a_list_that_is_out_of_date_is_the_operators_doing() {
    let lists: Lists = |scene, _| Ok(pagerduty(scene).revocation_lists(&RevocationListOptions::expired())?.to_vec());
    check_refused(lists, &OUT_OF_DATE);
}

#[test]
fn the_scope_end_entity_needs_no_list_of_the_root() {
    check_admitted(|scene, _| Ok(lists_with(scene, Vec::new())?.drain(..1).collect()), "end-entity");
}

#[test]
fn the_scope_end_entity_does_not_look_up_the_intermediate() {
    check_admitted(|scene, _| lists_with(scene, vec![pagerduty(scene).intermediate.serial()]), "end-entity");
}

#[test]
fn the_scope_end_entity_still_refuses_a_revoked_certificate() {
    for on_failure in MODES {
        let lists: Lists = |scene, identity| Ok(pagerduty(scene).revoke(&[identity])?.to_vec());
        let (world, identity) = start(on_failure, lists, "end-entity");
        check(&world, on_failure, Some(&identity), &REVOKED);
    }
}

/// The operator's life with lists: out of date, renewed, with an entry, without it. The files stay the same.
#[test]
fn a_reload_takes_the_lists_as_they_are_then() {
    for on_failure in MODES {
        let expired: Lists =
            |scene, _| Ok(pagerduty(scene).revocation_lists(&RevocationListOptions::expired())?.to_vec());
        let (world, identity) = start(on_failure, expired, "chain");
        check(&world, on_failure, Some(&identity), &OUT_OF_DATE);
        let renew = |lists: [PathBuf; 2]| {
            world.reload(&configuration(&world.scene, on_failure, &lists, "chain")).unwrap();
        };
        renew(pagerduty(&world.scene).revoke(&[]).unwrap());
        assert_eq!(status(&world, &identity), Some(200), "{}", world.gateway.log());
        let lists = pagerduty(&world.scene).revoke(&[&identity]).unwrap();
        assert_eq!(status(&world, &identity), Some(200), "before the reload");
        renew(lists);
        check(&world, on_failure, Some(&identity), &REVOKED);
        renew(pagerduty(&world.scene).revoke(&[]).unwrap());
        assert_eq!(status(&world, &identity), Some(200), "{}", world.gateway.log());
    }
}

/// nextUpdate comes while the chain is cached and a connection is open; nobody reloads.
#[test]
fn a_list_that_runs_out_is_noticed_for_cached_chains_and_open_connections() {
    const LIFE: Duration = Duration::from_secs(3);
    let scene = Scene::set().unwrap();
    let identity = scene.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let next_update = SystemTime::now() + LIFE;
    let options =
        RevocationListOptions { this_update: next_update - DAY, next_update, ..RevocationListOptions::default() };
    let lists = pagerduty(&scene).revocation_lists(&options).unwrap();
    let world = World::written(scene, |scene| Ok(configuration(scene, "respond", &lists, "chain"))).unwrap();
    let mut conversation = world.openssl().identity(&identity).converse().unwrap();
    conversation.post(HOST, PAGERDUTY.path, b"{}").unwrap();
    assert_eq!(conversation.responses(1, SOON).unwrap()[0].status, 200, "{}", world.gateway.log());
    assert_eq!(status(&world, &identity), Some(200));
    // The workers' clock is coarse.
    thread::sleep(next_update.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_millis(500));
    check(&world, "respond", Some(&identity), &OUT_OF_DATE);
    conversation.post(HOST, PAGERDUTY.path, b"{}").unwrap();
    let last = conversation.responses(2, SOON).unwrap().remove(1);
    assert_eq!((last.status, last.reason().as_deref()), (503, Some("revocation_list_expired")));
}
