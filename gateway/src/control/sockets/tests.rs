//! Which address and which worker a socket goes to, and the errors about sockets that match no address.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeSet;

use super::*;

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

/// Sockets with these names, as if they were on these addresses.
fn handed_over(list: &[(&str, &str)]) -> Vec<HandedOver> {
    let socket = |(name, address): &(&str, &str)| HandedOver {
        name: (*name).to_owned(),
        address: address.parse().unwrap(),
        descriptor: TcpListener::bind("127.0.0.1:0").unwrap().into(),
    };
    list.iter().map(socket).collect()
}

#[test]
fn every_socket_is_served_and_every_worker_serves_one() {
    for sockets in 1..9 {
        for workers in 1..9 {
            let listening = |_| {
                let descriptor = TcpListener::bind("127.0.0.1:0").unwrap().into();
                Listening { descriptor, queued: Queued::Leave }
            };
            let sockets: Vec<_> = (0..sockets).map(listening).collect();
            let address = |socket: &Listening| rustix::net::getsockname(&socket.descriptor).unwrap();
            let all: BTreeSet<_> = sockets.iter().map(|socket| format!("{:?}", address(socket))).collect();
            let mut distributed: Vec<Vec<Listening>> = (0..workers).map(|_| Vec::new()).collect();
            distribute(sockets, &mut distributed).unwrap();
            let served: BTreeSet<_> =
                distributed.iter().flatten().map(|socket| format!("{:?}", address(socket))).collect();
            let context = format!("{} sockets, {workers} workers", all.len());
            assert_eq!(served, all, "{context}");
            let (least, most) = (distributed.iter().map(Vec::len).min(), distributed.iter().map(Vec::len).max());
            assert!(least >= Some(1) && most.unwrap() <= least.unwrap() + 1, "{context}: {least:?} to {most:?}");
        }
    }
}

#[test]
fn sockets_go_to_their_addresses() {
    let check = |configured: &[&str], handed: &[&str], expected: &[&[&str]], left: &[&str]| {
        let handed: Vec<_> = handed.iter().map(|address| ("hookgate", *address)).collect();
        let (claimed, over) = claim(&addresses(configured), handed_over(&handed));
        let found = |sockets: &[HandedOver]| sockets.iter().map(|socket| socket.address).collect::<Vec<_>>();
        let claimed: Vec<_> = claimed.iter().map(|sockets| found(sockets)).collect();
        assert_eq!(claimed, expected.iter().map(|list| addresses(list)).collect::<Vec<_>>(), "{configured:?}");
        assert_eq!(found(&over), addresses(left), "{configured:?}");
    };
    check(&["0.0.0.0:443", "[::]:443"], &[], &[&[], &[]], &[]);
    check(&["0.0.0.0:443", "[::]:443"], &["[::]:443", "0.0.0.0:443"], &[&["0.0.0.0:443"], &["[::]:443"]], &[]);
    check(&["0.0.0.0:443"], &["0.0.0.0:443", "0.0.0.0:443"], &[&["0.0.0.0:443", "0.0.0.0:443"]], &[]);
    check(
        &["0.0.0.0:443"],
        &["127.0.0.1:443", "0.0.0.0:444", "[::]:443"],
        &[&[]],
        &["127.0.0.1:443", "0.0.0.0:444", "[::]:443"],
    );
    // Port 0 takes one port, and none that is named.
    let three = ["127.0.0.1:5", "127.0.0.1:6", "127.0.0.1:7", "127.0.0.1:6"];
    check(
        &["127.0.0.1:0", "127.0.0.1:5"],
        &three,
        &[&["127.0.0.1:6", "127.0.0.1:6"], &["127.0.0.1:5"]],
        &["127.0.0.1:7"],
    );
    check(&["127.0.0.1:0"], &["127.0.0.2:5", "[::1]:5"], &[&[]], &["127.0.0.2:5", "[::1]:5"]);
}

#[test]
fn a_socket_too_many_is_an_error_unless_it_was_ours() {
    let name = store_name("127.0.0.1:6".parse().unwrap());
    assert_eq!(discard(handed_over(&[(&name, "127.0.0.1:6")])), Ok(()));
    let address = "127.0.0.1:5".parse().unwrap();
    let error = SocketsError::NotConfigured { address, name: "hookgate".to_owned() };
    assert!(error.to_string().contains("add \"127.0.0.1:5\" there"), "{error}");
    assert_eq!(discard(handed_over(&[(&name, "127.0.0.1:6"), ("hookgate", "127.0.0.1:5")])), Err(error));
}

#[test]
fn a_name_in_the_store_is_one_that_systemd_takes() {
    let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535";
    for address in ["0.0.0.0:443", "[::]:443", longest] {
        let name = store_name(address.parse().unwrap());
        assert!(name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'), "{name}");
    }
    assert_ne!(store_name("[::]:443".parse().unwrap()), store_name("0.0.0.0:443".parse().unwrap()));
}
