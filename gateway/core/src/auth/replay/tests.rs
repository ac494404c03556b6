//! Tests of the replay guard: races, expiry, capacity, and the ids of deliveries.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::guard::STEADY_LAG_SECONDS;
use super::*;
use crate::auth::testing::{NOW, Request, at, reason};

fn guard(capacity: usize) -> Arc<ReplayGuard> {
    Arc::new(ReplayGuard::new(capacity))
}

/// Advances the steady clock with the wall clock: `now` is in seconds since 1970.
fn advance(guard: &ReplayGuard, now: u64) {
    let lag = if now > NOW { u64::from(STEADY_LAG_SECONDS) } else { 0 };
    guard.advance(Duration::from_secs(now - NOW + lag));
}

fn delivery(number: u64) -> DeliveryDigest {
    digest::digest(&digest::SHA256, &number.to_le_bytes()).into()
}

/// Reserves and takes one delivery.
fn take(guard: &Arc<ReplayGuard>, number: u64, now: u64) -> Result<(), Conflict> {
    advance(guard, now);
    guard.reserve(&[delivery(number)], 600, now).map(|reservation| reservation.commit(at(now)))
}

#[test]
fn of_a_thousand_copies_at_once_one_wins() {
    const COPIES: usize = 1000;
    let guard = guard(4096);
    let (barrier, won) = (Barrier::new(COPIES), AtomicUsize::new(0));
    thread::scope(|scope| {
        for copy in 0..COPIES {
            let (guard, barrier, won) = (&guard, &barrier, &won);
            let spawned = thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, move || {
                barrier.wait();
                // Each competes for two digests, one of which half of the copies share, so that releases are part of the race.
                let digests = [delivery(1), delivery(2 + copy as u64 % 2)];
                if let Ok(reservation) = guard.reserve(&digests, 600, NOW) {
                    reservation.commit(at(NOW));
                    won.fetch_add(1, Ordering::Relaxed);
                }
            });
            spawned.unwrap();
        }
    });
    assert_eq!(won.load(Ordering::Relaxed), 1);
    assert_eq!(guard.len(), 2);
    assert!(!guard.is_empty());
}

#[test]
fn a_failed_delivery_can_be_retried() {
    let guard = guard(64);
    let first = guard.reserve(&[delivery(1)], 600, NOW).unwrap();
    assert_eq!(guard.reserve(&[delivery(1)], 600, NOW).unwrap_err(), Conflict::InFlight);
    drop(first);
    assert!(guard.is_empty());
    assert_eq!(take(&guard, 1, NOW), Ok(()));
    assert_eq!(take(&guard, 1, NOW + 600), Err(Conflict::Taken));
    assert_eq!(take(&guard, 1, NOW + 601), Ok(()));
}

#[test]
fn all_ids_are_reserved_or_none() {
    let guard = guard(64);
    assert_eq!(take(&guard, 2, NOW), Ok(()));
    assert_eq!(guard.reserve(&[delivery(1), delivery(2)], 600, NOW).unwrap_err(), Conflict::Taken);
    assert_eq!(guard.len(), 1);
    let both = guard.reserve(&[delivery(1), delivery(3)], 600, NOW).unwrap();
    assert_eq!(take(&guard, 3, NOW), Err(Conflict::InFlight));
    both.commit(at(NOW));
    assert_eq!(take(&guard, 1, NOW), Err(Conflict::Taken));
    assert_eq!(take(&guard, 3, NOW), Err(Conflict::Taken));
}

#[test]
fn a_full_guard_refuses_and_evicts_nothing_early() {
    let guard = guard(8);
    for number in 0..8 {
        assert_eq!(take(&guard, number, NOW + number), Ok(()));
    }
    assert_eq!(take(&guard, 8, NOW + 600), Err(Conflict::Full));
    for number in 0..8 {
        assert_eq!(take(&guard, number, NOW + 600), Err(Conflict::Taken), "{number} was evicted");
    }
    // One entry expires, so there is room for one.
    assert_eq!(take(&guard, 8, NOW + 601), Ok(()));
    assert_eq!(take(&guard, 9, NOW + 601), Err(Conflict::Full));
    assert_eq!(take(&guard, 0, NOW + 601), Err(Conflict::Full));
    assert_eq!(guard.len(), 8);
    assert_eq!(take(&guard, 10, NOW + 10_000), Ok(()));
    assert_eq!(guard.len(), 1);
}

