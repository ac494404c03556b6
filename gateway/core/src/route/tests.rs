//! Tests of the choice of a route, and of what handlers can read in a path.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;

use http::uri::PathAndQuery;
use proptest::prelude::*;

use super::*;

fn table(routes: &[(Option<&str>, &str, &[Method])]) -> RouteTable {
    let route = |(host, path, methods): &(Option<&str>, &str, &[Method])| {
        let pattern = match path.strip_suffix('*') {
            Some(prefix) => PathPattern::Prefix(Arc::from(prefix)),
            None => PathPattern::Exact(Arc::from(*path)),
        };
        let handler = Handlers::new(Handler::unix("/run/app.sock"), []);
        Route {
            host: host.map_or(HostPattern::Every, HostPattern::new),
            methods: methods.to_vec(),
            ..Route::new(*path, pattern, Vec::new(), handler)
        }
    };
    RouteTable::new(routes.iter().map(route).collect())
}

#[test]
fn the_most_specific_route_wins() {
    let post: &[Method] = &[Method::POST];
    let table = table(&[
        (None, "/*", post),
        (None, "/a", post),
        (Some("h"), "/*", post),
        (Some("h"), "/a/*", post),
        (Some("h"), "/a/b/*", post),
        (Some("h"), "/a/b/c", post),
    ]);
    let check = |host: &str, path: &str, expected: usize| {
        assert_eq!(table.find(host, path, &Method::POST), Ok(RouteId(expected)), "{host} {path}");
    };
    check("h", "/a/b/c", 5);
    check("h", "/a/b/d", 4);
    check("h", "/a/x", 3);
    check("h", "/a", 2);
    check("other", "/a", 1);
    check("other", "/a/b", 0);
}

#[test]
fn a_route_for_get_takes_head_unless_another_does() {
    let (get, head): (&[Method], &[Method]) = (&[Method::POST, Method::GET, Method::PUT], &[Method::HEAD]);
    let table = table(&[
        (Some("h"), "/a", get),
        (Some("h"), "/b", get),
        (Some("h"), "/b", head),
        (None, "/b", get),
        (Some("h"), "/c/*", &[Method::POST]),
        (Some("h"), "/d", &[Method::GET, Method::HEAD]),
        (Some("h"), "/e/*", get),
        (Some("h"), "/%65/*", head),
    ]);
    let mut routes = table.routes().to_vec();
    take_head_with_get(&mut routes);
    let with_head = [Method::POST, Method::GET, Method::HEAD, Method::PUT];
    let methods: Vec<&[Method]> = routes.iter().map(|route| &*route.methods).collect();
    let both: &[Method] = &[Method::GET, Method::HEAD];
    assert_eq!(methods, [&with_head, get, head, &with_head, &[Method::POST], both, get, head]);
    let table = RouteTable::new(routes.into());
    let check =
        |path: &str, expected: usize| assert_eq!(table.find("h", path, &Method::HEAD), Ok(RouteId(expected)), "{path}");
    check("/a", 0);
    check("/b", 2);
    check("/d", 5);
    assert_eq!(table.find("other", "/b", &Method::HEAD), Ok(RouteId(3)));
    let missed = Miss::MethodNotAllowed(with_head.to_vec());
    assert_eq!(table.find("h", "/a", &Method::DELETE), Err(missed));
}

#[test]
fn a_host_comes_before_its_wildcard_and_that_before_every_host() {
    let post: &[Method] = &[Method::POST];
    let table = table(&[
        (None, "/a/b/c", post),
        (Some("*.example.com"), "/a/b", post),
        (Some("*.example.com"), "/*", &[Method::PUT]),
        (Some("x.example.com"), "/a/*", post),
        (Some("*.x.example.com"), "/*", post),
    ]);
    let check = |host: &str, path: &str, expected: Result<usize, Miss>| {
        assert_eq!(table.find(host, path, &Method::POST), expected.map(RouteId), "{host} {path}");
    };
    // A name with routes of its own keeps those that it shares with others.
    check("x.example.com", "/a/b", Ok(3));
    check("y.example.com", "/a/b", Ok(1));
    check("x.example.com", "/a/b/c", Ok(3));
    check("y.example.com", "/a/b/c", Ok(0));
    check("x.example.com", "/z", Err(Miss::MethodNotAllowed(vec![Method::PUT])));
    check("y.x.example.com", "/a/b", Ok(4));
    check("example.com", "/a/b", Err(Miss::NoRoute));
    check("z.y.x.example.com", "/a/b", Err(Miss::NoRoute));
    check("a%2eb.example.com", "/a/b", Err(Miss::NoRoute));
    assert_eq!(table.find("x.example.com", "/z", &Method::PUT), Ok(RouteId(2)));
}

