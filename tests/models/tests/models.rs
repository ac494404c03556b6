//! Each case in all its interleavings, up to a bound, and then in random ones.

use hookgate_models as models;

/// The most interleavings that are tried in order, and the number of random ones: about a second of a debug build for each case.
const IN_ORDER: usize = 4_000;
const RANDOM: usize = 1_000;

fn check(case: fn()) {
    let began = std::time::Instant::now();
    shuttle::check_dfs(case, Some(IN_ORDER));
    shuttle::check_random(case, RANDOM);
    println!("at most {IN_ORDER} interleavings in order, and {RANDOM} random ones, in {:?}", began.elapsed());
}

#[test]
fn no_wake_up_of_a_worker_is_lost() {
    check(models::no_wake_up_is_lost);
}

#[test]
fn a_connection_counts_with_one_worker_in_every_interleaving() {
    check(models::connections_count_with_one_worker);
}

#[test]
fn the_last_place_is_taken_once_in_every_interleaving() {
    check(models::the_last_place_is_taken_once);
}

#[test]
fn one_copy_of_a_delivery_is_handled_in_every_interleaving() {
    check(models::one_copy_of_a_delivery_is_handled);
}

#[test]
fn the_memory_of_deliveries_is_bounded_in_every_interleaving() {
    check(models::the_memory_of_deliveries_is_bounded);
}

#[test]
fn one_request_at_a_time_tries_an_ejected_handler_in_every_interleaving() {
    check(models::an_ejected_handler_is_tried_by_one_request);
}
