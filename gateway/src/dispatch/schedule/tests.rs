//! The schedule, with times that tests choose.

#![expect(clippy::unwrap_used, reason = "tests")]

use hyper::header::HeaderMap;

use super::*;
use crate::config::OrderBy;

const NOW: u64 = 1_000_000;
/// No delivery.
const NONE: [i64; 0] = [];

fn key(name: &str) -> Option<OrderKey> {
    let mut fields = HeaderMap::new();
    fields.insert("x-key", name.parse().unwrap());
    let key = OrderKey::of(&OrderBy::Field("x-key".parse().unwrap()), &fields, b"");
    key.filter(|_| !name.is_empty())
}

fn waiting(number: i64, key_name: &str) -> Waiting {
    Waiting {
        number,
        id: number.to_string().into(),
        route: "a".into(),
        provider: "p".into(),
        key: key(key_name),
        received_ms: NOW,
        until_ms: NOW + 10_000,
        attempts: 0,
        next_ms: NOW,
    }
}

fn lane(max_in_flight: usize, rate_per_s: Option<u32>) -> Lane {
    Lane { route: RouteId(0), max_in_flight, shared_entries: None, rate_per_s, providers: vec!["p".into()] }
}

fn lanes(lane: Lane) -> HashMap<Arc<str>, Lane> {
    HashMap::from([("a".into(), lane)])
}

fn schedule(rows: &[(i64, &str)], lane: Lane) -> Schedule {
    let rows = rows.iter().map(|(number, key)| waiting(*number, key)).collect();
    let mut schedule = Schedule::new(rows, Pauses::default(), NOW);
    assert!(schedule.due(NOW).is_empty(), "no route is known yet");
    assert!(schedule.adopt(lanes(lane)).is_empty());
    schedule
}

fn due(schedule: &mut Schedule, now_ms: u64) -> Vec<i64> {
    schedule.due(now_ms).iter().map(|(_, waiting)| waiting.number).collect()
}

fn again(next_ms: u64) -> Option<Fate> {
    Some(Fate::Again { attempts: 1, next_ms, outcome: String::new() })
}

#[test]
fn deliveries_go_in_the_order_of_their_numbers_within_the_bound() {
    let mut schedule = schedule(&[(3, ""), (1, ""), (2, "")], lane(2, None));
    assert_eq!(schedule.wake_at(), Some(NOW));
    assert_eq!(due(&mut schedule, NOW), [1, 2]);
    assert_eq!((due(&mut schedule, NOW), schedule.in_flight(), schedule.wake_at()), (vec![], 2, None));
    schedule.settled(2, Some(Fate::Taken));
    assert_eq!(due(&mut schedule, NOW), [3]);
    // A failed one comes back when its time has come.
    schedule.settled(1, again(NOW + 500));
    assert_eq!((due(&mut schedule, NOW + 499), schedule.wake_at()), (vec![], Some(NOW + 500)));
    assert_eq!(schedule.due(NOW + 500)[0].1.attempts, 1);
    schedule.settled(1, Some(Fate::Dead { attempts: 2, outcome: String::new() }));
    schedule.settled(3, None);
    assert_eq!((schedule.in_flight(), schedule.wake_at()), (0, None));
}

#[test]
fn deliveries_of_one_key_go_one_after_the_other_and_hold_no_other_up() {
    let mut schedule = schedule(&[(1, "x"), (2, "x"), (3, "y"), (4, ""), (5, "x")], lane(9, None));
    assert_eq!(due(&mut schedule, NOW), [1, 3, 4]);
    schedule.settled(1, again(NOW + 100));
    assert_eq!(due(&mut schedule, NOW), NONE, "its followers wait for it");
    assert_eq!(due(&mut schedule, NOW + 100), [1]);
    schedule.settled(1, Some(Fate::Taken));
    assert_eq!(due(&mut schedule, NOW + 100), [2]);
    schedule.settled(2, Some(Fate::Dead { attempts: 1, outcome: String::new() }));
    assert_eq!(due(&mut schedule, NOW + 100), [5], "a dead letter holds nothing up");
    // One that comes later waits for it, and one that an operator drops makes way.
    schedule.change(Change::Waits(waiting(6, "x")));
    schedule.change(Change::Waits(waiting(7, "x")));
    assert_eq!(due(&mut schedule, NOW + 100), NONE);
    schedule.change(Change::Gone { number: 6 });
    schedule.change(Change::Gone { number: 5 });
    assert_eq!(due(&mut schedule, NOW + 100), NONE, "5 is in flight, and stays so until its outcome");
    schedule.settled(5, Some(Fate::Taken));
    assert_eq!(due(&mut schedule, NOW + 100), [7]);
}

