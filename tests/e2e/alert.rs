//! The TLS alerts that refusals send, by number (RFC 8446, section 6.2).

pub(crate) const HANDSHAKE_FAILURE: u8 = 40;
pub(crate) const BAD_CERTIFICATE: u8 = 42;
pub(crate) const UNSUPPORTED_CERTIFICATE: u8 = 43;
pub(crate) const CERTIFICATE_REVOKED: u8 = 44;
pub(crate) const CERTIFICATE_EXPIRED: u8 = 45;
pub(crate) const CERTIFICATE_UNKNOWN: u8 = 46;
pub(crate) const UNKNOWN_CA: u8 = 48;
pub(crate) const ACCESS_DENIED: u8 = 49;
pub(crate) const DECRYPT_ERROR: u8 = 51;
pub(crate) const PROTOCOL_VERSION: u8 = 70;
pub(crate) const UNRECOGNIZED_NAME: u8 = 112;
pub(crate) const CERTIFICATE_REQUIRED: u8 = 116;
pub(crate) const NO_APPLICATION_PROTOCOL: u8 = 120;