#[test]
fn a_miss_tells_a_wrong_path_from_a_wrong_method() {
    let table = table(&[(Some("h"), "/a", &[Method::POST, Method::PUT]), (None, "/a", &[Method::PUT, Method::PATCH])]);
    assert_eq!(table.find("h", "/b", &Method::POST), Err(Miss::NoRoute));
    assert_eq!(table.find("h", "/A", &Method::POST), Err(Miss::NoRoute), "paths are case-sensitive");
    assert_eq!(table.find("h", "/a/", &Method::POST), Err(Miss::NoRoute), "a trailing slash matters");
    let allowed = vec![Method::POST, Method::PUT, Method::PATCH];
    assert_eq!(table.find("h", "/a", &Method::GET), Err(Miss::MethodNotAllowed(allowed)));
    assert_eq!(table.find("h", "/a", &Method::PATCH), Ok(RouteId(1)), "a less specific route may have the method");
}

#[test]
fn an_empty_table_has_no_route() {
    assert_eq!(table(&[]).find("h", "/", &Method::POST), Err(Miss::NoRoute));
}

fn table_of(paths: &[&str]) -> RouteTable {
    table(&paths.iter().map(|path| (None, *path, &[Method::POST][..])).collect::<Vec<_>>())
}

#[test]
fn dot_segments_are_refused() {
    let table = table_of(&["/*"]);
    for path in ["/..", "/a/../b", "/a/./b", "/%2e%2E/a", "/a/.%2e", "/a/%2e", "/a\\..\\b"] {
        assert_eq!(table.find("h", path, &Method::POST), Err(Miss::Path(PathFault::DotSegment)), "{path}");
    }
    for path in ["/", "/a", "/a.b", "/a..b", "/...", "/.well-known/a", "/a%20b", "/a/%2etmp"] {
        assert_eq!(table.find("h", path, &Method::POST), Ok(RouteId(0)), "{path}");
    }
}

#[test]
fn a_path_that_every_handler_reads_as_sent_is_not_copied() {
    for (path, is_copied) in [("/", false), ("/a/b.c", false), ("/a//b", true), ("/a/.b", true), ("/a%62", true)] {
        assert_eq!(matches!(reading::of(path), Ok(Cow::Owned(_))), is_copied, "{path}");
    }
}