#[test]
fn what_is_stored_counts_in_the_order_in_which_it_was_stored() {
    let mut schedule = schedule(&[(1, "x"), (2, "x")], lane(9, None));
    let dead = || Some(Fate::Dead { attempts: 1, outcome: String::new() });
    assert_eq!(due(&mut schedule, NOW), [1]);
    // Retried before the outcome, which counts; then retried as the dead letter that it is.
    schedule.change(Change::Waits(waiting(1, "x")));
    schedule.change(Change::Settled { number: 1, fate: dead() });
    schedule.change(Change::Waits(waiting(1, "x")));
    assert_eq!(due(&mut schedule, NOW), [1]);
    // Dropped during its attempt: the next of the key does not wait for a time that the attempt asked for.
    schedule.change(Change::Gone { number: 1 });
    schedule.change(Change::Settled { number: 1, fate: None });
    assert_eq!(due(&mut schedule, NOW), [2]);
    assert_eq!(schedule.in_flight(), 1);
}

#[test]
fn a_dead_letter_that_waits_again_comes_first_but_never_beside_another_of_its_key() {
    let mut schedule = schedule(&[(5, "x"), (6, "x")], lane(9, None));
    assert_eq!(due(&mut schedule, NOW), [5]);
    schedule.change(Change::Waits(waiting(1, "x")));
    assert_eq!(due(&mut schedule, NOW), NONE, "5 is in flight");
    schedule.settled(5, again(NOW + 1));
    assert_eq!(due(&mut schedule, NOW + 1), [1]);
    schedule.settled(1, Some(Fate::Taken));
    assert_eq!(due(&mut schedule, NOW + 1), [5]);
    schedule.settled(5, Some(Fate::Taken));
    schedule.change(Change::Waits(waiting(2, "x")));
    assert_eq!(due(&mut schedule, NOW + 1), [2], "6 gave way");
}

#[test]
fn a_rate_spreads_attempts() {
    let rows: Vec<(i64, &str)> = (0..100).map(|number| (number, "")).collect();
    let mut schedule = schedule(&rows, lane(100, Some(10)));
    let mut begun = 0;
    for now_ms in (NOW..NOW + 3000).step_by(10) {
        begun += schedule.due(now_ms).len();
    }
    assert!((30..=32).contains(&begun), "{begun} in 3 s");
    let wake = schedule.wake_at().unwrap();
    assert!((NOW + 2900..NOW + 3100).contains(&wake), "{wake}");
    // The clock is set back.
    let mut begun = 0;
    for row in 100..110 {
        schedule.change(Change::Waits(Waiting { next_ms: 0, ..waiting(row, "") }));
    }
    for now_ms in (1000..4000).step_by(10) {
        begun += schedule.due(now_ms).len();
    }
    assert_eq!(begun, 10);
}

#[test]
fn a_handler_that_does_not_answer_is_asked_for_one_at_a_time_and_seldom() {
    let rows: Vec<(i64, &str)> = (0..50).map(|number| (number, "")).collect();
    let mut schedule = schedule(&rows, lane(8, None));
    let mut now = NOW;
    let first = due(&mut schedule, now);
    assert_eq!(first.len(), 8);
    for number in first {
        schedule.answered(number, false, now);
        schedule.settled(number, again(now + 1_000_000));
    }
    // Those that were in flight together are one failure.
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let wake = schedule.wake_at().unwrap();
        assert_eq!(due(&mut schedule, wake - 1), NONE);
        let begun = due(&mut schedule, wake);
        assert_eq!((begun.len(), schedule.wake_at()), (1, None));
        pauses.push(wake - now);
        now = wake;
        schedule.answered(begun[0], false, now);
        schedule.settled(begun[0], again(now + 1_000_000));
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    // One answer, of whatever kind, and all go on.
    let begun = due(&mut schedule, now + 5000);
    schedule.answered(begun[0], true, now + 5000);
    schedule.settled(begun[0], Some(Fate::Dead { attempts: 1, outcome: String::new() }));
    assert_eq!(due(&mut schedule, now + 5000).len(), 8);
}

