//! A [`World`] with one more route, which takes every usual method, and a certificate that it admits: for tests that are not
//! about certificates.

use anyhow::{Context, Result, ensure};
use hookgate_testkit::client::{Curl, OpenSsl};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::http::Response;
use hookgate_testkit::pki::{ClientIdentity, Sender, Variant};

use crate::call::{Call, Caller};
use crate::world::{Scene, World, quoted};

/// A path under the route that takes every method.
pub(crate) const PATH: &str = "/any/hook";

/// The daemon, its handler, and a good certificate.
pub(crate) struct Stand {
    pub(crate) world: World,
    pub(crate) identity: ClientIdentity,
    pub(crate) caller: Caller,
}

impl Stand {
    /// The daemon with these lines in `[limits]`.
    pub(crate) fn limited(limits: &str) -> Result<Self> {
        Self::configured(limits, "")
    }

    /// The daemon with these lines in `[limits]`, and these in the `[[route]]` of [`PATH`].
    pub(crate) fn configured(limits: &str, route: &str) -> Result<Self> {
        Self::written(|scene| configuration(scene, limits, route))
    }

    /// The daemon with the configuration that `write` makes.
    pub(crate) fn written(write: impl FnOnce(&Scene) -> String) -> Result<Self> {
        let world = World::written(Scene::set()?, |scene| Ok(write(scene)))?;
        let identity = world.scene.identity(Sender::Percolate, Variant::Good)?;
        let caller = Caller::new(world.gateway.port(), &world.scene.pki, &identity)?;
        Ok(Self { world, identity, caller })
    }

    /// The handler behind every path that the certificate is admitted to.
    pub(crate) fn handler(&self) -> &Handler {
        &self.world.scene.events
    }

    /// Has the handler answer like this from now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.handler().set_behaviour(behaviour);
    }

    /// curl with the good certificate.
    pub(crate) fn curl(&self) -> Curl {
        self.world.curl().identity(&self.identity)
    }

    /// `s_client` with the good certificate.
    pub(crate) fn openssl(&self) -> OpenSsl {
        self.world.openssl().identity(&self.identity)
    }

    /// A connection with the good certificate.
    pub(crate) fn call(&self) -> Result<Call> {
        self.caller.connect()
    }

    /// Sends `bytes` with OpenSSL, reads until the daemon closes, and returns the one response that came.
    pub(crate) fn exchange(&self, bytes: impl AsRef<[u8]>) -> Result<Response> {
        let outcome = self.openssl().send(bytes.as_ref()).run()?;
        let responses = outcome.responses();
        ensure!(responses.len() == 1 && !outcome.timed_out, "{responses:?}; {}", outcome.text());
        responses.into_iter().next().context("there is one")
    }
}

/// The configuration for the four providers, one worker, and the route for [`PATH`].
pub(crate) fn configuration(scene: &Scene, limits: &str, route: &str) -> String {
    let mut configuration = scene.configuration();
    configuration.limits = limits;
    configuration.toml() + &any_method_route(scene, route)
}

/// The `[[route]]` of [`PATH`], with these lines added.
pub(crate) fn any_method_route(scene: &Scene, lines: &str) -> String {
    let handler = quoted(scene.events.path()).replacen('"', "\"unix:", 1);
    format!(
        "\n[[route]]\nname = \"any\"\nhost = \"{HOST}\"\npath = \"/any/*\"\n\
         methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"DELETE\"]\nproviders = [\"percolate\"]\n\
         handler = {handler}\n{lines}\n"
    )
}

/// Fails unless `response` is a whole problem document with this status and reason, whose request id is that of its field.
pub(crate) fn assert_problem(response: &Response, status: u16, reason: &str, context: &str) {
    let text = response.text();
    assert_eq!(response.status, status, "{context}: {text}");
    assert_eq!(response.reason().as_deref(), Some(reason), "{context}: {text}");
    assert!(response.complete, "{context}: {text}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"), "{context}");
    let id = response.field("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{context}: {id}");
    assert!(text.contains(&format!("\"request_id\":\"{id}\"")), "{context}: {id} is not in {text}");
    assert!(text.contains(&format!("\"status\":{status}")), "{context}: {text}");
}
