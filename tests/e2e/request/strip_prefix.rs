//! `strip_prefix`: the path that the handler gets, and those that everything else sees.

use std::ffi::OsStr;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http;

use crate::command::hookgate;
use crate::environment::{Environment, SOON, handler_socket};
use crate::problem::assert_problem;
use crate::proof::hmac_hex;
use crate::test_gateway::TestGateway;

const SECRET: &str = "a secret of the sender";

/// A route of Percolate below a prefix, which the handler does not get, whose requests sign their path.
fn configuration(environment: &Environment) -> String {
    let handler = handler_socket(&environment.events);
    let secret = environment.write("path.secret", SECRET).unwrap();
    let route = format!(
        "[[route]]\nname = \"stripped\"\nhost = \"{HOST}\"\npath = \"/hooks/percolate/*\"\nstrip_prefix = \"/hooks/percolate\"\n\
         providers = [\"percolate\"]\nhandler = {handler}\n\
         [route.proof.signature]\nform = \"hmac\"\nheader = \"x-signature\"\nmessage = \"{{path}} {{body}}\"\nsecrets = [{{ file = \"{}\" }}]\n",
        secret.display()
    );
    environment.toml("", "strip_prefix = \"/any\"") + &route
}

#[test]
fn the_handler_gets_the_path_without_the_prefix() {
    let gateway = TestGateway::with_toml(configuration).unwrap();
    for (target, expected) in [
        ("/any/a", "/a"),
        ("/any/a/b?c=/any/d", "/a/b?c=/any/d"),
        ("/any/", "/"),
        ("/any/?c", "/?c"),
        ("/any//evil.example/a", "/evil.example/a"),
        ("/any/a%2fb//c", "/a%2fb//c"),
        ("/any/a;b/c", "/a;b/c"),
        ("/any/any/a", "/any/a"),
    ] {
        let fields = [("X-Forwarded-Prefix", "/forged"), ("X_Forwarded_Prefix", "/forged")];
        let bytes = http::request("POST", target, HOST, &fields, b"{}");
        assert_eq!(gateway.connect().unwrap().ask(bytes).unwrap().status, 200, "{target}");
        let seen = gateway.handler().requests().pop().unwrap();
        assert_eq!(seen.target, expected, "{target}");
        let prefixes: Vec<_> =
            seen.fields.0.iter().filter(|(name, _)| name.to_ascii_lowercase().contains("prefix")).collect();
        assert_eq!(prefixes.len(), 1, "{prefixes:?}");
        assert_eq!(seen.field("x-forwarded-prefix"), Some("/any"));
    }
    // A route without a prefix.
    let bytes = http::request("POST", "/percolate", HOST, &[("X-Forwarded-Prefix", "/forged")], b"{}");
    assert_eq!(gateway.connect().unwrap().ask(bytes).unwrap().status, 200);
    let seen = gateway.handler().requests().pop().unwrap();
    assert_eq!((seen.target.as_str(), seen.field("x-forwarded-prefix")), ("/percolate", None));
    // The log has the path as it was sent.
    gateway.daemon.wait_log("path=/any/any/a", SOON).unwrap();
}

#[test]
fn a_signature_covers_the_path_as_sent() {
    let gateway = TestGateway::with_toml(configuration).unwrap();
    let send = |target: &str, signed: &str| {
        let signature = hmac_hex(SECRET, format!("{signed} {{}}").as_bytes());
        let bytes = http::request("POST", target, HOST, &[("X-Signature", &signature)], b"{}");
        gateway.connect().unwrap().ask(bytes).unwrap()
    };
    let target = "/hooks/percolate/a?b=c";
    assert_eq!(send(target, target).status, 200);
    assert_eq!(gateway.handler().requests().pop().unwrap().target, "/a?b=c");
    assert_problem(&send(target, "/a?b=c"), 403, "signature_mismatch", "the path of the handler");
    assert_eq!(gateway.handler().request_count(), 1);
}

#[test]
fn explain_says_what_the_handler_gets() {
    let gateway = TestGateway::with_toml(configuration).unwrap();
    let path = gateway.daemon.configuration_path();
    let mut arguments = vec![OsStr::new("explain"), OsStr::new("--config"), path.as_os_str()];
    arguments.extend(["--server-name", HOST, "--path", "/any/a?key=secret"].map(OsStr::new));
    let text = hookgate(&arguments).stdout_text();
    assert!(text.contains("Its handler gets the path /a.") && !text.contains("key=secret"), "{text}");
}