#[test]
fn a_reload_and_an_operator_end_the_pause_of_a_route() {
    let mut schedule = schedule(&[(1, ""), (2, "")], lane(1, None));
    let fail = |schedule: &mut Schedule| {
        for number in due(schedule, NOW) {
            schedule.answered(number, false, NOW);
            schedule.settled(number, again(NOW + 1_000_000));
        }
        assert!(schedule.wake_at().unwrap() > NOW);
    };
    fail(&mut schedule);
    schedule.adopt(lanes(lane(1, None)));
    assert_eq!(schedule.wake_at(), Some(NOW));
    fail(&mut schedule);
    schedule.change(Change::Waits(Waiting { attempts: 1, ..waiting(1, "") }));
    assert_eq!(due(&mut schedule, NOW), [1]);
}

#[test]
fn paused_routes_wait() {
    let mut schedule = schedule(&[(1, "")], lane(9, None));
    for (pause, resume) in [("a", "a"), ("", ""), ("a", "")] {
        schedule.change(Change::Paused(pause.to_owned()));
        assert_eq!((due(&mut schedule, NOW), schedule.wake_at()), (vec![], None));
        assert!(schedule.levels(NOW + 7).all(|(_, oldest, is_paused)| oldest == 7 && is_paused));
        schedule.change(Change::Resumed(resume.to_owned()));
        assert_eq!(schedule.wake_at(), Some(NOW));
    }
    schedule.change(Change::Paused("b".to_owned()));
    assert_eq!(due(&mut schedule, NOW), [1]);
    let mut schedule = Schedule::new(vec![waiting(1, "")], Pauses::from_iter(["a".to_owned()]), NOW);
    schedule.adopt(lanes(lane(9, None)));
    assert_eq!(due(&mut schedule, NOW), NONE, "an earlier process paused it");
}

#[test]
fn what_no_route_takes_is_held_until_one_does_or_its_time_is_over() {
    let mut schedule = schedule(&[(1, "x"), (2, "x"), (3, "")], lane(9, None));
    assert_eq!(schedule.adopt(HashMap::new()), [("a".into(), 3)]);
    assert_eq!((due(&mut schedule, NOW), schedule.wake_at()), (vec![], Some(NOW + 10_001)));
    // A route of the name that admits another provider takes none of them.
    let other = Lane { providers: vec!["q".into()], ..lane(9, None) };
    assert_eq!(schedule.adopt(lanes(other)), [("a".into(), 3)]);
    assert_eq!(due(&mut schedule, NOW), NONE);
    assert!(schedule.adopt(lanes(lane(9, None))).is_empty());
    assert_eq!(due(&mut schedule, NOW), [1, 3]);
    schedule.settled(1, again(NOW));
    schedule.settled(3, Some(Fate::Taken));
    schedule.adopt(HashMap::new());
    assert!(schedule.expired(NOW + 10_000).is_empty());
    let mut ended = Vec::new();
    for _ in 0..2 {
        let expired = schedule.expired(NOW + 10_001);
        ended.extend(expired.iter().map(|waiting| waiting.number));
        schedule.settled(expired[0].number, Some(Fate::Dead { attempts: 0, outcome: String::new() }));
    }
    assert_eq!((ended, schedule.wake_at()), (vec![1, 2], None));
}

#[test]
fn a_reload_tells_of_deliveries_in_flight_and_behind_another_too() {
    let mut schedule = schedule(&[(1, "x"), (2, "x"), (3, "")], lane(9, None));
    assert_eq!(due(&mut schedule, NOW), [1, 3]);
    assert_eq!(schedule.adopt(HashMap::new()), [("a".into(), 3)]);
}

#[test]
fn a_clock_that_was_wrong_holds_nothing_up_for_long() {
    let far = Waiting { next_ms: NOW + 1000 * FURTHEST_MS, ..waiting(1, "") };
    let mut schedule = Schedule::new(vec![far], Pauses::default(), NOW);
    schedule.adopt(lanes(lane(9, None)));
    assert_eq!(schedule.wake_at(), Some(NOW + FURTHEST_MS));
}

