//! The verdict of a route: what its own providers miss in a chain that was judged for all providers of the server name.

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::{ChainRefusal, Identity, PeerChain, ProviderId, Scope, Work, verdict};
use crate::reject::Reject;

/// Failed checks by cheap keys after which a search ends.
const FAILURES: usize = 4;

fn refused(identity: &Identity, scope: &Scope, chain: &[CertificateDer<'_>]) -> ChainRefusal {
    identity.verify(scope, PeerChain::unsafe_assumed(chain), at(NOW)).result.unwrap_err()
}

#[test]
fn a_route_says_what_its_own_providers_miss() {
    let (own, foreign) = (Authority::root("own"), Authority::root("foreign"));
    let (identity, scope) = policy(vec![
        provider("pagerduty", vec![profile(&foreign, "webhooks.pagerduty.com")]),
        provider("mine", vec![profile(&own, "mine.example")]),
        provider("near", vec![profile(&own, "webhooks.pagerduty.org")]),
    ]);
    let chain = [own.issue(&Template::client("webhooks.pagerduty.com"))];
    let site = refused(&identity, &scope, &chain);
    assert_eq!((site.refusal.reject, site.provider), (Reject::UnknownIssuer, Some(ProviderId(0))));
    assert_eq!(site.presented.as_ref().unwrap().certificates(), chain);

    let at_route = |route: &[u16]| {
        let route: Vec<ProviderId> = route.iter().copied().map(ProviderId).collect();
        identity.refusal_at_route(&site, &route, at(NOW))
    };
    let mine = at_route(&[1]).unwrap();
    assert_eq!((mine.refusal.reject, mine.provider), (Reject::IdentityMismatch, Some(ProviderId(1))));
    assert!(
        mine.refusal.detail().contains("provider \"mine\" expects subject CN \"mine.example\""),
        "{}",
        mine.refusal
    );
    assert_eq!(mine.presented, site.presented);
    assert_eq!(at_route(&[1, 2]).unwrap().provider, Some(ProviderId(2)), "the one whose name it nearly has");
    assert_eq!(at_route(&[0]), None, "the verdict is about this provider already");
    assert_eq!(at_route(&[0, 1]), None);
}

#[test]
fn a_chain_that_has_nothing_to_do_with_a_route_learns_nothing_of_it() {
    let (own, foreign, stranger) = (Authority::root("own"), Authority::root("foreign"), Authority::root("stranger"));
    let (identity, scope) = policy(vec![
        provider("pagerduty", vec![profile(&foreign, "webhooks.pagerduty.com")]),
        provider("mine", vec![profile(&own, "mine.example")]),
    ]);
    let impostor = Authority::root("own");
    for issuer in [&stranger, &impostor] {
        for name in ["webhooks.pagerduty.com", "other.example"] {
            let site = refused(&identity, &scope, &[issuer.issue(&Template::client(name))]);
            assert_eq!(identity.refusal_at_route(&site, &[ProviderId(1)], at(NOW)), None, "{name}");
        }
    }
    // One that claims the provider of the route is told what is wrong.
    let site = refused(&identity, &scope, &[stranger.issue(&Template::client("mine.example"))]);
    assert_eq!((site.refusal.reject, site.provider), (Reject::UnknownIssuer, Some(ProviderId(1))));
    // No chain, no verdict.
    let absent = refused(&identity, &scope, &[]);
    assert_eq!(identity.refusal_at_route(&absent, &[ProviderId(1)], at(NOW)), None);
}

/// A chain that is crafted so that its first search reaches the bounds costs nothing more at the route.
#[test]
fn both_verdicts_together_cost_no_more_than_one_search_may() {
    let root = Authority::root("root");
    // Without key identifiers, each of these could have signed the end entity.
    let impostors: Vec<Authority> = (0..7).map(|_| Authority::root("root")).collect();
    let template = || Template::new(root.subject.clone()).with(authority_extension(None));
    let issuers: Vec<_> = impostors.iter().map(|_| root.intermediate_by(template())).collect();
    let leaf = impostors[0].issue(&Template::client("a"));
    let mut chain = vec![leaf];
    chain.extend(issuers.iter().map(|issuer| issuer.certificate.clone()));
    let providers = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| provider(name, vec![profile(&root, name)]));
    let (identity, scope) = policy(providers.to_vec());
    let site = refused(&identity, &scope, &chain);
    assert_eq!((site.work.failed_checks, site.provider), (FAILURES, Some(ProviderId(0))));
    for id in 1..8 {
        let scope = Scope { id: u32::MAX, providers: vec![ProviderId(id)] };
        let both = |spent| verdict::verify(identity.policy(spent), &scope, &chain, at(NOW)).1;
        assert_eq!(both(Work::default()).failed_checks, FAILURES, "alone it would cost as much again");
        assert_eq!(both(site.work).failed_checks, FAILURES);
        assert!(both(site.work).failed_builds <= 8);
        assert_eq!(identity.refusal_at_route(&site, &[ProviderId(id)], at(NOW)), None);
    }
}
