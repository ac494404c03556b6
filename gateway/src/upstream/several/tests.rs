//! Owns requests that wait for one of several handlers, on one worker and on several. No handler runs: a place is all that they get.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use hookgate_core::limits::Limits;
use hookgate_core::reject::Reject;
use hookgate_core::route::{HandlerEntry, RouteLimits};
use hookgate_io::sweep::Sweep;
use hookgate_io::{Backend, block_on};
use tokio::task::{spawn_local, yield_now};

use super::super::health::Failure;
use super::super::place::{Gate, Level};
use super::*;

const LONG: Duration = Duration::from_secs(20);

fn handler(index: usize) -> Handler {
    Handler::unix(format!("/run/{index}.sock"))
}

/// A list of so many with one place each, the last of which is a backup if `backup` says so.
fn list(count: usize, backup: bool) -> Handlers {
    let entry = |index: usize| HandlerEntry {
        handler: handler(index),
        backup: backup && index + 1 == count,
        max_in_flight: Some(1),
    };
    Handlers::new(entry(0), (1..count).map(entry))
}

/// A worker that asks the handlers of a list.
struct Worker {
    upstream: Upstream,
    group: Rc<Group>,
    limits: HandlerLimits,
}

impl Worker {
    fn new(places: &Arc<Places>, handlers: &Handlers, most_waiting: usize, timeout: Duration) -> Rc<Self> {
        let limits = Limits { handler_max_waiting: most_waiting, handler_timeout: timeout, ..Limits::default() };
        let upstream = Upstream::new(Backend::Epoll, Sweep::new(), Arc::clone(places));
        let (group, limits) = (upstream.group(handlers), HandlerLimits::share(&limits, &RouteLimits::of(&limits), 1));
        Rc::new(Self { upstream, group, limits })
    }

    fn gate(&self, index: usize) -> &Gate {
        &self.group.members[index].pool.gate
    }

    fn level(&self, index: usize) -> (usize, usize) {
        let Level { taken, waiting } = self.gate(index).level();
        (taken, waiting)
    }

    fn member(&self, index: usize) -> &Member {
        &self.group.members[index]
    }

    /// Takes a place. Returns it with the index of its handler.
    async fn enter(&self) -> Result<(usize, Permit), Refusal> {
        let (mut passed, mut refused) = (Members::default(), None);
        let times = (self.limits, self.upstream.sweep.coarse());
        let entered = self.upstream.enter_one_of(&self.group, (&mut passed, &mut refused), times, &mut None).await?;
        Ok((entered.index, entered.permit))
    }

    /// The handler could not be reached.
    fn eject(&self, index: usize) {
        let refusal = Refusal::new(Reject::HandlerUnavailable, "a test");
        let failure = Some(Failure::Unreached);
        let unanswered = Unanswered { refusal, failure, may_go_elsewhere: true, permit: None };
        self.member(index).failed(&unanswered, None, &self.upstream.places);
    }
}

/// On one worker.
fn run<F: Future<Output = ()>>(
    handlers: &Handlers,
    most_waiting: usize,
    timeout: Duration,
    test: impl FnOnce(Rc<Worker>) -> F,
) {
    block_on(Backend::Epoll, test(Worker::new(&Arc::default(), handlers, most_waiting, timeout))).unwrap();
}

fn now<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn a_request_gets_the_first_place_of_any_handler() {
    run(&list(3, false), 9, LONG, |worker| async move {
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(worker.enter().await.unwrap());
        }
        taken.sort_by_key(|(index, _)| *index);
        for freed in [1, 0, 2] {
            let mut waits = pin!(worker.enter());
            assert!(now(waits.as_mut()).is_none());
            assert_eq!((0..3).map(|index| worker.level(index).1).sum::<usize>(), 1, "it counts once");
            let held = taken.iter().position(|(index, _)| *index == freed).unwrap();
            drop(taken.swap_remove(held));
            let (index, permit) = now(waits).unwrap().unwrap();
            assert_eq!(index, freed);
            taken.push((index, permit));
            assert_eq!([0, 1, 2].map(|index| worker.level(index)), [(1, 0); 3]);
        }
    });
}

#[test]
fn places_are_given_in_the_order_of_arrival_whichever_handler_has_them() {
    run(&list(2, false), 9, LONG, |worker| async move {
        let mut taken = vec![worker.enter().await.unwrap(), worker.enter().await.unwrap()];
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let wait = |number: usize| {
            let (worker, order) = (Rc::clone(&worker), Rc::clone(&order));
            spawn_local(async move {
                let (index, permit) = worker.enter().await.unwrap();
                order.borrow_mut().push((number, index));
                permit
            })
        };
        let waiting: Vec<_> = (0..4).map(wait).collect();
        yield_now().await;
        taken.sort_by_key(|(index, _)| *index);
        // Both places of those that have them, and then that of the second alone, as if the first handler hangs.
        let (second, first) = (taken.pop().unwrap(), taken.pop().unwrap());
        drop(second);
        let mut waiting = waiting.into_iter();
        let permit = waiting.next().unwrap().await.unwrap();
        drop(permit);
        let permit = waiting.next().unwrap().await.unwrap();
        drop(first);
        let _permit = waiting.next().unwrap().await.unwrap();
        drop(permit);
        waiting.next().unwrap().await.unwrap();
        assert_eq!(*order.borrow(), [(0, 1), (1, 1), (2, 0), (3, 1)]);
    });
}

