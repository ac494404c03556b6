//! Sockets, listeners and timers on every backend: what this crate promises whichever moves the bytes.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::future::poll_fn;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

use super::*;

/// Runs `test` on every backend that this host allows. Epoll is always one of them.
fn on_each_backend<F: Future<Output = ()>>(test: impl Fn(Backend) -> F) {
    block_on(Backend::Epoll, test(Backend::Epoll)).unwrap();
    for wanted in [Backend::TokioUring, Backend::Reactor] {
        match choose(Some(wanted)) {
            Ok((backend, _)) => block_on(backend, test(backend)).unwrap(),
            Err(error) => eprintln!("not tested on {wanted:?}: {error}"),
        }
    }
}

fn pair(backend: Backend) -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (Socket::new(backend, OwnedFd::from(ours)).unwrap(), theirs)
}

#[test]
fn bytes_go_both_ways_and_the_end_is_seen() {
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        peer.write_all(b"ping").unwrap();
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 4);
        assert_eq!(socket.buffered(), b"ping");
        socket.consume(1);
        assert_eq!(
            poll_fn(|context| socket.poll_fill(context)).await.unwrap(),
            3,
            "bytes that are left are not overwritten"
        );
        socket.consume(usize::MAX);
        assert_eq!(socket.buffered(), b"", "all of them");
        socket.queue().extend_from_slice(b"pong");
        poll_fn(|context| socket.poll_drain(context)).await.unwrap();
        assert_eq!((socket.sent(), socket.pending()), (4, 0));
        let mut buffer = [0; 4];
        peer.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"pong");
        drop(peer);
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 0);
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 0, "the end stays the end");
    });
}

#[test]
fn much_more_than_a_socket_buffer_arrives_complete() {
    const SIZE: usize = 8 * 1024 * 1024;
    on_each_backend(|backend| async move {
        let (mut socket, peer) = pair(backend);
        let mut writer = peer.try_clone().unwrap();
        let sent: Vec<u8> = (0..SIZE).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let expected = sent.clone();
        let echo = std::thread::spawn(move || {
            let mut reader = peer;
            let mut received = vec![0; SIZE];
            reader.read_exact(&mut received).unwrap();
            writer.write_all(&received).unwrap();
        });
        socket.queue().extend_from_slice(&sent);
        poll_fn(|context| socket.poll_drain(context)).await.unwrap();
        let mut received = Vec::new();
        while received.len() < SIZE {
            let count = poll_fn(|context| socket.poll_fill(context)).await.unwrap();
            assert_ne!(count, 0);
            received.extend_from_slice(socket.buffered());
            socket.consume(count);
        }
        assert!(received == expected);
        echo.join().unwrap();
    });
}

#[test]
fn slices_are_sent_after_what_was_queued() {
    const SIZE: usize = 2 * 1024 * 1024;
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        let body: Vec<u8> = (0..SIZE).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let expected = body.clone();
        let reader = std::thread::spawn(move || {
            // Starts late, so that the socket is full by then.
            std::thread::sleep(Duration::from_millis(20));
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            received.strip_prefix(b"head").is_some_and(|rest| rest == expected)
        });
        socket.queue().extend_from_slice(b"head");
        let (mut taken, mut calls) = (0, 0);
        while taken < SIZE {
            let slices = [IoSlice::new(&[]), IoSlice::new(&body[taken..])];
            taken += poll_fn(|context| socket.poll_send_slices(context, &slices)).await.unwrap();
            calls += 1;
        }
        assert!(calls > 1, "a Unix socket has room for less");
        assert_eq!((socket.sent(), socket.pending()), (SIZE as u64 + 4, 0));
        poll_fn(|context| socket.poll_finish(context)).await.unwrap();
        assert!(reader.join().unwrap());
    });
}

#[test]
fn a_waiting_sender_learns_that_the_peer_is_gone() {
    on_each_backend(|backend| async move {
        let (mut socket, peer) = pair(backend);
        let body = vec![b'x'; 64 * 1024];
        let slices = [IoSlice::new(&body)];
        let leaver = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(peer);
        });
        let error = loop {
            match poll_fn(|context| socket.poll_send_slices(context, &slices)).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let expected = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(expected.contains(&error.kind()), "{error}");
        leaver.join().unwrap();
    });
}

#[test]
fn a_socket_dropped_while_it_waits_is_closed() {
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        let waiting = timer::timeout(Duration::from_millis(20), poll_fn(|context| socket.poll_fill(context))).await;
        assert!(waiting.is_err(), "nothing has arrived");
        let descriptor = Rc::downgrade(socket.descriptor());
        drop(socket);
        // The operation completes a little later, without any action of the peer.
        for _ in 0..100 {
            if descriptor.upgrade().is_none() {
                break;
            }
            timer::sleep(Duration::from_millis(10)).await;
        }
        assert!(descriptor.upgrade().is_none(), "the descriptor is closed");
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    });
}

