//! `[tickets]`: what its secrets must be, and what a reload says of them.

use super::*;
use crate::config::inventory::difference;

/// 64 hexadecimal digits, as `openssl rand -hex 32` writes them.
const FIRST: &str = "6c3f0f1e9b5f4d8796a5b4c3d2e1f00112233445566778899aabbccddeeff001";
const SECOND: &str = "00ffeeddccbbaa99887766554433221100f1e2d3c4b5a69787d4f5b9e1f0f3c6";

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("first.secret", &format!("{FIRST}\n"));
    fixture.write("second.secret", SECOND);
    fixture.write("credentials/tickets", FIRST);
    fixture
}

/// A minimal configuration with `[tickets]` in line 14 and these secrets in line 15.
fn with(secrets: &str) -> String {
    format!("{}[tickets]\nsecrets = {secrets}\n", minimal())
}

/// Fails unless the secrets have one error, at this place and with these words.
#[track_caller]
fn check(fixture: &Fixture, secrets: &str, place: &str, words: &str) {
    let errors = fixture.errors(&with(secrets));
    let start = format!("15: tickets.secrets{place}: ");
    assert!(
        errors.len() == 1 && errors[0].starts_with(&start) && errors[0].contains(words),
        "{start}{words}\n{errors:#?}"
    );
    assert!(!errors.concat().contains(&FIRST[..16]), "{errors:?}");
}

#[test]
fn up_to_four_secrets_are_read_from_files_and_credentials() {
    let fixture = fixture();
    assert!(fixture.good(&minimal()).tickets.is_none());
    let secrets = |text: &str| format!("{:?}", fixture.good(&with(text)).tickets);
    assert_eq!(secrets("[{ file = \"first.secret\" }]"), "Some(TicketSecrets(1 REDACTED))");
    assert_eq!(secrets("[{ credential = \"tickets\" }]"), "Some(TicketSecrets(1 REDACTED))");
    for name in ["third", "fourth", "fifth"] {
        fixture.write(&format!("{name}.secret"), &format!("{name}{FIRST}"));
    }
    let file = |name: &str| format!("{{ file = \"{name}.secret\" }}");
    let four = ["first", "second", "third", "fourth"].map(file).join(", ");
    assert_eq!(secrets(&format!("[{four}]")), "Some(TicketSecrets(4 REDACTED))");
    check(&fixture, &format!("[{four}, {}]", file("fifth")), "", "5 entries; write at most 4");
}

#[test]
fn a_section_without_secrets_is_an_error() {
    let fixture = fixture();
    let errors = fixture.errors(&format!("{}[tickets]\n", minimal()));
    let words = "14: tickets.secrets: missing; write secrets = [{ file = \"tickets.secret\" }]";
    assert!(errors.len() == 1 && errors[0].starts_with(words), "{errors:?}");
    check(&fixture, "[]", "", "empty; write secrets = [{ file = \"tickets.secret\" }]");
    check(&fixture, "[{}]", "[0]", "a secret comes from one place");
}

#[test]
fn a_secret_that_is_missing_short_long_or_there_twice_is_an_error() {
    let fixture = fixture();
    check(&fixture, "[{ file = \"absent\" }]", "[0].file", "absent cannot be read: No such file");
    check(&fixture, "[{ file = \".\" }]", "[0].file", "it is a directory");
    check(&fixture, "[{ credential = \"absent\" }]", "[0].credential", "absent cannot be read: No such file");
    let twice = "[{ file = \"second.secret\" }, { file = \"first.secret\" }, { file = \"./first.secret\" }]";
    check(&fixture, twice, "[2]", "this secret is already in line 15; remove one of the two, or change it");
    let copied = "[{ file = \"first.secret\" }, { credential = \"tickets\" }]";
    check(&fixture, copied, "[1]", "this secret is already in line 15");
    for (content, words) in [
        (String::new(), "the secret has 0 bytes; write at least 32 random ones, such as from openssl rand -hex 32"),
        ("\n".to_owned(), "the secret has 0 bytes"),
        (FIRST[..31].to_owned(), "the secret has 31 bytes"),
        (format!("{}\n", &FIRST[..31]), "the secret has 31 bytes"),
        ("x".repeat(4097), "bad.secret: the secret has 4097 bytes, more than 4096"),
        ("x".repeat(8193), "bad.secret cannot be read: larger than 8192 bytes"),
    ] {
        fixture.write("bad.secret", &content);
        let errors = fixture.errors(&with("[{ file = \"bad.secret\" }]"));
        let start = "15: tickets.secrets[0]";
        assert!(errors.len() == 1 && errors[0].starts_with(start) && errors[0].contains(words), "{words}\n{errors:?}");
    }
    fixture.write("bad.secret", &FIRST[..32]);
    fixture.good(&with("[{ file = \"bad.secret\" }]"));
}

#[test]
fn a_secret_that_others_can_read_or_that_is_odd_is_warned_of() {
    let fixture = fixture();
    let about_tickets = |warning: &String| warning.contains("tickets.");
    let warnings = |secrets: &str| {
        let all = fixture.warnings_at(&with(secrets), NOW).into_iter();
        all.filter(about_tickets).collect::<Vec<_>>()
    };
    assert_eq!(warnings("[{ file = \"first.secret\" }]"), Vec::<String>::new());
    fs::set_permissions(fixture.path("first.secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let all = warnings("[{ file = \"first.secret\" }]");
    assert!(all.len() == 1 && all[0].contains("15: tickets.secrets[0].file: "), "{all:?}");
    assert!(all[0].contains("first.secret is readable by every user of this host; chmod 0600 or 0640"), "{all:?}");
    let all = warnings(&format!("[{{ unsafe_value = \"{SECOND}\" }}]"));
    assert!(all.len() == 1 && all[0].contains("everyone who can read this file can read the secret"), "{all:?}");
    fixture.write("first.secret", &format!("TICKETS={FIRST}"));
    let all = warnings("[{ file = \"first.secret\" }]");
    assert!(all.len() == 1 && all[0].contains("has the form NAME=value"), "{all:?}");
}

#[test]
fn a_reload_tells_which_secret_changed_and_none_of_it() {
    let fixture = fixture();
    let (first, second) = ("{ file = \"first.secret\" }", "{ file = \"second.secret\" }");
    let inventory = |secrets: &str| fixture.good(&with(secrets)).inventory;
    let before = inventory(&format!("[{first}]"));
    let lines = |after| difference(&before, &after).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(lines(inventory(&format!("[{first}]"))), Vec::<String>::new());
    let changed = lines(inventory(&format!("[{second}, {first}]")));
    let setting =
        "tickets.secrets: [{ file = \"first.secret\" }] → [{ file = \"second.secret\" }, { file = \"first.secret\" }]";
    assert_eq!(changed, ["tickets.secret second.secret added", setting]);
    fixture.write("first.secret", SECOND);
    assert_eq!(lines(inventory(&format!("[{first}]"))), ["tickets.secret first.secret: changed"]);
    let hidden = lines(inventory(&format!("[{{ unsafe_value = \"{FIRST}\" }}]"))).concat();
    assert!(hidden.contains("unsafe_value = (hidden)") && !hidden.contains(&FIRST[..16]), "{hidden}");
}