#[test]
fn a_path_is_read_as_the_most_tolerant_handler_does() {
    let check = |path: &str, expected: Result<&str, PathFault>| {
        assert_eq!(reading::of(path).as_deref(), expected.as_ref().copied(), "{path}");
    };
    for plain in ["/", "/p/", "/p/x", "/p/a.b", "/p/a..b", "/p/-_~!$&'()*+,=:@", "*"] {
        check(plain, Ok(plain));
    }
    for (path, reading) in [
        ("/p/%61dmin", "/p/admin"),
        ("/p/%2561dmin", "/p/admin"),
        ("/p/%25%36%31dmin", "/p/admin"),
        ("/p/a%2fb", "/p/a/b"),
        ("/p/a%5Cb", "/p/a/b"),
        ("/p/a\\b", "/p/a/b"),
        ("/p//a", "/p/a"),
        ("//p///a//", "/p/a/"),
        ("/p/%2f", "/p/"),
        ("/p/a;b=c/d;", "/p/a/d"),
        ("/p/a%2fb%5cc%3fd", "/p/a/b/c"),
        ("/p/;b/d", "/p/d"),
        ("/p/a%3bb", "/p/a"),
        ("/p/a%3fb/c", "/p/a"),
        ("/p/a%23b", "/p/a"),
        ("/p/%3f", "/p/"),
        ("/p/.well-known", "/p/.well-known"),
        ("/p/...", "/p/..."),
        ("/p/100%25", "/p/100%"),
        ("/p/100%25zz", "/p/100%zz"),
        ("/p/caf%c3%a9", "/p/café"),
        ("/p/café", "/p/café"),
        ("/p/a%20b", "/p/a b"),
    ] {
        check(path, Ok(reading));
    }
    for path in [
        "/p/..",
        "/p/.",
        "/p/../admin",
        "/p/./x",
        "/p//../admin",
        "/p/%2e%2e/admin",
        "/p/%2E./admin",
        "/p/..%2fadmin",
        "/p/..%2Fadmin",
        "/p/..%5cadmin",
        "/p/..\\admin",
        "/p/%252e%252e/admin",
        "/p/%25252e%25252e%25252fadmin",
        "/p/.%%32%65/admin",
        "/p/..;/admin",
        "/p/..;a=b/admin",
        "/p/.;/admin",
        "/p/..%3b/admin",
        "/p/..%253b/admin",
        "/p/..%3fx",
        "/p/a%3f/../x",
        "/p/a%2f..%2f..%2fadmin",
    ] {
        let expected = if path.contains("%%") { PathFault::Escape } else { PathFault::DotSegment };
        check(path, Err(expected));
    }
    for path in ["/p/%", "/p/%4", "/p/%zz", "/p/%u002e%u002e/x", "/p/%-1", "/p/%+1", "/p/%4%31"] {
        check(path, Err(PathFault::Escape));
    }
    for path in ["/p/%00", "/p/a%0d%0ab", "/p/..%00/x", "/p/.%09./x", "/p/%7f", "/p/%2500", "/p/%c2%85"] {
        check(path, Err(PathFault::Control));
    }
    // Whether the parameter ends before or after the encoded slash depends on what a handler does first.
    for path in ["/p/a;%2fb", "/p/a;b%2f", "/p/a%2fb;c", "/p/a%3bb%252fc", "/p/a;b\\c", "/p/a;b%3fc", "/p/a;b%23c"] {
        check(path, Err(PathFault::Parameter));
    }
    // Overlong ".", "/" and "\", a lone continuation, a surrogate, Latin-1.
    for path in
        ["/p/%c0%ae%c0%ae/x", "/p/..%c0%afx", "/p/..%c1%9cx", "/p/%e0%80%ae/x", "/p/%ae", "/p/%ed%a0%80", "/p/%e9"]
    {
        check(path, Err(PathFault::Encoding));
    }
}

#[test]
fn a_path_that_a_handler_can_take_for_that_of_another_route_is_refused() {
    let table = table_of(&["/p/*", "/p/admin", "/p/q/*", "/p/%41", "/q;x/*", "/p/it's"]);
    let check = |path: &str, expected: Result<usize, PathFault>| {
        let found = table.find("h", path, &Method::POST);
        assert_eq!(found, expected.map(RouteId).map_err(Miss::Path), "{path}");
    };
    let other = || Err(PathFault::OtherRoute);
    check("/p/%61dmin", other());
    check("/p/admin;x", other());
    check("/p//admin", other());
    check("/p/;/admin", other());
    check("/p/\\admin", other());
    check("/p/x%2f../admin", Err(PathFault::DotSegment));
    check("/p/admin%3fx", other());
    check("/p/%71/x", other());
    check("/p/q%2fx", other());
    check("/p/q;a/x", other());
    check("/p//q/x", other());
    // The path of an exact route can be written in escapes as well.
    check("/p/%41", Ok(3));
    check("/p/A", other());
    // Paths that no other route has.
    check("/p/q", Ok(0));
    check("/p/q%2f", other());
    check("/p/admin/", Ok(0));
    check("/p/admin%2fx", Ok(0));
    check("/p/a%2fb//d", Ok(0));
    check("/p/a;b//d", Ok(0));
    check("/p/it%27s", other());
    check("/q;x/a", Ok(4));
    check("/q;x/a//b", Ok(4));
    assert_eq!(table.find("h", "/q/a", &Method::POST), Err(Miss::NoRoute));
    assert_eq!(table.find("h", "/none/%61", &Method::POST), Err(Miss::NoRoute));
    assert_eq!(table.find("h", "/none/..", &Method::POST), Err(Miss::Path(PathFault::DotSegment)));
    assert_eq!(table.find("h", "/p/admin", &Method::PUT), Err(Miss::MethodNotAllowed(vec![Method::POST])));
}

