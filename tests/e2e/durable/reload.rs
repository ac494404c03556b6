//! Stored deliveries and reloads: a row belongs to the route of its name.

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::{Behaviour, Handler};

use super::{DURABLE, LATER, PATH, ROUTE, Stored, configuration, socket};
use crate::environment::{SOON, quoted};

#[test]
fn deliveries_of_a_route_that_is_gone_are_held_until_it_is_back() {
    let stored = Stored::new("");
    stored.store("one");
    let environment = &stored.base.environment;
    let without = configuration(environment, &[]);
    stored.base.reload_permitting(&without).unwrap();
    stored.base.daemon.wait_log("no route of this name admits the provider", SOON).unwrap();
    let handler = stored.start_handler(Behaviour::Json);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(handler.request_count(), 0);
    stored.wait_rows("waiting", 1);
    let with = configuration(environment, &[(ROUTE, "/elsewhere", DURABLE)]);
    stored.base.reload_permitting(&with).unwrap();
    let requests = handler.wait_for(1, LATER).unwrap();
    assert_eq!((requests[0].target.as_str(), requests[0].text().as_str()), (PATH, "one"));
    stored.wait_rows("waiting", 0);
}

#[test]
fn deliveries_of_a_route_that_stays_away_are_dead_letters_at_the_end_of_their_time() {
    let stored = Stored::new("retry_for_s = 3");
    stored.store("one");
    stored.base.reload_permitting(&configuration(&stored.base.environment, &[])).unwrap();
    stored.wait_rows("dead", 1);
    let outcome = stored.query("SELECT outcome FROM spool").remove(0);
    assert!(
        outcome.starts_with("No route of this name admits its provider") || outcome.ends_with("has passed."),
        "{outcome}"
    );
}

#[test]
fn a_delivery_goes_to_the_handler_that_its_route_has_now() {
    let stored = Stored::new("");
    stored.store("one");
    let environment = &stored.base.environment;
    let new = environment.path("new.sock");
    let text = configuration(environment, &[(ROUTE, PATH, DURABLE)]);
    let text = text.replace(&socket(environment).display().to_string(), &new.display().to_string());
    stored.base.reload(&text).unwrap();
    let handler = Handler::start(&new, Behaviour::Json).unwrap();
    handler.wait_for(1, LATER).unwrap();
    stored.wait_rows("waiting", 0);
}

/// It was proven when it was stored, but the route does not admit its provider any more.
#[test]
fn a_provider_that_the_route_admits_no_longer_gets_nothing_handed_over() {
    let stored = Stored::new("");
    stored.store("one");
    let environment = &stored.base.environment;
    let text = environment.configuration().toml()
        + &format!(
            "\n[[route]]\nname = \"{ROUTE}\"\nhost = \"{HOST}\"\npath = \"{PATH}\"\nproviders = [\"pagerduty\"]\nhandler = \"unix:{}\"\n{DURABLE}\n\
             \n[state]\ndirectory = {}\n",
            socket(environment).display(),
            quoted(&environment.state_directory())
        );
    stored.base.reload_permitting(&text).unwrap();
    stored.base.daemon.wait_log("no route of this name admits the provider", SOON).unwrap();
    let handler = stored.start_handler(Behaviour::Json);
    stored.commanded(&["retry", "--route", ROUTE]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(handler.request_count(), 0);
    stored.wait_rows("waiting", 1);
}

/// The dispatcher starts with the first durable route.
#[test]
fn a_reload_can_make_a_route_durable() {
    let stored = Stored::with_route("");
    let handler = stored.start_handler(Behaviour::Json);
    assert_eq!(stored.send("direct").status, 200);
    stored.base.reload(&configuration(&stored.base.environment, &[(ROUTE, PATH, DURABLE)])).unwrap();
    stored.store("stored");
    assert_eq!(handler.wait_for(2, SOON).unwrap()[1].text(), "stored");
}

/// A process without a state directory cannot store.
#[test]
fn a_route_cannot_become_durable_without_a_database() {
    let environment = crate::environment::Environment::new().unwrap();
    let plain = environment.configuration().toml();
    let base = crate::test_gateway::TestGateway::in_environment(environment, |_| plain.clone()).unwrap();
    let toml = configuration(&base.environment, &[(ROUTE, PATH, DURABLE)]);
    base.daemon.write_configuration(&toml).unwrap();
    base.daemon.signal(hookgate_testkit::gateway::Signal::HUP).unwrap();
    base.daemon.wait_log("this process has no database", SOON).unwrap();
    assert_eq!(base.reloads("error").unwrap(), 1.0);
    base.still_serves().unwrap();
}