#[test]
fn a_step_of_the_wall_clock_ends_no_window_early() {
    // (wall clock, steady clock) after the delivery, in seconds, and whether it is still remembered.
    let steps = [(0, 0, true), (86_400, 5, true), (86_400, 602, true), (86_400, 603, false), (600, 86_400, true)];
    for (wall, steady, remembered) in steps {
        let reserve = |guard: &Arc<ReplayGuard>, number, now| guard.reserve(&[delivery(number)], 600, now);
        for full in [false, true] {
            let guard = guard(if full { 1 } else { 64 });
            reserve(&guard, 1, NOW).unwrap().commit(at(NOW));
            guard.advance(Duration::from_secs(steady));
            // If the guard is full, another delivery tries to get the place.
            if full {
                let other = reserve(&guard, 2, NOW + wall).map(|reservation| reservation.commit(at(NOW + wall)));
                assert_eq!(other.is_err(), remembered, "{wall} {steady}");
            }
            // The clock was set right again.
            let copy = reserve(&guard, 1, NOW + if full { 1 } else { wall });
            let copy = copy.map(|reservation| reservation.commit(at(NOW))).err();
            match (full, remembered) {
                (_, true) => assert_eq!(copy, Some(Conflict::Taken), "{wall} {steady} {full}"),
                (false, false) => assert_eq!(copy, None, "{wall} {steady}"),
                (true, false) => assert_eq!(copy, Some(Conflict::Full), "{wall} {steady}"),
            }
        }
    }
}

#[test]
fn a_kept_delivery_is_a_duplicate_for_the_rest_of_its_window() {
    let before = guard(64);
    let reservation = before.reserve(&[delivery(1), delivery(2)], 600, NOW).unwrap();
    let kept: Vec<_> = reservation.kept(at(NOW)).collect();
    reservation.commit(at(NOW));
    assert_eq!(kept.iter().map(|kept| kept.until).collect::<Vec<_>>(), [NOW + 600; 2]);
    // The next process starts 200 seconds later, and with it its steady clock.
    let after = guard(64);
    assert!(kept.iter().all(|kept| after.restore(*kept, at(NOW + 200))));
    for (passed, remembered) in [(0, true), (400, true), (403, false)] {
        after.advance(Duration::from_secs(passed));
        for number in 1..=2 {
            let copy = after.reserve(&[delivery(number)], 600, NOW + 200 + passed).map(drop);
            assert_eq!(copy.is_err(), remembered, "{number} after {passed}");
        }
    }
}

#[test]
fn no_more_is_restored_than_there_are_places() {
    let (before, after) = (guard(64), guard(2));
    for number in 0..4 {
        let reservation = before.reserve(&[delivery(number)], 600, NOW).unwrap();
        let kept = reservation.kept(at(NOW)).next().unwrap();
        assert_eq!(after.restore(kept, at(NOW)), number < 2);
        assert_eq!(after.restore(kept, at(NOW)), number < 2, "a second time");
    }
    assert_eq!(after.len(), 2);
}

#[test]
fn deliveries_in_flight_are_never_evicted() {
    let guard = guard(2);
    let first = guard.reserve(&[delivery(1)], 600, NOW).unwrap();
    assert_eq!(take(&guard, 2, NOW), Ok(()));
    assert_eq!(take(&guard, 3, NOW + 10_000), Ok(()));
    assert_eq!(take(&guard, 1, NOW + 10_000), Err(Conflict::InFlight));
    first.commit(at(NOW + 10_000));
    assert_eq!(take(&guard, 1, NOW + 10_001), Err(Conflict::Taken));
}

#[test]
fn never_holds_more_than_its_capacity() {
    for capacity in [0, 1, 1023, 1024, 5000, 20_000] {
        let guard = guard(capacity);
        let taken = (0..2 * capacity as u64 + 10).filter(|&number| take(&guard, number, NOW).is_ok()).count();
        assert_eq!(taken, guard.len());
        assert!(taken <= capacity && taken >= capacity - capacity / 10, "{taken} of {capacity}");
    }
}

fn rule(scope: &str, ids: Vec<DeliveryId>) -> ReplayRule {
    ReplayRule::new(scope, ids, 600, StatusCode::OK).unwrap()
}

fn header(name: &'static str) -> DeliveryId {
    DeliveryId::Header(HeaderName::from_static(name))
}

/// Takes the delivery of `request`, and returns `ok` or the reason of the refusal.
fn deliver(rule: &ReplayRule, request: &Request, guard: &Arc<ReplayGuard>) -> &'static str {
    reason(rule.reserve(&request.view(), &[], guard).map(|reservation| reservation.commit(at(NOW))))
}