/// Accepts one connection, leaves two in the queue, and stops. Returns how many connections the listener accepted, and how many
/// another process could accept afterwards.
async fn stop_with_two_queued(backend: Backend, queued: Queued) -> (usize, usize) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let other_process = socket.try_clone().unwrap();
    let listener = Rc::new(Listener::new(backend, socket.into(), queued).unwrap());
    let accepting = tokio::task::spawn_local({
        let listener = Rc::clone(&listener);
        async move {
            let mut count = 0;
            while let Some(descriptor) = listener.accept().await.unwrap() {
                assert!(peer_address(&descriptor).is_some());
                count += 1;
            }
            count
        }
    });
    let _first = TcpStream::connect(address).unwrap();
    timer::sleep(Duration::from_millis(20)).await;
    // Queued, and not accepted by this thread before it stops. The kernel may complete the pending accept.
    let _second = TcpStream::connect(address).unwrap();
    let _third = TcpStream::connect(address).unwrap();
    listener.stop();
    let accepted = accepting.await.unwrap();
    other_process.set_nonblocking(true).unwrap();
    (accepted, std::iter::from_fn(|| other_process.accept().ok()).count())
}

#[test]
fn a_stopped_listener_still_returns_what_is_queued() {
    on_each_backend(|backend| async move {
        assert_eq!(stop_with_two_queued(backend, Queued::Accept).await, (3, 0));
    });
}

#[test]
fn a_stopped_listener_leaves_what_is_queued_to_another_process() {
    on_each_backend(|backend| async move {
        for _ in 0..20 {
            let (accepted, left) = stop_with_two_queued(backend, Queued::Leave).await;
            assert_eq!(accepted + left, 3, "{backend:?}: a connection is lost");
            assert!(left > 0, "{backend:?}: the queue was accepted");
        }
    });
}

#[test]
fn a_listener_whose_sibling_stopped_goes_on() {
    on_each_backend(|backend| async move {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let sibling = socket.try_clone().unwrap();
        let listener = Listener::new(backend, socket.into(), Queued::Accept).unwrap();
        // What the sibling does when it stops: it makes the shared open file description non-blocking.
        assert!(epoll::accept_queued(&sibling.into()).unwrap().is_none());
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            TcpStream::connect(address).unwrap()
        });
        assert!(listener.accept().await.unwrap().is_some());
        late.join().unwrap();
    });
}

#[test]
fn a_socket_at_rest_wakes_for_bytes_and_for_the_end_and_loses_neither() {
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        for round in 0..3 {
            // A receive is in flight when the rest begins, as on a connection that fell silent.
            let short = Duration::from_millis(20);
            assert!(timer::timeout(short, poll_fn(|context| socket.poll_fill(context))).await.is_err());
            assert!(timer::timeout(short, poll_fn(|context| socket.poll_rest(context))).await.is_err());
            // In later rounds, the rest is interrupted and begins again.
            if round > 0 {
                assert!(timer::timeout(short, poll_fn(|context| socket.poll_rest(context))).await.is_err());
            }
            peer.write_all(b"ping").unwrap();
            poll_fn(|context| socket.poll_rest(context)).await;
            assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 4, "{backend:?} round {round}");
            assert_eq!(socket.buffered(), b"ping");
            poll_fn(|context| socket.poll_rest(context)).await;
            assert_eq!(socket.buffered(), b"ping", "buffered bytes are kept");
            socket.consume(4);
        }
        // Bytes that arrive while the receive is being cancelled.
        let short = Duration::from_millis(20);
        assert!(timer::timeout(short, poll_fn(|context| socket.poll_fill(context))).await.is_err());
        peer.write_all(b"pong").unwrap();
        poll_fn(|context| socket.poll_rest(context)).await;
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 4);
        socket.consume(4);
        drop(peer);
        poll_fn(|context| socket.poll_rest(context)).await;
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 0);
    });
}

#[test]
fn shutting_down_completes_a_receive_in_flight() {
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        let short = Duration::from_millis(20);
        assert!(timer::timeout(short, poll_fn(|context| socket.poll_fill(context))).await.is_err());
        socket.shutdown(Shutdown::Read);
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 0);
        // The other direction still works.
        socket.queue().extend_from_slice(b"bye");
        poll_fn(|context| socket.poll_finish(context)).await.unwrap();
        let mut received = String::new();
        peer.read_to_string(&mut received).unwrap();
        assert_eq!(received, "bye", "{backend:?}");
    });
}