#[test]
fn a_handler_gets_what_is_below_its_prefix() {
    let check = |prefix: &str, target: &str, expected: &str| {
        let target = PathAndQuery::try_from(target).unwrap();
        assert_eq!(StripPrefix::new(prefix).unwrap().strip(&target).as_str(), expected, "{target}");
    };
    check("/hooks", "/hooks/a", "/a");
    check("/hooks", "/hooks/a/?b=/hooks/c", "/a/?b=/hooks/c");
    check("/hooks", "/hooks", "/");
    check("/hooks", "/hooks/", "/");
    check("/hooks", "/hooks?a=b", "/?a=b");
    check("/hooks", "/hooks/?a=b", "/?a=b");
    check("/hooks/x", "/hooks/x/%2fa;b//c", "/%2fa;b//c");
    check("/hooks", "/hooks//evil.example/a", "/evil.example/a");
    check("/hooks", "/hooks/\\evil.example/a", "/evil.example/a");
    check("/hooks", "/hooks//?a", "/?a");
    // The route of the prefix takes none of these.
    check("/hooks", "/hooksa", "/hooksa");
    check("/hooks", "/HOOKS/a", "/HOOKS/a");
    check("/hooks", "/", "/");
}

#[test]
fn the_paths_at_a_handler_are_those_below_its_prefix() {
    let (exact, prefix) = (|path: &str| PathPattern::Exact(path.into()), |path: &str| PathPattern::Prefix(path.into()));
    let check = |text: &str, pattern: PathPattern, expected: PathPattern| {
        assert_eq!(StripPrefix::new(text).unwrap().strip_pattern(&pattern), expected, "{text} {pattern:?}");
    };
    check("/a", prefix("/a/"), prefix("/"));
    check("/a", prefix("/a/b/"), prefix("/b/"));
    check("/a", prefix("/a//b/"), prefix("/b/"));
    check("/a", exact("/a"), exact("/"));
    check("/a/b", exact("/a/b/c"), exact("/c"));
    let meets = |one: PathPattern, other: PathPattern| {
        assert_eq!(one.meets(&other), other.meets(&one));
        one.meets(&other)
    };
    assert!(
        meets(prefix("/"), prefix("/b/")) && meets(prefix("/b/"), exact("/b/c")) && meets(exact("/b"), exact("/b"))
    );
    assert!(
        !meets(prefix("/a/"), prefix("/b/")) && !meets(prefix("/b/"), exact("/b")) && !meets(exact("/a"), exact("/b"))
    );
}

#[test]
fn a_prefix_is_whole_segments_above_the_paths_of_its_route() {
    let check = |text: &str, expected: StripPrefixError| assert_eq!(StripPrefix::new(text), Err(expected), "{text}");
    check("", StripPrefixError::NoPath);
    check("hooks", StripPrefixError::NoPath);
    check("/", StripPrefixError::Nothing);
    check("//", StripPrefixError::Nothing);
    check("/hooks/", StripPrefixError::LastSlash);
    check("/hooks/*", StripPrefixError::Pattern);
    check("/hooks?a", StripPrefixError::Query);
    check("/hooks#a", StripPrefixError::Query);
    check("/höoks", StripPrefixError::Unprintable);
    check("/a b", StripPrefixError::Unprintable);
    let prefix = StripPrefix::new("/a%2fb/c").unwrap();
    assert_eq!((prefix.as_str(), prefix.field().as_bytes()), ("/a%2fb/c", &b"/a%2fb/c"[..]));
    for (path, expected) in
        [("/a%2fb/c/", true), ("/a%2fb/c/d/", true), ("/a%2fb/", false), ("/a%2fb/cd/", false), ("/A%2fb/c/", false)]
    {
        assert_eq!(prefix.is_above(&PathPattern::Prefix(path.into())), expected, "{path}");
    }
    assert!(prefix.is_above(&PathPattern::Exact("/a%2fb/c".into())));
    assert!(!prefix.is_above(&PathPattern::Exact("/".into())));
}