#[test]
fn one_shared_id_makes_a_duplicate() {
    let ids = vec![header("x-webhook-id"), DeliveryId::Body(JsonPointer::parse("/event/id").unwrap())];
    let rule = rule("pagerduty", ids);
    let guard = guard(64);
    let request =
        |id: &str, event: &str| Request::new(&[("x-webhook-id", id)], format!("{{\"event\":{{\"id\":\"{event}\"}}}}"));
    assert_eq!(deliver(&rule, &request("1", "a"), &guard), "ok");
    assert_eq!(deliver(&rule, &request("1", "b"), &guard), "duplicate_delivery");
    assert_eq!(deliver(&rule, &request("2", "a"), &guard), "duplicate_delivery");
    assert_eq!(deliver(&rule, &request("2", "b"), &guard), "ok");
    // A header field and the body can have the same value: these are two ids.
    assert_eq!(deliver(&rule, &request("c", "d"), &guard), "ok");
    assert_eq!(deliver(&rule, &request("d", "c"), &guard), "ok");
}

#[test]
fn scopes_do_not_share_ids() {
    let guard = guard(64);
    let request = Request::new(&[("x-id", "1")], "");
    for scope in ["a", "b"] {
        assert_eq!(deliver(&rule(scope, vec![header("x-id")]), &request, &guard), "ok");
        assert_eq!(deliver(&rule(scope, vec![header("x-id")]), &request, &guard), "duplicate_delivery");
    }
}

#[test]
fn a_request_without_its_id_is_refused() {
    let guard = guard(64);
    let by_header = rule("a", vec![header("x-id")]);
    for headers in [&[][..], &[("x-id", "")], &[("x-id", "1"), ("x-id", "2")]] {
        assert_eq!(deliver(&by_header, &Request::new(headers, ""), &guard), "delivery_id_missing", "{headers:?}");
    }
    let by_body = rule("a", vec![DeliveryId::Body(JsonPointer::parse("/id").unwrap())]);
    for (body, expected) in [
        ("{}", "delivery_id_missing"),
        (r#"{"id":7}"#, "delivery_id_missing"),
        (r#"{"id":""}"#, "delivery_id_missing"),
        (r#"{"id":"1""#, "body_not_json"),
        (r#"{"id":"1","id":"2"}"#, "body_not_json"),
        (r#"{"id":"1"}"#, "ok"),
    ] {
        assert_eq!(deliver(&by_body, &Request::new(&[], body), &guard), expected, "{body}");
    }
    let signed = rule("a", vec![DeliveryId::SignedMessage]);
    assert_eq!(deliver(&signed, &Request::new(&[], ""), &guard), "delivery_id_missing");
    assert_eq!(guard.len(), 1);
}

#[test]
fn refuses_rules_out_of_bounds() {
    let error = |ids: usize, seconds, status| {
        ReplayRule::new("a", vec![header("x-id"); ids], seconds, StatusCode::from_u16(status).unwrap()).unwrap_err()
    };
    assert_eq!(error(0, 600, 200), ReplayRuleError::Ids { count: 0 });
    assert_eq!(error(4, 600, 200), ReplayRuleError::Ids { count: 4 });
    assert_eq!(error(1, 0, 200), ReplayRuleError::Window { seconds: 0 });
    assert_eq!(error(1, 604_801, 200), ReplayRuleError::Window { seconds: 604_801 });
    assert_eq!(error(1, 600, 500), ReplayRuleError::Answer { status: 500 });
    assert_eq!(error(1, 600, 302), ReplayRuleError::Answer { status: 302 });
    assert!(ReplayRule::new("a", vec![header("x-id")], 600, StatusCode::CONFLICT).is_ok());
    assert!(ReplayRule::new("a", vec![header("x-id"); 3], 604_800, StatusCode::OK).is_ok());
    assert!(ReplayRule::new("a", vec![header("x-id")], 1, StatusCode::OK).is_ok());
}

#[test]
fn a_full_memory_refuses_further_deliveries() {
    let guard = guard(1);
    let by_id = rule("a", vec![header("x-id")]);
    let with = |id: &str| Request::new(&[("x-id", id)], "");
    assert_eq!(deliver(&by_id, &with("1"), &guard), "ok");
    assert_eq!(deliver(&by_id, &with("2"), &guard), "replay_guard_full");
    assert_eq!(deliver(&by_id, &with("1"), &guard), "duplicate_delivery");
}

#[test]
fn a_rule_tells_its_answer_and_how_long_it_remembers() {
    for status in [StatusCode::OK, StatusCode::ACCEPTED, StatusCode::CONFLICT] {
        let ids = vec![DeliveryId::Header(HeaderName::from_static("x-id"))];
        let rule = ReplayRule::new("scope", ids, 7, status).unwrap();
        assert_eq!((rule.duplicate_answer(), rule.window_seconds()), (status, 7));
    }
}
