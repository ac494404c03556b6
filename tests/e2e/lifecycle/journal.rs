//! Events in the journal, with their fields.

use hookgate_testkit::gateway::Gateway;
use hookgate_testkit::pki::{Sender, Variant};

use crate::environment::{Environment, PATH};
use crate::journal_stub::JournalStub;
use crate::test_gateway::TestGateway;

#[test]
fn refusals_reach_the_journal_with_their_fields() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can mount
    }
    let environment = Environment::new().unwrap();
    let (journal, options) = JournalStub::start(&environment);
    let daemon = Gateway::start(&environment.toml("", ""), &options).unwrap();
    let gateway = TestGateway::new(daemon, environment, Sender::Percolate).unwrap();
    let ready = journal.find("HOOKGATE_EVENT", "ready");
    assert_eq!([&ready["PRIORITY"], &ready["SYSLOG_IDENTIFIER"], &ready["HOOKGATE_WORKERS"]], ["6", "hookgate", "1"]);
    assert_eq!(ready["HOOKGATE_CRYPTO"], if cfg!(feature = "aws-lc") { "aws-lc" } else { "ring" });

    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let outcome = gateway.curl().identity(&expired).post(PATH, b"{}").run().unwrap();
    let request_id = outcome.response().unwrap().field("x-request-id").unwrap().to_owned();
    let refused = journal.find("HOOKGATE_REASON", "certificate_expired");
    assert_eq!(refused["HOOKGATE_EVENT"], "request refused");
    assert_eq!(refused["HOOKGATE_PROVIDER"], "percolate");
    assert_eq!(refused["HOOKGATE_SERVER_NAME"], hookgate_testkit::configuration::HOST);
    assert_eq!(refused["HOOKGATE_REQUEST_ID"], request_id);
    assert_eq!(refused["PRIORITY"], "4");
    assert!(refused["HOOKGATE_PEER"].starts_with("127.0.0.1:"), "{refused:?}");
    assert!(refused["MESSAGE"].starts_with("request refused reason=certificate_expired "), "{refused:?}");

    let pagerduty = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    assert_eq!(gateway.curl().identity(&pagerduty).post(PATH, b"{}").run().unwrap().status(), Some(403));
    let refused = journal.find("HOOKGATE_REASON", "provider_not_admitted");
    assert_eq!([&refused["HOOKGATE_PROVIDER"], &refused["HOOKGATE_ROUTE"]], ["pagerduty", "any"]);
    assert_eq!(gateway.admitted_curl().post(PATH, b"{}").run().unwrap().status(), Some(200));
    let answered = journal.find("HOOKGATE_EVENT", "request answered");
    assert_eq!([&answered["HOOKGATE_PATH"], &answered["HOOKGATE_BYTES_IN"], &answered["PRIORITY"]], [PATH, "2", "6"]);
    assert!(answered["MESSAGE"].starts_with("request answered status=200 provider=percolate "), "{answered:?}");
    assert_eq!(gateway.daemon.log(), "", "the daemon wrote to standard error");
}
