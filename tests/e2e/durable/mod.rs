//! Durable delivery: stored before it is answered, handed over at least once, in order if asked.
//!
//! Owns [`Stored`], which the tests of all parts share.

mod bounds;
mod command;
mod crash;
mod damage;
mod delivery;
mod full_disk;
mod metrics;
mod order;
mod outage;
mod power;
mod reload;
mod sqlite;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::{Gateway, GatewayOptions, IO_VARIABLE, Signal};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::http::{self, Request, Response};
use hookgate_testkit::pki::Sender;
use hookgate_testkit::process::Finished;
use hookgate_testkit::wait::wait_until;
use rusqlite::{Connection, OpenFlags};

use crate::command::hookgate;
use crate::environment::{BINARY, Environment, SOON, quoted};
use crate::test_gateway::TestGateway;
use crate::tls_client::TlsClient;

/// The path of the durable route.
const PATH: &str = "/orders";

/// The name of the durable route.
const ROUTE: &str = "orders";

/// For what takes a few attempts.
const LATER: Duration = Duration::from_secs(30);

/// Whether the long tests run in full. What they test is the same on each backend, so one of them takes that time.
fn is_whole() -> bool {
    std::env::var(IO_VARIABLE).is_ok_and(|backend| backend == "epoll")
}

/// A daemon with a durable route, whose handler does not run yet.
struct Stored {
    base: TestGateway,
    options: GatewayOptions,
}

impl Stored {
    /// With these entries of `durable`.
    fn new(durable: &str) -> Self {
        Self::with_route(&format!("delivery = \"durable\"\ndurable = {{ {durable} }}"))
    }

    /// With these lines of the route.
    fn with_route(lines: &str) -> Self {
        Self::in_environment(Environment::new().unwrap(), lines)
    }

    /// With a route on which requests with the same id are copies of one delivery.
    fn with_copies() -> Self {
        let environment = Environment::new().unwrap();
        let lines = format!("{DURABLE}\n{}", replay(&environment));
        Self::in_environment(environment, &lines)
    }

    fn in_environment(environment: Environment, lines: &str) -> Self {
        let options = GatewayOptions::new(BINARY);
        let daemon = Gateway::start(&configuration(&environment, &[(ROUTE, PATH, lines)]), &options).unwrap();
        let base = TestGateway::new(daemon, environment, Sender::Percolate).unwrap();
        Self { base, options }
    }

    /// The file of deliveries.
    fn database(&self) -> PathBuf {
        self.base.environment.state_directory().join("deliveries.db")
    }

    /// Starts the handler of the route.
    fn start_handler(&self, behaviour: Behaviour) -> Handler {
        Handler::start(&socket(&self.base.environment), behaviour).unwrap()
    }

    /// Sends a body to the durable route.
    fn send(&self, body: &str) -> Response {
        self.send_with(&[], body)
    }

    fn send_with(&self, fields: &[(&str, &str)], body: &str) -> Response {
        let mut connection = self.base.connect().unwrap();
        connection.ask(http::request("POST", PATH, HOST, fields, body.as_bytes())).unwrap()
    }

    /// Sends a body, which must be stored. Returns the id of the delivery.
    fn store(&self, body: &str) -> String {
        let response = self.send(body);
        assert_eq!((response.status, response.text().as_str()), (202, ""), "{response:?}");
        response.field("x-request-id").unwrap().to_owned()
    }

    /// What a query of the database gives, as text.
    fn query(&self, sql: &str) -> Vec<String> {
        query(&self.database(), sql)
    }

    /// Waits until the spool has so many rows in this state.
    fn wait_rows(&self, state: &str, count: usize) {
        let sql = format!("SELECT id FROM spool WHERE state = '{state}'");
        wait_until(&format!("{count} rows that are {state}"), LATER, || self.query(&sql).len() == count).unwrap();
    }

    fn kill(&mut self) {
        self.base.daemon.signal(Signal::KILL).unwrap();
        self.base.daemon.wait_exit(SOON).unwrap();
    }

