//! What the reactor alone promises: wake-ups from other threads, fair turns, and buffers that outlive their tasks.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tokio::task::{spawn_local, yield_now};

use super::*;
use crate::ring::Submission;
use crate::ring::driver::Driver;
use crate::{Backend, Socket, timer};

/// Runs `main` if this host allows the reactor.
fn run_here<F: Future<Output = ()>>(main: F) {
    match probe() {
        Ok(()) => block_on(main).unwrap(),
        Err(error) => eprintln!("not tested: {error}"),
    }
}

fn pair() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Socket::new(Backend::Reactor, OwnedFd::from(ours)).unwrap(), theirs)
}

/// A pair under light load: the turn brought one completion.
async fn pair_under_light_load() -> (Socket, UnixStream) {
    let (mut socket, mut peer) = pair();
    peer.write_all(b"ping").unwrap();
    receive(&mut socket).await;
    (socket, peer)
}

async fn receive(socket: &mut Socket) -> usize {
    let count = poll_fn(|context| socket.poll_fill(context)).await.unwrap();
    socket.consume(count);
    count
}

#[test]
fn another_thread_wakes_a_worker_that_waits() {
    run_here(async {
        let (sender, mut receiver) = tokio::sync::watch::channel(0);
        let other = std::thread::spawn(move || {
            for number in 1..=100 {
                // Sometimes the worker is about to enter the kernel, sometimes it waits there.
                std::thread::sleep(Duration::from_micros(number % 7 * 50));
                sender.send_replace(number);
            }
            sender
        });
        let began = Instant::now();
        receiver.wait_for(|number| *number == 100).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "nothing else wakes it");
        drop(other.join().unwrap());
    });
}

#[test]
fn a_worker_that_wakes_its_own_tasks_writes_no_eventfd() {
    run_here(async {
        let (mut socket, mut peer) = pair();
        for _ in 0..3 {
            let other = spawn_local(timer::sleep(Duration::from_millis(5)));
            timer::sleep(Duration::from_millis(1)).await;
            peer.write_all(b"ping").unwrap();
            assert_eq!(receive(&mut socket).await, 4);
            other.await.unwrap();
            let event = &Reactor::current().unwrap().event;
            assert_eq!(rustix::io::read(&event.eventfd, &mut [0_u8; 8]), Err(rustix::io::Errno::AGAIN));
        }
    });
}

#[test]
fn timers_end_in_order_and_dropped_ones_are_removed() {
    run_here(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30, 10, 20, 10]
            .into_iter()
            .map(|wait| {
                let order = Rc::clone(&order);
                spawn_local(async move {
                    timer::sleep(Duration::from_millis(wait)).await;
                    order.borrow_mut().push(wait);
                })
            })
            .collect();
        assert!(timer::timeout(Duration::from_millis(5), std::future::pending::<()>()).await.is_err());
        let mut gone = Box::pin(timer::sleep(Duration::from_secs(3600)));
        assert!(timer::timeout(Duration::ZERO, &mut gone).await.is_err());
        drop(gone);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [10, 10, 20, 30]);
        assert!(Reactor::current().unwrap().timers.borrow().first().is_none(), "no timer is left");
    });
}

#[test]
fn tasks_that_are_always_ready_starve_no_socket_and_no_timer() {
    run_here(async {
        let busy = spawn_local(async {
            loop {
                yield_now().await;
            }
        });
        let (mut socket, mut peer) = pair();
        peer.write_all(b"ping").unwrap();
        assert_eq!(receive(&mut socket).await, 4);
        timer::sleep(Duration::from_millis(5)).await;
        busy.abort();
    });
}

#[test]
fn more_operations_than_the_ring_has_entries_all_complete() {
    // Each pair takes two descriptors, and many hosts limit a process to 1,024.
    const PAIRS: usize = 300;
    run_here(async {
        let mut peers = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..PAIRS {
            let (mut socket, peer) = pair();
            peers.push(peer);
            tasks.push(spawn_local(async move {
                socket.queue().extend_from_slice(b"hello");
                // Both directions at once: 600 SQEs before the first turn ends.
                let received = poll_fn(|context| {
                    let _ = socket.poll_drain(context);
                    socket.poll_fill(context)
                });
                received.await.unwrap()
            }));
        }
        timer::sleep(Duration::from_millis(20)).await;
        for peer in &mut peers {
            peer.write_all(b"ping").unwrap();
        }
        for task in tasks {
            assert_eq!(task.await.unwrap(), 4);
        }
    });
}

#[test]
fn submitted_sends_leave_while_the_worker_is_busy() {
    run_here(async {
        let (mut socket, mut peer) = pair();
        socket.queue().extend_from_slice(b"hello");
        poll_fn(|context| {
            assert!(socket.poll_drain(context).is_pending(), "the end of the turn would send it");
            Poll::Ready(())
        })
        .await;
        submit_queued();
        // Within the same turn: nothing is awaited.
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 5];
        peer.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        poll_fn(|context| socket.poll_drain(context)).await.unwrap();
    });
}

