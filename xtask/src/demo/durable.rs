//! A handler that is down and comes back: a durable route takes a webhook meanwhile, and hands it over afterwards.
//!
//! Owns that part. The state directory is that of the rotation.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::pki::{Sender, Variant};

use super::environment::Environment;
use super::table::Row;

const PATH: &str = "/durable";

/// The socket of the handler, which is down at first.
const SOCKET: &str = "durable.sock";

/// The limit for an attempt after the handler is back: by then the pause is a few seconds.
const SOON: Duration = Duration::from_secs(20);

/// The section of the durable route.
pub(super) fn route(directory: &Path) -> String {
    let socket = directory.join(SOCKET);
    format!(
        "\n[[route]]\nname = \"durable\"\nhost = \"{HOST}\"\npath = \"{PATH}\"\nproviders = [\"percolate\"]\nhandler = \"unix:{}\"\n\
         delivery = \"durable\"\n",
        socket.display()
    )
}

impl Environment {
    /// Sends while the handler is down, and starts it then.
    pub(super) fn send_durable(&self, rows: &mut Vec<Row>) -> Result<()> {
        let identity = self.pki.sender(Sender::Percolate).variant(Variant::Good)?;
        let body = b"{\"order\":4711}";
        let outcome = self.gateway.curl(HOST, &self.pki).identity(&identity).post(PATH, body).run()?;
        let response = outcome.response()?;
        rows.push(Row {
            sent: "percolate: to a durable route, whose handler is down".to_owned(),
            answer: response.status.to_string(),
            handler_got: "nothing".into(),
            as_expected: response.status == 202,
        });
        let handler = Handler::start(&self.file(SOCKET), Behaviour::Json)?;
        let seen = handler.wait_for(1, SOON).unwrap_or_default();
        let first = seen.first();
        let field = |name| first.and_then(|request| request.field(name)).unwrap_or_default();
        rows.push(Row {
            sent: "(the handler of the durable route comes back)".to_owned(),
            answer: "-".into(),
            handler_got: match first {
                Some(request) => {
                    let (provider, attempt) = (field("x-hookgate-provider"), field("x-hookgate-attempt"));
                    format!("{} from {provider}, attempt {attempt}", request.target)
                }
                None => "nothing".into(),
            },
            as_expected: first.is_some_and(|request| request.body == body)
                && response.field("x-request-id") == Some(field("x-hookgate-delivery")),
        });
        Ok(())
    }
}
