//! A sender of which no certificate is admitted, at a server name that takes some requests without one.
//!
//! Owns what such a sender learns. Pure: requests and `hookgate explain` ask it alike. Must not decide which provider demands a
//! certificate: `auth` does.

use hookgate_core::identity::{CertificateRequest, ChainRefusal};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::suspicion::answered;

/// There is no certificate, or it was refused.
#[derive(Debug)]
pub struct Uncertified {
    /// What a request gets that needs a certificate.
    refused: ChainRefusal,
    /// Another route of the server name needs one.
    is_asked: bool,
}

impl Uncertified {
    /// The sender whose certificate is absent or refused, as `refused` says, at a server name that asks for one as `asked` says.
    ///
    /// # Errors
    ///
    /// `refused`, if every route of the server name needs a certificate.
    pub fn new(mut refused: ChainRefusal, asked: CertificateRequest) -> Result<Self, ChainRefusal> {
        match asked {
            CertificateRequest::Required => Err(refused),
            CertificateRequest::Never => Ok(Self { refused, is_asked: false }),
            CertificateRequest::Optional => {
                if refused.refusal.reject == Reject::NoCertificate {
                    let detail = "The peer presented no client certificate, and this host takes no request without one for this path and method.";
                    refused.refusal = Refusal::new(Reject::NoCertificate, detail);
                }
                Ok(Self { refused, is_asked: true })
            }
        }
    }

    /// The refusal of a request without a route, if the sender must not learn which routes there are: those that need a certificate.
    pub fn hidden(&self) -> Option<Refusal> {
        self.is_asked.then(|| answered(self.refused.refusal.clone(), self.refused.answer, None))
    }

    /// The refusal of a request that needs a certificate.
    pub fn into_refusal(self) -> ChainRefusal {
        self.refused
    }
}