#[test]
fn a_pattern_whose_requests_would_all_be_refused_is_told() {
    let exact = |path: &str| PathPattern::Exact(path.into()).check();
    let prefix = |path: &str| PathPattern::Prefix(path.into()).check();
    assert_eq!((exact("/a;b/c//"), prefix("/a%2fb//")), (Ok(()), Ok(())));
    assert_eq!(exact("/a/%2e"), Err(PathFault::DotSegment));
    assert_eq!(prefix("/a/../"), Err(PathFault::DotSegment));
    assert_eq!((exact("/a%3fb"), prefix("/a%3fb/")), (Ok(()), Err(PathFault::OtherRoute)));
    assert_eq!(PathPattern::Prefix("/a;b/c//".into()).reading(), PathPattern::Prefix("/a/c/".into()));
}

/// How one handler reads a path.
#[derive(Clone, Copy, Debug)]
struct Handling {
    /// Rounds of decoding.
    rounds: usize,
    backslashes: bool,
    parameters: bool,
    merges: bool,
    query: bool,
}

impl Handling {
    /// Every combination, with up to three rounds of decoding.
    fn all() -> impl Iterator<Item = Self> {
        (0..64).map(|bits| Self {
            rounds: bits & 3,
            backslashes: bits & 4 != 0,
            parameters: bits & 8 != 0,
            merges: bits & 16 != 0,
            query: bits & 32 != 0,
        })
    }

    /// The path that this handler serves, written without regard to speed and to the code under test. Dots are resolved as RFC 3986,
    /// section 5.2.4, says.
    fn serves(self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..self.rounds {
            path = decode_once(&path);
        }
        if self.query {
            path = path.split(['?', '#']).next().unwrap().to_owned();
        }
        if self.backslashes {
            path = path.replace('\\', "/");
        }
        let mut segments: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        if self.parameters {
            segments.iter_mut().for_each(|segment| *segment = segment.split(';').next().unwrap().to_owned());
        }
        if self.merges {
            let last = segments.len() - 1;
            let mut at = 0..;
            segments.retain(|segment| at.next() == Some(last) || !segment.is_empty());
        }
        let mut resolved: Vec<String> = Vec::new();
        let last = segments.len() - 1;
        for (at, segment) in segments.into_iter().enumerate() {
            match &*segment {
                ".." => drop(resolved.pop()),
                "." => {}
                _ => {
                    resolved.push(segment);
                    continue;
                }
            }
            if at == last {
                resolved.push(String::new());
            }
        }
        format!("/{}", resolved.join("/"))
    }
}

