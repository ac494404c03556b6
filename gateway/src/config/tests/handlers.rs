//! `handler`: addresses, lists, and what a list says of each handler.

use super::bad::check;
use super::*;
use hookgate_core::route::{Handler, HandlerAddress, HandlerEntry, Handlers};

/// A route with this handler.
fn route(handler: &str) -> String {
    format!("[[route]]\npath = \"/pagerduty\"\nproviders = [\"pagerduty\"]\nhandler = {handler}\n")
}

fn parsed(handler: &str) -> Handlers {
    let text = [LISTEN, CERTIFICATE, PROVIDER, &route(handler)].concat();
    Fixture::new().good(&text).routes.remove(0).handlers().unwrap().clone()
}

fn port(address: &str) -> Handler {
    Handler::new(HandlerAddress::Tcp(address.parse().unwrap()))
}

#[test]
fn a_handler_is_a_socket_or_a_loopback_port() {
    let check = |text: &str, expected: Handler| assert_eq!(parsed(text), Handlers::new(expected, []), "{text}");
    check("\"unix:/run/a.sock\"", Handler::unix("/run/a.sock"));
    check("[\"unix:/run/a.sock\"]", Handler::unix("/run/a.sock"));
    check("{ address = \"unix:/run/a.sock\" }", Handler::unix("/run/a.sock"));
    check("\"http://127.0.0.1:8080\"", port("127.0.0.1:8080"));
    check("\"http://127.8.9.1:80\"", port("127.8.9.1:80"));
    check("\"http://[::1]:8080\"", port("[::1]:8080"));
}

#[test]
fn a_list_says_who_is_a_backup_and_what_each_may_take() {
    let list = "[\"unix:/run/a.sock\", { address = \"http://[::1]:8080\", max_in_flight = 4 },\n\
                { address = \"unix:/run/b.sock\", backup = true }]";
    let entry = |handler: Handler| HandlerEntry::from(handler);
    let expected = Handlers::new(
        Handler::unix("/run/a.sock"),
        [
            HandlerEntry { max_in_flight: Some(4), ..entry(port("[::1]:8080")) },
            HandlerEntry { backup: true, ..entry(Handler::unix("/run/b.sock")) },
        ],
    );
    assert_eq!(parsed(list), expected);
}

#[test]
fn only_loopback_ports_are_handlers() {
    let wrong = |text: &str, words: &str| check(&route(&format!("\"{text}\"")), 4, "route[0].handler", words);
    for address in ["10.0.0.7:8080", "0.0.0.0:8080", "[::]:8080", "[2001:db8::1]:8080", "[::ffff:127.0.0.1]:8080"] {
        wrong(&format!("http://{address}"), "not a loopback address, and to a handler requests go in clear text");
        wrong(&format!("http://{address}"), "write \"http://127.0.0.1:8080\"");
    }
    for name in ["localhost:9000", "app.internal:9000", "127.1:9000", "user@127.0.0.1:9000"] {
        wrong(&format!("http://{name}"), "a name can lead to another host; write \"http://127.0.0.1:9000\"");
    }
    wrong("http://127.0.0.1", "it has no port; write \"http://127.0.0.1:8080\"");
    wrong("http://[::1]", "it has no port; write \"http://[::1]:8080\"");
    wrong("http://127.0.0.1:0", "the port 0 is none");
    wrong("http://127.0.0.1:65536", "write \"http://127.0.0.1:8080\"");
    wrong(
        "http://127.0.0.1:80/hooks",
        "it has a path, and handlers get the path of the request; write \"http://127.0.0.1:80\"",
    );
    wrong("http://127.0.0.1:80/", "write \"http://127.0.0.1:80\"");
    wrong("https://127.0.0.1:80", "without TLS, so the scheme is \"http\"; write \"http://127.0.0.1:8080\"");
}

#[test]
fn an_address_of_another_server_is_completed() {
    let wrong = |text: &str, words: &str| check(&route(&format!("\"{text}\"")), 4, "route[0].handler", words);
    let scheme = "it begins with neither \"http://\" nor \"unix:\"; write";
    for text in ["127.0.0.1:8080", ":8080", "localhost:8080", "*:8080"] {
        wrong(text, &format!("\"{text}\" is not a valid handler: {scheme} \"http://127.0.0.1:8080\""));
    }
    wrong("[::1]:8080", &format!("{scheme} \"http://[::1]:8080\""));
    wrong("10.0.0.7:8080", "\"10.0.0.7:8080\" is not a valid handler: the address is not a loopback address");
    wrong("app.internal:9000", "a name can lead to another host; write \"http://127.0.0.1:9000\"");
    wrong("unix//run/a.sock", &format!("{scheme} \"unix:/run/a.sock\""));
    wrong("8080", &format!("{scheme} \"unix:/run/app/hook.sock\""));
    let socket = "a Unix socket is written without \"http://\"; write";
    wrong("http://unix:/run/a.sock", &format!("{socket} \"unix:/run/a.sock\""));
    wrong("http://unix:/run/a.sock:/hooks/", &format!("{socket} \"unix:/run/a.sock\""));
    wrong("http://unix:a.sock", &format!("{socket} \"unix:/run/app/hook.sock\""));
}

