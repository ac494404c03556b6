//! Revocation lists (RFC 5280, section 5) of the throwaway authorities.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};

use super::{Authority, ClientIdentity, DAY, SenderPki, Serial};

/// First serial number of the filler entries: above every serial number of a [`super::Pki`].
const FIRST_FILLER_SERIAL: u64 = 0x7000_0000_0000_0000;

/// The contents of a revocation list.
#[derive(Clone, Debug)]
pub struct RevocationListOptions {
    /// The revoked certificates.
    pub revoked: Vec<Serial>,
    /// The number of entries that revoke no certificate of this PKI. They make the list as long as real ones.
    pub filler_entries: usize,
    /// thisUpdate.
    pub this_update: SystemTime,
    /// nextUpdate. Must be later than `this_update`.
    pub next_update: SystemTime,
    /// cRLNumber.
    pub number: u64,
}

impl Default for RevocationListOptions {
    /// A current list that revokes nothing.
    fn default() -> Self {
        let now = SystemTime::now();
        Self { revoked: Vec::new(), filler_entries: 0, this_update: now - DAY, next_update: now + 7 * DAY, number: 1 }
    }
}

impl RevocationListOptions {
    /// A list whose nextUpdate was yesterday.
    pub fn expired() -> Self {
        let now = SystemTime::now();
        Self { this_update: now - 8 * DAY, next_update: now - DAY, ..Self::default() }
    }

    fn params(&self) -> CertificateRevocationListParams {
        let fillers = (0..self.filler_entries).map(|index| FIRST_FILLER_SERIAL + index as u64);
        let serials = self.revoked.iter().map(|serial| serial.0).chain(fillers);
        let revoked_certs = serials
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: self.this_update.into(),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            })
            .collect();
        CertificateRevocationListParams {
            this_update: self.this_update.into(),
            next_update: self.next_update.into(),
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        }
    }
}

impl Authority {
    /// A revocation list of this authority, as DER.
    ///
    /// # Errors
    ///
    /// `next_update` is not later than `this_update`.
    pub fn revocation_list_der(&self, options: &RevocationListOptions) -> Result<Vec<u8>> {
        Ok(options.params().signed_by(&self.certified)?.der().to_vec())
    }

    /// A revocation list of this authority, as PEM.
    ///
    /// # Errors
    ///
    /// `next_update` is not later than `this_update`.
    pub fn revocation_list(&self, options: &RevocationListOptions) -> Result<String> {
        Ok(options.params().signed_by(&self.certified)?.pem()?)
    }
}

impl SenderPki {
    /// Writes the lists of intermediate and root, and returns their paths in this order. `options` is for the list of the
    /// intermediate; that of the root has the same dates and no entries. Each call overwrites the files of the last, as an operator
    /// does before a reload.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or the dates are in the wrong order.
    pub fn revocation_lists(&self, options: &RevocationListOptions) -> Result<[PathBuf; 2]> {
        let name = self.sender.name();
        let of_root = RevocationListOptions { revoked: Vec::new(), filler_entries: 0, ..options.clone() };
        let write = |file: String, text: String| self.files.write(&file, &text);
        Ok([
            write(format!("{name}-intermediate.crl"), self.intermediate.revocation_list(options)?)?,
            write(format!("{name}-root.crl"), self.root.revocation_list(&of_root)?)?,
        ])
    }

    /// As [`SenderPki::revocation_lists`], with current dates and these certificates revoked.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn revoke(&self, identities: &[&ClientIdentity]) -> Result<[PathBuf; 2]> {
        let revoked = identities.iter().map(|identity| identity.serial).collect();
        self.revocation_lists(&RevocationListOptions { revoked, ..RevocationListOptions::default() })
    }
}
