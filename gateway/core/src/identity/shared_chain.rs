//! A chain that outlives its connection. Must not judge it: nothing of it is proven but what its holder says.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// Certificates as presented, end entity first. Clones share them.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedChain(Arc<[CertificateDer<'static>]>);

impl SharedChain {
    /// A copy of `certificates`.
    pub fn new(certificates: &[CertificateDer<'_>]) -> Self {
        Self(certificates.iter().map(|certificate| certificate.clone().into_owned()).collect())
    }

    /// The certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The bytes of all certificates.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|certificate| certificate.len()).sum()
    }
}

impl fmt::Debug for SharedChain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedChain({} certificates, {} bytes)", self.0.len(), self.bytes())
    }
}