#[test]
fn what_is_wrong_with_a_list_is_said() {
    let wrong = |text: &str, key: &str, words: &str| check(&route(text), 4, &format!("route[0].handler{key}"), words);
    let (a, b) = ("\"unix:/run/a.sock\"", "{ address = \"unix:/run/b.sock\", backup = true }");
    wrong("[]", "", "empty; write handler = \"unix:/run/app/hook.sock\"");
    wrong(&format!("[{a}, {a}]"), "", "the handler /run/a.sock is in this list twice");
    wrong(&format!("[{b}]"), "", "every handler here is a backup");
    wrong(b, "", "every handler here is a backup");
    wrong(&format!("[{a}, \"unix:b\"]"), "[1]", "not absolute");
    wrong(&format!("[{a}, {{ address = \"unix:b\" }}]"), "[1].address", "not absolute");
    wrong(&format!("[{a}, {{ backup = true }}]"), "[1].address", "missing; write address = \"unix:");
    let table = |rest: &str| format!("[{a}, {{ address = \"unix:/run/b.sock\", {rest} }}]");
    wrong(&table("weight = 3"), "[1].weight", "unknown key; this table takes address, backup, max_in_flight");
    wrong(&table("backup = 1"), "[1].backup", "expected true or false");
    wrong(&table("max_in_flight = 0"), "[1].max_in_flight", "from 1 to 65536");
    wrong(&table("max_in_flight = 257"), "[1].max_in_flight", "handler_max_in_flight of [limits] (256) is less than");
    wrong("7", "", "expected a string, a table or an array");
    wrong(&format!("[{a}, 7]"), "[1]", "expected a string or a table");
    let many: Vec<_> = (0..17).map(|index| format!("\"unix:/run/{index}.sock\"")).collect();
    wrong(&format!("[{}]", many.join(", ")), "", "17");
}

#[test]
fn a_handler_has_one_bound_whichever_route_names_it() {
    let one = route("{ address = \"unix:/run/a.sock\", max_in_flight = 4 }");
    let other = |bound: &str| {
        format!(
            "[[route]]\npath = \"/b\"\nproviders = [\"pagerduty\"]\nhandler = {{ address = \"unix:/run/a.sock\"{bound} }}\n"
        )
    };
    Fixture::new().good(&[LISTEN, CERTIFICATE, PROVIDER, &one, &other(", max_in_flight = 4")].concat());
    for bound in ["", ", max_in_flight = 5"] {
        let words = "gives the handler /run/a.sock another max_in_flight";
        check(&format!("{one}{}", other(bound)), 8, "route[1].handler", words);
    }
}

#[test]
fn the_port_of_a_handler_is_none_of_hookgate() {
    let check = |listen: &str, sections: &str, handler: &str, key: Option<&str>| {
        let listen = LISTEN.replace("127.0.0.1:0", listen);
        let text = [&listen, CERTIFICATE, PROVIDER, &route(&format!("\"{handler}\"")), sections].concat();
        match key {
            None => drop(Fixture::new().good(&text)),
            Some(key) => {
                let errors = Fixture::new().errors(&text);
                let words = format!("route[0].handler: {handler} is where hookgate itself listens ({key})");
                assert!(errors.len() == 1 && errors[0].contains(&words), "{words}\n{errors:#?}");
            }
        }
    };
    check("127.0.0.1:8443", "", "http://127.0.0.1:8443", Some("listen.addresses"));
    check("0.0.0.0:8443", "", "http://127.0.0.1:8443", Some("listen.addresses"));
    check("[::]:8443", "", "http://[::1]:8443", Some("listen.addresses"));
    check("[::]:8443", "", "http://127.0.0.1:8443", None);
    check("192.0.2.7:8443", "", "http://127.0.0.1:8443", None);
    let metrics = "[metrics]\nlisten = \"127.0.0.1:9100\"\n";
    check("127.0.0.1:8443", metrics, "http://127.0.0.1:9100", Some("metrics.listen"));
    let admin = "[admin]\nlisten = \"127.0.0.1:9101\"\n";
    check("127.0.0.1:8443", admin, "http://127.0.0.1:9101", Some("admin.listen"));
    check("127.0.0.1:8443", admin, "http://127.0.0.1:9102", None);
}
