//! Two accounts of one sender at one host: the same certificate, the same authority, and a secret each.

use super::*;

/// The second account: its provider, which is also the name of its route, and its secret.
const SECOND: &str = "second";
const SECOND_SECRET: &str = "the secret of the second account";

/// A route of both accounts.
const BOTH: &str = "/both";

/// PagerDuty's account with these lines, the second one, a route of each and one of both.
fn two_accounts(environment: &Environment, lines: &str) -> String {
    let text = configuration(environment, lines).unwrap();
    let secret = quoted(&environment.write("second.secret", SECOND_SECRET).unwrap());
    let root = quoted(environment.pki.sender(Sender::PagerDuty).root.path());
    let handler = environment.events.path().display().to_string();
    let route = |path: &str, providers: &str| {
        format!(
            "[[route]]\nhost = \"{HOST}\"\npath = \"{path}\"\nproviders = [{providers}]\nhandler = \"unix:{handler}\"\n\n"
        )
    };
    let provider = format!(
        "[[provider]]\nname = \"{SECOND}\"\npreset = \"pagerduty\"\ntrust_anchors = [{root}]\n\
         signature = {{ secrets = [{{ file = {secret} }}] }}\n\n"
    );
    let own = route("/second", &format!("\"{SECOND}\""));
    let both = route(BOTH, &format!("\"pagerduty\", \"{SECOND}\""));
    text.replacen("[[route]]", &format!("{provider}{own}{both}[[route]]"), 1)
}

fn send_to(gateway: &TestGateway, identity: &ClientIdentity, path: &str, id: &str, secret: &str) -> Response {
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, identity).unwrap();
    client.connect().unwrap().ask(event_to(path, id, secret)).unwrap()
}

fn event_to(path: &str, id: &str, secret: &str) -> String {
    event(id, secret).replacen(&format!("POST {} ", PAGERDUTY.path), &format!("POST {path} "), 1)
}

fn suspected(gateway: &TestGateway, provider: &str) -> f64 {
    gateway.daemon.metric(SUSPECTED, &[("provider", provider)]).unwrap_or(0.0)
}

fn wait_suspected(gateway: &TestGateway, provider: &str) {
    gateway.daemon.wait_metric(SUSPECTED, &[("provider", provider)], 1.0, SOON).unwrap();
}

#[test]
fn each_of_two_accounts_is_delayed_by_its_own_proof_alone() {
    for (path, secret, noted, other) in
        [("/second", SECOND_SECRET, SECOND, "pagerduty"), (PAGERDUTY.path, PAGERDUTY_SECRET, "pagerduty", SECOND)]
    {
        let gateway = start_with(&|environment| two_accounts(environment, ""), |_, _| {});
        let new = new_chain(&gateway);
        let wrong = if noted == SECOND { PAGERDUTY_SECRET } else { SECOND_SECRET };
        for secret in ["guess", wrong] {
            assert_problem(&send_to(&gateway, &new, path, "event-1", secret), 403, "unknown_issuer", path);
        }
        assert_eq!((suspected(&gateway, noted), suspected(&gateway, other)), (0.0, 0.0));
        expect_delay(&send_to(&gateway, &new, path, "event-1", secret), path);
        wait_suspected(&gateway, noted);
        assert_eq!(suspected(&gateway, other), 0.0, "{path}");
    }
    // At a route of both, the proof tells which of them it is, also where another evidence is that of both.
    let gateway = start_with(&|environment| two_accounts(environment, ""), |environment, options| {
        let root = environment.pki.directory().join("pagerduty-stranger.pem");
        options.environment.push(("SSL_CERT_FILE".into(), root.into()));
    });
    expect_delay(&send_to(&gateway, &new_chain(&gateway), BOTH, "event-1", SECOND_SECRET), BOTH);
    wait_suspected(&gateway, SECOND);
    assert_eq!(suspected(&gateway, "pagerduty"), 0.0);
    assert_eq!(gateway.handler().request_count(), 0);
}

