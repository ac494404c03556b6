//! `hookgate probe`: a look at a receiver as a sender would take it.
//!
//! Owns which connections are made: a dozen hellos, and one request for each certificate. `judge` says what is wrong, `report` prints it.
//! Must not read the command line. Sends no signature and no token, and `{}` as the body, so that no receiver takes it for a webhook.

mod judge;
mod report;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use hyper::body::Bytes;
use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::UnixTime;
use tokio::time::timeout;

use crate::attempt::{self, Attempt, CONNECT_LIMIT};
use crate::chain::{self, Judged};
use crate::exchange::Request;
use crate::finding::{Finding, Severity};
use crate::hello::{Answer, Hello};
use crate::roots::Roots;
use crate::sender::Sender;
use crate::suite::{self, TlsVersion};
use crate::target::Target;
use crate::tls::{CertificateRequest, Offer};

/// How long to wait for an answer if the sender does not document its time-out.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);
/// The most suites that are found one by one, each by a connection.
const MAXIMUM_SUITES: usize = 48;

/// The suites of a sender that documents none: what TLS libraries offer since 2020 (RFC 9325, section 4.2).
const COMMON_SUITES: [u16; 9] = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9, 0xc02f, 0xc030, 0xcca8];

/// What to look at, and as whom.
#[derive(Debug)]
pub struct Look<'a> {
    /// The receiver.
    pub target: &'a Target,
    /// The sender.
    pub sender: &'a Sender,
    /// The roots that the sender trusts.
    pub roots: &'a Roots,
    /// A certificate in the sender's shape, of an authority that nobody trusts; `None` if the sender has no certificate.
    pub foreign: Option<Arc<CertifiedKey>>,
    /// A certificate of the user's that the receiver should accept.
    pub own: Option<Arc<CertifiedKey>>,
    /// The cryptographic library.
    pub provider: &'a CryptoProvider,
}

/// What was seen of a receiver.
#[derive(Debug, Default)]
pub struct Seen {
    /// Why there is no connection. Then there is nothing else.
    pub no_connection: Option<io::Error>,
    /// The answer to the sender's own ClientHello.
    pub as_sender: Option<Answer>,
    /// Every version of TLS, and whether the receiver speaks it.
    pub versions: Vec<(TlsVersion, bool)>,
    /// The sender's suites that the receiver takes, in its order.
    pub suites: Vec<CipherSuite>,
    /// The chain, judged.
    pub chain: Option<Judged>,
    /// The CertificateRequest.
    pub request: Option<CertificateRequest>,
    /// A request without a certificate.
    pub absent: Option<Attempt>,
    /// One with a certificate of an unknown authority.
    pub foreign: Option<Attempt>,
    /// One with the user's certificate.
    pub own: Option<Attempt>,
}

/// What was seen, and what is wrong with it.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub seen: Seen,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The severity of the worst finding.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

impl Look<'_> {
    /// Looks at the receiver.
    pub async fn probe(&self) -> Report {
        let seen = self.see().await;
        let findings = judge::judge(self, &seen);
        Report { seen, findings }
    }

    /// How long the sender waits for the first byte of an answer.
    fn limit(&self) -> Duration {
        self.sender.facts.timeout.unwrap_or(DEFAULT_LIMIT)
    }

    /// The versions of the sender.
    fn versions(&self) -> Vec<TlsVersion> {
        match self.sender.facts.tls_versions.as_slice() {
            [] => vec![TlsVersion::Tls12, TlsVersion::Tls13],
            documented => documented.to_vec(),
        }
    }

    /// The suites of the sender.
    fn suites(&self) -> Vec<CipherSuite> {
        match self.sender.facts.cipher_suites.as_slice() {
            [] => COMMON_SUITES.into_iter().map(CipherSuite::from).collect(),
            documented => documented.to_vec(),
        }
    }

    async fn see(&self) -> Seen {
        let mut seen = Seen::default();
        match self.hello(&self.versions(), &self.suites()).await {
            Ok(answer) => seen.as_sender = Some(answer),
            Err(error) => return Seen { no_connection: Some(error), ..seen },
        }
        if seen.as_sender == Some(Answer::NotTls) {
            return seen;
        }
        self.see_versions(&mut seen).await;
        let offer = self.offer(&seen);
        let request = self.request();
        let attempt = async |identity: Option<&Arc<CertifiedKey>>| {
            let offer = Offer { identity: identity.cloned(), ..offer.clone() };
            attempt::attempt(self.target, &offer, self.provider, &request, self.limit()).await
        };
        let absent = attempt(None).await;
        if !absent.shown.chain.is_empty() {
            let (name, strict) = (&self.target.server_name, self.sender.facts.needs_ordered_chain);
            seen.chain = Some(chain::judge(&absent.shown.chain, name, self.roots, strict, UnixTime::now()));
        }
        seen.request = absent.shown.request.clone();
        seen.absent = Some(absent);
        if seen.request.is_some() {
            if let Some(foreign) = &self.foreign {
                seen.foreign = Some(attempt(Some(foreign)).await);
            }
            if let Some(own) = &self.own {
                seen.own = Some(attempt(Some(own)).await);
            }
        }
        seen
    }

    /// One ClientHello on a connection of its own.
    async fn hello(&self, versions: &[TlsVersion], suites: &[CipherSuite]) -> io::Result<Answer> {
        let mut stream = self.target.connect(CONNECT_LIMIT).await?;
        let hello = Hello { versions, suites, server_name: self.target.sni() };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer to a ClientHello");
        timeout(CONNECT_LIMIT, hello.ask(&mut stream)).await.map_err(late)?
    }

    /// Which versions the receiver speaks at all, and which of the sender's suites it takes.
    async fn see_versions(&self, seen: &mut Seen) {
        for version in TlsVersion::ALL {
            let is_new = version == TlsVersion::Tls13;
            let suites: Vec<_> = suite::named().filter(|suite| suite::is_of_tls13(*suite) == is_new).collect();
            let answer = self.hello(&[version], &suites).await;
            let speaks = matches!(answer, Ok(Answer::Selected(selected, _)) if selected == version);
            seen.versions.push((version, speaks));
        }
        let mut left = self.suites();
        left.retain(|suite| !suite::is_signal(*suite));
        for _ in 0..MAXIMUM_SUITES {
            if left.is_empty() {
                return;
            }
            let Ok(Answer::Selected(_, selected)) = self.hello(&self.versions(), &left).await else { return };
            let before = left.len();
            left.retain(|suite| *suite != selected);
            if left.len() == before {
                return;
            }
            seen.suites.push(selected);
        }
    }

    /// The sender's offer, or everything that rustls has if the receiver does not take the sender's: then the rest can still be seen.
    fn offer(&self, seen: &Seen) -> Offer {
        let own = attempt::offer(&self.sender.facts, None);
        let common = self.provider.cipher_suites.iter().map(rustls::SupportedCipherSuite::suite);
        match common.into_iter().any(|suite| seen.suites.contains(&suite)) {
            true => own,
            false => Offer { versions: TlsVersion::ALL.to_vec(), suites: None, identity: None },
        }
    }

    fn request(&self) -> Request {
        Request {
            method: Method::POST,
            path: self.target.path.clone(),
            fields: vec![
                ("content-type".into(), "application/json".into()),
                ("user-agent".into(), concat!("hookgate-probe/", env!("CARGO_PKG_VERSION")).into()),
            ],
            host: self.target.authority.clone(),
            body: Bytes::from_static(b"{}"),
        }
    }
}
