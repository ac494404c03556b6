//! Which tickets open, by secret, policy, hour and content.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::HashSet;
use std::time::Duration;

use data_encoding::HEXLOWER;

use super::*;

/// 2026-07-12T16:00:00Z, the start of an hour.
const HOUR: u64 = 495_520;
const SESSION: &[u8] = b"a session";

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

fn trust(first: u8) -> TrustDigest {
    TrustDigest::from(std::array::from_fn(|place| first + u8::try_from(place).unwrap()))
}

fn at(hour: u64, seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(hour * SECONDS_AN_HOUR + seconds))
}

/// A host with these secrets and this policy, at the start of [`HOUR`].
fn host(secrets: &[&str], policy: u8) -> SharedTickets {
    let secrets: Vec<Secret> = secrets.iter().map(|text| secret(text)).collect();
    SharedTickets::at(SharedKeys { secrets: TicketSecrets::new(&secrets), trust: trust(policy) }, at(HOUR, 0))
}

/// Computed with the modules hmac and hashlib of Python. Another result is another form: [`FORMAT`] must change.
#[test]
fn keys_are_derived_as_rfc_5869_says() {
    let pseudorandom_key = secret("0123456789abcdef0123456789abcdef").pseudorandom_key(SALT);
    let (name, key) = derived(&pseudorandom_key, "1.2.3", HOUR, &trust(0)).unwrap();
    assert_eq!(HEXLOWER.encode(&*key), "0491b7909610062b68878e1bb8cd493e8a3db60bfc7d288a356e145e2e7b33f3");
    assert_eq!(HEXLOWER.encode(&name), "23c81ae0d98109cf50783357176ddc0f");
}

/// Sealed by the module cryptography of Python.
#[test]
fn a_ticket_has_the_documented_form() {
    let sealed =
        "23c81ae0d98109cf50783357176ddc0f6465666768696a6b6c6d6e6f51d5c506b83cc2d29c32e9b9991f303664e7c20d4e05a67b3e";
    let host = host(&[], 0);
    let pseudorandom_key = secret("0123456789abcdef0123456789abcdef").pseudorandom_key(SALT);
    let (name, key) = derived(&pseudorandom_key, "1.2.3", HOUR, &trust(0)).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).unwrap());
    let keys = vec![Arc::new(HourKey { secret: 0, hour: HOUR, name, key })];
    host.table.store(Arc::new(Table { hour: HOUR, keys }));
    let ticket = HEXLOWER.decode(sealed.as_bytes()).unwrap();
    assert_eq!(host.open(&ticket, at(HOUR, 0)), Some(SESSION.to_vec()));
}

#[test]
fn another_version_secret_hour_or_policy_has_another_key() {
    let all = ["a", "b"].into_iter().flat_map(|text| {
        let pseudorandom_key = secret(text).pseudorandom_key(SALT);
        let of = move |version| {
            [HOUR, HOUR + 1].map(|hour| [0, 1].map(|policy| derived(&pseudorandom_key, version, hour, &trust(policy))))
        };
        ["1.2.3", "1.2.30"].map(of)
    });
    let all: Vec<_> = all.flatten().flatten().map(Option::unwrap).collect();
    assert_eq!(all.len(), 16);
    assert_eq!(all.iter().map(|(name, _)| *name).collect::<HashSet<_>>().len(), 16);
    assert_eq!(all.iter().map(|(_, key)| **key).collect::<HashSet<_>>().len(), 16);
}

#[test]
fn hosts_with_one_secret_and_one_policy_open_each_others_tickets() {
    let (one, other) = (host(&["s"], 0), host(&["s"], 0));
    let ticket = one.encrypt(SESSION).unwrap();
    assert_eq!(other.decrypt(&ticket), Some(SESSION.to_vec()));
    let again = one.encrypt(SESSION).unwrap();
    assert_ne!(ticket, again, "the nonce of each is its own");
    assert_eq!(host(&["t"], 0).decrypt(&ticket), None, "another secret");
    assert_eq!(host(&["s"], 1).decrypt(&ticket), None, "another policy");
    assert_eq!(ticket.len(), NAME_BYTES + NONCE_LEN + SESSION.len() + TAG_BYTES);
    assert!(!ticket.windows(SESSION.len()).any(|bytes| bytes == SESSION), "the session is encrypted");
}