    fn stop(&mut self) {
        self.base.daemon.signal(Signal::TERM).unwrap();
        assert!(self.base.daemon.wait_exit(LATER).unwrap().success(), "{}", self.base.daemon.log());
    }

    /// Starts another daemon with the same files, and these lines of the route.
    fn start_again(&mut self, lines: &str) {
        let environment = &self.base.environment;
        self.base.daemon = Gateway::start(&configuration(environment, &[(ROUTE, PATH, lines)]), &self.options).unwrap();
        let (port, identity) = (self.base.daemon.port(), &self.base.identity);
        self.base.client = TlsClient::new(port, &self.base.environment.pki, identity).unwrap();
    }

    /// Runs `hookgate deliveries` with these arguments.
    fn command(&self, arguments: &[&str]) -> Finished {
        let configuration = self.base.daemon.configuration_path();
        let arguments = ["deliveries"].iter().chain(arguments).map(ToString::to_string);
        let all: Vec<String> = arguments.chain(["-c".to_owned(), configuration.display().to_string()]).collect();
        hookgate(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// As [`Stored::command`], which must succeed. Returns its standard output.
    fn commanded(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(output.success(), "{arguments:?}: {}", output.stderr_text());
        output.stdout_text()
    }
}

/// What requests must have on a route with the lines of [`replay`].
const SECRET: &str = "a secret of the sender, 4711";

/// Lines of a route on which requests with the same id are copies of one delivery. It demands a proof, as every route with such a rule.
fn replay(environment: &Environment) -> String {
    let secret = environment.write("sender.secret", SECRET).unwrap();
    format!(
        "proof.secret = {{ header = \"x-secret\", secrets = [{{ file = {} }}] }}\n\
         replay = {{ id_header = \"x-webhook-id\", duplicate_status = 208 }}",
        quoted(&secret)
    )
}

/// The fields of a request for such a route.
fn with_id(id: &str) -> [(&str, &str); 2] {
    [("X-Secret", SECRET), ("X-Webhook-Id", id)]
}

/// The plain lines of a durable route.
const DURABLE: &str = "delivery = \"durable\"";

fn query(database: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    connection.busy_timeout(SOON).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let text = |row: &rusqlite::Row<'_>| {
        Ok(match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => String::from_utf8_lossy(other.as_bytes()?).into_owned(),
        })
    };
    statement.query_map([], text).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The socket of the handler of durable routes.
fn socket(environment: &Environment) -> PathBuf {
    environment.path("orders.sock")
}

/// The configuration with routes of these names, paths and lines, whose handler is at [`socket`].
fn configuration(environment: &Environment, routes: &[(&str, &str, &str)]) -> String {
    let mut toml = environment.configuration().toml();
    let handler = socket(environment);
    for (name, path, lines) in routes {
        toml += &format!(
            "\n[[route]]\nname = \"{name}\"\nhost = \"{HOST}\"\npath = \"{path}\"\nproviders = [\"percolate\"]\n\
             handler = \"unix:{}\"\n{lines}\n",
            handler.display()
        );
    }
    toml + &format!("\n[state]\ndirectory = {}\n", quoted(&environment.state_directory()))
}

fn bodies(requests: &[Request]) -> Vec<String> {
    requests.iter().map(Request::text).collect()
}

/// The numbers of each key, in the order of their arrival, without repetitions.
fn by_key(requests: &[Request]) -> HashMap<String, Vec<u64>> {
    let mut keys: HashMap<String, Vec<u64>> = HashMap::new();
    for request in requests {
        let value: serde_json::Value = serde_json::from_str(&request.text()).unwrap();
        let (key, number) = (value["key"].to_string(), value["n"].as_u64().unwrap());
        let numbers = keys.entry(key).or_default();
        if numbers.last() != Some(&number) {
            numbers.push(number);
        }
    }
    keys
}
