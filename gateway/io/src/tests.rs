//! The seam on both backends: bytes both ways, bulk, sockets dropped while they wait, listeners that stop.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::future::poll_fn;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use super::*;

/// Runs `test` on every backend that this host allows; epoll is always one of them.
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
    (Socket::new(backend, ours.into()).unwrap(), theirs)
}

#[test]
fn bytes_go_both_ways_and_the_end_is_seen() {
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        peer.write_all(b"ping").unwrap();
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 4);
        assert_eq!(socket.buffered(), b"ping");
        socket.consume(1);
        assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 3, "what is left is not read over");
        socket.consume(3);
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
fn much_more_than_a_socket_buffer_arrives_whole() {
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
fn what_is_sent_from_where_it_lies_follows_what_was_queued() {
    const SIZE: usize = 2 * 1024 * 1024;
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        let body: Vec<u8> = (0..SIZE).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let expected = body.clone();
        let reader = std::thread::spawn(move || {
            // Late, so that the socket is full by then.
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
        assert!(calls > 1, "a Unix socket holds less");
        assert_eq!((socket.sent(), socket.pending()), (SIZE as u64 + 4, 0));
        poll_fn(|context| socket.poll_finish(context)).await.unwrap();
        assert!(reader.join().unwrap());
    });
}

#[test]
fn whoever_waits_to_send_learns_that_the_peer_is_gone() {
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
fn a_socket_dropped_while_it_waits_lets_go_of_its_peer() {
    on_each_backend(|backend| async move {
        let (mut socket, mut peer) = pair(backend);
        let waiting = timer::timeout(Duration::from_millis(20), poll_fn(|context| socket.poll_fill(context))).await;
        assert!(waiting.is_err(), "nothing has come");
        let descriptor = Rc::downgrade(socket.descriptor());
        drop(socket);
        // The operation ends at its own pace, but without the peer doing anything.
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

/// Accepts one connection, leaves two in the queue, stops; returns how many were accepted, and how many can be afterwards.
async fn stop_with_two_queued(backend: Backend, queued: Queued) -> (usize, usize) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let heir = socket.try_clone().unwrap();
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
    // Queued, but this thread has not accepted them when it stops. The kernel may complete an accept that waits.
    let _second = TcpStream::connect(address).unwrap();
    let _third = TcpStream::connect(address).unwrap();
    listener.stop();
    let accepted = accepting.await.unwrap();
    heir.set_nonblocking(true).unwrap();
    (accepted, std::iter::from_fn(|| heir.accept().ok()).count())
}

#[test]
fn a_stopped_listener_still_returns_what_is_queued() {
    on_each_backend(|backend| async move {
        assert_eq!(stop_with_two_queued(backend, Queued::Accept).await, (3, 0));
    });
}

#[test]
fn a_stopped_listener_leaves_what_is_queued_to_its_heir() {
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
        // What a sibling does to the open file description that both share.
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
            // A receive is under way when the rest begins, as it is on a connection that fell silent.
            let short = Duration::from_millis(20);
            assert!(timer::timeout(short, poll_fn(|context| socket.poll_fill(context))).await.is_err());
            assert!(timer::timeout(short, poll_fn(|context| socket.poll_rest(context))).await.is_err());
            // Again from the start, and again from the middle of a rest.
            if round > 0 {
                assert!(timer::timeout(short, poll_fn(|context| socket.poll_rest(context))).await.is_err());
            }
            peer.write_all(b"ping").unwrap();
            poll_fn(|context| socket.poll_rest(context)).await;
            assert_eq!(poll_fn(|context| socket.poll_fill(context)).await.unwrap(), 4, "{backend:?} round {round}");
            assert_eq!(socket.buffered(), b"ping");
            poll_fn(|context| socket.poll_rest(context)).await;
            assert_eq!(socket.buffered(), b"ping", "nothing buffered is given up");
            socket.consume(4);
        }
        // Bytes that come while the receive is being ended.
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
