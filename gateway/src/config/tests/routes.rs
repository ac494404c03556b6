//! What a route has of its own.

use super::bad::check;
use super::*;
use hookgate_core::limits::Limits;
use hookgate_core::route::{AnsweredBy, HostPattern, PathPattern, Route, RouteLimits, StripPrefix};
use hyper::{Method, StatusCode};

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
    let limits =
        "[limits]\nhandler_timeout_ms = 3\nmax_body_bytes = 4\nmax_buffered_bytes = 9\nhandler_max_in_flight = 6\n";
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
    check(
        &(route("max_in_flight = 3\ndelivery = \"durable\"") + STATE),
        5,
        "route[0].max_in_flight",
        "durable.max_in_flight",
    );
    // Names that the file does not give can be equal.
    let twice = format!("{}{}", route("max_in_flight = 3"), route("methods = [\"PUT\"]"));
    check(&twice, 5, "route[0].max_in_flight", "another route is called \"/pagerduty\" too");
    Fixture::new().good(&format!(
        "{}{}",
        minimal() + "max_in_flight = 3\n",
        route("methods = [\"PUT\"]\nname = \"put\"")
    ));
}

#[test]
fn a_prefix_is_stripped_only_from_paths_that_have_it() {
    let of = |path: &str, prefix: &str| {
        route(&format!("strip_prefix = \"{prefix}\"")).replace("/pagerduty\"", &format!("{path}\""))
    };
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
    wrong(
        "/hooks/*",
        "/hook",
        "the path /hooks/* is neither /hook nor below it; write whole segments of the path, such as \"/hooks\"",
    );
    wrong("/hooks", "/hooks/a", "such as \"/hooks\"");
    wrong("/*", "/hooks", "takes nothing away");
}

/// A route that answers everyone, the first line of which is the second.
fn public(lines: &str) -> String {
    format!("[[route]]\n{lines}\n")
}

#[test]
fn a_public_route_has_a_path_a_status_and_neither_provider_nor_handler() {
    let of = |lines: &str| Fixture::new().good(&(minimal() + &public(lines))).routes.remove(1);
    let route = of("path = \"/healthz\"\nrespond = 200");
    assert_eq!((&*route.name, &route.host), ("/healthz", &HostPattern::Every));
    assert_eq!(
        (&route.path, &route.answered_by),
        (&PathPattern::Exact("/healthz".into()), &AnsweredBy::Gateway(StatusCode::OK))
    );
    assert_eq!((route.methods.as_slice(), route.providers.as_slice()), (&[Method::GET, Method::HEAD][..], &[][..]));
    let route = of("name = \"up\"\nhost = \"*.Example.net\"\npath = \"/up\"\nrespond = 204");
    assert_eq!((&*route.name, route.public_status()), ("up", Some(StatusCode::NO_CONTENT)));
    assert_eq!(route.host, HostPattern::new("*.example.net"));
}

#[test]
fn a_public_route_is_for_one_path_and_reveals_nothing_of_the_others() {
    let fixture = Fixture::new();
    let wrong = |lines: &str, line: usize, key: &str, words: &str| {
        let errors = fixture.errors(&(minimal() + &public(lines)));
        assert_eq!(errors.len(), 1, "{lines}: {errors:#?}");
        let place = format!("{}: route[1].{key}: ", minimal().lines().count() + line);
        assert!(errors[0].starts_with(&place) && errors[0].contains(words), "{place}{words}: {errors:#?}");
    };
    wrong("respond = 200", 1, "path", "missing; write path = \"/healthz\"");
    wrong("path = \"/up/*\"\nrespond = 200", 2, "path", "is for one path; write path = \"/up\"");
    wrong("path = \"/up\"\nrespond = 500", 3, "respond", "from 200 to 204");
    for (key, value) in [
        ("methods", "[\"GET\"]"),
        ("providers", "[\"pagerduty\"]"),
        ("handler", "\"unix:/run/a.sock\""),
        ("client_cert", "true"),
        ("client_cert_chain", "true"),
        ("proof", "\"certificate\""),
        ("delivery", "\"direct\""),
        ("durable", "{}"),
        ("handler_timeout_ms", "5"),
        ("strip_prefix", "\"/up\""),
        ("max_body_bytes", "5"),
        ("max_in_flight", "5"),
    ] {
        let words = format!("so it has no {key}; remove {key}, or respond");
        wrong(&format!("path = \"/up\"\nrespond = 200\n{key} = {value}"), 4, key, &words);
    }
    let get = ROUTE.to_owned() + "methods = [\"GET\"]\n";
    check(
        &(get + &public("path = \"/pagerduty\"\nrespond = 200")),
        6,
        "route[1]",
        "already takes GET on this host and path",
    );
}

