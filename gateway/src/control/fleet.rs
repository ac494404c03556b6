//! The memory of deliveries that hosts share: set up before the first request.
//!
//! Owns whom its connections trust, and as whom they are made. Must not connect: `fleet` does.

use anyhow::Context as _;
use rustls::ClientConfig;

use super::fetcher::{configured_roots, system_roots, tls_builder};
use crate::config::{self, OnStateFailure};
use crate::fleet::{self, Parts, Settings};

/// Where workers ask, and the thread that answers them.
///
/// # Errors
///
/// The certificate or the credentials cannot be used, or this host trusts no authority.
pub(super) fn prepare(fleet: &config::Fleet, on_failure: OnStateFailure) -> anyhow::Result<Parts> {
    let settings = Settings { fleet: fleet.clone(), tls: tls(fleet)?, on_failure };
    Ok(fleet::prepare(settings)?)
}

fn tls(fleet: &config::Fleet) -> anyhow::Result<ClientConfig> {
    let is_plain = fleet.servers.iter().all(|server| server.starts_with("nats://"));
    let roots = match fleet.trust_anchors.as_slice() {
        // No server of these presents a certificate.
        [] if is_plain => rustls::RootCertStore::empty(),
        [] => system_roots().context("[fleet]: write trust_anchors, or install ca-certificates")?,
        anchors => configured_roots(anchors),
    };
    let builder = tls_builder(roots)?;
    match &fleet.certificate {
        Some((chain, key)) => {
            let config = builder.with_client_auth_cert(chain.clone(), key.clone_key());
            config.context("[fleet] certificate cannot be used")
        }
        None => Ok(builder.with_no_client_auth()),
    }
}
