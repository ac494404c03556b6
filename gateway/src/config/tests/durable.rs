//! `delivery` and `durable` of a route.

use super::bad::check;
use super::*;
use crate::config::{Durable, OrderBy};
use hookgate_core::auth::JsonPointer;

const STATE: &str = "[state]\ndirectory = \"state\"\n";

/// A route with these lines, the first of which is the fifth.
fn route(lines: &str) -> String {
    format!("{ROUTE}{lines}\n")
}

fn parsed(lines: &str) -> Option<Durable> {
    let text = [LISTEN, CERTIFICATE, PROVIDER, &route(lines), STATE].concat();
    let config = Fixture::new().good(&text);
    assert_eq!(config.durable.len(), config.routes.len());
    config.durable[0].as_deref().cloned()
}

#[test]
fn a_route_is_direct_unless_it_says_otherwise() {
    assert_eq!(parsed(""), None);
    assert_eq!(parsed("delivery = \"direct\""), None);
    assert_eq!(parsed("delivery = \"durable\""), Some(Durable::default()));
    let all = "delivery = \"durable\"\ndurable = { status = 204, retry_for_s = 60, order_by = \"/data/id\", max_in_flight = 3, \
               rate_per_s = 7, max_bytes = 65536, max_entries = 9 }";
    let expected = Durable {
        status: hyper::StatusCode::NO_CONTENT,
        retry_for: Duration::from_secs(60),
        order_by: OrderBy::Pointer(JsonPointer::parse("/data/id").unwrap()),
        max_in_flight: 3,
        rate_per_s: Some(7),
        max_bytes: 65536,
        max_entries: 9,
    };
    assert_eq!(parsed(all), Some(expected));
    let order = |by: &str| parsed(&format!("delivery = \"durable\"\ndurable.order_by = \"{by}\"")).unwrap().order_by;
    assert_eq!(order("X-Account-Id"), OrderBy::Field("x-account-id".parse().unwrap()));
    assert_eq!(order("none"), OrderBy::Nothing);
}

#[test]
fn what_is_wrong_is_said() {
    let in_state = |lines: &str, line, key: &str, words| check(&(route(lines) + STATE), line, key, words);
    in_state("delivery = \"later\"", 5, "route[0].delivery", "write \"direct\" or \"durable\"");
    in_state("durable = {}", 5, "route[0].durable", "write that too, or remove the key");
    in_state("delivery = \"direct\"\ndurable.status = 200", 6, "route[0].durable", "delivery = \"durable\"");
    let wrong = |table: &str, key: &str, words| {
        let lines = format!("delivery = \"durable\"\ndurable = {{ {table} }}");
        in_state(&lines, 6, &format!("route[0].durable.{key}"), words);
    };
    wrong("status = 205", "status", "write a number from 200 to 204");
    wrong("retry_for_s = 0", "retry_for_s", "from 1 to 2592000 s");
    wrong("max_in_flight = 0", "max_in_flight", "from 1 to");
    wrong("rate_per_s = 0", "rate_per_s", "a second");
    wrong("max_bytes = 100", "max_bytes", "from 65536 to");
    wrong("max_entries = 1000001", "max_entries", "to 1000000");
    wrong("order_by = \"/a~\"", "order_by", "write \"~\" as \"~0\"");
    wrong(
        "order_by = \"$.data.id\"",
        "order_by",
        "\"$.data.id\" is no JSON pointer: one begins with \"/\"; write \"none\"",
    );
    wrong("order_by = \"a b\"", "order_by", "neither a JSON pointer nor the name of a field; write \"none\"");
    wrong("order_by = \"\"", "order_by", "write \"none\"");
    wrong("retry_for = 5", "retry_for", "did you mean \"retry_for_s\"?");
    in_state("methods = [\"POST\", \"GET\"]\ndelivery = \"durable\"", 6, "route[0].delivery", "the route takes GET");
}

#[test]
fn there_must_be_a_database() {
    let durable = route("delivery = \"durable\"");
    check(&durable, 5, "route[0].delivery", "write [state] with directory = \"/var/lib/hookgate\"");
    // That of the service manager is known to the daemon alone.
    let environment = Environment { state: Some("/var/lib/hookgate".into()), ..Environment::at(NOW) };
    let text = [LISTEN, CERTIFICATE, PROVIDER, &durable].concat();
    let fixture = Fixture::new();
    let path = fixture.path("hookgate.toml");
    let errors = Config::parse_in(&text, Path::new(&path), environment, &mut FileVersions::default()).unwrap_err();
    assert!(errors.to_string().contains("which the file must name"), "{errors}");
    let memory = format!("{durable}{STATE}deliveries = \"memory\"\n");
    check(&memory, 5, "route[0].delivery", "write deliveries = \"disk\"");
}

#[test]
fn a_durable_route_has_a_name_of_its_own() {
    let durable = route("delivery = \"durable\"");
    let other = "[[route]]\npath = \"/pagerduty\"\nmethods = [\"PUT\"]\nproviders = [\"pagerduty\"]\nhandler = \"unix:/run/b\"\n";
    let text = format!("{durable}{other}{STATE}");
    check(&text, 5, "route[0].delivery", "another route is called \"/pagerduty\" too");
    let text = format!("{durable}name = \"mine\"\n{other}{STATE}");
    Fixture::new().good(&[LISTEN, CERTIFICATE, PROVIDER, &text].concat());
}