/// One round of decoding. Bytes that are no UTF-8 are decoded as an overlong form would be, by a handler that does not check.
fn decode_once(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = path.get(at..at + 3).and_then(|escape| escape.strip_prefix('%'));
        let digits = escape.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits {
            Some(digits) => {
                decoded.push(u8::from_str_radix(digits, 16).unwrap());
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    let lenient = |bytes: &[u8]| match bytes {
        [0xc0, 0xae, ..] => Some(('.', 2)),
        [0xc0, 0xaf, ..] => Some(('/', 2)),
        // A handler in C ends the path here.
        [0, ..] => Some(('?', 1)),
        _ => None,
    };
    let mut text = Vec::new();
    let mut at = 0;
    while at < decoded.len() {
        let (byte, length) = lenient(&decoded[at..]).map_or((decoded[at], 1), |(byte, length)| (byte as u8, length));
        text.push(byte);
        at += length;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn paths() -> impl Strategy<Value = String> {
    let pieces = vec![
        "/", "/", "//", "\\", ".", "..", "...", ";", ";a=b", "a", "p", "q", "admin", "%2e", "%2E", "%252e", "%2f",
        "%252F", "%5c", "%255c", "%3b", "%253b", "%3f", "%23", "%25", "%2525", "%61dmin", "%71", "2e", "2f", "%c0%ae",
        "%c0%af", "%00", "%", "%zz", "%c3%a9", "é",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..8).prop_map(|pieces| format!("/p/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a handler does with an admitted path, it serves a resource of the route that admitted it.
    #[test]
    fn no_handler_leaves_the_route_that_admitted_a_path(path in paths()) {
        let table = table_of(&["/p/*", "/p/admin", "/p/q/*", "/p/q/a", "/*"]);
        let Ok(id) = table.find("h", &path, &Method::POST) else { return Ok(()) };
        if matches!(table.route(id).path, PathPattern::Exact(_)) {
            return Ok(());
        }
        for handling in Handling::all() {
            let served = handling.serves(&path);
            let found = table.sent.find(&table.routes, "h", &served, &Method::POST);
            prop_assert_eq!(found, Ok(id), "{} is {} for {:?}", path, served, handling);
        }
    }

    /// Nor does one that gets the path without its prefix: what it serves there is what belongs to the route below the prefix. And it cannot
    /// take the target for a URL with a host.
    #[test]
    fn no_handler_behind_a_prefix_leaves_the_route_that_admitted_a_path(path in paths()) {
        let table = table_of(&["/p/*", "/p/admin", "/p/q/*", "/p/q/a", "/*"]);
        let Ok(id) = table.find("h", &path, &Method::POST) else { return Ok(()) };
        let (PathPattern::Prefix(prefix), Ok(target)) = (&table.route(id).path, PathAndQuery::try_from(&*path)) else {
            return Ok(());
        };
        let Ok(stripped) = StripPrefix::new(prefix.trim_end_matches('/')) else { return Ok(()) };
        let rest = stripped.strip(&target);
        let rest = rest.as_str();
        prop_assert!(rest.starts_with('/') && !rest[1..].starts_with(['/', '\\']), "{} is {}", path, rest);
        for handling in Handling::all() {
            let served = format!("{}{}", stripped.as_str(), handling.serves(rest));
            let found = table.sent.find(&table.routes, "h", &served, &Method::POST);
            prop_assert_eq!(found, Ok(id), "{} is {} for {:?}", path, served, handling);
        }
    }

    /// Paths of letters, digits and common marks are never refused.
    #[test]
    fn ordinary_paths_are_admitted(path in "/p(/[a-zA-Z0-9_~:@!$&'()*+,=-][a-zA-Z0-9._~-]{0,8}){1,4}/?") {
        let table = table_of(&["/p/*", "/x/*"]);
        prop_assert_eq!(table.find("h", &path, &Method::POST), Ok(RouteId(0)));
    }

    /// Reading twice changes nothing.
    #[test]
    fn a_reading_is_its_own_reading(path in paths()) {
        // A sign that is left over is a percent sign of its own, so that only its escaped form can be read again.
        if let Ok(reading) = reading::of(&path) {
            let again = reading.replace('%', "%25");
            let again = reading::of(&again);
            prop_assert_eq!(again.as_deref(), Ok(&*reading));
        }
    }
}

/// Hosts of routes, and of requests: names of several depths below two domains, and hosts that are no names.
const HOSTS: [&str; 9] =
    ["a.example", "b.example", "*.example", "c.a.example", "*.a.example", "*.c.a.example", "example", "[::1]", ""];

/// Routes of every host and path, with up to three providers each.
fn tables() -> impl Strategy<Value = Vec<Route>> {
    let host = prop::option::of(prop::sample::select(HOSTS[..7].to_vec()));
    let path = prop::sample::select(vec!["/a", "/a/*", "/a/b", "/*"]);
    let methods = prop::sample::subsequence(vec![Method::GET, Method::POST, Method::PUT], 1..3);
    let providers = prop::collection::btree_set(0..6_u16, 1..3);
    let route = (host, path, methods, providers).prop_map(|(host, path, methods, providers)| {
        let pattern = match path.strip_suffix('*') {
            Some(prefix) => PathPattern::Prefix(Arc::from(prefix)),
            None => PathPattern::Exact(Arc::from(path)),
        };
        let providers = providers.into_iter().map(ProviderId).collect();
        let route = Route::new("r", pattern, providers, Handlers::new(Handler::unix("/run/app.sock"), []));
        Route { host: host.map_or(HostPattern::Every, HostPattern::new), methods, ..route }
    });
    let public = prop::sample::select(vec![None, Some("a.example"), Some("*.example")]).prop_map(|host| {
        let route = Route::public("up", "/b".into(), StatusCode::OK);
        Route { host: host.map_or(HostPattern::Every, HostPattern::new), ..route }
    });
    prop::collection::vec(prop_oneof![4 => route, 1 => public], 0..8)
}

/// How specific the host of a route is for a request: 2 for the host itself, 1 for its wildcard, 0 for every host. `None` if the route is not for
/// it. Written without regard to the code under test.
fn specificity(route: &Route, host: &str) -> Option<u8> {
    let Some(text) = route.host.as_str() else { return Some(0) };
    let labels = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (mut wanted, mut given) = (labels(text), labels(host));
    let is_wildcard = wanted.remove(0) == "*";
    if !is_wildcard {
        return (text == host).then_some(2);
    }
    let is_name = given.iter().all(|label| !label.is_empty() && label.chars().all(|it| it.is_ascii_lowercase()));
    given.remove(0);
    (is_name && wanted == given).then_some(1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    /// The route of a request is the one that a plain search finds.
    #[test]
    fn the_route_is_the_one_that_a_reference_finds(routes in tables(), host in prop::sample::select(HOSTS.to_vec())) {
        let table = RouteTable::new(routes.clone().into());
        for path in ["/a", "/a/b", "/a/c", "/b"] {
            for method in [Method::GET, Method::POST, Method::PUT] {
                let rank = |(index, route): &(usize, &Route)| {
                    let length = match &route.path {
                        PathPattern::Exact(_) => usize::MAX,
                        PathPattern::Prefix(prefix) => prefix.len(),
                    };
                    (specificity(route, host), length, std::cmp::Reverse(*index))
                };
                let fits = |route: &Route| {
                    specificity(route, host).is_some() && route.path.matches(path) && route.methods.contains(&method)
                };
                let expected = routes.iter().enumerate().filter(|(_, route)| fits(route)).max_by_key(rank);
                let found = table.find(host, path, &method).ok();
                prop_assert_eq!(found, expected.map(|(index, _)| RouteId(index)), "{} {} {}", method, host, path);
            }
        }
    }

    /// The site of a name has the providers of the routes that its requests can belong to, all of them and no other.
    #[test]
    fn a_site_serves_the_providers_of_its_routes_and_no_other(routes in tables(), host in prop::sample::select(HOSTS.to_vec())) {
        let mut by_host = HostMap::default();
        let all = sites(&routes);
        for site in &all {
            by_host.insert(&site.host, site);
        }
        let unknown = all.iter().find(|site| site.host == HostPattern::Every).unwrap();
        let [exact, wildcard] = by_host.of(host);
        let site = exact.or(wildcard).copied().unwrap_or(unknown);
        let reachable = routes.iter().filter(|route| specificity(route, host).is_some());
        let expected: BTreeSet<ProviderId> = reachable.flat_map(|route| route.providers.iter().copied()).collect();
        prop_assert_eq!(&site.providers, &expected, "{} has the site of {:?}", host, site.host);
        let mut reachable = routes.iter().filter(|route| specificity(route, host).is_some());
        prop_assert_eq!(site.answers_everyone, reachable.any(|route| route.providers.is_empty()), "{}", host);
        let table = RouteTable::new(routes.clone().into());
        for path in ["/a", "/a/b", "/a/c", "/b"] {
            for method in [Method::GET, Method::POST, Method::PUT] {
                let Ok(id) = table.find(host, path, &method) else { continue };
                let admitted = &table.route(id).providers;
                prop_assert!(admitted.iter().all(|id| site.providers.contains(id)), "{} {} {}", method, host, path);
            }
        }
    }
}