#[test]
fn a_request_that_leaves_with_a_place_of_each_handler_gives_all_back() {
    run(&list(2, false), 9, LONG, |worker| async move {
        let taken = (worker.enter().await.unwrap(), worker.enter().await.unwrap());
        let mut leaves = Box::pin(worker.enter());
        let (mut next, mut last) = (Box::pin(worker.enter()), Box::pin(worker.enter()));
        assert!(now(leaves.as_mut()).is_none() && now(next.as_mut()).is_none() && now(last.as_mut()).is_none());
        // Both places are those of the first that waits, which does not run again.
        drop(taken);
        assert!(now(next.as_mut()).is_none());
        drop(leaves);
        let (next, last) = (now(next.as_mut()).unwrap().unwrap(), now(last.as_mut()).unwrap().unwrap());
        assert_ne!(next.0, last.0);
        drop((next, last));
        assert_eq!([0, 1].map(|index| worker.level(index)), [(0, 0); 2]);
    });
}

#[test]
fn a_request_that_gets_a_place_of_each_handler_at_once_keeps_one() {
    run(&list(2, false), 9, LONG, |worker| async move {
        let taken = (worker.enter().await.unwrap(), worker.enter().await.unwrap());
        let mut waits = pin!(worker.enter());
        assert!(now(waits.as_mut()).is_none());
        drop(taken);
        let (index, permit) = now(waits).unwrap().unwrap();
        assert_eq!((worker.level(index), worker.level(1 - index)), ((1, 0), (0, 0)));
        drop(permit);
        assert_eq!(worker.level(index), (0, 0));
    });
}

#[test]
fn as_many_wait_as_if_each_waited_for_one_handler() {
    run(&list(2, false), 1, LONG, |worker| async move {
        let _taken = (worker.enter().await.unwrap(), worker.enter().await.unwrap());
        let (mut one, mut other) = (pin!(worker.enter()), pin!(worker.enter()));
        assert!(now(one.as_mut()).is_none() && now(other.as_mut()).is_none());
        assert_eq!([0, 1].map(|index| worker.level(index)), [(1, 1); 2]);
        let refused = worker.enter().await.err().unwrap();
        assert_eq!(refused.reject, Reject::HandlerOverloaded);
    });
}

#[test]
fn a_request_that_waits_for_several_is_late_in_time() {
    run(&list(2, false), 9, Duration::from_millis(30), |worker| async move {
        let _taken = (worker.enter().await.unwrap(), worker.enter().await.unwrap());
        let refused = worker.enter().await.err().unwrap();
        assert_eq!(refused.reject, Reject::HandlerTimeout);
        assert!(refused.detail().contains("/run/0.sock or /run/1.sock did not answer within 30 ms"), "{refused}");
        assert_eq!([0, 1].map(|index| worker.level(index)), [(1, 0); 2]);
    });
}

#[test]
fn a_handler_that_is_back_takes_those_who_wait() {
    run(&list(2, false), 9, LONG, |worker| async move {
        worker.eject(1);
        let _taken = worker.enter().await.unwrap();
        let waits = spawn_local({
            let worker = Rc::clone(&worker);
            async move { worker.enter().await.unwrap() }
        });
        yield_now().await;
        assert_eq!([0, 1].map(|index| worker.level(index)), [(1, 1), (0, 0)], "an ejected one takes none");
        worker.member(1).answered(&worker.upstream.places);
        assert_eq!(waits.await.unwrap().0, 1);
    });
}

#[test]
fn those_who_wait_for_a_handler_that_is_ejected_go_to_the_backup() {
    run(&list(2, true), 9, LONG, |worker| async move {
        let first = worker.enter().await.unwrap();
        let enter = || {
            let worker = Rc::clone(&worker);
            spawn_local(async move { worker.enter().await.unwrap() })
        };
        let (one, other) = (enter(), enter());
        yield_now().await;
        assert_eq!([0, 1].map(|index| worker.level(index)), [(1, 2), (0, 0)], "a backup is for when no other can be");
        worker.eject(0);
        let backup = one.await.unwrap();
        assert_eq!((first.0, backup.0), (0, 1));
        assert_eq!([0, 1].map(|index| worker.level(index)), [(1, 0), (1, 1)], "the other one waits for the backup");
        // A place at the ejected handler is none for it.
        drop(first);
        yield_now().await;
        assert_eq!(worker.level(1), (1, 1));
        worker.member(0).answered(&worker.upstream.places);
        assert_eq!(other.await.unwrap().0, 0);
    });
}

/// Requests of three workers that leave at any time, and handlers that are ejected and back at any time.
#[test]
fn a_place_is_neither_lost_between_workers_nor_left_free() {
    const ROUNDS: usize = 300;
    let (places, handlers) = (Arc::<Places>::default(), list(3, true));
    // The gates are those of the whole test.
    let observer = Worker::new(&places, &handlers, 0, LONG);
    let work = |seed: usize| {
        let (patient, hasty) = (LONG, Duration::from_millis(1));
        let workers = [patient, hasty].map(|timeout| Worker::new(&places, &handlers, 99, timeout));
        let tasks = (0..8).map(|task| {
            let worker = Rc::clone(&workers[task % 2]);
            spawn_local(async move {
                for round in 0..ROUNDS {
                    match worker.enter().await {
                        Ok((index, permit)) => {
                            match (seed + task + round) % 16 {
                                0 => worker.eject(index),
                                _ => worker.member(index).answered(&worker.upstream.places),
                            }
                            yield_now().await;
                            drop(permit);
                        }
                        Err(refusal) => assert!(task % 2 == 1, "{refusal}"),
                    }
                }
            })
        });
        tasks.collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        for seed in 0..3 {
            let work = &work;
            scope.spawn(move || {
                let all = async move {
                    for task in work(seed) {
                        task.await.unwrap();
                    }
                };
                block_on(Backend::Epoll, all).unwrap();
            });
        }
    });
    assert_eq!([0, 1, 2].map(|index| observer.level(index)), [(0, 0); 3]);
}