#[test]
fn the_first_secret_seals_and_all_of_them_open() {
    let [old, both, turned, new] = [&["a"][..], &["a", "b"], &["b", "a"], &["b"]].map(|secrets| host(secrets, 0));
    let opens = |from: &SharedTickets, by: &SharedTickets| by.decrypt(&from.encrypt(SESSION).unwrap()).is_some();
    for (from, by, expected) in [
        (&old, &both, true),
        (&both, &old, true),
        (&both, &turned, true),
        (&turned, &both, true),
        (&turned, &new, true),
        (&old, &turned, true),
        (&old, &new, false),
        (&turned, &old, false),
    ] {
        assert_eq!(opens(from, by), expected);
    }
    let none = host(&[], 0);
    assert_eq!((none.encrypt(SESSION), none.decrypt(&old.encrypt(SESSION).unwrap())), (None, None));
}

#[test]
fn a_ticket_opens_for_its_hours_and_an_hour_ahead() {
    let (one, other) = (host(&["s", "t"], 0), host(&["s"], 0));
    for sealed in [at(HOUR, 0), at(HOUR, SECONDS_AN_HOUR - 1)] {
        let ticket = one.seal(SESSION, sealed).unwrap();
        for (now, expected) in [
            (at(HOUR - 2, SECONDS_AN_HOUR - 1), false),
            (at(HOUR - 1, 0), true),
            (at(HOUR, 0), true),
            (at(HOUR + 12, SECONDS_AN_HOUR - 1), true),
            (at(HOUR + 13, 0), false),
            (at(HOUR + 400_000, 0), false),
            (at(0, 0), false),
            // A clock that was set right again.
            (at(HOUR, 7), true),
        ] {
            assert_eq!(other.open(&ticket, now).is_some(), expected, "{now:?}");
            assert_eq!(one.open(&ticket, now).is_some(), expected, "{now:?}");
        }
    }
}

#[test]
fn each_hour_seals_with_a_key_of_its_own_and_few_keys_are_kept() {
    let host = host(&["s", "t"], 0);
    let names: HashSet<Vec<u8>> = (HOUR..HOUR + 100)
        .map(|hour| {
            let name = host.seal(SESSION, at(hour, 5)).unwrap()[..NAME_BYTES].to_vec();
            assert_eq!(host.table.load().keys.len(), 28);
            name
        })
        .collect();
    assert_eq!(names.len(), 100);
    // What an hour before had is what is derived anew.
    let fresh = Table::new(&host.keys, HOUR + 99, &[]);
    let kept: Vec<_> = host.table.load().keys.iter().map(|key| (key.secret, key.hour, key.name)).collect();
    assert_eq!(kept, fresh.keys.iter().map(|key| (key.secret, key.hour, key.name)).collect::<Vec<_>>());
}

#[test]
fn no_changed_or_cut_ticket_opens() {
    let host = host(&["s"], 0);
    let ticket = host.encrypt(SESSION).unwrap();
    for length in 0..ticket.len() {
        assert_eq!(host.decrypt(&ticket[..length]), None, "{length}");
    }
    for place in 0..ticket.len() {
        for bit in 0..8 {
            let mut changed = ticket.clone();
            changed[place] ^= 1 << bit;
            assert_eq!(host.decrypt(&changed), None, "{place}");
        }
    }
    assert_eq!(host.decrypt(&[ticket.as_slice(), &[0]].concat()), None);
    assert_eq!(host.decrypt(&ticket), Some(SESSION.to_vec()));
}

#[test]
fn nothing_prints_a_secret() {
    let host = host(&["xyzzy-plugh", "second"], 0);
    let text = format!("{host:?}");
    assert!(text.contains("TicketSecrets(2 REDACTED)"), "{text}");
    assert!(!text.contains("xyzzy"), "{text}");
}