#[test]
fn the_answer_is_as_the_account_of_the_route_wants_it() {
    let gateway = start_with(&|environment| two_accounts(environment, "refusal = \"terse\""), |_, _| {});
    let new = new_chain(&gateway);
    let response = send_to(&gateway, &new, PAGERDUTY.path, "event-1", PAGERDUTY_SECRET);
    assert_eq!((response.status, response.text().contains("\"detail\"")), (403, false), "{}", response.text());
    let response = send_to(&gateway, &new, "/second", "event-1", "guess");
    assert_eq!((response.status, response.text().contains("\"detail\"")), (403, true), "{}", response.text());
    expect_delay(&send_to(&gateway, &new, "/second", "event-1", SECOND_SECRET), "the second account");
}

/// The operator admits the new authority for one account first: the other is delayed until its turn, and not refused.
#[test]
fn an_account_is_delayed_while_another_one_is_led_to_the_new_authority() {
    let gateway = start_with(&|environment| two_accounts(environment, ""), |_, _| {});
    let (new, text) = (new_chain(&gateway), two_accounts(&gateway.environment, ""));
    expect_delay(&send_to(&gateway, &new, PAGERDUTY.path, "event-1", PAGERDUTY_SECRET), "the first account");
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();
    let text = follow(&gateway, &trust(&gateway, &["show", "1"]), &text);
    gateway.reload(&text).unwrap();
    assert_eq!(send_to(&gateway, &new, PAGERDUTY.path, "event-1", PAGERDUTY_SECRET).status, 200);
    assert_problem(&send_to(&gateway, &new, "/second", "event-1", "guess"), 403, "unknown_issuer", "no evidence");
    expect_delay(&send_to(&gateway, &new, "/second", "event-1", SECOND_SECRET), "the second account");
    // Also on a connection that was admitted for the first.
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &new).unwrap();
    let mut connection = client.connect().unwrap();
    assert_eq!(connection.ask(event("event-2", PAGERDUTY_SECRET)).unwrap().status, 200);
    expect_delay(&connection.ask(event_to("/second", "event-2", SECOND_SECRET)).unwrap(), "a kept connection");
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();
    let shown = trust(&gateway, &["show", "1"]);
    assert!(shown.contains("claims second was refused"), "{shown}");
    gateway.reload(&follow(&gateway, &shown, &text)).unwrap();
    for id in ["event-1", "event-2"] {
        assert_eq!(send_to(&gateway, &new, "/second", id, SECOND_SECRET).status, 200);
    }
    assert_eq!(gateway.handler().request_count(), 4);
}

/// The numbers of providers are those of one configuration.
#[test]
fn a_chain_that_was_refused_before_a_reload_claims_the_providers_of_the_new_configuration() {
    // Only the last provider, which the reload removes, has the names of the chain.
    let elsewhere = "identity = [{ subject_cn = \"elsewhere.example\" }]";
    let gateway = start_with(&|environment| two_accounts(environment, elsewhere), |environment, options| {
        let root = environment.pki.directory().join("pagerduty-stranger.pem");
        options.environment.push(("SSL_CERT_FILE".into(), root.into()));
    });
    let new = new_chain(&gateway);
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &new).unwrap();
    let mut open: Vec<_> = (0..2).map(|_| client.connect().unwrap()).collect();
    gateway.reload_permitting(&configuration(&gateway.environment, elsewhere).unwrap()).unwrap();
    let response = open[0].ask(event_to("/second", "event-1", SECOND_SECRET)).unwrap();
    assert_problem(&response, 403, "unknown_issuer", "no provider has its names now");
    gateway.reload_permitting(&two_accounts(&gateway.environment, "")).unwrap();
    expect_delay(&open[1].ask(event_to("/second", "event-1", SECOND_SECRET)).unwrap(), "of the third configuration");
    wait_suspected(&gateway, SECOND);
    gateway.still_serves().unwrap();
}
