//! `hookgate send`: one webhook as its sender sends it, right or wrong in one way, or many of them.
//!
//! Owns what is sent in which order, and whether the answer is the expected one. `load` sends many, `report` prints. Must not read the
//! command line.

mod load;
mod report;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::timeout;

use crate::attempt::{self, CONNECT_LIMIT, Handshake, Open};
use crate::chain::{self, Judged};
use crate::delivery::{Plan, PlanError};
use crate::exchange::{Answer, Connection, ExchangeError};
use crate::finding::{Finding, Severity};
use crate::hello::{self, Hello};
use crate::roots::Roots;
use crate::suite::{self, TlsVersion};
use crate::tls::{Offer, TlsFailure};
use crate::wrong::Wrong;

pub use load::{Load, Summary};
pub use report::{Context, Sent, list};

/// How long to wait for an answer if the sender does not document its time-out.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// What to send, and how.
#[derive(Debug)]
pub struct Job<'a> {
    /// The requests.
    pub plan: Plan<'a>,
    /// The certificate to present.
    pub identity: Option<Arc<CertifiedKey>>,
    /// The roots that the sender trusts.
    pub roots: &'a Roots,
    /// Send even if the sender would not accept the receiver's certificate.
    pub insecure: bool,
    /// The cryptographic library.
    pub provider: &'a CryptoProvider,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The request cannot be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no connection.
    #[error("there is no connection to the receiver: {0}")]
    NoConnection(std::io::Error),
    /// The sender would not accept the receiver's certificate.
    #[error(
        "{sender} would not accept the receiver's certificate, and sends nothing: {what}. For a test with a certificate of your own, name its \
         root by --root, or send all the same with --insecure; `hookgate probe` says more"
    )]
    Untrusted {
        /// The sender.
        sender: String,
        /// What is wrong.
        what: String,
    },
}

/// What came of one webhook.
#[derive(Debug)]
pub struct Delivered {
    /// The handshake; `None` if it failed.
    pub handshake: Option<Handshake>,
    /// The receiver's chain.
    pub server: Option<Judged>,
    /// The answer, or why there is none.
    pub outcome: Result<Answer, ExchangeError>,
    /// Of a duplicate: what came of the first one.
    pub first: Option<Result<Answer, ExchangeError>>,
}

impl Delivered {
    /// Without a handshake of rustls.
    fn bare(outcome: Result<Answer, ExchangeError>) -> Self {
        Self { handshake: None, server: None, outcome, first: None }
    }

    /// Whether the answer to `job` is the expected one.
    #[must_use]
    pub fn is_expected(&self, job: &Job<'_>) -> bool {
        let first_is_right = self.first.as_ref().is_none_or(is_success);
        match job.plan.wrong {
            None => is_success(&self.outcome),
            Some(wrong) => first_is_right && wrong.is_expected(view(&self.outcome), job.is_anonymous()),
        }
    }
}

fn is_success(outcome: &Result<Answer, ExchangeError>) -> bool {
    outcome.as_ref().is_ok_and(|answer| (200..=299).contains(&answer.status))
}

/// An outcome, as [`Wrong`] looks at it.
pub(crate) fn view(outcome: &Result<Answer, ExchangeError>) -> Result<(u16, Option<&str>), &ExchangeError> {
    outcome.as_ref().map(|answer| (answer.status, answer.reason.as_deref()))
}

