//! `hookgate deliveries`: what an operator sees, and does.

use std::ffi::OsStr;
use std::process::Command;

use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::process::run;
use serde_json::Value;

use super::{LATER, Stored};
use crate::environment::{BINARY, SOON};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn deliveries_are_listed_shown_and_exported() {
    let stored = Stored::new("");
    assert_eq!(stored.commanded(&["list"]), "no delivery is stored\n");
    let one = stored.send_with(&[("X-Note", "n\u{e9}")], "{\"secret\":\"xyzzy\"}");
    let one = one.field("x-request-id").unwrap().to_owned();
    let two = stored.store("two");
    let list = stored.commanded(&["list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.starts_with(&format!("{one}  waiting  orders  percolate  age ")), "{list}");
    assert!(!list.contains("xyzzy"), "{list}");
    let all = json(&stored.commanded(&["list", "--json"]));
    assert_eq!((all[0]["id"].as_str(), all[1]["id"].as_str()), (Some(one.as_str()), Some(two.as_str())));
    assert_eq!((all[0]["state"].as_str(), all[0]["target"].as_str()), (Some("waiting"), Some("/orders")));
    for (filter, count) in [
        (&["--route", "orders"][..], 2),
        (&["--route", "pagerduty"], 0),
        (&["--provider", "percolate", "--state", "waiting"], 2),
        (&["--state", "dead"], 0),
    ] {
        let arguments: Vec<&str> = ["list", "--json"].iter().chain(filter).copied().collect();
        assert_eq!(json(&stored.commanded(&arguments)).as_array().map(Vec::len), Some(count), "{filter:?}");
    }
    let shown = stored.commanded(&["show", &one]);
    assert!(shown.contains("\nPOST /orders\n") && shown.contains("\nx-hookgate-provider: percolate\n"), "{shown}");
    assert!(!shown.contains("xyzzy"), "{shown}");
    assert_eq!(stored.commanded(&["show", &one, "--body"]), "{\"secret\":\"xyzzy\"}");
    let shown = json(&stored.commanded(&["show", &two, "--json", "--body"]));
    assert_eq!((shown["body_base64"].as_str(), shown["body_bytes"].as_u64()), (Some("dHdv"), Some(3)));
    let exported = stored.commanded(&["export"]);
    let bodies: Vec<String> =
        exported.lines().map(|line| json(line)["body_base64"].as_str().unwrap().to_owned()).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[1], "dHdv");
    assert!(!stored.base.daemon.log().contains("xyzzy"));
    // It was not refused, so there is nothing else that explains it.
    let configuration = stored.base.daemon.configuration_path();
    let [explain, option, id] = ["explain", "--config", &one].map(OsStr::new);
    let finished = crate::command::hookgate(&[explain, option, configuration.as_os_str(), id]);
    assert!(finished.stderr_text().contains(&format!("hookgate deliveries show {one}")), "{}", finished.stderr_text());
}

#[test]
fn more_than_a_page_is_listed() {
    let stored = Stored::new("");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..130).for_each(|number| drop(stored.store(&number.to_string()))));
        }
    });
    let all = json(&stored.commanded(&["list", "--json"]));
    let numbers: Vec<i64> = all.as_array().unwrap().iter().map(|row| row["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers.len(), 520);
    assert!(numbers.is_sorted());
}

#[test]
fn only_what_fits_is_exported() {
    let stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::sequence([Behaviour::status(422, "never"), Behaviour::NeverAnswer]));
    let dead = stored.store("dead");
    stored.wait_rows("dead", 1);
    let waiting = stored.store("waiting");
    handler.wait_for(2, SOON).unwrap();
    let exported = |arguments: &[&str]| -> Vec<String> {
        let arguments: Vec<&str> = ["export"].iter().chain(arguments).copied().collect();
        let lines = stored.commanded(&arguments);
        lines.lines().map(|line| json(line)["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(exported(&["--state", "dead"]), [dead.as_str()]);
    assert_eq!(exported(&["--state", "waiting", "--route", "orders"]), [waiting.as_str()]);
    assert_eq!(exported(&["--state", "dead", "--route", "pagerduty"]), [""; 0]);
    assert_eq!(exported(&[]), [dead, waiting]);
}

#[test]
fn programs_read_what_a_change_did() {
    let stored = Stored::new("");
    let changed = |arguments: &[&str], count: u64| {
        let arguments: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
        assert_eq!(stored.commanded(&arguments), format!("{{\"changed\":{count}}}\n"), "{arguments:?}");
    };
    changed(&["pause", "--route", "orders"], 1);
    changed(&["pause", "--route", "orders"], 0);
    let one = stored.store("one");
    stored.store("two");
    changed(&["retry", &one], 1);
    changed(&["retry", "--route", "orders"], 2);
    changed(&["retry", "--all-dead"], 0);
    changed(&["drop", &one], 1);
    changed(&["pause"], 1);
    changed(&["resume"], 2);
    for arguments in [["drop", &one, "--json"], ["resume", "--json", "--route=orders"]] {
        let refused = stored.command(&arguments);
        assert!(!refused.success() && refused.stdout.is_empty(), "an error is no result: {}", refused.stdout_text());
    }
}

/// Runs `hookgate deliveries` with standard error on a terminal, and standard output in a file. Returns what the terminal shows.
fn on_a_terminal(stored: &Stored, arguments: &[&str]) -> String {
    let output = stored.base.environment.path("output");
    let arguments = arguments.join(" ");
    let (configuration, output) = (stored.base.daemon.configuration_path(), output.display());
    let inner = format!("{BINARY} deliveries {arguments} -c {} > {output}", configuration.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &inner, "/dev/null"]).env("TERM", "xterm");
    let finished = run(script, &[], SOON).unwrap();
    assert!(finished.success(), "{inner}: {}", finished.stdout_text());
    finished.stdout_text()
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let stored = Stored::new("");
    stored.commanded(&["pause"]);
    (0..30).for_each(|number| drop(stored.store(&number.to_string())));
    for (arguments, shown) in [
        (&["list", "--json"][..], "deliveries listed"),
        (&["export"], "deliveries listed"),
        (&["export"], "/30 deliveries"),
        (&["retry", "--route", "orders"], "waiting for hookgate"),
    ] {
        let terminal = on_a_terminal(&stored, arguments);
        assert!(terminal.contains(shown), "{arguments:?}: {terminal:?}");
        let finished = stored.command(arguments);
        assert!(finished.success() && finished.stderr.is_empty(), "{arguments:?}: {}", finished.stderr_text());
    }
    assert_eq!(on_a_terminal(&stored, &["list"]), "", "what comes by and by goes to a pager as well");
}

#[test]
fn what_cannot_be_done_is_said() {
    let stored = Stored::new("");
    let refused = |arguments: &[&str], words: &str| {
        let output = stored.command(arguments);
        let error = output.stderr_text();
        assert!(!output.success() && error.contains(words), "{arguments:?}: {error}");
    };
    let unknown = "8d0f1e7c5b8f4d6b9a3c2e1f00ab12cd";
    for command in ["show", "drop", "retry"] {
        refused(&[command, unknown], "no delivery 8d0f1e7c5b8f4d6b9a3c2e1f00ab12cd is stored");
    }
    refused(&["retry"], "required");
    refused(&["retry", unknown, "--all-dead"], "cannot be used with");
    refused(&["resume"], "not paused");
    refused(&["list", "--state", "lost"], "waiting");
    for form in [&["list", "--route", "nope"][..], &["list", "--route", "nope", "--json"]] {
        refused(form, "there is no route \"nope\"; the routes are pagerduty, dialogflow-cx");
    }
}

#[test]
fn a_route_is_retried_at_once() {
    let stored = Stored::new("");
    let wait = Behaviour::Fixed { status: 503, fields: vec![("Retry-After".into(), "3000".into())], body: Vec::new() };
    let handler = stored.start_handler(wait);
    (0..3).for_each(|number| drop(stored.store(&number.to_string())));
    handler.wait_for(3, LATER).unwrap();
    stored.base.daemon.wait_metric("hookgate_spool_attempts_total", &[("result", "again")], 3.0, SOON).unwrap();
    handler.set_behaviour(Behaviour::Json);
    // The outcomes are on the disk when the rows say so.
    let written = || stored.query("SELECT id FROM spool WHERE attempts = 1").len() == 3;
    hookgate_testkit::wait::wait_until("the outcomes", SOON, written).unwrap();
    assert_eq!(stored.commanded(&["retry", "--route", "orders"]), "3 deliveries are attempted now\n");
    handler.wait_for(6, SOON).unwrap();
    stored.wait_rows("waiting", 0);
}

#[test]
fn explain_says_that_a_request_would_be_stored() {
    let stored = Stored::new("status = 204, retry_for_s = 60");
    let (chain, configuration) = (&stored.base.identity.chain_path, stored.base.daemon.configuration_path());
    let arguments: Vec<&OsStr> = vec![
        "explain".as_ref(),
        "--chain".as_ref(),
        chain.as_os_str(),
        "--path".as_ref(),
        super::PATH.as_ref(),
        "-c".as_ref(),
        configuration.as_os_str(),
    ];
    let output = crate::command::hookgate(&arguments);
    let text = output.stdout_text();
    assert!(output.success(), "{text}{}", output.stderr_text());
    assert!(text.contains("Stored, answered with 204, then handed to the handler at "), "{text}");
    assert!(text.contains("orders.sock until it takes it, for 60 s at most."), "{text}");
}
