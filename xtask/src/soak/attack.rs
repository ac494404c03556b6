//! What strangers do during a soak, each again and again.
//!
//! Owns the attacks. Each does something wrong on purpose, so how its connection ends does not matter; only that the daemon refuses what
//! has an answer. Must not slow the load down on purpose: each pauses.

use std::io::Write as _;
use std::net::Shutdown;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use hookgate_testkit::client::{Curl, OpenSsl, raw};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::{PAGERDUTY, PERCOLATE};
use hookgate_testkit::gateway::Gateway;

use super::environment::Environment;

/// Pause of each attacker between two attacks.
const PAUSE: Duration = Duration::from_millis(20);

/// Most connections that hold a handshake open at a time.
const HELD: usize = 64;

/// The attacks on one daemon.
pub(super) struct Attacks {
    port: u16,
    hello: Vec<u8>,
    without_certificate: Curl,
    with_foreign_certificate: Curl,
    on_foreign_route: Curl,
    malformed: Vec<Curl>,
}

impl Attacks {
    /// Prepares the attacks.
    ///
    /// # Errors
    ///
    /// OpenSSL does not produce a ClientHello, or a certificate cannot be made.
    pub(super) fn new(environment: &Environment, gateway: &Gateway) -> Result<Self> {
        let stranger = || environment.stranger(gateway);
        let admitted = || stranger().identity(environment.identity());
        Ok(Self {
            port: gateway.port(),
            hello: raw::client_hello(|port| OpenSsl::new(HOST, port))?,
            without_certificate: stranger().post(PAGERDUTY.path, b"{}"),
            with_foreign_certificate: stranger().identity(&environment.foreign()?).post(PAGERDUTY.path, b"{}"),
            on_foreign_route: admitted().post(PERCOLATE.path, b"{}"),
            malformed: vec![
                admitted().argument("--path-as-is").post("/pagerduty/%2e%2e/percolate", b"{}"),
                admitted().request("DELETE", PAGERDUTY.path),
                admitted().post(PAGERDUTY.path, b"{}").field("Host", "other.example"),
            ],
        })
    }

    /// Each of them, as a function that attacks once.
    pub(super) fn all(&self) -> impl Iterator<Item = Box<dyn FnMut() -> Result<()> + Send + '_>> {
        let attacks: [Box<dyn FnMut() -> Result<()> + Send + '_>; 5] = [
            Box::new(|| self.garbage()),
            Box::new(|| self.broken_hellos()),
            Box::new(|| self.held_handshakes()),
            Box::new(|| self.refused(&self.without_certificate, 403)),
            Box::new(|| {
                self.refused(&self.with_foreign_certificate, 403)?;
                self.refused(&self.on_foreign_route, 403)?;
                self.malformed.iter().try_for_each(|curl| self.refused_somehow(curl))
            }),
        ];
        attacks.into_iter()
    }

    /// Bytes that are no TLS, and connections that end at once.
    fn garbage(&self) -> Result<()> {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 512], &[22, 3, 1, 0xff, 0xff, 1], b""] {
            self.send(bytes);
        }
        sleep(PAUSE);
        Ok(())
    }

    /// A ClientHello cut or damaged at every few bytes.
    fn broken_hellos(&self) -> Result<()> {
        for place in (0..self.hello.len()).step_by(37) {
            self.send(&self.hello[..place]);
            let mut damaged = self.hello.clone();
            damaged[place] ^= 0x55;
            self.send(&damaged);
        }
        sleep(PAUSE);
        Ok(())
    }

    /// Handshakes that stay incomplete until all of them are given up at once.
    fn held_handshakes(&self) -> Result<()> {
        let mut held = Vec::new();
        for number in 0..HELD {
            let Ok(mut stream) = raw::connect(self.port) else { continue };
            drop(stream.write_all(&self.hello[..number * self.hello.len() / HELD]));
            held.push(stream);
        }
        sleep(10 * PAUSE);
        Ok(())
    }

    fn send(&self, bytes: &[u8]) {
        if let Ok(mut stream) = raw::connect(self.port) {
            drop(stream.write_all(bytes));
            drop(stream.shutdown(Shutdown::Write));
        }
    }

    fn refused(&self, curl: &Curl, status: u16) -> Result<()> {
        let outcome = curl.run()?;
        ensure!(outcome.status() == Some(status), "{status} was expected: {outcome:?}");
        sleep(PAUSE);
        Ok(())
    }

    fn refused_somehow(&self, curl: &Curl) -> Result<()> {
        let outcome = curl.run()?;
        ensure!(outcome.status().is_some_and(|status| (400..500).contains(&status)), "no refusal: {outcome:?}");
        sleep(PAUSE);
        Ok(())
    }
}