#[test]
fn a_public_route_that_comes_second_or_makes_a_host_hear_more_is_told() {
    let fixture = Fixture::new();
    let text = |respond: &str, on_failure: &str| {
        let route =
            ROUTE.replace("\"/pagerduty\"", "\"/*\"") + "host = \"hooks.example.com\"\nmethods = [\"GET\", \"POST\"]\n";
        let provider = "[[provider]]\nname = \"pagerduty\"\npreset = \"pagerduty\"\nsignature.secrets = [{ file = \"webhook.secret\" }]\n";
        [LISTEN, CERTIFICATE, provider, on_failure, &route, &public(respond)].concat()
    };
    let check = |respond: &str, on_failure: &str, warning: Option<&str>, note: Option<&str>| {
        let text = text(respond, on_failure);
        let warnings = fixture.warnings_at(&text, NOW);
        assert_eq!(warnings.len(), usize::from(warning.is_some()), "{warnings:#?}");
        assert!(warning.is_none_or(|words| warnings[0].contains(words)), "{warnings:#?}");
        let notes: Vec<String> = fixture.good(&text).notes.iter().map(ToString::to_string).collect();
        let noted = notes.iter().find(|note| note.contains("respond: "));
        assert_eq!(noted.is_some(), note.is_some(), "{notes:#?}");
        assert!(note.is_none_or(|words| noted.unwrap().contains(words)), "{notes:#?}");
    };
    let behind = "a request for /healthz at hooks.example.com belongs to the route \"hooks.example.com/*\"";
    let asks = "would end its handshake; give the route a host of its own";
    check("path = \"/healthz\"\nrespond = 200", "", Some(behind), None);
    check("path = \"/healthz\"\nrespond = 200", "on_failure = \"abort\"\n", Some(behind), Some(asks));
    let own = "path = \"/healthz\"\nrespond = 200\nhost = \"hooks.example.com\"";
    check(own, "on_failure = \"abort\"\n", None, Some(asks));
    check(own, "", None, None);
    check("path = \"/healthz\"\nrespond = 200\nhost = \"health.example.net\"", "on_failure = \"abort\"\n", None, None);
}

#[test]
fn a_route_for_get_takes_head() {
    let methods = |lines: &str| {
        let routes = Fixture::new().good(&[LISTEN, CERTIFICATE, PROVIDER, &route(lines)].concat()).routes;
        routes.into_iter().map(|route| route.methods).collect::<Vec<_>>()
    };
    assert_eq!(methods(""), [vec![Method::POST]]);
    assert_eq!(methods("methods = [\"GET\"]"), [vec![Method::GET, Method::HEAD]]);
    assert_eq!(methods("methods = [\"HEAD\"]"), [vec![Method::HEAD]]);
    let other = format!("methods = [\"GET\"]\n{ROUTE}methods = [\"HEAD\"]");
    assert_eq!(methods(&other), [vec![Method::GET], vec![Method::HEAD]]);
}

#[test]
fn a_prefix_that_leads_to_paths_of_another_route_is_told() {
    let fixture = Fixture::new();
    let providers = "[[provider]]\nname = \"one\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"one\" }]\n\
                     [[provider]]\nname = \"two\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"two\" }]\n";
    let route = |path: &str, provider: &str, socket: &str, lines: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nproviders = [\"{provider}\"]\nhandler = \"unix:/run/{socket}.sock\"\n{lines}"
        )
    };
    let stripped = route("/a/*", "one", "app", "strip_prefix = \"/a\"\n");
    let check = |other: &str, expected: usize| {
        let warnings = fixture.warnings_at(&[LISTEN, CERTIFICATE, providers, &stripped, other].concat(), NOW);
        let told = warnings
            .iter()
            .filter(|warning| warning.contains("without this prefix, requests of this route can have paths of"));
        assert_eq!(told.count(), expected, "{other}: {warnings:#?}");
    };
    let proof =
        "[route.proof.signature]\nform = \"hmac\"\nheader = \"x-a\"\nsecrets = [{ file = \"webhook.secret\" }]\n";
    check(&route("/b", "two", "app", ""), 1);
    check(&route("/b", "one", "app", proof), 1);
    check(&route("/a/b/*", "two", "app", "strip_prefix = \"/a\"\n"), 2);
    // The same demands, another handler, other methods.
    check(&route("/b", "one", "app", ""), 0);
    check(&route("/b", "two", "other", ""), 0);
    check(&route("/b", "two", "app", "methods = [\"PUT\"]\n"), 0);
}