/// The order in which the tasks of `requests` sockets run if all sockets become readable at once. Each task wakes a second one, as
/// a request wakes the task of its handler's connection.
fn order_of(requests: usize) -> Vec<(&'static str, usize)> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let record = Rc::clone(&order);
    run_here(async move {
        let mut peers = Vec::new();
        let mut tasks = Vec::new();
        for number in 0..requests {
            let (mut socket, peer) = pair();
            peers.push(peer);
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let (first, second) = (Rc::clone(&record), Rc::clone(&record));
            tasks.push(spawn_local(async move {
                receive(&mut socket).await;
                first.borrow_mut().push(("request", number));
                sender.send(()).unwrap();
            }));
            tasks.push(spawn_local(async move {
                receiver.await.unwrap();
                second.borrow_mut().push(("handler", number));
            }));
        }
        timer::sleep(Duration::from_millis(5)).await;
        for peer in &mut peers {
            peer.write_all(b"ping").unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    order.take()
}

#[test]
fn few_requests_are_served_one_at_a_time_and_many_together() {
    if probe().is_err() {
        return;
    }
    let few: Vec<_> = (0..4).flat_map(|number| [("request", number), ("handler", number)]).collect();
    assert_eq!(order_of(4), few);
    // The kernel completes up to 20 at a time (IO_LOCAL_TW_DEFAULT_MAX), more than under light load.
    let many = order_of(64);
    assert!(many[..17].iter().all(|(step, _)| *step == "request"), "{many:?}");
}

#[test]
fn under_light_load_an_answer_reaches_the_peer_before_the_turn_ends() {
    run_here(async {
        let (mut socket, mut peer) = pair_under_light_load().await;
        socket.queue().extend_from_slice(b"pong");
        poll_fn(|context| {
            assert!(socket.poll_drain(context).is_ready());
            peer.set_nonblocking(true).unwrap();
            let mut buffer = [0; 4];
            peer.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"pong");
            Poll::Ready(())
        })
        .await;
    });
}

#[test]
fn more_than_the_socket_buffer_holds_is_sent_in_order() {
    run_here(async {
        let (mut socket, mut peer) = pair_under_light_load().await;
        // More than a Unix socket has room for (net.core.wmem_default is 208 KiB). No byte equals its neighbours.
        let bytes: Vec<u8> = (0..1 << 20).map(|index: u32| u8::try_from(index % 251).unwrap()).collect();
        socket.queue().extend_from_slice(&bytes);
        let expected = bytes.clone();
        poll_fn(|context| {
            assert!(socket.poll_drain(context).is_pending(), "the rest waits for room");
            Poll::Ready(())
        })
        .await;
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            received == expected
        });
        poll_fn(|context| socket.poll_finish(context)).await.unwrap();
        assert_eq!(socket.sent(), bytes.len() as u64);
        assert!(reader.join().unwrap());
    });
}

#[test]
fn a_worker_that_ends_leaves_no_operation_in_flight() {
    let descriptor = RefCell::new(None);
    let peer = RefCell::new(None);
    run_here(async {
        let (mut socket, theirs) = pair();
        *descriptor.borrow_mut() = Some(Rc::downgrade(socket.descriptor()));
        *peer.borrow_mut() = Some(theirs);
        spawn_local(async move { receive(&mut socket).await });
        timer::sleep(Duration::from_millis(5)).await;
    });
    let left = descriptor.take();
    assert!(
        left.is_none_or(|descriptor| descriptor.upgrade().is_none()),
        "the receive has completed, its descriptor is closed"
    );
}

#[test]
fn a_cancellation_ends_one_operation_and_no_other_on_the_same_descriptor() {
    run_here(async {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let descriptor = Rc::new(OwnedFd::from(ours));
        let reactor = Reactor::current().unwrap();
        let [cancelled, other] = [(); 2].map(|()| reactor.submit(Submission::readable(&descriptor)));
        <Rc<Reactor> as Driver>::cancel(&descriptor, &cancelled);
        let error = cancelled.await.result.unwrap_err();
        assert_eq!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::CANCELED));
        let mut other = pin!(other);
        assert!(timer::timeout(Duration::from_millis(20), &mut other).await.is_err(), "still in flight");
        peer.write_all(b"ping").unwrap();
        assert!(other.await.result.is_ok());
    });
}

#[test]
fn a_connection_for_a_dropped_accept_is_closed() {
    run_here(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reactor = Reactor::current().unwrap();
        drop(reactor.submit(Submission::accept(&Rc::new(listener.into()))));
        timer::sleep(Duration::from_millis(5)).await;
        let mut client = TcpStream::connect(address).unwrap();
        timer::sleep(Duration::from_millis(20)).await;
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the client sees the end of the stream");
    });
}
