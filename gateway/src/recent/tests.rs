//! What is kept, and what a flood cannot remove.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::net::SocketAddr;
use std::time::Duration;

use hookgate_core::identity::SharedChain;
use hookgate_core::reject::Refusal;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::*;

const SECOND: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_795_009_600));

fn peer(address: &str) -> SocketAddr {
    format!("{address}:443").parse().unwrap()
}

fn note(recent: &Recent, reject: Reject, from: &str, id: &str) {
    recent.note(reject, peer(from).ip(), || {
        let refusal = Refusal::new(reject, "Why.");
        Note::new(What::Request, &refusal, SECOND, peer(from)).of_request(Some(id), "POST", Some("/a"))
    });
}

fn ids(recent: &Recent) -> Vec<String> {
    recent.all().iter().map(|refused| refused.note.request_id.clone().unwrap().into()).collect()
}

#[test]
fn the_newest_comes_first_and_is_found_by_its_id_or_fingerprint() {
    let recent = Recent::default();
    note(&recent, Reject::NoRoute, "192.0.2.1", "aa");
    note(&recent, Reject::UnknownIssuer, "192.0.2.1", "bb");
    let leaf = CertificateDer::from(vec![0x30, 0]);
    recent.note(Reject::NoRoute, peer("192.0.2.2").ip(), || Note {
        chain: Some(SharedChain::new(&[leaf])),
        ..Note::new(What::Handshake, &Refusal::new(Reject::NoRoute, "x".repeat(5000)), SECOND, peer("192.0.2.2"))
    });
    let all = recent.all();
    assert_eq!(all.iter().map(|refused| refused.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(recent.find("BB").unwrap().note.reject, Reject::UnknownIssuer);
    let text = fingerprint_text(&all[0].end_entity.as_ref().unwrap().fingerprint);
    assert_eq!(text.len(), 95);
    assert_eq!(recent.find(&text).unwrap().number, 3);
    assert_eq!(recent.find(&text.to_ascii_lowercase().replace(':', "")).unwrap().number, 3);
    assert_eq!(all[0].note.explanation.len(), 1024);
    assert!(recent.find("").is_none() && recent.find("b").is_none() && recent.find("aabb").is_none());
}

#[test]
fn a_flood_of_one_reason_removes_no_refusal_of_another() {
    let recent = Recent::default();
    note(&recent, Reject::SignatureMissing, "192.0.2.1", "kept");
    for number in 0..1000_u32 {
        let from = Ipv6Addr::from_bits(u128::from(number) << 72).to_string();
        note(&recent, Reject::UnknownIssuer, &format!("[{from}]"), &number.to_string());
        if number % 5 == 0 {
            recent.settle();
        }
    }
    let all = ids(&recent);
    assert_eq!(all.len(), 1 + OF_REASON);
    assert_eq!((&*all[0], &*all[OF_REASON]), ("999", "kept"));
}

#[test]
fn a_flood_from_one_source_leaves_places_to_others_with_the_same_fault() {
    let recent = Recent::default();
    note(&recent, Reject::UnknownIssuer, "192.0.2.1", "kept");
    for number in 0..100 {
        // Of one /56.
        note(&recent, Reject::UnknownIssuer, &format!("[2001:db8::{number:x}]"), &number.to_string());
        recent.settle();
    }
    assert_eq!(ids(&recent), ["99", "98", "97", "96", "kept"]);
}

#[test]
fn notes_that_wait_are_bounded_by_reason_and_by_source_and_no_more_are_made() {
    let recent = Recent::default();
    let mut made = 0;
    for number in 0..100_u8 {
        let from = if number < 50 { "192.0.2.1".to_owned() } else { format!("192.0.2.{number}") };
        recent.note(Reject::UnknownIssuer, peer(&from).ip(), || {
            made += 1;
            Note::new(What::Request, &Refusal::new(Reject::UnknownIssuer, "Why."), SECOND, peer(&from))
        });
    }
    assert_eq!(made, usize::from(WAITING_OF_REASON));
    let all = recent.all();
    assert_eq!(all.len(), usize::from(WAITING_OF_REASON));
    let of_one = all.iter().filter(|refused| refused.note.peer == peer("192.0.2.1")).count();
    assert_eq!(of_one, WAITING_OF_SOURCE);
    note(&recent, Reject::UnknownIssuer, "192.0.2.9", "after");
    assert_eq!(ids_of_newest(&recent), "after", "what was settled waits no more");
}

fn ids_of_newest(recent: &Recent) -> String {
    recent.all()[0].note.request_id.clone().unwrap().into()
}

#[test]
fn chains_are_kept_of_the_newest_refusals_and_within_their_bound() {
    let recent = Recent::default();
    let big = || SharedChain::new(&[CertificateDer::from(vec![0; 60 * 1024])]);
    for (number, reject) in (0_usize..).zip(Reject::ALL.iter().cycle().take(Reject::ALL.len() * 6)) {
        let from = peer(&format!("192.0.2.{}", number % 200));
        recent.note(*reject, from.ip(), || Note {
            chain: Some(big()),
            ..Note::new(What::Handshake, &Refusal::new(*reject, "Why."), SECOND, from)
        });
        recent.settle();
    }
    let all = recent.all();
    let bytes: usize = all.iter().map(|refused| refused.note.chain_bytes()).sum();
    assert!(bytes <= CHAIN_BYTES && bytes > CHAIN_BYTES - 60 * 1024, "{bytes}");
    assert!(all[0].note.chain.is_some() && all[0].end_entity.is_some());
    assert!(all.last().unwrap().end_entity.is_some(), "what is shown of the certificate stays");
    // Of one reason, only the newest.
    let recent = Recent::default();
    for number in 0..10 {
        let from = peer(&format!("192.0.2.{number}"));
        recent.note(Reject::NoRoute, from.ip(), || Note {
            chain: Some(SharedChain::new(&[CertificateDer::from(vec![number])])),
            ..Note::new(What::Handshake, &Refusal::new(Reject::NoRoute, "Why."), SECOND, from)
        });
        recent.settle();
    }
    assert_eq!(recent.all().iter().filter(|refused| refused.note.chain.is_some()).count(), CHAINS_OF_REASON);
}

#[test]
fn chains_of_notes_that_wait_are_bounded() {
    let recent = Recent::default();
    for (number, reject) in (0_u8..).zip(Reject::ALL) {
        let from = peer(&format!("192.0.2.{number}"));
        recent.note(*reject, from.ip(), || Note {
            chain: Some(SharedChain::new(&[CertificateDer::from(vec![0; 60 * 1024])])),
            ..Note::new(What::Handshake, &Refusal::new(*reject, "Why."), SECOND, from)
        });
    }
    let bytes: usize = lock(&recent.notes).iter().map(Note::chain_bytes).sum();
    assert!(bytes <= WAITING_CHAIN_BYTES && lock(&recent.notes).len() == Reject::ALL.len(), "{bytes}");
}