#[test]
fn receive_buffers_grow_while_they_are_full_and_shrink_again() {
    const KIB: usize = 1024;
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        peer.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut sizes = Vec::new();
        for bytes in [148 * KIB + 1, 16 * KIB - 1, 5 * KIB] {
            peer.write_all(&vec![b'x'; bytes]).unwrap();
            let mut left = bytes;
            while left > 0 {
                let count = poll_fn(|context| socket.poll_fill(context)).await.unwrap();
                socket.consume(count);
                sizes.push(count);
                left -= count;
            }
        }
        // A full buffer is followed by one four times as large, up to 64 KiB. One byte is less than a quarter: back to 4 KiB.
        let expected = [4 * KIB, 16 * KIB, 64 * KIB, 64 * KIB, 1, 4 * KIB, 12 * KIB - 1, 5 * KIB].as_slice();
        assert_eq!(sizes, expected, "{backend:?}");
    });
}

#[test]
fn stopping_ends_a_pending_accept() {
    on_each_backend(|backend| async move {
        for queued in [Queued::Accept, Queued::Leave] {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let listener = Rc::new(Listener::new(backend, socket.into(), queued).unwrap());
            let accepting = tokio::task::spawn_local({
                let listener = Rc::clone(&listener);
                async move { listener.accept().await.unwrap().is_none() }
            });
            timer::sleep(Duration::from_millis(20)).await;
            listener.stop();
            listener.stop();
            let stopped = timer::timeout(Duration::from_secs(10), accepting).await;
            assert!(stopped.unwrap().unwrap(), "{backend:?} {queued:?}");
            assert!(listener.accept().await.unwrap().is_none(), "{backend:?} {queued:?}: it stays stopped");
        }
    });
}

#[test]
fn a_listener_that_is_stopped_before_its_first_accept_accepts_only_what_is_queued() {
    on_each_backend(|backend| async move {
        for (queued, expected) in [(Queued::Accept, true), (Queued::Leave, false)] {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let _client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
            let listener = Listener::new(backend, socket.into(), queued).unwrap();
            listener.stop();
            assert_eq!(listener.accept().await.unwrap().is_some(), expected, "{backend:?} {queued:?}");
            assert!(listener.accept().await.unwrap().is_none(), "{backend:?} {queued:?}");
        }
    });
}

#[test]
fn bound_listeners_share_a_port_and_accepted_sockets_do_not_delay() {
    let (first, address) = bind("127.0.0.1:0".parse().unwrap(), 16).unwrap();
    let (second, same) = bind(address, 16).unwrap();
    assert_eq!(same, address);
    drop(second);
    let client = TcpStream::connect(address).unwrap();
    let accepted = TcpListener::from(first).accept().unwrap().0;
    assert!(accepted.nodelay().unwrap());
    assert_eq!(peer_address(&accepted.into()), client.local_addr().ok());
}

#[test]
fn sleeps_are_never_early_and_a_future_that_is_ready_beats_its_timeout() {
    on_each_backend(|backend| async move {
        for wait in [0, 1, 7, 20].map(Duration::from_millis) {
            let began = Instant::now();
            timer::sleep(wait).await;
            assert!(began.elapsed() >= wait, "{backend:?}: {wait:?}");
        }
        assert_eq!(timer::timeout(Duration::ZERO, std::future::ready(7)).await, Ok(7));
        let kept = Rc::new(());
        let inside = Rc::clone(&kept);
        let never = async move {
            let _inside = inside;
            std::future::pending::<()>().await;
        };
        assert_eq!(timer::timeout(Duration::from_millis(1), never).await, Err(timer::Elapsed));
        assert_eq!(Rc::strong_count(&kept), 1, "{backend:?}: the future is dropped");
    });
}

#[test]
fn a_thread_without_a_reactor_makes_no_socket_on_it() {
    block_on(Backend::Epoll, async {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(Socket::new(Backend::Reactor, OwnedFd::from(ours)).is_err());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(Listener::new(Backend::Reactor, listener.into(), Queued::Accept).is_err());
    })
    .unwrap();
}

#[test]
fn between_two_ends_of_turns_others_are_served() {
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        peer.set_nonblocking(true).unwrap();
        let echoed = Rc::new(std::cell::Cell::new(0));
        let count = Rc::clone(&echoed);
        let echo = tokio::task::spawn_local(async move {
            while poll_fn(|context| socket.poll_fill(context)).await.unwrap() > 0 {
                let bytes = socket.buffered().to_vec();
                socket.consume(usize::MAX);
                socket.queue().extend_from_slice(&bytes);
                poll_fn(|context| socket.poll_drain(context)).await.unwrap();
                count.set(count.get() + 1);
            }
        });
        // No turn waits for anything: if turns ended without a look at the socket, nothing would ever be echoed.
        let mut end_of_turn = TurnEnd::new(backend).unwrap();
        let mut turns = 0;
        for round in 1..=20 {
            peer.write_all(b"x").unwrap();
            while echoed.get() < round {
                end_of_turn.wait().await;
                turns += 1;
                assert!(turns < 20 * 20, "{backend:?}: {round} rounds");
            }
            let _ = peer.read(&mut [0; 1]);
        }
        drop(peer);
        echo.await.unwrap();
    });
}
