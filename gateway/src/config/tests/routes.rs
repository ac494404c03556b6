//! What a route has of its own.

use super::bad::check;
use super::*;
use hookgate_core::limits::Limits;
use hookgate_core::route::{Route, RouteLimits, StripPrefix};

const STATE: &str = "[state]\ndirectory = \"state\"\n";

/// A route with these lines, the first of which is the fifth.
fn route(lines: &str) -> String {
    format!("{ROUTE}{lines}\n")
}

fn parsed(lines: &str) -> Route {
    let text = [LISTEN, CERTIFICATE, PROVIDER, &route(lines)].concat();
    Fixture::new().good(&text).routes.remove(0)
}

#[test]
fn a_route_has_the_bounds_of_limits_unless_it_has_its_own() {
    assert_eq!(parsed("").limits, RouteLimits::of(&Limits::default()));
    let limits = "[limits]\nhandler_timeout_ms = 3\nmax_body_bytes = 4\nmax_buffered_bytes = 9\nhandler_max_in_flight = 6\n";
    let of_limits = RouteLimits { handler_timeout: Duration::from_millis(3), max_body_bytes: 4, max_in_flight: None };
    assert_eq!(parsed(limits).limits, of_limits);
    // More than [limits] has for a body, but not for all of them.
    let own = format!("handler_timeout_ms = 7\nmax_body_bytes = 9\nmax_in_flight = 6\n{limits}");
    let expected = RouteLimits { handler_timeout: Duration::from_millis(7), max_body_bytes: 9, max_in_flight: Some(6) };
    assert_eq!(parsed(&own).limits, expected);
}

#[test]
fn the_bounds_of_a_route_fit_to_those_of_limits() {
    let wrong = |line: &str, key: &str, words| check(&route(line), 5, &format!("route[0].{key}"), words);
    wrong("handler_timeout_ms = 0", "handler_timeout_ms", "from 1 to 3600000 ms");
    wrong("max_body_bytes = 0", "max_body_bytes", "from 1 to 1073741824 bytes");
    wrong("max_in_flight = 0", "max_in_flight", "from 1 to 65536");
    let words = "max_buffered_bytes of [limits] (268435456) is less than max_body_bytes (268435457); raise max_buffered_bytes of [limits]";
    wrong("max_body_bytes = 268435457", "max_body_bytes", words);
    let words = "handler_max_in_flight of [limits] (256) is less than max_in_flight (257)";
    wrong("max_in_flight = 257", "max_in_flight", words);
    check(&(route("max_in_flight = 3\ndelivery = \"durable\"") + STATE), 5, "route[0].max_in_flight", "durable.max_in_flight");
    // Names that the file does not give can be equal.
    let twice = format!("{}{}", route("max_in_flight = 3"), route("methods = [\"PUT\"]"));
    check(&twice, 5, "route[0].max_in_flight", "another route is called \"/pagerduty\" too");
    Fixture::new().good(&format!("{}{}", minimal() + "max_in_flight = 3\n", route("methods = [\"PUT\"]\nname = \"put\"")));
}

#[test]
fn a_prefix_is_stripped_only_from_paths_that_have_it() {
    let of = |path: &str, prefix: &str| route(&format!("strip_prefix = \"{prefix}\"")).replace("/pagerduty\"", &format!("{path}\""));
    let good = |path: &str, prefix: &str| {
        let text = [LISTEN, CERTIFICATE, PROVIDER, &of(path, prefix)].concat();
        let found = Fixture::new().good(&text).routes.remove(0).strip_prefix;
        assert_eq!(found.as_ref().map(StripPrefix::as_str), Some(prefix), "{path}");
    };
    assert_eq!(parsed("").strip_prefix, None);
    good("/hooks/*", "/hooks");
    good("/hooks/a/*", "/hooks");
    good("/hooks/a", "/hooks");
    good("/hooks", "/hooks");
    let wrong = |path: &str, prefix: &str, words: &str| check(&of(path, prefix), 5, "route[0].strip_prefix", words);
    wrong("/hooks/*", "hooks", "does not begin with");
    wrong("/hooks/*", "/hooks/", "write it without the last slash");
    wrong("/hooks/*", "/", "takes nothing away; remove the key");
    wrong("/hooks/*", "/hooks/*", "without \"*\"");
    wrong("/hooks/*", "/hook", "the path /hooks/* is neither /hook nor below it; write whole segments of the path, such as \"/hooks\"");
    wrong("/hooks", "/hooks/a", "such as \"/hooks\"");
    wrong("/*", "/hooks", "takes nothing away");
}