/// Any sequence of events keeps the order of each key, the bound, and loses nothing.
#[test]
fn random_events_break_no_promise() {
    let mut random = fastrand::Rng::with_seed(4711);
    let names = ["", "x", "y", "z"];
    for _ in 0..200 {
        let mut schedule = Schedule::new(Vec::new(), Pauses::default(), NOW);
        schedule.adopt(lanes(lane(3, None)));
        let (mut now, mut flying, mut left) = (NOW, Vec::<Waiting>::new(), BTreeSet::new());
        for number in 0..60 {
            let name = names[random.usize(..names.len())];
            schedule.change(Change::Waits(waiting(number, name)));
            left.insert(number);
            for _ in 0..random.usize(..4) {
                for (_, begun) in schedule.due(now) {
                    let same = |other: &Waiting| begun.key.is_some() && other.key == begun.key;
                    assert!(!flying.iter().any(same), "two of a key at a time");
                    flying.push(begun);
                }
                assert!(flying.len() <= 3 && schedule.in_flight() == flying.len());
                if flying.is_empty() {
                    continue;
                }
                let ended = flying.swap_remove(random.usize(..flying.len()));
                if random.bool() {
                    left.remove(&ended.number);
                    schedule.settled(ended.number, Some(Fate::Taken));
                } else {
                    schedule.settled(ended.number, again(now + random.u64(..50)));
                }
                now += random.u64(..20);
            }
        }
        flying.into_iter().for_each(|waiting| schedule.settled(waiting.number, again(now)));
        let mut taken = BTreeSet::new();
        let mut last = HashMap::new();
        while let Some(at) = schedule.wake_at() {
            now = now.max(at);
            let begun = schedule.due(now);
            assert!(!begun.is_empty(), "it wakes for nothing");
            for (_, waiting) in begun {
                taken.insert(waiting.number);
                if let Some(key) = waiting.key {
                    assert!(last.insert(key, waiting.number).is_none_or(|before| before < waiting.number));
                }
                schedule.settled(waiting.number, Some(Fate::Taken));
            }
        }
        assert_eq!(taken, left, "every delivery that was not taken before");
    }
}

#[test]
fn a_fleet_gives_what_this_host_has_room_for() {
    let mut schedule = Schedule::new(Vec::new(), Pauses::default(), NOW);
    let shared = Lane { shared_entries: Some(9), ..lane(3, None) };
    schedule.adopt([("a".into(), shared), ("b".into(), lane(3, None))].into());
    let wanted = |schedule: &Schedule, now: u64| {
        let room: Vec<_> = schedule.room(now).map(|(route, demand)| (route.to_string(), demand.wanted)).collect();
        assert_eq!(room.iter().map(|(route, _)| route.as_str()).collect::<Vec<_>>(), ["a"]);
        room[0].1
    };
    assert_eq!(wanted(&schedule, NOW), 3);
    // A row goes to the servers, and takes no place of the handler.
    schedule.change(Change::Waits(waiting(1, "")));
    schedule.change(Change::Waits(waiting(-7, "")));
    let begun: Vec<i64> = schedule.due(NOW).iter().map(|(_, waiting)| waiting.number).collect();
    assert_eq!((begun, wanted(&schedule, NOW)), (vec![1, -7], 3));
    schedule.answered(1, false, NOW);
    assert_eq!(wanted(&schedule, NOW), 3, "the servers store nothing, and the handler is asked for what was pulled");
    // The handler does not answer: nothing until the pause ends, then one; what comes again ends no pause.
    schedule.answered(-7, false, NOW);
    schedule.settled(-7, None);
    assert_eq!([wanted(&schedule, NOW + 50), wanted(&schedule, NOW + 200)], [0, 1]);
    schedule.change(Change::Waits(Waiting { attempts: 1, ..waiting(-8, "") }));
    assert_eq!((due(&mut schedule, NOW + 50), wanted(&schedule, NOW + 50)), (vec![], 0));
    assert_eq!(due(&mut schedule, NOW + 200), [-8]);
    schedule.answered(-8, true, NOW + 200);
    assert_eq!(wanted(&schedule, NOW + 200), 3);
    schedule.change(Change::Paused("a".to_owned()));
    assert_eq!(wanted(&schedule, NOW + 200), 0);
}

#[test]
fn what_was_pulled_hides_no_row_that_is_older() {
    let mut schedule = Schedule::new(Vec::new(), Pauses::default(), NOW);
    schedule.adopt(lanes(Lane { shared_entries: Some(9), ..lane(3, None) }));
    let oldest = |schedule: &Schedule| schedule.levels(NOW + 90).map(|(_, oldest, _)| oldest).collect::<Vec<_>>();
    // The later one was pulled, the lower its number is.
    schedule.change(Change::Waits(Waiting { received_ms: NOW + 80, ..waiting(-8, "") }));
    assert_eq!(oldest(&schedule), [0], "it waits on the servers");
    schedule.change(Change::Waits(Waiting { received_ms: NOW + 20, ..waiting(4, "") }));
    schedule.change(Change::Waits(Waiting { received_ms: NOW + 60, ..waiting(5, "") }));
    assert_eq!(oldest(&schedule), [70]);
    schedule.change(Change::Gone { number: 4 });
    assert_eq!(oldest(&schedule), [30]);
}