impl Job<'_> {
    /// How long to wait for the first byte of an answer, and for the rest.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.plan.sender.facts.timeout.unwrap_or(DEFAULT_LIMIT)
    }

    /// Whether it presents no certificate.
    fn is_anonymous(&self) -> bool {
        self.identity.is_none()
    }

    fn offer(&self) -> Offer {
        attempt::offer(&self.plan.sender.facts, self.identity.clone())
    }

    /// Sends one webhook; of [`Wrong::Duplicate`] two.
    ///
    /// # Errors
    ///
    /// Nothing could be sent: no connection, a certificate that the sender does not accept, a request that cannot be made.
    pub async fn send(&self) -> Result<Delivered, SendError> {
        self.plan.check()?;
        match self.plan.wrong {
            Some(Wrong::PlainHttp) => self.send_plainly().await,
            Some(Wrong::OldTls) => self.offer_old_tls().await,
            _ => self.deliver(&Known::default()).await,
        }
    }

    async fn deliver(&self, known: &Known) -> Result<Delivered, SendError> {
        let request = self.plan.request()?;
        let (server, mut open) = match self.open(known).await? {
            Opened::Open(server, open) => (server, open),
            Opened::Failed(delivered) => return Ok(*delivered),
        };
        let mut outcome = open.connection.send(&request, self.limit()).await;
        let mut first = None;
        if self.plan.wrong == Some(Wrong::Duplicate) {
            let again = match self.open(known).await? {
                Opened::Open(_, mut open) => open.connection.send(&request, self.limit()).await,
                Opened::Failed(delivered) => delivered.outcome,
            };
            first = Some(std::mem::replace(&mut outcome, again));
        }
        Ok(Delivered { handshake: Some(open.handshake), server: Some(server), outcome, first })
    }

    async fn open(&self, known: &Known) -> Result<Opened, SendError> {
        match attempt::open(self.plan.target, &self.offer(), self.provider).await {
            Ok((shown, open)) => {
                let server = self.trusted(&shown.chain, known)?;
                Ok(Opened::Open(server, open))
            }
            Err(failed) => {
                if let Some(error) = failed.no_connection {
                    return Err(SendError::NoConnection(error));
                }
                // A sender that does not accept the chain ends the handshake itself, whatever the receiver says then.
                let server = match failed.shown.chain.is_empty() {
                    true => None,
                    false => Some(self.trusted(&failed.shown.chain, known)?),
                };
                let outcome = failed.outcome.unwrap_or(Err(ExchangeError::Tls(TlsFailure::Closed)));
                Ok(Opened::Failed(Box::new(Delivered { server, ..Delivered::bare(outcome) })))
            }
        }
    }

    /// Judges the receiver's chain, unless the last one was the same.
    fn trusted(&self, presented: &[CertificateDer<'static>], known: &Known) -> Result<Judged, SendError> {
        let (target, sender) = (self.plan.target, self.plan.sender);
        if let Some(judged) = known.judged(presented) {
            return Ok(judged);
        }
        let strict = sender.facts.needs_ordered_chain;
        let judged = chain::judge(presented, &target.server_name, self.roots, strict, UnixTime::now());
        let faults: Vec<&Finding> =
            judged.findings.iter().filter(|finding| finding.severity == Severity::Fault).collect();
        if !faults.is_empty() && !self.insecure {
            let what = faults.iter().map(|finding| finding.detail.as_str()).collect::<Vec<_>>().join("; ");
            return Err(SendError::Untrusted { sender: sender.name.clone(), what });
        }
        known.note(presented, &judged);
        Ok(judged)
    }

    async fn send_plainly(&self) -> Result<Delivered, SendError> {
        let request = self.plan.request()?;
        let stream = self.plan.target.connect(CONNECT_LIMIT).await.map_err(SendError::NoConnection)?;
        let outcome = match Connection::new(stream).await {
            Ok(mut connection) => connection.send(&request, self.limit()).await,
            Err(error) => Err(error),
        };
        Ok(Delivered::bare(outcome))
    }

    async fn offer_old_tls(&self) -> Result<Delivered, SendError> {
        let target = self.plan.target;
        let mut stream = target.connect(CONNECT_LIMIT).await.map_err(SendError::NoConnection)?;
        let suites: Vec<_> = suite::named().filter(|suite| !suite::is_of_tls13(*suite)).collect();
        let versions = [TlsVersion::Tls11, TlsVersion::Tls10];
        let hello = Hello { versions: &versions, suites: &suites, server_name: target.sni() };
        let failure = match timeout(CONNECT_LIMIT, hello.ask(&mut stream)).await {
            Err(_) => TlsFailure::TimedOut,
            Ok(Err(error)) => TlsFailure::Other(error.to_string()),
            Ok(Ok(hello::Answer::Alert(alert))) => TlsFailure::Alert(alert),
            Ok(Ok(hello::Answer::Closed)) => TlsFailure::Closed,
            Ok(Ok(hello::Answer::NotTls)) => TlsFailure::Other("the answer is not TLS".into()),
            Ok(Ok(hello::Answer::Selected(version, _))) => {
                TlsFailure::Other(format!("the receiver accepts TLS {}", version.number()))
            }
        };
        Ok(Delivered::bare(Err(failure.into())))
    }
}

enum Opened {
    Open(Judged, Open),
    Failed(Box<Delivered>),
}

/// The receiver's chain that was judged last, so that a thousand connections cost one judgement.
#[derive(Debug, Default)]
struct Known(Mutex<Option<(Vec<CertificateDer<'static>>, Judged)>>);

impl Known {
    fn judged(&self, presented: &[CertificateDer<'static>]) -> Option<Judged> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(chain, _)| chain == presented).map(|(_, judged)| judged.clone())
    }

    fn note(&self, presented: &[CertificateDer<'static>], judged: &Judged) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((presented.to_vec(), judged.clone()));
    }
}
